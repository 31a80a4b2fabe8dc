//! `GET /v1/me`: the caller and its permissions.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::SessionSecret;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;

/// The caller.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Me {
    /// The token's name, or `local` where no tokens are needed.
    pub name: String,
    /// `viewer`, `publisher`, `operator` or `admin`.
    pub role: String,
    /// The only topics in reach; null means all.
    #[schema(required = true)]
    pub topics: Option<Vec<String>>,
    /// The only groups in reach; null means all.
    #[schema(required = true)]
    pub groups: Option<Vec<String>>,
    /// Whether there are tokens at all.
    pub auth: bool,
    /// The value of `X-Courier-CSRF` for changes by cookie; null without a session.
    #[schema(required = true)]
    pub csrf: Option<String>,
    /// The node that responds.
    pub node: String,
    /// The host's version.
    pub version: String,
    /// Whether this is `courier dev`.
    pub dev: bool,
}

/// The caller, with its role and scope.
#[utoipa::path(
    get,
    path = "/v1/me",
    tag = "session",
    responses((status = 200, description = "Who asks", body = Me), Problems)
)]
pub(in crate::api) async fn me(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Me>, Problem> {
    params.none()?;
    let by_cookie = !app.auth.is_open() && !headers.contains_key(header::AUTHORIZATION);
    Ok(Json(Me {
        name: caller.name.to_string(),
        role: caller.role().to_string(),
        topics: caller.topics(),
        groups: caller.groups(),
        auth: !app.auth.is_open(),
        csrf: SessionSecret::of(&headers, app.cookies).filter(|_| by_cookie).map(SessionSecret::csrf),
        node: app.node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        dev: app.dev,
    }))
}
