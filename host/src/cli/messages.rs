//! `courier messages`: lists, shows, resends and cancels messages.

use std::time::Duration;

use super::client::HostClient;
use super::page::{PageRange, Paging, with_end};
use super::shapes::{Delivery, Message, ShownPage};
use super::table::{self, or_dash};
use super::{Output, deliveries, show};

const STATES: [&str; 5] = ["SEND_FAIL", "COMMITTED", "PUSH_FAIL", "HANDLE_FAIL", "HANDLED"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List messages, the newest first.
    List(MessageListArgs),
    /// Show a message with its deliveries and their attempts.
    Show(MessageArgs),
    /// Send a message again that could not be sent, and wait up to 5 s for the
    /// result.
    Resend(MessageArgs),
    /// List delayed messages that are not due yet, the next due first.
    Delayed(DelayedArgs),
    /// Cancel a delayed message that is not due yet.
    Cancel(MessageArgs),
}

/// The message to act on.
#[derive(Debug, clap::Args)]
pub(super) struct MessageArgs {
    /// The message's id.
    id: String,
    /// Its topic, if other messages have the same id.
    #[arg(long)]
    topic: Option<String>,
    /// Its sender, if other messages have the same id; '' for an unknown sender.
    #[arg(long)]
    source: Option<String>,
}

impl MessageArgs {
    fn query(&self) -> [(&'static str, Option<String>); 2] {
        [("topic", self.topic.clone()), ("source", self.source.clone())]
    }
}

/// How long a resend waits for its result, and the interval of its polls.
const RESEND_WITHIN: Duration = Duration::from_secs(5);
const RESEND_LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct MessageListArgs {
    /// Select messages of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Select messages of this type.
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,
    /// Select messages with this key.
    #[arg(long)]
    key: Option<String>,
    /// Select messages of this sender.
    #[arg(long)]
    source: Option<String>,
    /// Select messages in this state.
    #[arg(long, value_parser = STATES)]
    state: Option<String>,
    #[command(flatten)]
    span: PageRange,
}

#[derive(Debug, clap::Args)]
pub(super) struct DelayedArgs {
    /// Select messages for this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Select messages of this type.
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,
    /// Select messages with this key.
    #[arg(long)]
    key: Option<String>,
    /// Select messages due from this time on, for example 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = super::publish::time)]
    from: Option<String>,
    /// Select messages due before this time.
    #[arg(long, value_name = "TIME", value_parser = super::publish::time)]
    to: Option<String>,
    #[command(flatten)]
    page: Paging,
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(list) => {
            let query = [
                ("topic", list.topic),
                ("type", list.type_name),
                ("key", list.key),
                ("source", list.source),
                ("state", list.state),
                ("from", list.span.from),
                ("to", list.span.to),
                ("cursor", list.span.page.cursor),
                ("limit", list.span.page.limit.map(|limit| limit.to_string())),
            ];
            let answer = client.get(&["messages"], &query).await?;
            show(output, &answer, |page: ShownPage<Message>| {
                let rows = page.items.iter().map(row).collect();
                let header = ["ID", "TOPIC", "TYPE", "KEY", "STATE", "TIME", "REASON"];
                with_end(table::table(header, rows, "no messages"), page.next.as_deref(), page.truncated)
            })
        }
        Command::Show(which) => {
            let answer = client.get(&["messages", &which.id], &which.query()).await?;
            show(output, &answer, |message: Message| whole(&message))
        }
        Command::Resend(which) => resend(client, output, &which).await,
        Command::Delayed(delayed) => {
            let query = [
                ("topic", delayed.topic),
                ("type", delayed.type_name),
                ("key", delayed.key),
                ("from", delayed.from),
                ("to", delayed.to),
                ("cursor", delayed.page.cursor),
                ("limit", delayed.page.limit.map(|limit| limit.to_string())),
            ];
            let answer = client.get(&["delayed"], &query).await?;
            show(output, &answer, |page: ShownPage<Message>| {
                let rows = page.items.iter().map(waiting).collect();
                let header = ["ID", "TOPIC", "TYPE", "KEY", "DELIVER AT"];
                with_end(table::table(header, rows, "nothing waits"), page.next.as_deref(), page.truncated)
            })
        }
        Command::Cancel(which) => {
            let answer = client.delete_from(&["messages", &which.id], &which.query()).await?;
            match output {
                Output::Json => super::say(answer.text()),
                Output::Table => super::say(&format!("{} cancelled", table::clean(&which.id))),
            }
        }
    }
}

/// Sends a message again and shows the result. Fails unless the message was sent
/// or the host goes on trying.
async fn resend(client: &HostClient, output: Output, which: &MessageArgs) -> anyhow::Result<()> {
    client.post_to(&["messages", &which.id, "resend"], &which.query()).await?;
    let deadline = tokio::time::Instant::now() + RESEND_WITHIN;
    let (answer, message) = loop {
        let answer = client.get(&["messages", &which.id], &which.query()).await?;
        let message: Message = answer.read()?;
        if message.retrying != Some(true) || tokio::time::Instant::now() >= deadline {
            break (answer, message);
        }
        tokio::time::sleep(RESEND_LOOK).await;
    };
    let told = told_of_resend(&message);
    match output {
        Output::Json => super::say(answer.text())?,
        Output::Table => super::say(told.as_ref().unwrap_or_else(|refused| refused))?,
    }
    match told {
        Ok(_) => Ok(()),
        Err(_) => anyhow::bail!("the message was not sent"),
    }
}

/// The result of a resend; an error when the message was not sent and the host
/// does not try again by itself.
fn told_of_resend(message: &Message) -> Result<String, String> {
    let reason = message.reason.as_deref().map(|why| format!(": {}", table::clean(why))).unwrap_or_default();
    let id = table::clean(&message.id);
    match (message.state.as_str(), message.retrying) {
        ("SEND_FAIL", Some(true)) => Ok(format!("{id} SEND_FAIL, and the host goes on trying{reason}")),
        ("SEND_FAIL", _) => Err(format!("{id} SEND_FAIL{reason}")),
        (state, _) => Ok(format!("{id} {state}")),
    }
}

fn row(message: &Message) -> [String; 7] {
    [
        message.id.clone(),
        message.topic.clone(),
        or_dash(message.type_name.as_ref()),
        or_dash(table::key(message.key.as_ref(), message.key_base64.as_ref())),
        message.state.clone(),
        or_dash(message.time.as_ref()),
        or_dash(message.reason.as_ref()),
    ]
}

fn waiting(message: &Message) -> [String; 5] {
    [
        message.id.clone(),
        message.topic.clone(),
        or_dash(message.type_name.as_ref()),
        or_dash(table::key(message.key.as_ref(), message.key_base64.as_ref())),
        or_dash(message.deliver_at.as_ref()),
    ]
}

fn whole(message: &Message) -> String {
    let place = message.partition.zip(message.offset).map(|(partition, offset)| format!("{partition} / {offset}"));
    let retrying = message.retrying.filter(|retrying| *retrying).map(|_| "yes, by itself".to_owned());
    let present = |value: &&serde_json::Value| !value.is_null();
    let headers = message.headers.as_ref().filter(|headers| headers.as_object().is_some_and(|map| !map.is_empty()));
    let mut text = table::fields(&[
        ("id", Some(message.id.clone())),
        ("topic", Some(message.topic.clone()).filter(|topic| !topic.is_empty())),
        ("type", message.type_name.clone()),
        ("key", table::key(message.key.as_ref(), message.key_base64.as_ref())),
        ("source", message.source.clone()),
        ("kind", message.kind.clone()),
        ("time", message.time.clone()),
        ("state", Some(message.state.clone())),
        ("reason", message.reason.clone()),
        ("retrying", retrying),
        ("partition / offset", place),
        ("deliver at", message.deliver_at.clone()),
        ("headers", headers.map(ToString::to_string)),
        ("body", message.body.as_ref().filter(present).map(ToString::to_string)),
        ("body (base64)", message.body_base64.clone().filter(|text| !text.is_empty())),
        ("body", (message.tombstone == Some(true)).then(|| "none: a tombstone".to_owned())),
    ]);
    for delivery in message.deliveries.iter().flatten() {
        text.push_str("\n\n");
        text.push_str(&delivery_block(delivery));
    }
    if message.deliveries.as_ref().is_some_and(Vec::is_empty) {
        let why = message.warning.as_deref().unwrap_or("no group has received it yet");
        text.push_str(&format!("\n\n{}", table::clean(why)));
    }
    text
}

fn delivery_block(delivery: &Delivery) -> String {
    let mut text = table::fields(&[
        ("delivery", Some(delivery.id.clone())),
        ("group", Some(delivery.group.clone())),
        ("state", Some(delivery.state.clone())),
        ("verdict", delivery.verdict.clone()),
        ("reason", delivery.reason.clone()),
        ("node", delivery.node.clone()),
        ("settled at", delivery.settled_at.clone().filter(|_| delivery.settled_within.is_none())),
        ("settled within", delivery.settled_within.as_ref().map(|span| format!("{} to {}", span.from, span.to))),
        ("next attempt at", delivery.next_attempt_at.clone()),
    ]);
    let attempts = delivery.attempts.as_deref().unwrap_or(&[]);
    if !attempts.is_empty() {
        text.push_str("\n\n");
        text.push_str(&deliveries::attempts(attempts));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 16: `messages resend` printed SEND_FAIL and exited 0 whatever
    /// happened.
    #[test]
    fn a_resend_fails_unless_the_message_is_or_will_be_sent() {
        let told = |state: &str, retrying: bool| {
            let text = serde_json::json!({ "id": "m-1", "topic": "order", "state": state, "retrying": retrying,
                "reason": "topic order does not exist" });
            told_of_resend(&serde_json::from_value(text).unwrap())
        };
        assert_eq!(told("SEND_FAIL", false), Err("m-1 SEND_FAIL: topic order does not exist".to_owned()));
        let trying = "m-1 SEND_FAIL, and the host goes on trying: topic order does not exist";
        assert_eq!(told("SEND_FAIL", true), Ok(trying.to_owned()));
        assert_eq!(told("COMMITTED", false), Ok("m-1 COMMITTED".to_owned()));
    }

    #[test]
    fn a_message_is_shown_with_its_deliveries_and_attempts() {
        let text = r#"{
            "id": "m-1", "key": "o-1", "source": null, "topic": "order", "type": "OrderCreated", "kind": "event",
            "time": "2026-01-31T08:00:00.000000Z", "state": "COMMITTED", "reason": null, "retrying": false,
            "partition": 3, "offset": 42, "headers": {}, "body": { "a": 1 }, "deliver_at": null,
            "deliveries": [{
                "id": "d-1", "message_id": "m-1", "group": "stock", "topic": "order", "partition": 3, "offset": 42,
                "key": "o-1", "type": "OrderCreated", "state": "HANDLE_FAIL", "verdict": "error", "reason": "no stock",
                "fingerprint": "f", "node": "host-1", "received_at": "x", "settled_at": "y", "next_attempt_at": null,
                "attempts": [{ "number": 1, "counted": 1, "version": "sha256:00", "node": "host-1", "started_at": "s",
                    "finished_at": "f", "verdict": "error", "reason": "no stock", "fingerprint": "f", "log": "one\ntwo" }]
            }]
        }"#;
        let message: Message = serde_json::from_str(text).unwrap();
        let shown = whole(&message);
        for part in ["3 / 42", "{\"a\":1}", "HANDLE_FAIL", "no stock", "sha256:00", "  one\n", "  two"] {
            assert!(shown.contains(part), "{part:?} in\n{shown}");
        }
        assert!(!shown.contains("source") && !shown.contains("retrying"), "{shown}");
    }

    #[test]
    fn an_id_of_which_nothing_is_recorded_says_so() {
        let text = r#"{ "id": "m-1", "state": "NOT_RECORDED", "reason": "not recorded: no ids are kept", "groups": ["stock"] }"#;
        let shown = whole(&serde_json::from_str(text).unwrap());
        assert!(shown.contains("NOT_RECORDED") && shown.contains("no ids are kept"), "{shown}");
        assert!(!shown.contains("topic") && !shown.contains("no group"), "{shown}");
    }
}
