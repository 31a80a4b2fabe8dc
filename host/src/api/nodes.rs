//! `GET /v1/nodes`: the hosts that share the store.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Viewer};
use super::list::{List, by_name};
use super::openapi::Problems;
use super::params::Params;
use super::problem::Problem;
use crate::rfc3339;
use crate::store::NodeRow;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether its lease is valid.
    pub live: bool,
    /// When its process joined.
    pub joined_at: String,
    /// When its lease ends unless it is renewed.
    pub lease_until: String,
}

impl From<NodeRow> for NodeView {
    fn from(row: NodeRow) -> Self {
        Self {
            name: row.name,
            live: row.live,
            joined_at: rfc3339::format(row.joined_at),
            lease_until: rfc3339::format(row.lease_until),
        }
    }
}

/// The hosts that share the store, by name. A host that left is listed until
/// retention removes it.
#[utoipa::path(
    get,
    path = "/v1/nodes",
    tag = "host",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<NodeView>), Problems)
)]
pub(super) async fn list(
    State(app): State<App>,
    _: As<Viewer>,
    params: Params,
) -> Result<Json<List<NodeView>>, Problem> {
    let page = params.only(&["cursor", "limit"])?.page()?;
    let mut nodes: Vec<NodeView> = app.store.nodes().await?.into_iter().map(NodeView::from).collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(by_name(nodes, |node| &node.name, &page)))
}
