//! Serves the console's files, which are embedded in the binary, or a placeholder
//! page when the binary was built without them.
//!
//! The console's pages have their own paths (`/messages/ID`), which a browser may
//! reload: every path that is no file and not the API's returns `index.html`. The
//! names of assets contain their hash, so that browsers may cache them for ever;
//! `index.html` is revalidated each time.

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/console/dist"]
#[allow_missing = true]
struct Dist;

/// The content security policy of pages: they load only from this host, run no
/// inline script, submit no forms and are framed by no site.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// The policy of the placeholder page, which has an inline style.
const POLICY_STAND_IN: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
/// Paths of the API, which are never pages.
const PROGRAMS: [&str; 5] = ["/v1", "/openapi.json", "/metrics", "/healthz", "/readyz"];
/// The folder of files with a hash in their name.
const ASSETS: &str = "assets/";

/// Whether a path is the console's and not the API's.
pub(super) fn is_of_console(path: &str) -> bool {
    let below = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !PROGRAMS.into_iter().any(below)
}

/// Serves a request that is for no operation: a file, a page, or a problem.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if !is_of_console(path) {
        return unknown(path);
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        let detail = format!("{method} is not something {path} does; /openapi.json lists what there is");
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", detail).into_response();
    }
    let name = path.trim_start_matches('/');
    if let Some(file) = Dist::get(name).filter(|_| name != "index.html") {
        return of_file(name, &file, &headers);
    }
    // A page of an older version may request an asset that is gone. With HTML in
    // its place the browser would report a confusing syntax error.
    if name.starts_with(ASSETS) {
        return unknown(path);
    }
    match Dist::get("index.html") {
        Some(index) => of_file("index.html", &index, &headers),
        None if name.is_empty() => {
            ([(header::CONTENT_SECURITY_POLICY, POLICY_STAND_IN)], Html(include_str!("home.html"))).into_response()
        }
        None => unknown(path),
    }
}

fn unknown(path: &str) -> Response {
    Problem::not_found(format!("there is nothing at {path}; /openapi.json lists what there is")).into_response()
}

fn of_file(name: &str, file: &EmbeddedFile, asked: &HeaderMap) -> Response {
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let kind = match kind.type_().as_str() {
        "text" => format!("{kind}; charset=utf-8"),
        _ => kind.to_string(),
    };
    let keep = if name.starts_with(ASSETS) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, keep.to_owned()),
        (header::ETAG, tag.clone()),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
    ];
    if asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.data.clone().into_owned()).into_response()
}
