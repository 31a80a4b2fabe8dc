//! `GET /v1/undelivered/{id}`: an entry with its whole content.

use axum::Json;
use axum::extract::State;

use super::view::{UndeliveredContent, find, raw};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// An undelivered message with its raw key, value and headers.
#[utoipa::path(
    get,
    path = "/v1/undelivered/{id}",
    tag = "undelivered",
    params(("id" = String, Path, description = "The entry's id")),
    responses((status = 200, description = "The entry", body = UndeliveredContent), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<UndeliveredContent>, Problem> {
    params.none()?;
    let row = find(&app, &caller, &id).await?;
    let record = raw(&app, &row)?;
    Ok(Json(UndeliveredContent::new(row, &record)))
}
