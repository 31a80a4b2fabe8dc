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

/// Clusters that are shown unless `--limit` says otherwise, and the most of a response.
const USUAL_CLUSTERS: u32 = 100;
const MAX_CLUSTERS: u32 = 1000;

pub(super) async fn run(client: &HostClient, output: Output, args: Args) -> anyhow::Result<()> {
    let limit = args.limit.unwrap_or(USUAL_CLUSTERS);
    // All clusters of a response tell whether it is complete but for the limit.
    let asked_for = match output {
        Output::Json => limit,
        Output::Table => MAX_CLUSTERS,
    };
    let query = [
        ("group", args.group),
        ("topic", args.topic),
        ("type", args.type_name),
        ("from", args.from),
        ("to", args.to),
        ("limit", Some(asked_for.to_string())),
    ];
    let answer = client.get(&["failures"], &query).await?;
    show(output, &answer, |page: ShownPage<ShownFailure>| page_of(&page, limit as usize))
}

/// The largest `limit` clusters, and what is not among them.
fn page_of(page: &ShownPage<ShownFailure>, limit: usize) -> String {
    let (found, most) = (page.items.len(), MAX_CLUSTERS as usize);
    let mut text = list(&page.items[..found.min(limit)]);
    match found.saturating_sub(limit) {
        0 => {}
        1 => text.push_str("\n\none more cluster: --limit shows it"),
        more => text.push_str(&format!("\n\n{more} more clusters: --limit shows them")),
    }
    if page.truncated {
        text.push_str(if found < most {
            "\n\nthere are older failures that were not looked at: narrow by --group, --from and --to"
        } else {
            "\n\nthere are more clusters, or older failures: narrow by --group, --from and --to"
        });
    }
    text
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// More clusters than the limit were told as failures that were not looked at.
    #[test]
    fn what_the_limit_left_out_is_told_from_what_was_not_looked_at() {
        let shown = |clusters: usize, truncated: bool| {
            let cluster = json!({
                "group": "stock", "fingerprint": null, "verdict": null, "reason": null, "count": 1, "open": 0,
                "last_at": "2026-01-31T08:00:00.000000Z", "example": "1-5",
            });
            let page = json!({ "items": vec![cluster; clusters], "next": null, "truncated": truncated });
            let text = page_of(&serde_json::from_value(page).unwrap(), 2);
            (text.matches("stock").count(), text.split_once("\n\n").map(|(_, end)| end.to_owned()))
        };
        let older = "there are older failures that were not looked at: narrow by --group, --from and --to";
        assert_eq!(shown(2, false), (2, None));
        assert_eq!(shown(3, false), (2, Some("one more cluster: --limit shows it".to_owned())));
        assert_eq!(shown(2, true), (2, Some(older.to_owned())));
        assert_eq!(shown(4, true), (2, Some(format!("2 more clusters: --limit shows them\n\n{older}"))));
        assert!(shown(1000, true).1.unwrap().contains("more clusters, or older failures"));
    }
}
