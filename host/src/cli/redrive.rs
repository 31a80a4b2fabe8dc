//! `courier redrive`: runs many settled or failed deliveries again.
//!
//! A plan first shows how many deliveries match, and some of them; nothing runs
//! before `courier redrive run`.

use serde_json::{Map, Value};

use super::client::{HostClient, ResponseText};
use super::deliveries::{self, Filter};
use super::page::{Paging, with_end};
use super::shapes::{Redrive, ShownPage};
use super::table::{self, or_dash};
use super::{Output, show};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Plan a redrive: show how many deliveries it would run, and some of them.
    Plan(Plan),
    /// Run a plan, or resume a paused one.
    Run {
        /// The redrive's id.
        id: String,
    },
    /// Pause a running redrive.
    Pause {
        /// The redrive's id.
        id: String,
    },
    /// List redrives, the newest first.
    List {
        #[command(flatten)]
        page: Paging,
    },
    /// Show the progress of a redrive.
    #[command(alias = "status")]
    Show {
        /// The redrive's id.
        id: String,
    },
    /// List the deliveries of a redrive with their results.
    Items {
        /// The redrive's id.
        id: String,
        #[command(flatten)]
        page: Paging,
    },
    /// Cancel a redrive; deliveries that have run stay as they are.
    Cancel {
        /// The redrive's id.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    filter: Filter,
    /// Select deliveries from this time on, for example 2026-01-31T08:00:00Z, or
    /// from that long ago: 15m.
    #[arg(long, value_name = "TIME", value_parser = super::point_in_time)]
    from: Option<String>,
    /// Select deliveries before this time, or before that long ago.
    #[arg(long, value_name = "TIME", value_parser = super::point_in_time)]
    to: Option<String>,
    /// Replay a range of Kafka's records, including those without a delivery;
    /// --from and --to are then times of records.
    #[arg(long, requires = "topic", conflicts_with_all = ["state", "type_name", "key", "fingerprint"])]
    replay: bool,
    /// Replay only this partition.
    #[arg(long, requires = "replay")]
    partition: Option<u32>,
    /// Replay from this offset on.
    #[arg(long, requires = "replay")]
    from_offset: Option<u64>,
    /// Replay only records before this offset.
    #[arg(long, requires = "replay")]
    to_offset: Option<u64>,
    /// The largest number of deliveries to run in a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Plan(plan) => {
            let answer = client.post(&["redrives"], Some(request(plan))).await?;
            show(output, &answer, |redrive: Redrive| planned(&redrive))
        }
        Command::Run { id } => progress(output, &client.post(&["redrives", &id, "run"], None).await?),
        Command::Pause { id } => progress(output, &client.post(&["redrives", &id, "pause"], None).await?),
        Command::Show { id } => progress(output, &client.get(&["redrives", &id], &[]).await?),
        Command::List { page } => {
            let query = [("cursor", page.cursor), ("limit", page.limit.map(|limit| limit.to_string()))];
            let answer = client.get(&["redrives"], &query).await?;
            show(output, &answer, |page: ShownPage<Redrive>| {
                with_end(table_of(&page.items, "no redrives"), page.next.as_deref(), page.truncated)
            })
        }
        Command::Items { id, page } => {
            let query = [("cursor", page.cursor), ("limit", page.limit.map(|limit| limit.to_string()))];
            let answer = client.get(&["redrives", &id, "items"], &query).await?;
            show(output, &answer, |page: ShownPage<Value>| {
                with_end(items(&page.items), page.next.as_deref(), page.truncated)
            })
        }
        Command::Cancel { id } => progress(output, &client.delete(&["redrives", &id]).await?),
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
    let numbers = [
        ("partition", plan.partition.map(u64::from)),
        ("from_offset", plan.from_offset),
        ("to_offset", plan.to_offset),
    ];
    filter.extend(numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), Value::from(number?)))));
    if plan.replay {
        filter.insert("replay".to_owned(), Value::from(true));
    }
    let mut request = Map::from_iter([("filter".to_owned(), Value::Object(filter))]);
    if let Some(rate) = plan.rate {
        request.insert("rate".to_owned(), Value::from(rate));
    }
    Value::Object(request).to_string()
}

fn progress(output: Output, answer: &ResponseText) -> anyhow::Result<()> {
    show(output, answer, |redrive: Redrive| summary(&redrive))
}

fn summary(redrive: &Redrive) -> String {
    let mut text = table::whole(HEADER, vec![row(redrive)], "");
    if let Some(why) = &redrive.why {
        text.push_str(&format!("\n\nit waits: {}", table::clean(why)));
    }
    text
}

const HEADER: [&str; 9] = ["ID", "STATE", "GROUP", "MATCHED", "DONE", "HANDLED", "FAILED", "SKIPPED", "FILTER"];

fn table_of(redrives: &[Redrive], nothing: &str) -> String {
    table::table(HEADER, redrives.iter().map(row).collect(), nothing)
}

fn row(redrive: &Redrive) -> [String; 9] {
    [
        redrive.id.clone(),
        redrive.state.clone(),
        or_dash(redrive.group.as_ref()),
        or_dash(redrive.matched),
        or_dash(redrive.done),
        or_dash(redrive.handled),
        or_dash(redrive.failed),
        or_dash(redrive.skipped),
        or_dash(redrive.filter.as_ref().map(Value::to_string)),
    ]
}

fn planned(redrive: &Redrive) -> String {
    let more =
        if redrive.truncated { "\n\nmore matches than one plan holds: plan again when this one is done" } else { "" };
    let sample = deliveries::list(redrive.sample.as_deref().unwrap_or(&[]), "nothing matches");
    let id = table::clean(&redrive.id);
    format!("{}{more}\n\nsome of them:\n{sample}\n\nrun it with: courier redrive run {id}", summary(redrive))
}

fn items(items: &[Value]) -> String {
    let text = |item: &Value, name: &str| or_dash(item.get(name).and_then(Value::as_str));
    let row = |item: &Value| {
        let number = |name: &str| item.get(name).map(Value::to_string).unwrap_or_default();
        let place = format!("{}/{}/{}", text(item, "topic"), number("partition"), number("offset"));
        [text(item, "delivery"), text(item, "message_id"), place, text(item, "state"), text(item, "reason")]
    };
    table::table(["DELIVERY", "MESSAGE", "PLACE", "STATE", "REASON"], items.iter().map(row).collect(), "no deliveries")
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
        let line =
            ["plan", "--group", "stock", "--topic", "order", "--replay", "--partition", "1", "--from-offset", "5"];
        let plan = Line::try_parse_from(line).unwrap().plan;
        let expected = r#"{"filter":{"from_offset":5,"group":"stock","partition":1,"replay":true,"topic":"order"}}"#;
        assert_eq!(request(plan), expected);
        assert!(Line::try_parse_from(["plan", "--group", "stock", "--from-offset", "5"]).is_err(), "it is no replay");
    }
}
