//! `POST /v1/undelivered/{id}/resend`: sends an entry again as it is.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::view::find;
use crate::api::App;
use crate::api::auth::{As, Caller, Operator};
use crate::api::events::Change;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::undelivered::{Repaired, UndeliveredRow};

/// An entry that is being sent again.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwedView {
    /// The message.
    pub message_id: String,
    /// Its topic.
    pub topic: String,
    /// `SEND_FAIL`, until Kafka has it.
    pub state: &'static str,
    /// Always true: the host sends it by itself now.
    pub retrying: bool,
}

/// Sends an entry again as it is, once its cause is mended, for example when its topic
/// takes larger messages now.
#[utoipa::path(
    post,
    path = "/v1/undelivered/{id}/resend",
    tag = "undelivered",
    params(("id" = String, Path, description = "The entry's id")),
    responses((status = 202, description = "It goes out as soon as Kafka takes it", body = OwedView), Problems)
)]
pub(in crate::api) async fn resend(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
) -> Result<(StatusCode, Json<OwedView>), Problem> {
    params.none()?;
    let row = find(&app, &caller, &id).await?;
    if row.topic.is_empty() {
        return Err(Problem::conflict(format!(
            "nobody could read where the entry {id} should go: repair it with a `topic`, or give it up"
        )));
    }
    owe(&app, &caller, "resend undelivered", row, None).await
}

/// Turns an entry back into an unsent row, in the caller's name.
pub(super) async fn owe(
    app: &App,
    caller: &Caller,
    action: &str,
    row: UndeliveredRow,
    repaired: Option<Repaired>,
) -> Result<(StatusCode, Json<OwedView>), Problem> {
    let topic = repaired.as_ref().map_or(row.topic, |repaired| repaired.topic.clone());
    let subject = format!("{} to {topic}", row.message_id);
    let path = "/v1/undelivered".to_owned();
    let change = Change { path, topics: vec![topic.clone()], group: row.group, ..Change::default() };
    let moved = app.store.resend_undelivered(row.id, repaired.as_ref());
    app.change(caller.deed(action, &subject, &row.reason), moved, |()| change).await?;
    Ok((StatusCode::ACCEPTED, Json(OwedView { message_id: row.message_id, topic, state: "SEND_FAIL", retrying: true })))
}
