//! `DELETE /v1/messages/{id}`: cancels a delayed message.

use axum::Json;
use axum::extract::State;

use super::resend::encode;
use super::view::{Contents, MessageView, kept};
use super::which::MessageSelector;
use crate::api::App;
use crate::api::auth::{As, Publisher};
use crate::api::events::Change;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::MessageRow;

/// Cancels a delayed message that was not sent yet. It becomes SEND_FAIL with the
/// reason `cancelled`; cancelling it again returns the same. 409 for a message that
/// was sent, and for an id that several messages have.
#[utoipa::path(
    delete,
    path = "/v1/messages/{id}",
    tag = "messages",
    params(
        ("id" = String, Path, description = "The message's id, percent-encoded"),
        ("topic" = Option<String>, Query, description = "Its topic, where the id repeats"),
        ("source" = Option<String>, Query, description = "Its source, where the id repeats; empty for an unknown one")
    ),
    responses((status = 200, description = "It will not be sent", body = MessageView), Problems)
)]
pub(in crate::api) async fn cancel(
    State(app): State<App>,
    caller: As<Publisher>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<MessageView>, Problem> {
    let which = MessageSelector::read(id, params)?;
    let before = which.one(&app, &caller).await?;
    let message = before.identity();
    let change = |row: &MessageRow| Change {
        path: format!("/v1/messages/{}", encode(&row.id)),
        topics: vec![row.topic.clone()],
        ..Change::default()
    };
    let row = app
        .change(caller.deed("cancel", &message.id, &which.detail(&message)), app.store.cancel(&message), change)
        .await?;
    if before.state != row.state {
        metrics::counter!("courier_messages_total", "state" => row.state.as_str()).increment(1);
    }
    let contents = kept(&app, &row).unwrap_or(Contents::Unasked);
    let mut message = MessageView::of_row(&row).with(&contents);
    message.deliveries = Some(Vec::new());
    Ok(Json(message))
}
