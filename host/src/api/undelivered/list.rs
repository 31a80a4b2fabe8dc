//! `GET /v1/undelivered`: undelivered messages, newest first.

use axum::Json;
use axum::extract::State;

use super::view::UndeliveredView;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::store::undelivered::UndeliveredFilter;

/// Undelivered messages, which Kafka refuses as they are, newest first, without
/// contents.
#[utoipa::path(
    get,
    path = "/v1/undelivered",
    tag = "undelivered",
    params(
        ("topic" = Option<String>, Query, description = "For this topic"),
        ("group" = Option<String>, Query, description = "Published or given up by this group"),
        ("outbox" = Option<String>, Query, description = "From this outbox"),
        ("message_id" = Option<String>, Query, description = "Of this message"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<UndeliveredView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<UndeliveredView>>, Problem> {
    let params = params.only(&["topic", "group", "outbox", "message_id", "cursor", "limit"])?;
    let (topic, group) = (params.text("topic"), params.text("group"));
    if let Some(topic) = &topic {
        caller.topic(topic)?;
    }
    if let Some(group) = &group {
        caller.group(group)?;
    }
    let filter = UndeliveredFilter {
        topics: caller.topics(),
        groups: caller.groups(),
        topic,
        group,
        outbox: params.text("outbox"),
        message_id: params.text("message_id"),
    };
    let found = app.store.undelivered(&filter, &params.page()?).await.map_err(list::refused)?;
    let items = found.items.into_iter().map(UndeliveredView::from).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
