//! `POST /v1/transactions`: prepares messages that are sent if a transaction of the
//! sender commits.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::view::TransactionView;
use crate::api::App;
use crate::api::auth::{As, Publisher};
use crate::api::events::Change;
use crate::api::intake;
use crate::api::messages::fields::Defaults;
use crate::api::messages::json::{self, MessageFields};
use crate::api::messages::publish::signed;
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::api::shape;

/// A transaction to prepare.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTransaction)]
pub struct Prepare {
    /// The messages that are sent if it commits, as in `POST /v1/messages`.
    #[schema(value_type = Vec<MessageFields>)]
    messages: Vec<Box<RawValue>>,
    /// The URL that is asked for the outcome, as `GET check_url?id=..`, when neither
    /// commit nor rollback comes; `[transactions] check_urls` has to allow it.
    check_url: Option<String>,
    /// How long to wait for either; by default `30s`.
    timeout: Option<String>,
}

/// Prepares messages that are sent if a transaction of the sender commits. Until then
/// no group gets them. All are validated now; a single invalid one refuses all.
#[utoipa::path(
    post,
    path = "/v1/transactions",
    tag = "transactions",
    request_body = Prepare,
    responses((status = 201, description = "Prepared", body = TransactionView), Problems)
)]
pub(in crate::api) async fn prepare(
    State(app): State<App>,
    caller: As<Publisher>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<TransactionView>), Problem> {
    params.none()?;
    if intake::essence(&headers) != "application/json" {
        return Err(Problem::unsupported_media("a transaction is JSON; send it with content-type: application/json"));
    }
    let taken = intake::read(&caller.name, &headers, body, intake::MAX_PUBLISH_BYTES, "a transaction").await?;
    let prepare: Prepare = shape::object_in(&taken.bytes)
        .map_err(|why| Problem::bad_request("bad body", format!("the body is wrong: {why}")))?;
    let timeout = prepare.timeout.as_deref().map(|text| {
        let wrong = |why| Problem::bad_request("bad body", format!("`timeout` is {text:?}: {why}"));
        crate::config::parse_duration(text).map_err(wrong)
    });
    let defaults = Defaults::new(None, caller.source(), &headers);
    let mut drafts = Vec::with_capacity(prepare.messages.len());
    for (place, raw) in prepare.messages.iter().enumerate() {
        let at = |problem: Problem| problem.at(&format!("messages[{place}]"));
        let mut draft = json::read(raw, &defaults).map_err(at)?;
        // A message without a topic is refused below, with an error that says so.
        if !draft.topic.is_empty() {
            caller.topic(&draft.topic).map_err(at)?;
        }
        signed(&app, &caller, &mut draft).map_err(at)?;
        drafts.push(draft);
    }
    let half = app.transactions.prepare(drafts, prepare.check_url, timeout.transpose()?).await?;
    app.events.tell(Change {
        path: format!("/v1/transactions/{}", half.id),
        topics: half.messages.iter().map(|message| message.topic.clone()).collect(),
        ..Change::default()
    });
    Ok((StatusCode::CREATED, Json(TransactionView::from(&half))))
}
