//! `POST /v1/undelivered/{id}/repair`: edits an entry and sends it again.
//!
//! New headers keep to the rules of `POST /v1/messages`. The message stays the one that
//! it was: otherwise a repair would take the identity of a message of another sender.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use courier_core::message::Header;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::resend::{OwedView, owe};
use super::view::{find, raw};
use crate::api::App;
use crate::api::auth::{As, Operator};
use crate::api::intake;
use crate::api::messages::json::Headers;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::ports::{header_rules, reserved_header, valid_topic};
use crate::api::problem::Problem;
use crate::api::shown::BASE64;
use crate::store::undelivered::{Repaired, UndeliveredRow};

/// The changes of an entry; everything else stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairBody {
    /// The new topic.
    topic: Option<String>,
    /// The new value: any JSON, sent as it is written here.
    #[schema(value_type = Option<serde_json::Value>)]
    body: Option<Box<RawValue>>,
    /// The new value: any bytes, instead of `body`.
    body_base64: Option<String>,
    /// The new headers of the record, in place of all others, by the rules of
    /// `POST /v1/messages`. Of those that carry the message's own attributes, `ce_type`
    /// and `content-type` may be given; they and all others (`ce_id`, `ce_source`) stay
    /// otherwise.
    #[schema(value_type = Option<Object>)]
    headers: Option<Headers>,
}

/// Edits an entry and sends it again: to another topic, with another value or
/// with other headers. Its key, id and source stay; 400 for a repair that would change
/// them.
#[utoipa::path(
    post,
    path = "/v1/undelivered/{id}/repair",
    tag = "undelivered",
    params(("id" = String, Path, description = "The entry's id")),
    request_body = RepairBody,
    responses((status = 202, description = "It goes out as soon as Kafka takes it", body = OwedView), Problems)
)]
pub(in crate::api) async fn repair(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<OwedView>), Problem> {
    params.none()?;
    let asked: RepairBody = intake::command_with_message(&caller.name, &headers, body).await?;
    let row = find(&app, &caller, &id).await?;
    let mut record = raw(&app, &row)?;
    let topic = asked.topic.unwrap_or_else(|| row.topic.clone());
    if !valid_topic(&topic) {
        return Err(wrong(format!("the topic {topic:?} is none that Kafka takes; send the right one as `topic`")));
    }
    caller.topic(&topic)?;
    // The entry's own topic may be mended later. A new topic that takes no messages
    // is refused, because the entry would leave the list and fail again.
    if topic != row.topic
        && let Some(refusal) = app.sender.refuses_topic(&topic).await
    {
        return Err(refusal.into());
    }
    let value = match (asked.body, asked.body_base64) {
        (Some(_), Some(_)) => return Err(wrong("it has both `body` and `body_base64`; write one of them")),
        (Some(json), None) => Some(Bytes::from(Box::<str>::from(json).into_string())),
        (None, Some(text)) => {
            Some(BASE64.decode(text).map_err(|error| wrong(format!("`body_base64` is no Base64: {error}")))?.into())
        }
        (None, None) => None,
    };
    if value.is_some() {
        record.value = value;
    }
    let mut type_name = row.type_name.clone();
    if let Some(Headers(headers)) = asked.headers {
        type_name = type_of(&headers)?.unwrap_or(type_name);
        record.headers = replaced(record.headers, headers);
    }
    let (encoded, shard) = app.log.encode(&record, &topic, &row.message_id);
    if !is_same_message(&app, &row, &encoded) {
        return Err(wrong(
            "it would make another message of the entry: the value is a CloudEvent with an `id`, a `source` or a \
             `partitionkey` of its own, which have to stay as they are",
        ));
    }
    let repaired = Repaired { topic, key: record.key, type_name, record: encoded, shard };
    owe(&app, &caller, "repair undelivered", row, Some(repaired)).await
}

/// The type that new headers give the message, if they give one.
///
/// # Errors
/// 400 for headers that a sender could not set on a message of its own.
fn type_of(given: &[Header]) -> Result<Option<String>, Problem> {
    let mut others = given.to_vec();
    let content_type = header_rules::take_content_type(&mut others).map_err(wrong)?;
    let type_name = header_rules::take_type(&mut others).map_err(wrong)?;
    if let Some(name) = others.iter().map(|header| &header.name).find(|name| reserved_header(name).is_some()) {
        return Err(wrong(format!(
            "the header `{name}` belongs to Courier, or is given twice: of a message's own attributes a repair may give \
             `ce_type` and `content-type`, each once, and the others stay as they are; leave it out"
        )));
    }
    let problem = content_type
        .and_then(|content_type| header_rules::wrong_content_type(&content_type))
        .or_else(|| header_rules::wrong_type(type_name.as_ref()?))
        .or_else(|| header_rules::wrong_headers(&others));
    match problem {
        Some(problem) => Err(wrong(problem.detail)),
        None => Ok(type_name),
    }
}

/// The headers of a repaired record. Without the headers of its attributes it would be
/// another message, with another id and no type.
fn replaced(mut old: Vec<Header>, new: Vec<Header>) -> Vec<Header> {
    let is_given = |name: &str| new.iter().any(|given| given.name.eq_ignore_ascii_case(name));
    old.retain(|kept| reserved_header(&kept.name).is_some() && !is_given(&kept.name));
    old.extend(new);
    old
}

/// Whether the repaired record is read as the message that the entry is. The headers
/// alone do not tell: a structured CloudEvent has its attributes in its value.
fn is_same_message(app: &App, row: &UndeliveredRow, repaired: &Bytes) -> bool {
    // Read for one topic, since a record without an id is known by its place.
    let read = |record: &Bytes| app.log.decode(&row.topic, record);
    let Some((before, after)) = row.record.as_ref().and_then(read).zip(read(repaired)) else { return true };
    (before.id, before.source, before.key) == (after.id, after.source, after.key)
}

fn wrong(detail: impl Into<String>) -> Problem {
    Problem::bad_request("bad repair", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// New headers replaced all others, so that the message lost its id and its type.
    #[test]
    fn a_repair_with_new_headers_leaves_the_message_its_identity() {
        let header = |name: &str, value: &'static str| Header { name: name.into(), value: Some(value.into()) };
        let old = vec![header("ce_id", "m-1"), header("ce_type", "Paid"), header("tenant", "eu")];
        let given = vec![header("tenant", "us"), header("ce_type", "Settled")];
        let headers = replaced(old, given);
        let names: Vec<(&str, &[u8])> =
            headers.iter().map(|header| (&*header.name, header.value.as_deref().unwrap_or_default())).collect();
        assert_eq!(names, [("ce_id", &b"m-1"[..]), ("tenant", &b"us"[..]), ("ce_type", &b"Settled"[..])]);
    }
    /// Two headers of one attribute, of which the later one counted.
    #[test]
    fn a_header_replaces_the_one_of_its_name_in_any_case() {
        let header = |name: &str, value: &'static str| Header { name: name.into(), value: Some(value.into()) };
        let headers = replaced(vec![header("ce_type", "Paid")], vec![header("CE_Type", "Settled")]);
        assert_eq!(headers, [header("CE_Type", "Settled")]);
    }
}
