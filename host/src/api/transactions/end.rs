//! `POST /v1/transactions/{id}/commit` and `/rollback`: say what became of a
//! transaction.

use axum::Json;
use axum::extract::State;

use super::view::TransactionView;
use super::visible;
use crate::api::App;
use crate::api::auth::{As, Caller, Publisher};
use crate::api::events::Change;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::HalfRow;

/// The sender's transaction committed: the messages are durable when this
/// answers, and go out. Again, it answers the same; after another end it is a
/// conflict.
#[utoipa::path(
    post,
    path = "/v1/transactions/{id}/commit",
    tag = "transactions",
    params(("id" = String, Path, description = "The transaction's id")),
    responses((status = 200, description = "Committed", body = TransactionView), Problems)
)]
pub(in crate::api) async fn commit(
    State(app): State<App>,
    caller: As<Publisher>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<TransactionView>, Problem> {
    params.none()?;
    let before = known(&app, &caller, &id).await?;
    let after = app.transactions.commit(&id).await?;
    note(&app, &caller, "commit", &before, &after).await;
    Ok(Json(TransactionView::from(&after)))
}

/// The sender's transaction rolled back: its messages never exist. Again, it
/// answers the same; after another end it is a conflict.
#[utoipa::path(
    post,
    path = "/v1/transactions/{id}/rollback",
    tag = "transactions",
    params(("id" = String, Path, description = "The transaction's id")),
    responses((status = 200, description = "Rolled back", body = TransactionView), Problems)
)]
pub(in crate::api) async fn rollback(
    State(app): State<App>,
    caller: As<Publisher>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<TransactionView>, Problem> {
    params.none()?;
    let before = known(&app, &caller, &id).await?;
    let after = app.transactions.roll_back(&id).await?;
    note(&app, &caller, "rollback", &before, &after).await;
    Ok(Json(TransactionView::from(&after)))
}

async fn known(app: &App, caller: &Caller, id: &str) -> Result<HalfRow, Problem> {
    let half = app.store.half(id).await?.filter(|half| visible(caller, half));
    half.ok_or_else(|| Problem::not_found(format!("there is no transaction {id:?}")))
}

/// Tells who listens. Ends are what senders do all the time, and the
/// transaction itself says how it ended: the audit log is for what people do.
async fn note(app: &App, caller: &Caller, action: &str, before: &HalfRow, after: &HalfRow) {
    if before.state == after.state {
        return;
    }
    tracing::debug!(by = %caller.name, action, transaction = %after.id, "a transaction ended");
    app.events.tell(Change {
        path: format!("/v1/transactions/{}", after.id),
        topic: after.messages.first().map(|message| message.topic.clone()),
        group: None,
    });
}
