//! `GET /healthz`, `GET /readyz` and `GET /metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Viewer};
use super::openapi::Problems;
use super::ports::Ready;
use super::problem::Problem;

/// The answer of `/healthz`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Alive {
    /// Always `ok`: a process that can say so lives.
    pub status: &'static str,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether the host should get requests.
    pub ready: bool,
    /// Each thing that this rests on.
    #[serde(flatten)]
    pub state: Ready,
}

/// Whether the process lives. Needs no token.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "host",
    responses((status = 200, description = "It lives", body = Alive)),
    security(())
)]
pub(super) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether the host takes requests: the store is up and migrated, and sends
/// are accepted. Kafka away leaves it ready, and degraded. Needs no token.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "host",
    responses(
        (status = 200, description = "Ready, maybe degraded", body = Readiness),
        (status = 503, description = "Not ready, and why", body = Readiness)
    ),
    security(())
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    let state = app.health.ready().await;
    let status = if state.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: state.is_ready(), state })).into_response()
}

/// Metrics as Prometheus reads them. They name every group and topic, so a
/// token that reaches only some may not read them.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "host",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"), Problems)
)]
pub(super) async fn metrics(State(app): State<App>, caller: As<Viewer>) -> Result<Response, Problem> {
    caller.unscoped("metrics")?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (app.metrics)()).into_response())
}
