//! `GET /`: a page that says where things are.

use axum::http::header;
use axum::response::{Html, IntoResponse};

/// The page. It runs no script and loads nothing.
pub(super) async fn home() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("home.html")))
}
