//! `GET /v1/plugins`: all plugins, by name.

use axum::Json;
use axum::extract::State;

use super::view::{self, PluginView};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{List, by_name};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;

/// Plugins by name, with their versions and activations. A token that reaches
/// only some topics or groups sees those that its bindings run.
#[utoipa::path(
    get,
    path = "/v1/plugins",
    tag = "plugins",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<PluginView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<PluginView>>, Problem> {
    let page = params.only(&["cursor", "limit"])?.page()?;
    let plugins = view::all(&app, &caller).await?;
    Ok(Json(by_name(plugins, |plugin| &plugin.name, &page)))
}
