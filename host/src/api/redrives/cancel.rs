//! `DELETE /v1/redrives/{id}`: cancels a redrive.

use axum::Json;
use axum::extract::State;

use super::run::wish;
use super::view::RedriveView;
use crate::api::App;
use crate::api::auth::{As, BulkOperator};
use crate::api::changes;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::redrive::RedriveWish;

/// Cancels a redrive for good: waiting items are skipped, running ones finish, and
/// all results stay. A plan that never ran loses its items at once.
#[utoipa::path(
    delete,
    path = "/v1/redrives/{id}",
    tag = "redrives",
    params(("id" = String, Path, description = "The redrive's id")),
    responses((status = 200, description = "It is cancelled", body = RedriveView), Problems)
)]
pub(in crate::api) async fn cancel(
    State(app): State<App>,
    caller: As<BulkOperator>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<RedriveView>, Problem> {
    params.none()?;
    let _turn = changes::begin_bulk(&caller.name).await?;
    wish(&app, &caller, &id, RedriveWish::Cancel).await
}
