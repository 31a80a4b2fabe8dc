//! `POST /v1/plugins/{name}/activate`: activates a version.
//!
//! A rollback activates the version before.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view;
use crate::api::App;
use crate::api::auth::{Admin, As};
use crate::api::events::Change;
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// The version to activate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// `sha256:` and its digest.
    version: String,
}

/// The active version.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActiveView {
    /// The plugin.
    pub name: String,
    /// The version.
    pub active: String,
}

/// Activates an uploaded version, on every node within two seconds. Running attempts
/// end on the version that they began with.
#[utoipa::path(
    post,
    path = "/v1/plugins/{name}/activate",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin")),
    request_body = Activate,
    responses((status = 200, description = "It is active", body = ActiveView), Problems)
)]
pub(in crate::api) async fn activate(
    State(app): State<App>,
    caller: As<Admin>,
    Segment(name): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ActiveView>, Problem> {
    caller.unscoped("plugins")?;
    params.none()?;
    let Activate { version } = intake::command(&caller.name, &headers, body).await?;
    let plugin = view::one(&app, &caller, &name).await?;
    if !plugin.versions.iter().any(|known| known.version == version) {
        return Err(Problem::not_found(format!(
            "the plugin {name:?} has no version {version:?}; GET /v1/plugins/{name} lists those it has"
        )));
    }
    let path = format!("/v1/plugins/{name}");
    let change = Change { path, plugin: Some(name.clone()), ..Change::default() };
    let deed = caller.deed("activate", &name, &version);
    app.change(deed, app.plugins.activate(&name, &version, &caller.name), |()| change).await?;
    Ok(Json(ActiveView { name, active: version }))
}
