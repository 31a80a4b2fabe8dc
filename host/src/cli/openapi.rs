//! `courier openapi`: prints the OpenAPI document of this program's API.

pub(super) fn run() -> anyhow::Result<()> {
    super::say(&crate::api::document().to_pretty_json()?)
}
