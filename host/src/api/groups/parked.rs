//! `GET /v1/groups/{group}/parked`: lanes whose head waits.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::deliveries::id;
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::api::shown::{ShownKey, known};
use crate::rfc3339;
use crate::store::LaneRow;

/// A lane whose head waits for a retry or for a person.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LaneView {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The lane's key.
    #[serde(flatten)]
    pub key: ShownKey,
    /// The delivery at its head.
    pub head: String,
    /// The head's state.
    pub state: &'static str,
    /// Why the head failed last.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Deliveries behind the head; 10000 stands for that many or more.
    pub waiting: u64,
    /// When the head runs again.
    #[schema(required = true)]
    pub next_attempt_at: Option<String>,
    /// Whether the head waits for a person.
    pub held: bool,
}

impl From<LaneRow> for LaneView {
    fn from(row: LaneRow) -> Self {
        Self {
            topic: row.topic,
            partition: row.partition,
            key: ShownKey::new(row.record_key.as_deref()),
            head: id::write(row.head),
            state: row.state.as_str(),
            reason: row.reason.as_deref().and_then(known),
            waiting: row.waiting,
            next_attempt_at: row.next_attempt_at.map(rfc3339::format),
            held: row.held,
        }
    }
}

/// The parked lanes of a group, by partition and offset of their heads.
#[utoipa::path(
    get,
    path = "/v1/groups/{group}/parked",
    tag = "groups",
    params(
        ("group" = String, Path, description = "The group"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<LaneView>), Problems)
)]
pub(in crate::api) async fn parked(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(group): Segment,
    params: Params,
) -> Result<Json<List<LaneView>>, Problem> {
    let page = params.only(&["cursor", "limit"])?.page()?;
    super::view::one(&app, &caller, &group).await?;
    let found = app.store.parked(&group, caller.topics().as_deref(), &page).await.map_err(list::refused)?;
    let items = found.items.into_iter().map(LaneView::from).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
