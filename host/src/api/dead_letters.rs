//! `GET /v1/dead-letters`: deliveries that were given up to a dead-letter topic.
//!
//! A dead letter is recorded in the transaction that gives its delivery up. So it
//! is shown although the binding changed since, and stays when its delivery is run
//! again.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Viewer};
use super::list::{self, List};
use super::openapi::Problems;
use super::params::Params;
use super::problem::Problem;
use super::shown::{ShownKey, known};
use crate::api::deliveries::id;
use crate::rfc3339;
use crate::store::{DeadLetterFilter, DeadLetterRow};

/// A delivery that was given up to a dead-letter topic.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    /// The delivery.
    pub delivery: String,
    /// The message.
    pub message_id: String,
    /// The group.
    pub group: String,
    /// Where the message came from.
    pub topic: String,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// The record's key.
    #[serde(flatten)]
    pub key: ShownKey,
    /// The message's type.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub type_name: Option<String>,
    /// Why it was given up, in the handler's words.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Invocations until it was given up.
    pub attempts: u32,
    /// The dead-letter topic.
    pub dead_letter: String,
    /// `sent`, `waiting` (not on its topic yet) or `undelivered`.
    pub fate: &'static str,
    /// When it was given up.
    pub at: String,
    /// When the delivery was handled later; null if it was not.
    #[schema(required = true)]
    pub handled_since: Option<String>,
}

impl From<DeadLetterRow> for DeadLetterView {
    fn from(row: DeadLetterRow) -> Self {
        Self {
            delivery: id::write(row.key),
            message_id: row.message_id,
            group: row.group,
            topic: row.source_topic,
            partition: row.partition,
            offset: row.key.offset.0,
            key: ShownKey::new(row.record_key.as_deref()),
            type_name: known(&row.type_name),
            reason: row.reason.as_deref().and_then(known),
            attempts: row.number,
            dead_letter: row.topic,
            fate: row.fate.as_str(),
            at: rfc3339::format(row.at),
            handled_since: row.handled_at.map(rfc3339::format),
        }
    }
}

/// Deliveries that were given up to a dead-letter topic, newest first.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    tag = "deliveries",
    params(
        ("group" = Option<String>, Query, description = "Given up by this group"),
        ("topic" = Option<String>, Query, description = "Published on this topic of dead letters"),
        ("handled" = Option<bool>, Query, description = "Whose delivery was handled since (true), or was not (false)"),
        ("from" = Option<String>, Query, description = "Given up at or after this time"),
        ("to" = Option<String>, Query, description = "Given up before this time"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<DeadLetterView>), Problems)
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<DeadLetterView>>, Problem> {
    let params = params.only(&["group", "topic", "handled", "from", "to", "cursor", "limit"])?;
    let group = params.text("group");
    if let Some(group) = &group {
        caller.group(group)?;
    }
    let (from, to) = params.between()?;
    let handled = params.choice("handled")?;
    let filter = DeadLetterFilter {
        group,
        groups: caller.groups(),
        source_topics: caller.topics(),
        topic: params.text("topic"),
        handled,
        from,
        to,
    };
    let found = app.store.dead_letters(&filter, &params.page()?).await.map_err(list::refused)?;
    let items = found.items.into_iter().map(DeadLetterView::from).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
