//! `POST /v1/messages/{id}/resend`: sends a SEND_FAIL message again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use courier_core::status::State as MessageState;

use super::publish::ReceiptView;
use super::which::MessageSelector;
use crate::api::App;
use crate::api::auth::{As, Publisher};
use crate::api::events::Change;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// Sends a SEND_FAIL message again, if the store has its whole body. 409 for a
/// message that was refused for its content, of which the store has no whole body;
/// for one that was cancelled before it was due, which would be sent too early; and
/// for an id that several messages have.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/resend",
    tag = "messages",
    params(
        ("id" = String, Path, description = "The message's id, percent-encoded"),
        ("topic" = Option<String>, Query, description = "Its topic, where the id repeats"),
        ("source" = Option<String>, Query, description = "Its source, where the id repeats; empty for an unknown one")
    ),
    responses((status = 202, description = "It goes out as soon as Kafka takes it", body = ReceiptView), Problems)
)]
pub(in crate::api) async fn resend(
    State(app): State<App>,
    caller: As<Publisher>,
    Segment(id): Segment,
    params: Params,
) -> Result<(StatusCode, Json<ReceiptView>), Problem> {
    let which = MessageSelector::read(id, params)?;
    let row = which.one(&app, &caller).await?;
    let (id, message) = (row.id.clone(), row.identity());
    if row.state != MessageState::SendFail {
        return Err(Problem::conflict(format!(
            "the message {id:?} is {}; only SEND_FAIL can be sent again",
            row.state
        )));
    }
    let path = format!("/v1/messages/{}", encode(&id));
    let change = Change { path, topics: vec![row.topic], ..Change::default() };
    let deed = caller.deed("resend", &id, &which.detail(&message));
    app.change(deed, app.store.resend(&message), |()| change).await?;
    let state = MessageState::SendFail.as_str();
    Ok((StatusCode::ACCEPTED, Json(ReceiptView { id: Some(id), state, retrying: true, problem: None, warning: None })))
}

/// An id, percent-encoded for a path.
pub(in crate::api) fn encode(id: &str) -> String {
    let mut path = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_into_a_path() {
        assert_eq!(encode("order:0:17/a b€"), "order%3A0%3A17%2Fa%20b%E2%82%AC");
    }
}
