//! `GET /v1/redrives/{id}/items`: the result of each delivery.

use axum::Json;
use axum::extract::State;

use super::view::{ItemView, find};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// The items of a redrive in the order in which they run, with their results.
#[utoipa::path(
    get,
    path = "/v1/redrives/{id}/items",
    tag = "redrives",
    params(
        ("id" = String, Path, description = "The redrive's id"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<ItemView>), Problems)
)]
pub(in crate::api) async fn items(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<List<ItemView>>, Problem> {
    let page = params.only(&["cursor", "limit"])?.page()?;
    let row = find(&app, &caller, &id).await?;
    let found = app.store.redrive_items(row.id, &page).await.map_err(list::refused)?;
    let items = found.items.iter().map(|item| ItemView::new(item, &row.group)).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
