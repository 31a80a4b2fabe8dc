//! The callers of sessions: whom a cookie admits.

use axum::http::StatusCode;
use axum::http::request::Parts;
use subtle::ConstantTimeEq;

use super::{CSRF, SessionSecret};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::problem::Problem;
use crate::store::StoreError;

/// The caller of the session with this secret; `None` when it has ended.
///
/// # Errors
/// When the store is unavailable.
pub async fn holder(app: &App, secret: SessionSecret) -> Result<Option<Caller>, StoreError> {
    let Some(session) = app.store.session(&secret.hash()).await? else { return Ok(None) };
    let Some((digest, caller)) = app.auth.holder(&session.token) else { return Ok(None) };
    Ok(bool::from(secret.bound(&digest).ct_eq(&session.bound)).then_some(caller))
}

/// The caller of a request with this session.
///
/// # Errors
/// 401 for an unknown or ended session; 403 for a change without the CSRF header.
pub async fn admit(app: &App, parts: &Parts, secret: SessionSecret) -> Result<Caller, Problem> {
    let caller = holder(app, secret).await?.ok_or_else(|| {
        let detail = "the session has ended; sign in again, or send a token as `Authorization: Bearer <token>`";
        Problem::new(StatusCode::UNAUTHORIZED, "not authenticated", detail)
    })?;
    if !parts.method.is_safe() {
        let shown = parts.headers.get(CSRF).map(|value| value.as_bytes()).unwrap_or_default();
        if !bool::from(shown.ct_eq(secret.csrf().as_bytes())) {
            return Err(Problem::forbidden(
                "a change made by cookie needs the header X-Courier-CSRF with the `csrf` that GET /v1/me tells",
            ));
        }
    }
    Ok(caller)
}
