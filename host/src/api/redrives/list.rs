//! `GET /v1/redrives`: redrives, newest first.

use axum::Json;
use axum::extract::State;

use super::view::{RedriveView, is_visible};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;

/// Redrives and replays, newest first. A page of a token that reaches only
/// some topics may have fewer items than its limit.
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
    let found = app.store.redrives(caller.groups().as_deref(), &page).await.map_err(list::refused)?;
    let items =
        found.items.iter().filter(|row| is_visible(&caller, row)).map(|row| RedriveView::standing(&app, row)).collect();
    Ok(Json(List { items, next: found.next, truncated: found.truncated }))
}
