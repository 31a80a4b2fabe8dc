//! `GET /v1/plugins/{name}`: one plugin.

use axum::Json;
use axum::extract::State;

use super::view::{self, PluginView};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// A plugin with its versions and activations, newest first.
#[utoipa::path(
    get,
    path = "/v1/plugins/{name}",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin")),
    responses((status = 200, description = "The plugin", body = PluginView), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(name): Segment,
    params: Params,
) -> Result<Json<PluginView>, Problem> {
    params.none()?;
    view::one(&app, &caller, &name).await.map(Json)
}
