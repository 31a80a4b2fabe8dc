//! `GET /v1/redrives/{id}`: a redrive with its progress.

use axum::Json;
use axum::extract::State;

use super::view::{RedriveView, find};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// A redrive with its progress.
#[utoipa::path(
    get,
    path = "/v1/redrives/{id}",
    tag = "redrives",
    params(("id" = String, Path, description = "The redrive's id")),
    responses((status = 200, description = "The redrive", body = RedriveView), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<RedriveView>, Problem> {
    params.none()?;
    find(&app, &caller, &id).await.map(|row| Json(RedriveView::standing(&app, &row)))
}
