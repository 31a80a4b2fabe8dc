//! `GET /v1/deliveries`: deliveries with their attempts, newest first.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::in_set::{self, NotListed};
use super::view::{self, DeliveryView};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::store::DeliveryFilter;

const PARAMETERS: &[&str] = &[
    "group",
    "topic",
    "state",
    "type",
    "key",
    "key_base64",
    "fingerprint",
    "message_id",
    "from",
    "to",
    "cursor",
    "limit",
];

/// A page of deliveries.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeliveryList {
    /// The page.
    #[serde(flatten)]
    pub list: List<DeliveryView>,
    /// Matching deliveries that the list cannot show; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_recorded: Option<NotListed>,
}

/// Deliveries that have a row, newest first, with their attempts. Groups
/// with `trace = "failures"` keep no row of deliveries that were handled at the
/// first attempt; `not_recorded` names these groups.
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "deliveries",
    params(
        ("group" = Option<String>, Query, description = "Of this group"),
        ("topic" = Option<String>, Query, description = "Of this topic"),
        ("state" = Option<String>, Query, description = "In this state"),
        ("type" = Option<String>, Query, description = "Of this type"),
        ("key" = Option<String>, Query, description = "With this key"),
        ("key_base64" = Option<String>, Query, description = "With this key, which is not text"),
        ("fingerprint" = Option<String>, Query, description = "Failures like this"),
        ("message_id" = Option<String>, Query, description = "Of this message"),
        ("from" = Option<String>, Query, description = "Received or settled at or after this time"),
        ("to" = Option<String>, Query, description = "Received or settled before this time"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = DeliveryList), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<DeliveryList>, Problem> {
    let params = params.only(PARAMETERS)?;
    let (group, topic) = (params.text("group"), params.text("topic"));
    if let Some(group) = &group {
        caller.group(group)?;
    }
    if let Some(topic) = &topic {
        caller.topic(topic)?;
    }
    let (from, to) = params.between()?;
    let filter = DeliveryFilter {
        group,
        groups: caller.groups(),
        topic,
        topics: caller.topics(),
        state: params.state("state")?,
        type_name: params.text("type"),
        key: params.key()?,
        fingerprint: params.text("fingerprint"),
        message_id: params.text("message_id"),
        source: None,
        from,
        to,
    };
    let listing = app.store.deliveries(&filter, &params.page()?).await.map_err(list::refused)?;
    let items = view::with_attempts(&app, listing.items).await?;
    let not_recorded = in_set::not_listed(&app, &caller, &filter).await?;
    let list = List { items, next: listing.next, truncated: listing.truncated };
    Ok(Json(DeliveryList { list, not_recorded }))
}
