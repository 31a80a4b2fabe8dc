//! `GET /healthz`, `GET /readyz` and `GET /metrics`.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Viewer};
use super::openapi::Problems;
use super::ports::ReadinessReport;
use super::problem::Problem;

/// The answer of `/healthz`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Alive {
    /// Always `ok`.
    pub status: &'static str,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether the host should get requests.
    pub ready: bool,
    /// The store answers.
    pub store: bool,
    /// Its migrations are done.
    pub migrated: bool,
    /// Sends are accepted.
    pub accepting: bool,
    /// Unavailable parts that do not stop the host, for example `kafka` or `topic
    /// order`; only codes for a token that does not see everything.
    pub degraded: Vec<String>,
    /// Why the host is not ready or degraded, for people; empty without such a token.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// The whole report, for callers that see every topic and group.
    fn whole(state: ReadinessReport) -> Self {
        let ready = state.is_ready();
        let ReadinessReport { store, migrated, accepting, degraded, mut reasons, notes: _ } = state;
        let (degraded, whys): (Vec<_>, Vec<_>) = degraded.into_iter().map(|one| (one.what, one.why)).unzip();
        reasons.extend(whys);
        Self { ready, store, migrated, accepting, degraded, reasons }
    }

    /// The report for a probe, without names and sentences.
    fn bare(state: ReadinessReport) -> Self {
        let ready = state.is_ready();
        let ReadinessReport { store, migrated, accepting, degraded, reasons: _, notes: _ } = state;
        let codes: BTreeSet<&str> = degraded.iter().map(|one| one.code).collect();
        let degraded = codes.into_iter().map(ToOwned::to_owned).collect();
        Self { ready, store, migrated, accepting, degraded, reasons: Vec::new() }
    }
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

/// Whether the host takes requests: the store is up and migrated, and sends are
/// accepted. Without Kafka it is ready, and degraded. Needs no token, but shows
/// names and reasons only to a token that reaches every topic and group.
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
pub(super) async fn ready(State(app): State<App>, caller: Result<As<Viewer>, Problem>) -> Response {
    let state = app.health.ready().await;
    let sees_all = caller.is_ok_and(|caller| caller.sees_all());
    let readiness = if sees_all { Readiness::whole(state) } else { Readiness::bare(state) };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
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
