//! `POST /v1/transactions/{id}/commit` and `/rollback`: end a transaction.
//!
//! Usually its sender, the token that prepared it, ends a transaction, which needs no
//! audit entry. When a person does, the reason names the person, and the audit log has an
//! entry. Other tokens need the role of an operator: a transaction is known to everybody
//! who may see its topics.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

use super::view::TransactionView;
use super::visible;
use crate::api::App;
use crate::api::auth::{As, Caller, Publisher, Role};
use crate::api::events::Change;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::ports::EndedBy;
use crate::api::problem::Problem;
use crate::store::{HalfRow, StoreError, audits};

/// Commits a transaction: its messages are durable when this returns, and are sent.
/// Committing again returns the same. An abandoned transaction can still be committed
/// while its records are kept; 409 after a rollback. That of another token needs the role
/// operator.
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
    headers: HeaderMap,
) -> Result<Json<TransactionView>, Problem> {
    params.none()?;
    let by = ended_by(&caller, &headers);
    let before = known(&app, &caller, &id).await?;
    let after = named(&caller, "commit", &id, &by, app.transactions.commit(&id, &by)).await?;
    note(&app, &caller, "commit", &before, &after).await;
    Ok(Json(TransactionView::from(&after)))
}

/// Rolls a transaction back: its messages are never sent. Rolling back again returns
/// the same; 409 after another end. That of another token needs the role operator.
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
    headers: HeaderMap,
) -> Result<Json<TransactionView>, Problem> {
    params.none()?;
    let by = ended_by(&caller, &headers);
    let before = known(&app, &caller, &id).await?;
    let after = named(&caller, "rollback", &id, &by, app.transactions.roll_back(&id, &by)).await?;
    note(&app, &caller, "rollback", &before, &after).await;
    Ok(Json(TransactionView::from(&after)))
}

async fn known(app: &App, caller: &Caller, id: &str) -> Result<HalfRow, Problem> {
    let half = app.store.half(id).await?.filter(|half| visible(caller, half));
    let half = half.ok_or_else(|| Problem::not_found(format!("there is no transaction {id:?}")))?;
    if !caller.is_local() && half.sender.as_deref() != Some(&*caller.name) && caller.role() < Role::Operator {
        return Err(Problem::forbidden(format!(
            "the token `{}` did not prepare the transaction {id:?}: ending that of another needs the role operator or \
             a higher one",
            caller.name
        )));
    }
    Ok(half)
}

/// Who ends a transaction that the caller may end: its sender, unless the token is an
/// operator's or an admin's, or the request came from a browser.
fn ended_by(caller: &Caller, headers: &HeaderMap) -> EndedBy {
    // Every browser adds this header to the requests of a page, which cannot suppress
    // it; programs do not.
    let from_console = headers.contains_key("sec-fetch-site");
    let (name, role) = (&caller.name, caller.role());
    if caller.is_local() {
        return if from_console { EndedBy::Person("somebody at the console".to_owned()) } else { EndedBy::Sender };
    }
    if role >= Role::Operator || from_console { EndedBy::Person(format!("the {role} {name}")) } else { EndedBy::Sender }
}

/// Ends a transaction, with an audit entry if a person does.
async fn named(
    caller: &Caller,
    action: &str,
    id: &str,
    by: &EndedBy,
    end: impl Future<Output = Result<HalfRow, StoreError>>,
) -> Result<HalfRow, StoreError> {
    match by {
        EndedBy::Sender => end.await,
        EndedBy::Person(_) => audits::in_name_of(caller.deed(action, id, "a transaction"), end).await,
    }
}

/// Tells listeners that a transaction ended.
async fn note(app: &App, caller: &Caller, action: &str, before: &HalfRow, after: &HalfRow) {
    if before.state == after.state {
        return;
    }
    tracing::debug!(by = %caller.name, action, transaction = %after.id, "a transaction ended");
    app.events.tell(Change {
        path: format!("/v1/transactions/{}", after.id),
        topics: after.messages.iter().map(|message| message.topic.clone()).collect(),
        ..Change::default()
    });
}
