//! `GET /v1/transactions/{id}`: one transaction.

use axum::Json;
use axum::extract::State;

use super::view::TransactionView;
use super::visible;
use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// A transaction with its state and its checks.
#[utoipa::path(
    get,
    path = "/v1/transactions/{id}",
    tag = "transactions",
    params(("id" = String, Path, description = "The transaction's id")),
    responses((status = 200, description = "The transaction", body = TransactionView), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<TransactionView>, Problem> {
    params.none()?;
    let half = app.store.half(&id).await?.filter(|half| visible(&caller, half));
    let half = half.ok_or_else(|| {
        Problem::not_found(format!("there is no transaction {id:?}, or it ended longer ago than the retention"))
    })?;
    Ok(Json(TransactionView::from(&half)))
}
