//! `GET /v1/lost-ranges`: records that Kafka dropped before a group read them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Viewer};
use super::list::List;
use super::openapi::Problems;
use super::params::Params;
use super::problem::Problem;
use super::time;
use crate::store::{LostRange, MAX_PAGE};

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
            found_at: time::format(row.found_at),
        }
    }
}

/// Ranges of records that Kafka had dropped before a group handled them,
/// newest first; the newest thousand that retention has not removed.
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
    let limit = params.page()?.limit as usize;
    let found = app.store.lost_ranges(MAX_PAGE).await?;
    let full = found.len() >= MAX_PAGE as usize;
    let mut items: Vec<LostRangeView> = found
        .into_iter()
        .filter(|range| caller.sees_group(&range.group) && caller.sees_topic(&range.topic))
        .filter(|range| group.as_ref().is_none_or(|group| *group == range.group))
        .filter(|range| topic.as_ref().is_none_or(|topic| *topic == range.topic))
        .map(LostRangeView::from)
        .collect();
    let truncated = full || items.len() > limit;
    items.truncate(limit);
    Ok(Json(List { items, next: None, truncated }))
}
