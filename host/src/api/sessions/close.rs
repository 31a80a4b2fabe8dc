//! `DELETE /v1/session`: signs out.

use std::sync::Arc;

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

/// Signs out: ends the session and removes its cookie. Without a session it does
/// nothing.
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
    if let Some(secret) = SessionSecret::of(&headers, app.cookies) {
        let hash = secret.hash();
        let token = Some(Arc::clone(&caller.name));
        let change = Change { path: "/v1/me".to_owned(), token, ..Change::default() };
        app.change(caller.deed("sign out", &caller.name, ""), app.store.close_session(&hash), |_| change).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, app.cookies.set(&headers, "", 0))]).into_response())
}
