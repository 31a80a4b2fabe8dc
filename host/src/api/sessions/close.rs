//! `DELETE /v1/session`: signs out.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::SessionSecret;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::events::Change;
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;

/// Signs out: ends the session of the cookie and removes the cookie. Without a session it
/// does nothing, nor for a request that shows a token, whose cookie may be another's.
#[utoipa::path(
    delete,
    path = "/v1/session",
    tag = "session",
    responses((status = 204, description = "Signed out"), Problems)
)]
pub(in crate::api) async fn close(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.none()?;
    if headers.contains_key(header::AUTHORIZATION) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if let Some(secret) = SessionSecret::of(&headers, app.cookies) {
        let hash = secret.hash();
        // The caller is `local` where the tokens have left the configuration.
        if let Some(session) = app.store.session(&hash).await? {
            let deed = caller.deed("sign out", &session.token, "");
            let change = Change { path: "/v1/me".to_owned(), token: Some(session.token.into()), ..Change::default() };
            app.change(deed, app.store.close_session(&hash), |_| change).await?;
        }
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, app.cookies.set(&headers, "", 0))]).into_response())
}
