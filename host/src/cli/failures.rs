//! `courier failures`: shows failures, grouped by their fingerprint.

use serde::Deserialize;

use super::client::HostClient;
use super::shapes::ShownPage;
use super::table::{self, or_dash};
use super::{Output, point_in_time, show};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Select failures of this group.
    #[arg(long)]
    group: Option<String>,
    /// Select failures of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Select failures of messages of this type.
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,
    /// Select failures from this time on, for example 2026-01-31T08:00:00Z, or from
    /// that long ago: 15m.
    #[arg(long, value_parser = point_in_time)]
    from: Option<String>,
    /// Select failures before this time.
    #[arg(long, value_parser = point_in_time)]
    to: Option<String>,
    /// The largest number of clusters to show.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct ShownFailure {
    group: String,
    fingerprint: Option<String>,
    verdict: Option<String>,
    reason: Option<String>,
    count: u64,
    open: u64,
    last_at: String,
    example: String,
}

pub(super) async fn run(client: &HostClient, output: Output, args: Args) -> anyhow::Result<()> {
    let query = [
        ("group", args.group),
        ("topic", args.topic),
        ("type", args.type_name),
        ("from", args.from),
        ("to", args.to),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    let answer = client.get(&["failures"], &query).await?;
    show(output, &answer, |page: ShownPage<ShownFailure>| {
        let mut text = list(&page.items);
        if page.truncated {
            text.push_str("\n\nthere are older failures that were not looked at: narrow by --group, --from and --to");
        }
        text
    })
}

fn list(failures: &[ShownFailure]) -> String {
    let row = |failure: &ShownFailure| {
        [
            failure.count.to_string(),
            failure.open.to_string(),
            failure.group.clone(),
            or_dash(failure.fingerprint.as_ref()),
            or_dash(failure.verdict.as_ref()),
            failure.last_at.clone(),
            failure.example.clone(),
            or_dash(failure.reason.as_ref()),
        ]
    };
    let header = ["COUNT", "OPEN", "GROUP", "FINGERPRINT", "VERDICT", "LAST", "EXAMPLE", "REASON"];
    table::table(header, failures.iter().map(row).collect(), "no failures")
}
