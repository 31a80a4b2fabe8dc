//! `POST /v1/redrives/{id}/run` and `.../pause`.

use axum::Json;
use axum::extract::State;

use super::view::{RedriveView, change, find};
use crate::api::App;
use crate::api::auth::{As, Caller, Operator};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::redrive::RedriveWish;

/// Runs a plan, or goes on with a paused one.
#[utoipa::path(
    post,
    path = "/v1/redrives/{id}/run",
    tag = "redrives",
    params(("id" = String, Path, description = "The redrive's id")),
    responses((status = 200, description = "It runs", body = RedriveView), Problems)
)]
pub(in crate::api) async fn run(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<RedriveView>, Problem> {
    params.none()?;
    let view = wish(&app, &caller, &id, RedriveWish::Run).await;
    app.groups.wake();
    view
}

/// Asks for nothing more; what was asked for finishes.
#[utoipa::path(
    post,
    path = "/v1/redrives/{id}/pause",
    tag = "redrives",
    params(("id" = String, Path, description = "The redrive's id")),
    responses((status = 200, description = "It is paused", body = RedriveView), Problems)
)]
pub(in crate::api) async fn pause(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<RedriveView>, Problem> {
    params.none()?;
    wish(&app, &caller, &id, RedriveWish::Pause).await
}

/// Moves a redrive and notes who did.
pub(super) async fn wish(
    app: &App,
    caller: &Caller,
    id: &str,
    wish: RedriveWish,
) -> Result<Json<RedriveView>, Problem> {
    let before = find(app, caller, id).await?;
    let action = match wish {
        RedriveWish::Run => "run redrive",
        RedriveWish::Pause => "pause redrive",
        RedriveWish::Cancel => "cancel redrive",
    };
    let done = before.handled + before.failed;
    let detail = format!("was {}; {done} of {} done", before.state.as_str(), before.matched);
    let row = app.change(caller.deed(action, id, &detail), app.store.wish_redrive(before.id, wish), change).await?;
    Ok(Json(RedriveView::from(&row)))
}
