//! `POST /v1/session`: signs in.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{LIFETIME, Peer, SessionSecret};
use crate::api::App;
use crate::api::events::Change;
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::clock;
use crate::store::AuditEntry;

/// The name of an unknown caller in the audit log; no token can have it.
const NOBODY: &str = "(nobody)";

/// The token to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// A token of [auth].
    token: String,
}

/// Signs in with a token: the response sets a cookie that scripts cannot read and
/// that lasts twelve hours. Attempts from one address are limited.
#[utoipa::path(
    post,
    path = "/v1/session",
    tag = "session",
    request_body = SignIn,
    responses(
        (status = 204, description = "Signed in", headers(("Set-Cookie" = String, description = "The session"))),
        Problems
    ),
    security(())
)]
pub(in crate::api) async fn open(
    State(app): State<App>,
    Peer(peer): Peer,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.none()?;
    if let Err(problem) = app.attempts.count(peer, "attempts to sign in") {
        record_refusal(&app, peer, "too many attempts").await;
        return Err(problem);
    }
    let SignIn { token } = intake::sign_in(peer, &headers, body).await?;
    if app.auth.is_open() {
        let detail = "no tokens are configured, so nobody has to sign in: [auth] in the configuration has them";
        return Err(Problem::conflict(detail));
    }
    let Some((digest, caller)) = app.auth.find(token.trim().as_bytes()) else {
        record_refusal(&app, peer, "a token that nobody has").await;
        let detail = "nobody has this token; the tokens are those of [auth] in the configuration";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "not authenticated", detail));
    };
    let secret = SessionSecret::new();
    let (hash, bound) = (secret.hash(), secret.bound(&digest));
    let opened = app.store.open_session(&hash, &caller.name, &bound, LIFETIME);
    let deed = caller.deed("sign in", &caller.name, &peer.to_string());
    let token = Some(Arc::clone(&caller.name));
    app.change(deed, opened, |()| Change { path: "/v1/me".to_owned(), token, ..Change::default() }).await?;
    let cookie = app.cookies.set(&headers, &secret.text(), LIFETIME.as_secs());
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Writes a refused attempt to the audit log and the host's log, within the bounds of
/// [`Refusals`](super::Refusals).
async fn record_refusal(app: &App, peer: IpAddr, why: &str) {
    if !app.refusals.has_entry(peer, clock::now()) {
        return;
    }
    tracing::warn!(%peer, why, "a sign-in was refused");
    let [by, action, detail] = [NOBODY, "sign in refused", why].map(str::to_owned);
    let deed = AuditEntry { by, action, subject: peer.to_string(), detail };
    if let Err(error) = app.store.record_deed(&deed).await {
        tracing::warn!(%error, %peer, "a refused sign-in has no entry in the audit log");
    }
}
