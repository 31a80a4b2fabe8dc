//! `GET /v1/transactions`: transactions, newest first.

use axum::Json;
use axum::extract::State;

use super::view::TransactionView;
use super::visible;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{self, List};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;

/// Transactions, newest first. A page may have fewer items than its limit when the
/// caller may not see others.
#[utoipa::path(
    get,
    path = "/v1/transactions",
    tag = "transactions",
    params(
        ("state" = Option<String>, Query, description = "PREPARED, COMMITTED, ROLLED_BACK or ABANDONED"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<TransactionView>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<TransactionView>>, Problem> {
    let params = params.only(&["state", "cursor", "limit"])?;
    let wrong =
        |why: String| Problem::bad_request("bad parameter", format!("the query parameter `state` is wrong: {why}"));
    let state = params.text("state").map(|word| word.parse().map_err(wrong)).transpose()?;
    // The query is limited to the caller's topics: the cursor of a page that was
    // filtered here would contain the id of another caller's transaction.
    let listing = app.store.halves(state, caller.topics().as_deref(), &params.page()?).await.map_err(list::refused)?;
    let seen = listing.items.iter().filter(|half| visible(&caller, half));
    Ok(Json(List {
        items: seen.map(TransactionView::from).collect(),
        next: listing.next,
        truncated: listing.truncated,
    }))
}
