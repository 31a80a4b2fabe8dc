//! `PUT /v1/plugins/{name}`: uploads a component.
//!
//! The same component again is the same version. `?activate=true` also activates it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::view;
use crate::api::App;
use crate::api::auth::{Admin, As};
use crate::api::events::Change;
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::app::upload_plugin::UploadError;

/// An uploaded version.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct UploadView {
    /// The plugin.
    pub name: String,
    /// `sha256:` and the component's digest.
    pub version: String,
    /// Whether it is the active version.
    pub active: bool,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The description in the component: topics, group and types.
    #[schema(required = true, value_type = Option<Object>)]
    pub wants: Option<Value>,
}

/// Uploads a WebAssembly component of at most 40 MiB. It is refused when it is no
/// component, exports no handler, imports an interface that no host offers, or takes
/// too long to compile.
#[utoipa::path(
    put,
    path = "/v1/plugins/{name}",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "The plugin"),
        ("activate" = Option<bool>, Query, description = "Make it the active version as well")
    ),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 201, description = "It is stored", body = UploadView), Problems)
)]
pub(in crate::api) async fn upload(
    State(app): State<App>,
    caller: As<Admin>,
    Segment(name): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<UploadView>), Problem> {
    caller.unscoped("plugins")?;
    let activate = params.only(&["activate"])?.flag("activate")?;
    view::check_name(&name)?;
    if intake::essence(&headers) != "application/wasm" {
        return Err(Problem::unsupported_media("a component is sent with content-type: application/wasm"));
    }
    let taken = intake::read(&caller.name, &headers, body, intake::MAX_UPLOAD_BYTES, "a component").await?;
    if taken.bytes.is_empty() {
        return Err(Problem::bad_request("empty body", "the body is empty; send the component as it is"));
    }
    let path = format!("/v1/plugins/{name}");
    let change = Change { path, plugin: Some(name.clone()), ..Change::default() };
    // The store adds the version to the audit entry.
    let upload = app.plugins.upload(&name, taken.bytes.clone(), &caller.name);
    let uploaded = app.change(caller.deed("upload", &name, ""), upload, |_| change.clone()).await?;
    let active = if activate {
        let deed = caller.deed("activate", &name, &uploaded.version);
        app.change(deed, app.plugins.activate(&name, &uploaded.version, &caller.name), |()| change).await?;
        true
    } else {
        let active = app.store.active().await?;
        active.iter().any(|(plugin, digest)| *plugin == name && *digest == uploaded.version)
    };
    let view = UploadView {
        name,
        version: uploaded.version,
        active,
        imports: uploaded.imports,
        exports: uploaded.exports,
        wants: uploaded.wants,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Refused(why) => Self::unprocessable("plugin refused", why),
            UploadError::Host(why) => Self::internal(why),
            UploadError::Store(error) => error.into(),
        }
    }
}
