//! `GET /v1/messages`: messages, newest first.
//!
//! Bodies, headers and deliveries are left out, because they would be read from
//! Kafka one by one. `GET /v1/messages/{id}` has them.

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

const PARAMETERS: &[&str] = &["topic", "type", "key", "key_base64", "source", "state", "from", "to", "cursor", "limit"];

/// Messages that were sent through Courier, newest first; without bodies,
/// headers and deliveries.
#[utoipa::path(
    get,
    path = "/v1/messages",
    tag = "messages",
    params(
        ("topic" = Option<String>, Query, description = "Of this topic"),
        ("type" = Option<String>, Query, description = "Of this type"),
        ("key" = Option<String>, Query, description = "With this key"),
        ("key_base64" = Option<String>, Query, description = "With this key, which is not text"),
        ("source" = Option<String>, Query, description = "From this source"),
        ("state" = Option<String>, Query, description = "SEND_FAIL or COMMITTED"),
        ("from" = Option<String>, Query, description = "Taken at or after this time"),
        ("to" = Option<String>, Query, description = "Taken before this time"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<MessageView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<MessageView>>, Problem> {
    let params = params.only(PARAMETERS)?;
    let wanted = filter::read(&params, &caller)?;
    let listing = app.store.messages(&wanted, &params.page()?).await.map_err(list::refused)?;
    Ok(filter::page(&listing, &caller))
}
