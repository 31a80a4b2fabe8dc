//! `GET /openapi.json`: this API, described from its code.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::problem::Problem;
use super::sessions;

/// The error responses of an operation: a problem detail, with a 4XX or 5XX status.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problem = |words: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            RefOr::T(ResponseBuilder::new().description(words).content("application/problem+json", content).build())
        };
        BTreeMap::from([
            ("4XX".to_owned(), problem("The request cannot be served as it is; the detail says what would be right")),
            ("5XX".to_owned(), problem("The host cannot serve the request now, or has a fault")),
        ])
    }
}

/// The document without operations.
pub(super) fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Courier")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A message service on Kafka that runs WebAssembly handlers. Times are RFC 3339 in UTC with microseconds; \
             what is absent is null; ids in paths are percent-encoded; errors are RFC 9457 problem details.",
        ))
        .build();
    let mut components = Components::new();
    components.schemas.insert("Problem".to_owned(), <Problem as PartialSchema>::schema());
    let mut parts = Vec::new();
    <Problem as ToSchema>::schemas(&mut parts);
    components.schemas.extend(parts);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token of [auth]")).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
        sessions::COOKIE,
        "A session of POST /v1/session; changes also need the header X-Courier-CSRF. Over TLS its name begins with __Host-",
    ));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    let needs = |scheme| SecurityRequirement::new(scheme, Vec::<String>::new());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([needs("token"), needs("session")]))
        .build()
}

/// Names each operation by its method and path, as in `post_groups_group_pause`, so
/// that names are unique and stay when code moves.
pub(super) fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let words: Vec<&str> =
            path.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty() && *word != "v1").collect();
        let path = words.join("_");
        let operations = [
            ("get", &mut item.get),
            ("put", &mut item.put),
            ("post", &mut item.post),
            ("delete", &mut item.delete),
            ("patch", &mut item.patch),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{path}"));
            }
        }
    }
}

/// Adds `/openapi.json` to the router. The document is serialized once.
pub(super) fn serve<S: Clone + Send + Sync + 'static>(router: Router<S>, document: &OpenApi) -> Router<S> {
    // Serialization cannot fail: a test of the API serializes the document.
    let text: bytes::Bytes = document.to_json().unwrap_or_default().into();
    router.route("/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text) }))
}
