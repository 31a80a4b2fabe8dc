//! `courier groups`: lists and pauses consumer groups, and moves their positions.

use serde_json::{Value, json};

use super::client::HostClient;
use super::shapes::{Open, ShownGroup, ShownMove, ShownPage, ShownSeek};
use super::table::{self, or_dash};
use super::{Output, say, show};
use crate::consume::attempt::binding::PAUSED_BY_TOML;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the consumer groups.
    List,
    /// Show a group with its partitions.
    Show {
        /// The group.
        group: String,
    },
    /// Pause a group, so that no attempt begins until it is resumed.
    Pause {
        /// The group.
        group: String,
    },
    /// Resume a paused group.
    Resume {
        /// The group.
        group: String,
    },
    /// Move a group's positions; moving back runs the records in between again.
    Seek(SeekArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct SeekArgs {
    /// The group.
    group: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// The partition; all by default.
    #[arg(long)]
    partition: Option<u32>,
    /// The target: an offset, earliest, latest or a time, for example
    /// 2026-01-31T08:00:00Z.
    #[arg(long, value_parser = target)]
    to: Value,
    /// The group's name once more, as a confirmation.
    #[arg(long, value_name = "GROUP")]
    confirm: String,
}

fn target(text: &str) -> Result<Value, String> {
    if let Ok(offset) = text.parse::<u64>() {
        return Ok(json!(offset));
    }
    if matches!(text, "earliest" | "latest") || text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(json!(text));
    }
    Err("write an offset, earliest, latest or a time such as 2026-01-31T08:00:00Z".to_owned())
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => {
            let answer = client.list(&["groups"]).await?;
            show(output, &answer, |page: ShownPage<ShownGroup>| list(&page.items))
        }
        Command::Show { group } => {
            let answer = client.get(&["groups", &group], &[]).await?;
            show(output, &answer, |group: ShownGroup| whole(&group))
        }
        Command::Pause { group } => act(client, output, &group, "pause", "paused").await,
        Command::Resume { group } => act(client, output, &group, "resume", "resumed").await,
        Command::Seek(seek) => {
            let SeekArgs { group, topic, partition, to, confirm } = seek;
            let mut wish = json!({ "topic": topic, "to": to, "confirm": confirm });
            if let Some(partition) = partition {
                wish["partition"] = json!(partition);
            }
            let answer = client.post(&["groups", &group, "seek"], Some(wish.to_string())).await?;
            show(output, &answer, |sought: ShownSeek| moved(&sought))
        }
    }
}

fn moved(sought: &ShownSeek) -> String {
    let row = |one: &ShownMove| {
        let what = match one.to.cmp(&one.from) {
            std::cmp::Ordering::Less => format!("{} offsets run again", one.from - one.to),
            std::cmp::Ordering::Equal => "stays".to_owned(),
            std::cmp::Ordering::Greater => format!("{} offsets skipped", one.to - one.from),
        };
        [one.partition.to_string(), one.from.to_string(), one.to.to_string(), what]
    };
    table::table(
        ["PARTITION", "FROM", "TO", "WHAT FOLLOWS"],
        sought.partitions.iter().map(row).collect(),
        "no partitions",
    )
}

async fn act(client: &HostClient, output: Output, group: &str, verb: &str, done: &str) -> anyhow::Result<()> {
    let answer = client.post(&["groups", group, verb], None).await?;
    match output {
        Output::Json => say(answer.text()),
        Output::Table => say(&done_to(&answer.read::<ShownGroup>()?, verb, done)),
    }
}

/// The result of pausing or resuming a group. A resumed group may still be paused
/// by the configuration.
fn done_to(group: &ShownGroup, verb: &str, done: &str) -> String {
    let name = &group.group;
    if verb == "resume" && group.bindings.iter().any(|binding| binding["why"] == PAUSED_BY_TOML) {
        return format!("{name} {done}, but stays paused where its binding in courier.toml says `paused = true`");
    }
    format!("{name} {done}")
}

/// The group's state in words. For a running group it counts the partitions that
/// do not progress, which the other columns do not show.
fn state(group: &ShownGroup) -> String {
    let word = match group.state.as_deref() {
        Some("cannot_run") => "cannot run",
        Some("not_bound") => "not bound",
        _ => "paused",
    };
    match (group.paused, &group.why) {
        (true, Some(why)) => format!("{word}: {why}"),
        (true, None) => word.to_owned(),
        (false, Some(why)) if word != "paused" => format!("{word}: {why}"),
        (false, Some(why)) => why.clone(),
        (false, None) => match group.partitions.iter().filter(|partition| partition.why.is_some()).count() {
            0 => "running".to_owned(),
            1 => "running; 1 partition says why it waits".to_owned(),
            count => format!("running; {count} partitions say why they wait"),
        },
    }
}

const HEADER: [&str; 9] = ["GROUP", "STATE", "LAG", "WAITING", "RETRYING", "PUSH_FAIL", "HELD", "HANDLED", "FAILED"];

fn list(groups: &[ShownGroup]) -> String {
    let nothing = "no groups: a [[binding]] in courier.toml makes one";
    table::table(HEADER, groups.iter().map(row).collect(), nothing)
}

fn row(group: &ShownGroup) -> [String; 9] {
    // Without a lag of every partition there is none: a partial sum would be taken
    // for the whole.
    let known: Option<Vec<i64>> = group.partitions.iter().map(|partition| partition.lag).collect();
    let lag = known.filter(|known| !known.is_empty()).map(|known| known.iter().sum::<i64>());
    let open = group.open.as_ref().unwrap_or(&Open { waiting: 0, push_fail: 0, retrying: 0, held: 0 });
    [
        group.group.clone(),
        state(group),
        or_dash(lag),
        open.waiting.to_string(),
        open.retrying.to_string(),
        open.push_fail.to_string(),
        open.held.to_string(),
        or_dash(group.handled),
        or_dash(group.failed),
    ]
}

fn whole(group: &ShownGroup) -> String {
    let mut text = table::whole(HEADER, vec![row(group)], "");
    let rows = group.partitions.iter().map(|partition| {
        [
            partition.topic.clone(),
            partition.partition.to_string(),
            or_dash(partition.position),
            or_dash(partition.end),
            or_dash(partition.lag),
            or_dash(partition.node.as_ref()),
            or_dash(partition.why.as_ref()),
        ]
    });
    text.push_str("\n\n");
    let header = ["TOPIC", "PARTITION", "POSITION", "END", "LAG", "NODE", "WHY"];
    text.push_str(&table::whole(header, rows.collect(), "no partitions yet"));
    for binding in &group.bindings {
        text.push_str(&format!("\n\nbinding: {}", table::clean(&binding.to_string())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seek_tells_what_follows() {
        let sought: ShownSeek = serde_json::from_value(json!({ "group": "stock", "topic": "order", "partitions": [
            { "partition": 0, "from": 9, "to": 4 }, { "partition": 1, "from": 4, "to": 9 },
        ] }))
        .unwrap();
        let shown = moved(&sought);
        assert!(shown.contains("5 offsets run again") && shown.contains("5 offsets skipped"), "{shown}");
    }

    #[test]
    fn a_resumed_group_that_the_configuration_pauses_is_not_said_to_run() {
        let group = |why: &str| {
            let binding = json!({ "plugin": "reserve", "paused": true, "why": why });
            serde_json::from_value(json!({ "group": "stock", "paused": true, "bindings": [binding] })).unwrap()
        };
        assert_eq!(done_to(&group("paused by ada"), "resume", "resumed"), "stock resumed");
        assert!(done_to(&group(PAUSED_BY_TOML), "resume", "resumed").contains("stays paused where"));
    }

    #[test]
    fn a_group_tells_its_lag_and_why_it_stands_still() {
        let groups: Vec<ShownGroup> = serde_json::from_value(json!([{
            "group": "stock", "paused": true, "why": "unavailable: database", "bindings": [],
            "partitions": [
                { "topic": "order", "partition": 0, "position": 5, "end": 9, "lag": 4, "node": "host-1" },
                { "topic": "order", "partition": 1, "position": null, "end": null, "lag": null, "node": null },
            ],
            "open": { "waiting": 3, "push_fail": 1, "retrying": 2, "held": 0 }, "handled": 7, "failed": 1,
        }]))
        .unwrap();
        let shown = whole(&groups[0]);
        assert!(shown.contains("paused: unavailable: database  -  "), "{shown}");
        assert!(shown.contains("order  0          5         9    4    host-1"), "{shown}");
        assert!(shown.contains("order  1          -"), "{shown}");

        let mut running: ShownGroup = serde_json::from_value(json!({ "group": "stock", "paused": false,
            "partitions": [{ "topic": "order", "partition": 0, "why": "the store refuses a row" }] }))
        .unwrap();
        let shown = whole(&running);
        assert!(shown.contains("running; 1 partition says why it waits"), "{shown}");
        assert!(shown.contains("the store refuses a row"), "{shown}");
        running.partitions.clear();
        assert!(!whole(&running).contains("says why"), "{running:?}");
    }
}
