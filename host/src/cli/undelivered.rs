//! `courier undelivered`: lists undelivered messages, and resends, repairs or gives
//! them up.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::HostClient;
use super::page::{Paging, with_end};
use super::shapes::ShownPage;
use super::table::{self, or_dash};
use super::{Output, show};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List undelivered messages, the newest first.
    List(UndeliveredListArgs),
    /// Show an entry with its whole content.
    Show {
        /// The entry's id.
        id: String,
    },
    /// Send an entry again as it is.
    Resend {
        /// The entry's id.
        id: String,
    },
    /// Edit an entry and send it again.
    Repair(Repair),
    /// Give an entry up, which removes its content.
    GiveUp {
        /// The entry's id.
        id: String,
        /// Why it is given up, for the audit log.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct UndeliveredListArgs {
    /// Select entries for this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Select entries that this group published or gave up.
    #[arg(long)]
    group: Option<String>,
    /// Select entries from this outbox.
    #[arg(long)]
    outbox: Option<String>,
    #[command(flatten)]
    page: Paging,
}

#[derive(Debug, clap::Args)]
pub(super) struct Repair {
    /// The entry's id.
    id: String,
    /// The new topic.
    #[arg(long)]
    topic: Option<String>,
    /// The new body, as JSON.
    #[arg(long)]
    body: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ShownUndelivered {
    id: String,
    message_id: String,
    topic: Option<String>,
    #[serde(rename = "type")]
    type_name: Option<String>,
    key: Option<String>,
    key_base64: Option<String>,
    group: Option<String>,
    outbox: Option<String>,
    outbox_row: Option<String>,
    why: String,
    since: String,
    tries: u32,
    headers: Option<Value>,
    body: Option<Value>,
    body_base64: Option<String>,
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(UndeliveredListArgs { topic, group, outbox, page }) => {
            let query = [
                ("topic", topic),
                ("group", group),
                ("outbox", outbox),
                ("cursor", page.cursor),
                ("limit", page.limit.map(|limit| limit.to_string())),
            ];
            let answer = client.get(&["undelivered"], &query).await?;
            show(output, &answer, |page: ShownPage<ShownUndelivered>| {
                with_end(list(&page.items), page.next.as_deref(), page.truncated)
            })
        }
        Command::Show { id } => {
            show(output, &client.get(&["undelivered", &id], &[]).await?, |entry: ShownUndelivered| whole(&entry))
        }
        Command::Resend { id } => owed(output, &client.post(&["undelivered", &id, "resend"], None).await?),
        Command::Repair(Repair { id, topic, body }) => {
            anyhow::ensure!(topic.is_some() || body.is_some(), "nothing to repair: name --topic, --body or both");
            let mut asked = Map::new();
            asked.extend(topic.map(|topic| ("topic".to_owned(), Value::from(topic))));
            if let Some(body) = body {
                let body =
                    serde_json::from_str(&body).map_err(|error| anyhow::anyhow!("--body is no JSON: {error}"))?;
                asked.insert("body".to_owned(), body);
            }
            let asked = Value::Object(asked).to_string();
            owed(output, &client.post(&["undelivered", &id, "repair"], Some(asked)).await?)
        }
        Command::GiveUp { id, reason } => {
            let asked = serde_json::json!({ "reason": reason }).to_string();
            let answer = client.post(&["undelivered", &id, "give-up"], Some(asked)).await?;
            match output {
                Output::Json => super::say(answer.text()),
                Output::Table => super::say(&format!("{} is given up", table::clean(&id))),
            }
        }
    }
}

fn owed(output: Output, answer: &super::client::ResponseText) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Owed {
        message_id: String,
        topic: String,
    }
    show(output, answer, |owed: Owed| {
        format!("{} goes to {} as soon as Kafka takes it", table::clean(&owed.message_id), table::clean(&owed.topic))
    })
}

fn list(entries: &[ShownUndelivered]) -> String {
    let row = |entry: &ShownUndelivered| {
        [
            entry.id.clone(),
            entry.message_id.clone(),
            or_dash(entry.topic.as_ref()),
            or_dash(entry.type_name.as_ref()),
            or_dash(table::key(entry.key.as_ref(), entry.key_base64.as_ref())),
            or_dash(entry.group.as_ref().or(entry.outbox.as_ref())),
            entry.since.clone(),
            entry.why.clone(),
        ]
    };
    let header = ["ID", "MESSAGE", "TOPIC", "TYPE", "KEY", "FROM", "SINCE", "WHY"];
    table::table(header, entries.iter().map(row).collect(), "nothing undelivered")
}

/// All fields of an entry, one a line.
fn whole(entry: &ShownUndelivered) -> String {
    let row = entry.outbox.as_ref().zip(entry.outbox_row.as_ref());
    let lines = [
        ("id", Some(entry.id.clone())),
        ("message", Some(entry.message_id.clone())),
        ("topic", entry.topic.clone()),
        ("type", entry.type_name.clone()),
        ("key", table::key(entry.key.as_ref(), entry.key_base64.as_ref())),
        ("group", entry.group.clone()),
        ("outbox row", row.map(|(outbox, row)| format!("{outbox} {row}"))),
        ("why", Some(entry.why.clone())),
        ("since", Some(entry.since.clone())),
        ("tries", Some(entry.tries.to_string())),
        ("headers", entry.headers.as_ref().map(ToString::to_string)),
        ("body", entry.body.as_ref().map(ToString::to_string).or_else(|| entry.body_base64.clone())),
    ];
    let known = lines.into_iter().filter_map(|(name, value)| Some(format!("{name:<12}{}", table::clean(&value?))));
    known.collect::<Vec<_>>().join("\n") + "\n"
}
