//! `courier nodes`: lists the hosts that share the store.

use serde::Deserialize;

use super::client::HostClient;
use super::shapes::ShownPage;
use super::table;
use super::{Output, show};

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    live: bool,
    joined_at: String,
    lease_until: String,
}

pub(super) async fn run(client: &HostClient, output: Output) -> anyhow::Result<()> {
    let answer = client.list(&["nodes"]).await?;
    show(output, &answer, |page: ShownPage<Node>| list(&page.items))
}

fn list(nodes: &[Node]) -> String {
    let row = |node: &Node| {
        let state = if node.live { "live" } else { "away" };
        [node.name.clone(), state.to_owned(), node.joined_at.clone(), node.lease_until.clone()]
    };
    table::table(["NODE", "STATE", "JOINED", "LEASE UNTIL"], nodes.iter().map(row).collect(), "no nodes")
}
