//! `GET /v1/lost-ranges`: records that Kafka dropped before a group read them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Caller, Viewer};
use super::list::List;
use super::openapi::Problems;
use super::params::Params;
use super::problem::Problem;
use crate::rfc3339;
use crate::store::{LostRange, LostRangeFilter};

/// Records that a group never got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LostRangeView {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first lost offset.
    pub from_offset: i64,
    /// The first offset after the lost ones.
    pub to_offset: i64,
    /// What happened.
    pub why: String,
    /// When it was found.
    pub found_at: String,
}

impl From<LostRange> for LostRangeView {
    fn from(row: LostRange) -> Self {
        Self {
            group: row.group,
            topic: row.topic,
            partition: row.partition,
            from_offset: row.from.0,
            to_offset: row.to.0,
            why: row.why,
            found_at: rfc3339::format(row.found_at),
        }
    }
}

/// The lost ranges that a caller may see.
pub(super) fn of(caller: &Caller) -> LostRangeFilter {
    LostRangeFilter { groups: caller.groups(), topics: caller.topics(), position: None }
}

/// Ranges of records that Kafka had dropped before a group handled them,
/// newest first.
#[utoipa::path(
    get,
    path = "/v1/lost-ranges",
    tag = "groups",
    params(
        ("group" = Option<String>, Query, description = "Of this group"),
        ("topic" = Option<String>, Query, description = "Of this topic"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Ranges at most; 100 unless given")
    ),
    responses((status = 200, description = "Lost ranges", body = List<LostRangeView>), Problems)
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<LostRangeView>>, Problem> {
    let params = params.only(&["group", "topic", "limit"])?;
    let (group, topic) = (params.text("group"), params.text("topic"));
    if let Some(group) = &group {
        caller.group(group)?;
    }
    if let Some(topic) = &topic {
        caller.topic(topic)?;
    }
    let mut filter = of(&caller);
    if let Some(group) = group {
        filter.groups = Some(vec![group]);
    }
    if let Some(topic) = topic {
        filter.topics = Some(vec![topic]);
    }
    let limit = params.page()?.limit;
    // One more than is shown tells whether there are more.
    let found = app.store.lost_ranges(&filter, limit + 1).await?;
    let truncated = found.len() > limit as usize;
    let items = found.into_iter().take(limit as usize).map(LostRangeView::from).collect();
    Ok(Json(List { items, next: None, truncated }))
}
