//! `GET /v1/groups`: all groups, by name.

use axum::Json;
use axum::extract::State;

use super::view::{self, GroupView};
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{List, by_name};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;

/// Groups by name: those of a binding of this host, and those with positions.
#[utoipa::path(
    get,
    path = "/v1/groups",
    tag = "groups",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<GroupView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<GroupView>>, Problem> {
    let page = params.only(&["cursor", "limit"])?.page()?;
    let groups = view::all(&app, &caller).await?;
    Ok(Json(by_name(groups, |group| &group.group, &page)))
}
