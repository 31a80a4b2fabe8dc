//! `POST /v1/deliveries/{id}/give-up`: end an open delivery without an attempt.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::id;
use super::show::find;
use super::view::DeliveryView;
use crate::api::App;
use crate::api::auth::{As, Operator};
use crate::api::events::Change;
use crate::api::groups::runs;
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::GiveUp;

/// Longest reason, in characters.
const MAX_REASON: usize = 500;

/// Why a delivery is given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveUpBody {
    /// Why it is given up, for the audit log.
    #[schema(required = true, value_type = String)]
    reason: Option<String>,
    /// Whether its record goes to the dead-letter topic of the binding, or to
    /// `dlq.<topic>.<group>` when the binding names none.
    #[serde(default)]
    dead_letter: bool,
}

/// Gives an open delivery up. It ends as HANDLE_FAIL with the verdict
/// `given_up` and without an attempt, in its lane's turn, and its lane goes on. A
/// delivery behind its lane's head is marked and ends in its turn. 409 for a
/// delivery whose attempt runs now, or that is final.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/give-up",
    tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id")),
    request_body = GiveUpBody,
    responses((status = 202, description = "It ends as soon as its lane lets it", body = DeliveryView), Problems)
)]
pub(in crate::api) async fn give_up(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(text): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    params.none()?;
    let give_up = check(intake::command(&caller.name, &headers, body).await?)?;
    let key = id::read(&text)?;
    // Looked up first, so that what is out of the caller's scope stays unknown.
    let before = find(&app, &caller, &text).await?;
    runs::refuse_idle(&app, &caller, &before.group, Some(&before.topic)).await?;
    if app.groups.is_running(&key) {
        return Err(Problem::conflict("an attempt of this delivery runs now: wait for its outcome"));
    }
    let subject = format!("{} {}:{}:{}", before.group, before.topic, before.partition, before.offset);
    let change = Change {
        path: format!("/v1/deliveries/{text}"),
        group: Some(before.group.clone()),
        topics: vec![before.topic.clone()],
        ..Change::default()
    };
    let letter = if give_up.dead_letter { ", with a dead letter" } else { "" };
    let detail = format!("was {}{letter}: {}", before.state, give_up.reason);
    let deed = caller.deed("give up", &subject, &detail);
    app.change(deed, app.store.give_up(&key, &give_up), |()| change).await?;
    app.groups.wake();
    let after = find(&app, &caller, &text).await.unwrap_or(before);
    Ok((StatusCode::ACCEPTED, Json(after)))
}

fn check(body: GiveUpBody) -> Result<GiveUp, Problem> {
    let GiveUpBody { reason, dead_letter } = body;
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let wrong = |detail: String| Problem::bad_request("bad body", detail);
    let reason = reason.ok_or_else(|| {
        wrong("`reason` is missing: say why, for example {\"reason\": \"the order was entered by hand\"}".to_owned())
    })?;
    if reason.chars().count() > MAX_REASON || reason.contains('\0') {
        return Err(wrong(format!("`reason` is text of {MAX_REASON} characters at most, without NUL")));
    }
    Ok(GiveUp { reason, dead_letter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<GiveUp, Problem> {
        check(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn who_gives_up_says_why() {
        for wrong in ["{}", r#"{"reason": null}"#, r#"{"reason": "  "}"#, r#"{"reason": "a\u0000b"}"#] {
            assert_eq!(read(wrong).unwrap_err().status, 400, "{wrong}");
        }
        assert!(read(&format!(r#"{{"reason": "{}"}}"#, "x".repeat(MAX_REASON + 1))).is_err());
        let given = |reason: &str, dead_letter| GiveUp { reason: reason.to_owned(), dead_letter };
        assert_eq!(read(r#"{"reason": " entered by hand "}"#).unwrap(), given("entered by hand", false));
        assert_eq!(read(r#"{"reason": "x", "dead_letter": true}"#).unwrap(), given("x", true));
    }
}
