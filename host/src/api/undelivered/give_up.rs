//! `POST /v1/undelivered/{id}/give-up`: gives an entry up.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::view::find;
use crate::api::App;
use crate::api::auth::{As, Operator};
use crate::api::events::Change;
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// Why an entry is given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveUpUndeliveredBody {
    /// Why it is given up, for the audit log.
    #[schema(required = true, value_type = String)]
    reason: Option<String>,
}

/// Gives an entry up: its content is removed, and the audit log keeps who did
/// it and why.
#[utoipa::path(
    post,
    path = "/v1/undelivered/{id}/give-up",
    tag = "undelivered",
    params(("id" = String, Path, description = "The entry's id")),
    request_body = GiveUpUndeliveredBody,
    responses((status = 204, description = "It is gone"), Problems)
)]
pub(in crate::api) async fn give_up(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    params.none()?;
    let asked: GiveUpUndeliveredBody = intake::command(&caller.name, &headers, body).await?;
    let reason = asked.reason.filter(|reason| !reason.trim().is_empty()).ok_or_else(|| {
        Problem::bad_request("bad give-up", "`reason` is missing; send {\"reason\": \"why it need not be sent\"}")
    })?;
    let row = find(&app, &caller, &id).await?;
    let subject = format!("{} to {}", row.message_id, row.topic);
    let path = "/v1/undelivered".to_owned();
    let change = Change { path, topics: vec![row.topic], group: row.group, ..Change::default() };
    let said = format!("given up by {}: {reason}", caller.name);
    let given_up = app.store.give_up_undelivered(row.id, &said);
    app.change(caller.deed("give up undelivered", &subject, &reason), given_up, |()| change).await?;
    Ok(StatusCode::NO_CONTENT)
}
