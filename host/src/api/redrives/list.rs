//! `GET /v1/redrives`: redrives, newest first.

use axum::Json;
use axum::extract::State;

use super::view::RedriveView;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::store::redrive::RedriveFilter;

/// Redrives and replays, newest first. A token that reaches only some topics sees those
/// that are limited to one of its topics.
#[utoipa::path(
    get,
    path = "/v1/redrives",
    tag = "redrives",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<RedriveView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<RedriveView>>, Problem> {
    let page = params.only(&["cursor", "limit"])?.page()?;
    let filter = RedriveFilter { groups: caller.groups(), topics: caller.topics() };
    let found = app.store.redrives(&filter, &page).await.map_err(list::refused)?;
    let items = found.items.iter().map(|row| RedriveView::standing(&app, row)).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
