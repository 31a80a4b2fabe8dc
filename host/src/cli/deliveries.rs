//! `courier deliveries`: lists, shows and retries deliveries, each one message for
//! one group.

use serde_json::json;

use super::client::HostClient;
use super::page::{PageRange, with_end};
use super::shapes::{Attempt, Delivery, ShownPage};
use super::table::{self, or_dash};
use super::{Output, show};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List deliveries, the newest first.
    List(DeliveryListArgs),
    /// Show a delivery with its attempts.
    Show {
        /// The delivery's id.
        id: String,
    },
    /// Run one delivery again.
    Retry {
        /// The delivery's id.
        id: String,
    },
    /// End an open delivery without an attempt, so that its key goes on.
    GiveUp {
        /// The delivery's id.
        id: String,
        /// Why it is given up, for the audit log.
        #[arg(long)]
        reason: String,
        /// Publish its record to the dead-letter topic.
        #[arg(long)]
        dead_letter: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct DeliveryListArgs {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    span: PageRange,
}

/// The deliveries to select.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Select deliveries of this group.
    #[arg(long)]
    pub group: Option<String>,
    /// Select deliveries of this topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// Select deliveries in this state.
    #[arg(long, value_parser = ["COMMITTED", "PUSH_FAIL", "HANDLE_FAIL", "HANDLED"])]
    pub state: Option<String>,
    /// Select deliveries of messages of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub type_name: Option<String>,
    /// Select deliveries of messages with this key.
    #[arg(long)]
    pub key: Option<String>,
    /// Select deliveries whose failure has this fingerprint.
    #[arg(long)]
    pub fingerprint: Option<String>,
}

impl Filter {
    /// The filter as query parameters of the API.
    pub fn pairs(self) -> [(&'static str, Option<String>); 6] {
        [
            ("group", self.group),
            ("topic", self.topic),
            ("state", self.state),
            ("type", self.type_name),
            ("key", self.key),
            ("fingerprint", self.fingerprint),
        ]
    }
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(DeliveryListArgs { filter, span }) => {
            let mut query = filter.pairs().to_vec();
            query.extend([
                ("from", span.from),
                ("to", span.to),
                ("cursor", span.page.cursor),
                ("limit", span.page.limit.map(|limit| limit.to_string())),
            ]);
            let answer = client.get(&["deliveries"], &query).await?;
            show(output, &answer, |page: ShownPage<Delivery>| {
                let mut text = with_end(list(&page.items, "no deliveries"), page.next.as_deref(), page.truncated);
                if let Some(missing) = page.not_recorded {
                    text.push_str(&format!("\n\nnot in this list: {}", table::clean(&missing.why)));
                }
                text
            })
        }
        Command::Show { id } => {
            let answer = client.get(&["deliveries", &id], &[]).await?;
            show(output, &answer, |delivery: Delivery| {
                let attempts = attempts(delivery.attempts.as_deref().unwrap_or(&[]));
                format!("{}\n\n{attempts}", one(&delivery))
            })
        }
        Command::Retry { id } => {
            let answer = client.post(&["deliveries", &id, "retry"], None).await?;
            match output {
                Output::Json => super::say(answer.text()),
                Output::Table => super::say(&format!("{} runs again in its lane's turn", table::clean(&id))),
            }
        }
        Command::GiveUp { id, reason, dead_letter } => {
            let wish = json!({ "reason": reason, "dead_letter": dead_letter });
            let answer = client.post(&["deliveries", &id, "give-up"], Some(wish.to_string())).await?;
            match output {
                Output::Json => super::say(answer.text()),
                Output::Table => super::say(&format!("{} is given up in its lane's turn", table::clean(&id))),
            }
        }
    }
}

/// A table of deliveries.
pub(super) fn list(deliveries: &[Delivery], nothing: &str) -> String {
    table::table(HEADER, deliveries.iter().map(row).collect(), nothing)
}

/// One delivery, with its whole reason.
fn one(delivery: &Delivery) -> String {
    table::whole(HEADER, vec![row(delivery)], "")
}

const HEADER: [&str; 9] = ["ID", "GROUP", "MESSAGE", "PLACE", "KEY", "TYPE", "STATE", "NEXT ATTEMPT", "REASON"];

fn row(delivery: &Delivery) -> [String; 9] {
    let place = delivery.partition.zip(delivery.offset).map(|(partition, offset)| format!("{partition}/{offset}"));
    [
        delivery.id.clone(),
        delivery.group.clone(),
        or_dash(delivery.message_id.as_ref()),
        format!("{}/{}", delivery.topic, or_dash(place)),
        or_dash(table::key(delivery.key.as_ref(), delivery.key_base64.as_ref())),
        or_dash(delivery.type_name.as_ref()),
        delivery.state.clone(),
        or_dash(delivery.next_attempt_at.as_ref()),
        or_dash(delivery.reason.as_ref()),
    ]
}

/// A table of attempts, with the log of each below it.
pub(super) fn attempts(attempts: &[Attempt]) -> String {
    let row = |attempt: &Attempt| {
        [
            attempt.number.to_string(),
            or_dash(attempt.version.as_deref().map(table::version)),
            or_dash(attempt.node.as_ref()),
            or_dash(attempt.started_at.as_ref()),
            or_dash(attempt.finished_at.as_ref()),
            or_dash(attempt.verdict.as_ref()),
            or_dash(attempt.reason.as_ref()),
        ]
    };
    let header = ["ATTEMPT", "VERSION", "NODE", "STARTED", "FINISHED", "VERDICT", "REASON"];
    let mut text = table::whole(header, attempts.iter().map(row).collect(), "no attempts");
    for attempt in attempts {
        let Some(log) = attempt.log.as_ref().filter(|log| !log.is_empty()) else { continue };
        text.push_str(&format!("\n\nlog of attempt {}:", attempt.number));
        for line in table::clean(log).lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    text.push('\n');
    text
}
