//! `courier redrive`: runs settled or failed deliveries again, many at once.
//!
//! A plan says first how many there are and shows some; nothing runs until it
//! is told to.

use serde_json::{Map, Value};

use super::client::{Answer, Client};
use super::deliveries::{self, Filter};
use super::messages::{Paging, with_end};
use super::shapes::{Page, Redrive};
use super::table::{self, or_dash};
use super::{Output, show};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Plans a redrive: how many deliveries it would run, and some of them.
    Plan(Plan),
    /// Runs a plan, or goes on with a paused one.
    Run {
        /// The redrive's id.
        id: String,
    },
    /// Pauses a running redrive.
    Pause {
        /// The redrive's id.
        id: String,
    },
    /// Shows how far a redrive is.
    Status {
        /// The redrive's id.
        id: String,
    },
    /// Lists the deliveries of a redrive with what became of them.
    Items {
        /// The redrive's id.
        id: String,
        #[command(flatten)]
        page: Paging,
    },
    /// Cancels a redrive; what has run stays.
    Cancel {
        /// The redrive's id.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    filter: Filter,
    /// From this time, for example 2026-01-31T08:00:00Z, or that long ago: 15m.
    #[arg(long, value_name = "TIME", value_parser = super::point_in_time)]
    from: Option<String>,
    /// Up to this time, or that long ago.
    #[arg(long, value_name = "TIME", value_parser = super::point_in_time)]
    to: Option<String>,
    /// How many to run in a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

pub(super) async fn run(client: &Client, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Plan(plan) => {
            let answer = client.post(&["redrives"], Some(request(plan))).await?;
            show(output, &answer, |redrive: Redrive| planned(&redrive))
        }
        Command::Run { id } => progress(output, &client.post(&["redrives", &id, "run"], None).await?),
        Command::Pause { id } => progress(output, &client.post(&["redrives", &id, "pause"], None).await?),
        Command::Status { id } => progress(output, &client.get(&["redrives", &id], &[]).await?),
        Command::Items { id, page } => {
            let query = [("cursor", page.cursor), ("limit", page.limit.map(|limit| limit.to_string()))];
            let answer = client.get(&["redrives", &id, "items"], &query).await?;
            show(output, &answer, |page: Page<Value>| {
                with_end(items(&page.items), page.next.as_deref(), page.truncated)
            })
        }
        Command::Cancel { id } => {
            let answer = client.delete(&["redrives", &id]).await?;
            match output {
                Output::Json => super::say(answer.text()),
                Output::Table => super::say(&format!("{} cancelled", table::clean(&id))),
            }
        }
    }
}

fn request(plan: Plan) -> String {
    let mut filter = Map::new();
    let span = [("from", plan.from), ("to", plan.to)];
    for (name, value) in plan.filter.pairs().into_iter().chain(span) {
        if let Some(value) = value {
            filter.insert(name.to_owned(), Value::from(value));
        }
    }
    let mut request = Map::from_iter([("filter".to_owned(), Value::Object(filter))]);
    if let Some(rate) = plan.rate {
        request.insert("rate".to_owned(), Value::from(rate));
    }
    Value::Object(request).to_string()
}

fn progress(output: Output, answer: &Answer) -> anyhow::Result<()> {
    show(output, answer, |redrive: Redrive| summary(&redrive))
}

fn summary(redrive: &Redrive) -> String {
    let row = [
        redrive.id.clone(),
        redrive.state.clone(),
        or_dash(redrive.matched),
        or_dash(redrive.done),
        or_dash(redrive.handled),
        or_dash(redrive.failed),
    ];
    table::table(["ID", "STATE", "MATCHED", "DONE", "HANDLED", "FAILED"], vec![row], "")
}

fn planned(redrive: &Redrive) -> String {
    let sample = deliveries::list(redrive.sample.as_deref().unwrap_or(&[]), "nothing matches");
    let id = table::clean(&redrive.id);
    format!("{}\n\nsome of them:\n{sample}\n\nrun it with: courier redrive run {id}", summary(redrive))
}

fn items(items: &[Value]) -> String {
    let text = |item: &Value, name: &str| or_dash(item.get(name).and_then(Value::as_str));
    let row = |item: &Value| {
        let id = item.get("delivery_id").or_else(|| item.get("id")).and_then(Value::as_str);
        [or_dash(id), text(item, "group"), text(item, "message_id"), text(item, "state"), text(item, "reason")]
    };
    table::table(["DELIVERY", "GROUP", "MESSAGE", "STATE", "REASON"], items.iter().map(row).collect(), "no deliveries")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        plan: Plan,
    }

    #[test]
    fn a_plan_holds_the_filter_and_the_rate() {
        let line = ["plan", "--group", "stock", "--type", "A", "--from", "2026-01-31T08:00:00Z", "--rate", "500"];
        let plan = Line::try_parse_from(line).unwrap().plan;
        let expected = r#"{"filter":{"from":"2026-01-31T08:00:00Z","group":"stock","type":"A"},"rate":500}"#;
        assert_eq!(request(plan), expected);
    }
}
