//! `GET /v1/audit/verify`: checks the chain of hashes.
//!
//! The walk reads a bounded number of entries at a time and never blocks appends.
//! It begins at the anchor that retention left and must arrive at the head.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::list::hex;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::store::{AuditLinks, SharedStore, StoreError};

/// Entries that one request checks, which takes a few seconds.
const MAX_CHECKED: u64 = 500_000;

/// The result of checking the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Verified {
    /// Whether every checked entry fits.
    pub ok: bool,
    /// The number of checked entries.
    pub checked: u64,
    /// The first entry that does not fit: it was altered, or entries before it were
    /// removed or inserted.
    #[schema(required = true)]
    pub broken_at: Option<i64>,
    /// The newest entry's hash. Kept elsewhere, it later shows whether the whole
    /// chain was rewritten.
    pub head: String,
    /// Whether entries were left unchecked: one request checks at most half a
    /// million.
    pub truncated: bool,
}

/// Walks the audit log from its oldest entry to the newest, and checks each
/// hash.
#[utoipa::path(
    get,
    path = "/v1/audit/verify",
    tag = "audit",
    responses((status = 200, description = "What was found", body = Verified), Problems)
)]
pub(in crate::api) async fn verify(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<Verified>, Problem> {
    caller.unscoped("audit entries")?;
    params.none()?;
    Ok(Json(walk(&app.store).await?))
}

async fn walk(store: &SharedStore) -> Result<Verified, StoreError> {
    let AuditLinks { anchor, head, mut entries } = store.audit_links(i64::MIN).await?;
    let mut found = Verified { ok: true, checked: 0, broken_at: None, head: hex(&head.hash), truncated: false };
    let (mut id, mut hash) = (anchor.id, anchor.hash);
    while let Some(last) = entries.last().map(|entry| entry.id) {
        for entry in &entries {
            let fits = entry.previous.as_ref() == Some(&hash) && entry.hash.as_deref() == Some(&entry.seal(&hash)[..]);
            if !fits {
                return Ok(Verified { ok: false, broken_at: Some(entry.id), ..found });
            }
            found.checked += 1;
            (id, hash) = (entry.id, entry.hash.clone().unwrap_or_default());
        }
        if id >= head.id {
            break;
        }
        if found.checked >= MAX_CHECKED {
            return Ok(Verified { truncated: true, ..found });
        }
        let next = store.audit_links(last).await?;
        if next.anchor.id > id {
            // Retention overtook the walk: the rest begins at the new anchor.
            (id, hash) = (next.anchor.id, next.anchor.hash);
        }
        entries = next.entries;
    }
    // The head was read when the walk began. Entries after it were checked above;
    // a missing head means that the end of the chain was cut off.
    if id < head.id || (id == head.id && hash != head.hash) {
        return Ok(Verified { ok: false, broken_at: Some(head.id), ..found });
    }
    Ok(found)
}
