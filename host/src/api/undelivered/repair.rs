//! `POST /v1/undelivered/{id}/repair`: edits an entry and sends it again.

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
use crate::api::ports::{reserved_header, valid_topic};
use crate::api::problem::Problem;
use crate::api::shown::BASE64;
use crate::store::undelivered::Repaired;

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
    /// The new headers of the record, in place of all others. Headers of the message's
    /// own attributes (`ce_id`, `content-type`) stay unless they are given.
    #[schema(value_type = Option<Object>)]
    headers: Option<Headers>,
}

/// Edits an entry and sends it again: to another topic, with another value or
/// with other headers. Its key and id stay.
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
    let asked: RepairBody = intake::command(&caller.name, &headers, body).await?;
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
    if let Some(Headers(headers)) = asked.headers {
        record.headers = replaced(record.headers, headers);
    }
    let (encoded, shard) = app.log.encode(&record, &topic, &row.message_id);
    let repaired = Repaired { topic, key: record.key, type_name: row.type_name.clone(), record: encoded, shard };
    owe(&app, &caller, "repair undelivered", row, Some(repaired)).await
}

/// The headers of a repaired record. Without the headers of its attributes it would be
/// another message, with another id and no type.
fn replaced(mut old: Vec<Header>, new: Vec<Header>) -> Vec<Header> {
    old.retain(|kept| reserved_header(&kept.name).is_some() && !new.iter().any(|given| given.name == kept.name));
    old.extend(new);
    old
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
}
