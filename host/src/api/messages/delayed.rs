//! `GET /v1/delayed`: delayed messages, the next due first.

use axum::Json;
use axum::extract::State;

use super::filter;
use super::view::MessageView;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::store::{DelayedFilter, MessageFilter};

const PARAMETERS: &[&str] = &["topic", "type", "key", "key_base64", "from", "to", "cursor", "limit"];

/// Delayed messages that are not due yet, by their due time; without bodies, headers
/// and deliveries. `DELETE /v1/messages/{id}` cancels a message.
#[utoipa::path(
    get,
    path = "/v1/delayed",
    tag = "messages",
    params(
        ("topic" = Option<String>, Query, description = "For this topic"),
        ("type" = Option<String>, Query, description = "Of this type"),
        ("key" = Option<String>, Query, description = "With this key"),
        ("key_base64" = Option<String>, Query, description = "With this key, which is not text"),
        ("from" = Option<String>, Query, description = "Due at or after this time"),
        ("to" = Option<String>, Query, description = "Due before this time"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<MessageView>), Problems)
)]
pub(in crate::api) async fn delayed(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<MessageView>>, Problem> {
    let params = params.only(PARAMETERS)?;
    let MessageFilter { topic, topics, type_name, key, from, to, .. } = filter::read(&params, &caller)?;
    let wanted = DelayedFilter { topic, topics, type_name, key, from, to };
    let listing = app.store.delayed(&wanted, &params.page()?).await.map_err(list::refused)?;
    Ok(filter::page(&listing, &caller))
}
