//! `courier outboxes`: lists the outboxes, and how far they are relayed.

use super::client::HostClient;
use super::shapes::{ShownOutbox, ShownPage};
use super::table::{self, or_dash};
use super::{Output, show};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the outboxes of the configuration.
    List,
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    let Command::List = command;
    let answer = client.list(&["outboxes"]).await?;
    show(output, &answer, |page: ShownPage<ShownOutbox>| list(&page.items))
}

fn list(outboxes: &[ShownOutbox]) -> String {
    let row = |outbox: &ShownOutbox| {
        let state = match &outbox.why {
            Some(why) => format!("{}: {why}", outbox.state),
            None => outbox.state.clone(),
        };
        [
            outbox.name.clone(),
            state,
            or_dash(outbox.pending),
            or_dash(outbox.oldest_at.as_ref()),
            outbox.relayed.to_string(),
            outbox.refused.to_string(),
            or_dash(outbox.node.as_ref()),
            outbox.table.clone(),
        ]
    };
    let header = ["OUTBOX", "STATE", "PENDING", "OLDEST", "RELAYED", "REFUSED", "NODE", "TABLE"];
    table::table(header, outboxes.iter().map(row).collect(), "no outboxes: an [[outbox]] in courier.toml makes one")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outbox_tells_why_it_fails() {
        let outboxes: Vec<ShownOutbox> = serde_json::from_value(json!([{
            "name": "shop", "url": "sqlite://shop.db", "table": "courier_outbox", "state": "failing",
            "why": "there is no table courier_outbox", "pending": null, "oldest_at": null, "relayed": 7,
            "refused": 0, "shards": [3], "node": "host-1",
        }]))
        .unwrap();
        let shown = list(&outboxes);
        assert!(shown.contains("failing: there is no table courier_outbox  -"), "{shown}");
        assert!(list(&[]).contains("[[outbox]]"));
    }
}
