//! `courier openapi`: the description of the HTTP API.

/// Prints the OpenAPI document. Nothing is started and nobody is asked: it is
/// that of this very program.
pub(super) fn run() -> anyhow::Result<()> {
    super::say(&crate::api::document().to_pretty_json()?)
}
