//! Permissions: every operation of the OpenAPI document, with every role.
//!
//! An operation that this table does not name fails the test, so that nobody adds an
//! operation without deciding who may use it.

use super::auth::Role;
use super::testing::answer;
use super::tests::guarded;

/// The permission that an operation needs.
#[derive(Clone, Copy)]
enum Needs {
    /// None: it is for callers without a token.
    Nothing,
    /// At least this role.
    Role(Role),
    /// At least this role, by a token without topics and groups.
    Unscoped(Role),
}

use Needs::{Nothing, Unscoped};
use Role::{Admin, Operator, Publisher, Viewer};

/// The method, the path in the document, the permission, and the value of the path's
/// variable.
const MATRIX: &[(&str, &str, Needs, &str)] = &[
    ("GET", "/v1/messages", Needs::Role(Viewer), ""),
    ("POST", "/v1/messages", Needs::Role(Publisher), ""),
    ("GET", "/v1/messages/{id}", Needs::Role(Viewer), "m-20"),
    ("DELETE", "/v1/messages/{id}", Needs::Role(Publisher), "m-20"),
    ("GET", "/v1/delayed", Needs::Role(Viewer), ""),
    ("GET", "/v1/transactions", Needs::Role(Viewer), ""),
    ("POST", "/v1/transactions", Needs::Role(Publisher), ""),
    ("GET", "/v1/transactions/{id}", Needs::Role(Viewer), "t-0"),
    ("POST", "/v1/transactions/{id}/commit", Needs::Role(Publisher), "t-0"),
    ("POST", "/v1/transactions/{id}/rollback", Needs::Role(Publisher), "t-0"),
    ("GET", "/v1/redrives", Needs::Role(Viewer), ""),
    ("POST", "/v1/redrives", Needs::Role(Operator), ""),
    ("GET", "/v1/redrives/{id}", Needs::Role(Viewer), "r-1"),
    ("DELETE", "/v1/redrives/{id}", Needs::Role(Operator), "r-1"),
    ("GET", "/v1/redrives/{id}/items", Needs::Role(Viewer), "r-1"),
    ("POST", "/v1/redrives/{id}/run", Needs::Role(Operator), "r-1"),
    ("POST", "/v1/redrives/{id}/pause", Needs::Role(Operator), "r-1"),
    ("POST", "/v1/messages/{id}/resend", Needs::Role(Publisher), "m-3"),
    ("GET", "/v1/deliveries", Needs::Role(Viewer), ""),
    ("GET", "/v1/deliveries/{id}", Needs::Role(Viewer), "1-5"),
    ("POST", "/v1/deliveries/{id}/retry", Needs::Role(Operator), "1-5"),
    ("POST", "/v1/deliveries/{id}/give-up", Needs::Role(Operator), "1-5"),
    ("GET", "/v1/failures", Needs::Role(Viewer), ""),
    ("GET", "/v1/dead-letters", Needs::Role(Viewer), ""),
    ("GET", "/v1/lost-ranges", Needs::Role(Viewer), ""),
    ("GET", "/v1/groups", Needs::Role(Viewer), ""),
    ("GET", "/v1/groups/{group}", Needs::Role(Viewer), "stock"),
    ("GET", "/v1/groups/{group}/parked", Needs::Role(Viewer), "stock"),
    ("GET", "/v1/undelivered", Needs::Role(Viewer), ""),
    ("GET", "/v1/undelivered/{id}", Needs::Role(Viewer), "1"),
    ("POST", "/v1/undelivered/{id}/resend", Needs::Role(Operator), "1"),
    ("POST", "/v1/undelivered/{id}/repair", Needs::Role(Operator), "1"),
    ("POST", "/v1/undelivered/{id}/give-up", Needs::Role(Operator), "1"),
    ("POST", "/v1/groups/{group}/pause", Needs::Role(Operator), "stock"),
    ("POST", "/v1/groups/{group}/resume", Needs::Role(Operator), "stock"),
    ("POST", "/v1/groups/{group}/seek", Needs::Role(Operator), "stock"),
    ("GET", "/v1/plugins", Needs::Role(Viewer), ""),
    ("GET", "/v1/plugins/{name}", Needs::Role(Viewer), "order-handler"),
    ("PUT", "/v1/plugins/{name}", Unscoped(Admin), "order-handler"),
    ("POST", "/v1/plugins/{name}/activate", Unscoped(Admin), "order-handler"),
    ("GET", "/v1/outboxes", Unscoped(Viewer), ""),
    ("GET", "/v1/overview", Needs::Role(Viewer), ""),
    ("GET", "/v1/nodes", Needs::Role(Viewer), ""),
    ("GET", "/v1/audit", Unscoped(Viewer), ""),
    ("GET", "/v1/audit/verify", Unscoped(Viewer), ""),
    ("GET", "/v1/me", Needs::Role(Viewer), ""),
    ("POST", "/v1/session", Nothing, ""),
    ("DELETE", "/v1/session", Needs::Role(Viewer), ""),
    ("GET", "/v1/events", Needs::Role(Viewer), ""),
    ("GET", "/healthz", Nothing, ""),
    ("GET", "/readyz", Nothing, ""),
    ("GET", "/metrics", Unscoped(Viewer), ""),
];

#[tokio::test]
async fn every_operation_of_the_document_is_held_to_its_role() {
    let host = guarded().await;
    let document = serde_json::to_value(super::document()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let entry = MATRIX.iter().find(|(known, at, ..)| *known == method && at == path);
            let (.., needs, variable) =
                entry.unwrap_or_else(|| panic!("{method} {path} has no entry: who may use it?"));
            let path = match path.split_once('{') {
                Some((before, rest)) => format!("{before}{variable}{}", rest.split_once('}').unwrap().1),
                None => path.clone(),
            };
            let tokens = [
                ("viewer", Viewer, true),
                ("shop", Publisher, false),
                ("ops", Operator, true),
                ("root", Admin, true),
                ("stockadmin", Admin, false),
            ];
            for (token, role, unscoped) in tokens {
                let may = match needs {
                    Nothing => true,
                    Needs::Role(needed) => role >= *needed,
                    Unscoped(needed) => role >= *needed && unscoped,
                };
                let status = host.request(&method, &path, Some(token)).send().await.unwrap().status().as_u16();
                assert_eq!(status != 403, may, "{method} {path} as {token}: {status}");
                assert!(status < 500, "{method} {path} as {token}: {status}");
            }
            let (status, _) = answer(host.request(&method, &path, None)).await;
            assert_eq!(status == 401, !matches!(needs, Nothing), "{method} {path} without a token: {status}");
        }
    }
    for (method, path, ..) in MATRIX {
        let known = &document["paths"][path][method.to_lowercase()];
        assert!(known.is_object(), "{method} {path} is not in the document");
    }
}
