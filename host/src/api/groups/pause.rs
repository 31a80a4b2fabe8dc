//! `POST /v1/groups/{group}/pause` and `.../resume`.
//!
//! The API cannot resume a binding that the TOML pauses: a group runs when neither
//! pauses it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use utoipa::ToSchema;

use super::view::{self, GroupView};
use crate::api::App;
use crate::api::auth::{As, Caller, Operator};
use crate::api::events::Change;
use crate::api::intake;
use crate::api::messages::resend::encode;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// Longest reason, in characters.
const MAX_WHY: usize = 500;

/// Why a group is paused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Why it is paused, for people; by default who paused it.
    why: Option<String>,
}

/// An empty body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {}

/// Pauses a group on all nodes: running attempts finish, and no new ones begin.
#[utoipa::path(
    post,
    path = "/v1/groups/{group}/pause",
    tag = "groups",
    params(("group" = String, Path, description = "The group")),
    request_body = Option<Pause>,
    responses((status = 200, description = "It is paused", body = GroupView), Problems)
)]
pub(in crate::api) async fn pause(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(group): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GroupView>, Problem> {
    params.none()?;
    let asked: Pause = intake::command(&caller.name, &headers, body).await?;
    let why = asked.why.filter(|why| !why.trim().is_empty()).unwrap_or_else(|| format!("paused by {}", caller.name));
    if why.chars().count() > MAX_WHY || why.contains('\0') {
        let detail = format!("`why` is text of {MAX_WHY} characters at most, without NUL");
        return Err(Problem::bad_request("bad body", detail));
    }
    set(&app, &caller, &group, Some(&why)).await
}

/// Resumes a group that the API paused. Bindings that the TOML pauses stay paused.
#[utoipa::path(
    post,
    path = "/v1/groups/{group}/resume",
    tag = "groups",
    params(("group" = String, Path, description = "The group")),
    request_body = Option<Resume>,
    responses((status = 200, description = "The API does not pause it any more", body = GroupView), Problems)
)]
pub(in crate::api) async fn resume(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(group): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GroupView>, Problem> {
    params.none()?;
    let Resume {} = intake::command(&caller.name, &headers, body).await?;
    set(&app, &caller, &group, None).await
}

async fn set(app: &App, caller: &Caller, group: &str, why: Option<&str>) -> Result<Json<GroupView>, Problem> {
    view::changeable(app, caller, group).await?;
    let action = if why.is_some() { "pause" } else { "resume" };
    let path = format!("/v1/groups/{}", encode(group));
    let change = Change { path, group: Some(group.to_owned()), ..Change::default() };
    let deed = caller.deed(action, group, why.unwrap_or_default());
    app.change(deed, app.store.set_paused(group, why), |()| change).await?;
    app.groups.wake();
    view::one(app, caller, group).await.map(Json)
}
