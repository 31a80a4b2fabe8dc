//! `GET /v1/audit`: who changed what, newest first.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::api::shown::known;
use crate::rfc3339;
use crate::store::{AuditFilter, AuditRow};

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditView {
    /// The order; ascending, maybe with gaps.
    pub id: i64,
    /// When.
    pub at: String,
    /// Who: the name of a token, or `local`.
    pub by: String,
    /// The kind of change, for example `pause`.
    pub action: String,
    /// What was changed.
    pub subject: String,
    /// Details of the change.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// SHA-256 over `previous` and this entry's fields, in hexadecimal; null
    /// for an entry from before the chain.
    #[schema(required = true)]
    pub hash: Option<String>,
    /// The hash of the entry before.
    #[schema(required = true)]
    pub previous: Option<String>,
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: rfc3339::format(row.at),
            by: row.by,
            action: row.action,
            subject: row.subject,
            detail: known(&row.detail),
            hash: row.hash.as_deref().map(hex),
            previous: row.previous.as_deref().map(hex),
        }
    }
}

/// Changes, newest first. They concern every topic and group, so a token that
/// reaches only some may not read them.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "audit",
    params(
        ("by" = Option<String>, Query, description = "By this token"),
        ("action" = Option<String>, Query, description = "Of this kind"),
        ("subject" = Option<String>, Query, description = "About this"),
        ("from" = Option<String>, Query, description = "At or after this time"),
        ("to" = Option<String>, Query, description = "Before this time"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<AuditView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<AuditView>>, Problem> {
    caller.unscoped("audit entries")?;
    let params = params.only(&["by", "action", "subject", "from", "to", "cursor", "limit"])?;
    let (from, to) = params.between()?;
    let filter =
        AuditFilter { by: params.text("by"), action: params.text("action"), subject: params.text("subject"), from, to };
    let found = app.store.audit_entries(&filter, &params.page()?).await.map_err(list::refused)?;
    let items = found.items.into_iter().map(AuditView::from).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
