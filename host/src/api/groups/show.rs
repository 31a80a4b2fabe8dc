//! `GET /v1/groups/{group}`: one group.

use axum::Json;
use axum::extract::State;

use super::view::{self, GroupView};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// A group: its bindings, its positions, and its sums.
#[utoipa::path(
    get,
    path = "/v1/groups/{group}",
    tag = "groups",
    params(("group" = String, Path, description = "The group")),
    responses((status = 200, description = "The group", body = GroupView), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(group): Segment,
    params: Params,
) -> Result<Json<GroupView>, Problem> {
    params.none()?;
    view::one(&app, &caller, &group).await.map(Json)
}
