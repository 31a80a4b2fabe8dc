//! `POST /v1/messages`: publishes one message or several.
//!
//! The response to one message is its receipt (202), or a problem with the message's
//! `id`. The response to an array is a list of receipts (202), or a problem (400)
//! with `items` when no message was accepted.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use courier_core::status::State as MessageState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::fields::Defaults;
use super::form::{Form, Read, Unread};
use super::json::MessageFields;
use super::unhandled;
use crate::api::App;
use crate::api::auth::{As, Caller, Publisher};
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::ports::{Draft, OUTBOX_IDS, Receipt, SendProblem, SendProblemKind};
use crate::api::problem::Problem;
use crate::store::SentBy;

/// The result of publishing a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReceiptView {
    /// The message's id; null when it could not be read.
    #[schema(required = true)]
    pub id: Option<String>,
    /// COMMITTED when Kafka has it, SEND_FAIL when not.
    pub state: &'static str,
    /// True while the host tries again by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub retrying: bool,
    /// Why it was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Why no group will handle it, when none takes such messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The results of publishing several messages.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReceiptList {
    /// In the order of the request.
    pub items: Vec<ReceiptView>,
}

/// The response to one message or to several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the answer, which is built from its parts")]
pub enum PublishAnswer {
    /// To one message.
    One(ReceiptView),
    /// To several messages.
    Many(ReceiptList),
}

/// One message or several.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the request, which is read by hand")]
pub enum PublishRequest {
    /// One message.
    One(Box<MessageFields>),
    /// Several messages.
    Many(Vec<MessageFields>),
}

/// Publishes one message or several: JSON, or CloudEvents (structured, batch,
/// or binary with `ce-` headers). A CloudEvent names its topic by the
/// extension attribute `topic`, and when it is due by `delay` or `deliverat`.
/// A delayed message is COMMITTED at once, and on Kafka when it is due. A known id
/// with the same content returns the first result again; with other content it is a
/// conflict.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "messages",
    params(("topic" = Option<String>, Query, description = "The topic of messages that name none")),
    request_body(content(
        (PublishRequest = "application/json"),
        (Object = "application/cloudevents+json"),
        (Vec<Object> = "application/cloudevents-batch+json")
    )),
    responses((status = 202, description = "Accepted; an array item by item", body = PublishAnswer), Problems)
)]
pub(in crate::api) async fn publish(
    State(app): State<App>,
    caller: As<Publisher>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let params = params.only(&["topic"])?;
    let form = Form::of(&headers)?;
    let taken = intake::read(&caller.name, &headers, body, intake::MAX_PUBLISH_BYTES, "a request to publish").await?;
    let defaults = Defaults::new(params.text("topic"), caller.source(), &headers);
    let published = form.read(&headers, taken.bytes.clone(), &defaults)?;
    let mut receipts = send(&app, &caller, published.items).await;
    if published.many {
        return answer_many(receipts);
    }
    let receipt = receipts.pop().ok_or_else(|| Problem::internal("no receipt for a message"))?;
    answer_one(receipt)
}

/// Sends the valid messages together, and returns a receipt for each message, in
/// order.
async fn send(app: &App, caller: &Caller, read: Vec<Read>) -> Vec<ReceiptView> {
    let mut drafts = Vec::with_capacity(read.len());
    let mut refused = Vec::with_capacity(read.len());
    for item in read {
        let allowed = item.and_then(|mut draft| {
            let in_scope = match caller.topic(&draft.topic) {
                // A message without a topic is in every scope: the send side
                // refuses it, and keeps a row that says so.
                _ if draft.topic.is_empty() => Ok(()),
                in_scope => in_scope,
            };
            match in_scope.and_then(|()| signed(app, caller, &mut draft)) {
                Ok(()) => Ok(draft),
                Err(problem) => Err(Box::new(Unread { id: draft.id, problem, kept: None })),
            }
        });
        match allowed {
            Ok(draft) => {
                drafts.push(draft);
                refused.push((None, true));
            }
            Err(mut unread) => {
                // The send side also keeps rows of messages that cannot be read.
                let kept = unread.kept.take().filter(|draft| caller.topic(&draft.topic).is_ok());
                let kept = kept.and_then(|mut draft| signed(app, caller, &mut draft).is_ok().then_some(draft));
                refused.push((Some(unread), kept.is_some()));
                drafts.extend(kept.map(|draft| *draft));
            }
        }
    }
    let of_whom = drafts.iter().map(|draft| (draft.topic.as_str(), draft.type_name.as_str()));
    let warnings = unhandled::warnings(app, caller, of_whom).await;
    let sent = if drafts.is_empty() { Vec::new() } else { app.sender.send(drafts).await };
    let mut receipts = sent.into_iter().zip(warnings);
    let answered = refused.into_iter().map(|(refused, sent)| {
        let receipt = if sent { receipts.next() } else { None };
        match (refused, receipt) {
            (Some(unread), receipt) => {
                let Unread { id, problem, .. } = *unread;
                ReceiptView::refused(id.or_else(|| receipt.map(|(receipt, _)| receipt.id)), problem)
            }
            (None, Some((receipt, warning))) => {
                let view = ReceiptView::from(receipt);
                let warning = warning.filter(|_| view.problem.is_none());
                ReceiptView { warning, ..view }
            }
            (None, None) => {
                let problem = Problem::internal("the send side answered fewer messages than it was handed");
                ReceiptView::refused(None, problem)
            }
        }
    });
    answered.collect()
}

/// Notes the caller as the sender of a message.
///
/// # Errors
/// 403 when the caller may not publish as the message's source; 400 for an id that
/// is reserved for outboxes.
pub(in crate::api) fn signed(app: &App, caller: &Caller, draft: &mut Draft) -> Result<(), Problem> {
    if draft.id.as_ref().is_some_and(|id| id.starts_with(OUTBOX_IDS)) {
        return Err(Problem::bad_request(
            "bad id",
            format!("ids that begin with {OUTBOX_IDS:?} are those of rows of outboxes; give the message another id"),
        ));
    }
    if !caller.is_local() {
        let source_proven = app.auth.proves(caller, &draft.source)?;
        draft.sent_by = Some(SentBy { sender: caller.name.to_string(), source_proven });
    }
    Ok(())
}

fn answer_one(receipt: ReceiptView) -> Result<Response, Problem> {
    match receipt.problem {
        Some(problem) => Err(match receipt.id {
            Some(id) => problem.with("id", Value::from(id)),
            None => problem,
        }),
        None => Ok((StatusCode::ACCEPTED, Json(receipt)).into_response()),
    }
}

fn answer_many(items: Vec<ReceiptView>) -> Result<Response, Problem> {
    let none_accepted = !items.is_empty() && items.iter().all(|item| item.problem.is_some());
    if none_accepted {
        let detail = format!("none of the {} messages was accepted; `items` says why, one by one", items.len());
        let items = serde_json::to_value(items).map_err(Problem::internal)?;
        return Err(Problem::bad_request("nothing accepted", detail).with("items", items));
    }
    Ok((StatusCode::ACCEPTED, Json(ReceiptList { items })).into_response())
}

impl ReceiptView {
    fn refused(id: Option<String>, problem: Problem) -> Self {
        Self { id, state: MessageState::SendFail.as_str(), retrying: false, problem: Some(problem), warning: None }
    }
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        Self {
            id: Some(receipt.id),
            state: receipt.state.as_str(),
            retrying: receipt.retrying,
            problem: receipt.problem.map(Problem::from),
            warning: None,
        }
    }
}

impl From<SendProblem> for Problem {
    fn from(problem: SendProblem) -> Self {
        let (status, title) = match problem.kind {
            SendProblemKind::Invalid => (StatusCode::BAD_REQUEST, "invalid message"),
            SendProblemKind::TooManyTransactions => (StatusCode::TOO_MANY_REQUESTS, "too many transactions"),
            SendProblemKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "message too large"),
            SendProblemKind::BreaksSchema => (StatusCode::UNPROCESSABLE_ENTITY, "body breaks the schema"),
            SendProblemKind::RefusedByKafka => (StatusCode::UNPROCESSABLE_ENTITY, "kafka refuses the message"),
            SendProblemKind::CheckUrlNotAllowed => (StatusCode::UNPROCESSABLE_ENTITY, "check_url not allowed"),
            SendProblemKind::IdTaken => (StatusCode::CONFLICT, "id is taken"),
            SendProblemKind::IdReserved => (StatusCode::CONFLICT, "id is reserved"),
            SendProblemKind::Cancelled => (StatusCode::CONFLICT, "cancelled"),
            SendProblemKind::UndeliveredFull => (StatusCode::SERVICE_UNAVAILABLE, "too much is undelivered"),
            SendProblemKind::StoreAway => (StatusCode::SERVICE_UNAVAILABLE, "the store is not available"),
            SendProblemKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
        };
        Self::new(status, title, problem.detail)
    }
}
