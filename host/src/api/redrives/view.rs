//! Redrives, as the API shows them.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::deliveries::id;
use crate::api::deliveries::view::DeliveryView;
use crate::api::events::Change;
use crate::api::problem::Problem;
use crate::causes::{CauseView, Subject};
use crate::rfc3339;
use crate::store::redrive::{RedriveId, RedriveItemRow, RedriveRow, RedriveState};

/// A redrive or replay.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedriveView {
    /// Opaque.
    pub id: String,
    /// PLANNED, RUNNING, PAUSED, DONE or CANCELLED.
    pub state: &'static str,
    /// The group.
    pub group: String,
    /// The filter as it was asked for.
    pub filter: Value,
    /// Whether it replays a range.
    pub replay: bool,
    /// Items a second.
    pub rate: u32,
    /// All items: for a replay the offsets of the range, of which some may have no
    /// record.
    pub matched: u64,
    /// Items with a result.
    pub done: u64,
    /// Items that ended HANDLED.
    pub handled: u64,
    /// Items that ended HANDLE_FAIL.
    pub failed: u64,
    /// Items that were not run; each says why.
    pub skipped: u64,
    /// Items that were started and have no result yet.
    pub running: u64,
    /// Whether more matched than one plan holds.
    pub truncated: bool,
    /// Who planned it.
    pub by: String,
    /// When it was planned.
    pub created_at: String,
    /// When it first ran.
    #[schema(required = true)]
    pub started_at: Option<String>,
    /// When it was done or cancelled.
    #[schema(required = true)]
    pub finished_at: Option<String>,
    /// The node that works on it.
    #[schema(required = true)]
    pub node: Option<String>,
    /// Why a running redrive stands still; null otherwise.
    #[schema(required = true)]
    pub why: Option<String>,
    /// Why it stands still, for programs.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// Some of the deliveries, in the response to a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Vec<DeliveryView>>,
}

impl From<&RedriveRow> for RedriveView {
    fn from(row: &RedriveRow) -> Self {
        Self {
            id: row.id.to_string(),
            state: row.state.as_str(),
            group: row.group.clone(),
            filter: serde_json::from_str(&row.asked_for).unwrap_or_default(),
            replay: row.replay,
            rate: row.rate,
            matched: row.matched,
            // A plan that was dropped before it ran has done none of its items.
            done: if row.started_at.is_some() { row.handled + row.failed + row.skipped } else { 0 },
            handled: row.handled,
            failed: row.failed,
            skipped: row.skipped,
            running: row.running,
            truncated: row.truncated,
            by: row.by.clone(),
            created_at: rfc3339::format(row.created_at),
            started_at: row.started_at.map(rfc3339::format),
            finished_at: row.finished_at.map(rfc3339::format),
            node: row.node.clone(),
            why: None,
            cause: None,
            sample: None,
        }
    }
}

impl RedriveView {
    /// Shows a redrive with the cause of its standstill, if any.
    #[must_use]
    pub fn standing(app: &App, row: &RedriveRow) -> Self {
        let stands = match row.state {
            RedriveState::Running => app.causes.of(&Subject::Redrive(row.id.to_string())),
            _ => None,
        };
        Self {
            why: stands.as_ref().map(|standing| standing.why.clone()),
            cause: stands.as_ref().map(CauseView::from),
            ..Self::from(row)
        }
    }
}

/// One delivery of a redrive.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemView {
    /// The delivery's id.
    pub delivery: String,
    /// The message; null until a replay has read it.
    #[schema(required = true)]
    pub message_id: Option<String>,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// WAITING, RUNNING, HANDLED, HANDLE_FAIL or SKIPPED.
    pub state: &'static str,
    /// Why it failed or was not run.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// When its rerun was requested.
    #[schema(required = true)]
    pub asked_at: Option<String>,
    /// When its outcome was decided.
    #[schema(required = true)]
    pub finished_at: Option<String>,
}

impl ItemView {
    /// Shows an item of a redrive of `group`.
    #[must_use]
    pub fn new(row: &RedriveItemRow, group: &str) -> Self {
        Self {
            delivery: id::write(row.key),
            message_id: row.message_id.clone(),
            group: group.to_owned(),
            topic: row.topic.clone(),
            partition: row.partition,
            offset: row.key.offset.0,
            state: row.state.as_str(),
            reason: row.reason.clone(),
            asked_at: row.asked_at.map(rfc3339::format),
            finished_at: row.finished_at.map(rfc3339::format),
        }
    }
}

/// Whether a caller may see a redrive. A redrive without a topic concerns all topics
/// of its group.
fn is_visible(caller: &Caller, row: &RedriveRow) -> bool {
    let topic = row.topic.as_ref().is_some_and(|topic| caller.sees_topic(topic));
    caller.sees_group(&row.group) && (topic || caller.topics().is_none())
}

/// A redrive that the caller may see.
pub(super) async fn find(app: &App, caller: &Caller, text: &str) -> Result<RedriveRow, Problem> {
    let unknown =
        || Problem::not_found(format!("no redrive {text:?} is known: it is past retention, or the id is none"));
    let id: RedriveId =
        text.parse().ok().filter(|id: &i64| id.to_string() == text).map(RedriveId).ok_or_else(unknown)?;
    let row = app.store.redrive(id).await?;
    row.filter(|row| is_visible(caller, row)).ok_or_else(unknown)
}

/// The change that listeners are told of.
pub(super) fn change(row: &RedriveRow) -> Change {
    Change {
        path: format!("/v1/redrives/{}", row.id),
        group: Some(row.group.clone()),
        topics: row.topic.iter().cloned().collect(),
        of_all_topics: row.topic.is_none(),
        ..Change::default()
    }
}
