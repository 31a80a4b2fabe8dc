//! `GET /v1/failures`: failures, grouped by their fingerprint.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{As, Viewer};
use super::list::List;
use super::openapi::Problems;
use super::params::Params;
use super::problem::Problem;
use super::shown::known;
use crate::api::deliveries::id;
use crate::rfc3339;
use crate::store::{FailureFilter, FailureRow};

/// Failures that are alike.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FailureView {
    /// The group.
    pub group: String,
    /// Their fingerprint; null for failures without one.
    #[schema(required = true)]
    pub fingerprint: Option<String>,
    /// The last verdict of the newest.
    #[schema(required = true)]
    pub verdict: Option<&'static str>,
    /// Why the newest failed, in the handler's words.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// The number of failed deliveries, open ones included.
    pub count: u64,
    /// The number of those with a next attempt or that wait for a person.
    pub open: u64,
    /// When the oldest failed.
    pub first_at: String,
    /// When the newest failed.
    pub last_at: String,
    /// Their topics.
    pub topics: Vec<String>,
    /// The plugin versions that failed.
    pub versions: Vec<String>,
    /// The id of the newest delivery.
    pub example: String,
}

impl From<FailureRow> for FailureView {
    fn from(row: FailureRow) -> Self {
        Self {
            group: row.group,
            fingerprint: row.fingerprint.as_deref().and_then(known),
            verdict: row.verdict.map(|verdict| verdict.as_str()),
            reason: row.reason.as_deref().and_then(known),
            count: row.count,
            open: row.open,
            first_at: rfc3339::format(row.first_at),
            last_at: rfc3339::format(row.last_at),
            topics: row.topics.into_iter().collect(),
            versions: row.versions.into_iter().collect(),
            example: id::write(row.example),
        }
    }
}

/// Failed deliveries, final and open, clustered by group and fingerprint, the
/// largest cluster first. The newest 5,000 are read, shared among the groups;
/// `truncated` says that there are older ones.
#[utoipa::path(
    get,
    path = "/v1/failures",
    tag = "deliveries",
    params(
        ("group" = Option<String>, Query, description = "Of this group"),
        ("topic" = Option<String>, Query, description = "Of this topic"),
        ("type" = Option<String>, Query, description = "Of this type"),
        ("fingerprint" = Option<String>, Query, description = "With this fingerprint"),
        ("from" = Option<String>, Query, description = "Settled, or received while open, at or after this time"),
        ("to" = Option<String>, Query, description = "Settled, or received while open, before this time"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Clusters at most; 100 unless given")
    ),
    responses((status = 200, description = "Clusters", body = List<FailureView>), Problems)
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<FailureView>>, Problem> {
    let params = params.only(&["group", "topic", "type", "fingerprint", "from", "to", "limit"])?;
    let (group, topic) = (params.text("group"), params.text("topic"));
    if let Some(group) = &group {
        caller.group(group)?;
    }
    if let Some(topic) = &topic {
        caller.topic(topic)?;
    }
    let limit = params.page()?.limit as usize;
    let (from, to) = params.between()?;
    let filter = FailureFilter {
        group,
        groups: caller.groups(),
        topic,
        topics: caller.topics(),
        type_name: params.text("type"),
        fingerprint: params.text("fingerprint"),
        from,
        to,
    };
    let found = app.store.failures(&filter).await?;
    let truncated = found.truncated || found.items.len() > limit;
    let items = found.items.into_iter().take(limit).map(FailureView::from).collect();
    Ok(Json(List { items, next: None, truncated }))
}
