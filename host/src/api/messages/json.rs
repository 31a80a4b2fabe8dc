//! A message in this API's own JSON.
//!
//! `{topic, type, body | body_base64 | tombstone, key? | key_base64?, source?,
//! id?, kind?, delay?, deliver_at?, headers?}`. A body is sent as the text in the
//! request: numbers keep their digits, objects their order. `"body": null` is the
//! body `null`; `"tombstone": true` sends a record without a value. Headers are
//! text, `{"base64": ".."}`, null, or an array of those for a name that repeats;
//! the header `content-type` is the body's media type.

use std::fmt;

use base64::Engine;
use bytes::Bytes;
use courier_core::message::{Header, Kind};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{Defaults, bad, check_header, read_delay, read_deliver_at};
use crate::api::ports::{Draft, header_rules};
use crate::api::problem::Problem;
use crate::api::shape;
use crate::api::shown::BASE64;

/// The fields of a message in a request.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMessage)]
pub struct MessageFields {
    /// The topic; by default that of `?topic=`.
    topic: Option<String>,
    /// What happened, for example `OrderCreated`.
    #[serde(rename = "type")]
    #[schema(value_type = String, required = true)]
    type_name: Option<String>,
    /// Any JSON, sent as it is written here.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Value>)]
    body: Option<Box<RawValue>>,
    /// Any bytes, instead of `body`.
    body_base64: Option<String>,
    /// True for a record without a value, instead of a body: on a compacted topic it
    /// deletes the messages of its key.
    tombstone: Option<bool>,
    /// The primary key: messages of one key are handled in order.
    key: Option<String>,
    /// A key that is not text, instead of `key`.
    key_base64: Option<String>,
    /// The sending service.
    source: Option<String>,
    /// The sender's own id; the same message with the same id is sent once.
    id: Option<String>,
    /// `event` or `broadcast`.
    kind: Option<String>,
    /// How long to wait: a whole number and `ms`, `s`, `m`, `h` or `d`, for
    /// example `2s`.
    delay: Option<String>,
    /// When to deliver, instead of `delay`. A time that has passed means now.
    #[schema(format = DateTime)]
    deliver_at: Option<String>,
    /// Name to text, `{"base64": ".."}`, null, or an array of those.
    #[schema(value_type = Option<Object>)]
    headers: Option<Headers>,
}

/// Reads a body that is present, which may be the JSON `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one message.
///
/// # Errors
/// 400 that names the wrong field.
pub fn read(raw: &RawValue, defaults: &Defaults) -> Result<Draft, Problem> {
    let sent: MessageFields = shape::object(raw).map_err(bad)?;
    let delay = sent.delay.as_deref().map(read_delay).transpose()?;
    let deliver_at = sent.deliver_at.as_deref().map(|text| read_deliver_at("deliver_at", text)).transpose()?;
    let kind = read_kind(sent.kind.as_deref())?;
    let mut headers = sent.headers.unwrap_or_default().0;
    let is_tombstone = sent.tombstone == Some(true);
    let (body, usual_type) = match (sent.body, sent.body_base64) {
        (None, None) if is_tombstone => (Bytes::new(), ""),
        (Some(_), _) | (_, Some(_)) if is_tombstone => {
            return Err(bad("it has both `tombstone` and a body; a tombstone has none"));
        }
        (Some(json), None) => (Bytes::from(Box::<str>::from(json).into_string()), "application/json"),
        (None, Some(text)) => (decode("body_base64", &text)?, "application/octet-stream"),
        (Some(_), Some(_)) => return Err(bad("it has both `body` and `body_base64`; write one of them")),
        (None, None) => {
            return Err(bad(
                "it has neither `body` nor `body_base64`; write one of them, or `tombstone`: true for a record \
                 without a value",
            ));
        }
    };
    let key = match (sent.key, sent.key_base64) {
        (Some(_), Some(_)) => return Err(bad("it has both `key` and `key_base64`; write one of them")),
        (Some(text), None) => Some(Bytes::from(text.into_bytes())),
        (None, Some(text)) => Some(decode("key_base64", &text)?),
        (None, None) => None,
    };
    let content_type = take_content_type(&mut headers)?.unwrap_or_else(|| usual_type.to_owned());
    for header in &headers {
        check_header(&header.name)?;
    }
    Ok(defaults.complete(Draft {
        topic: defaults.topic(sent.topic),
        type_name: sent.type_name.unwrap_or_default(),
        key,
        source: sent.source.unwrap_or_default(),
        id: sent.id,
        kind,
        content_type,
        body,
        is_tombstone,
        headers,
        time: None,
        fault: None,
        deliver_at,
        delay,
        sent_by: None,
    }))
}

/// The kind that a word names; by default an event.
pub(super) fn read_kind(word: Option<&str>) -> Result<Kind, Problem> {
    match word {
        None | Some("event") => Ok(Kind::Event),
        Some("broadcast") => Ok(Kind::Broadcast),
        Some(other) => Err(bad(format!("the kind {other:?} is unknown; write \"event\" or \"broadcast\""))),
    }
}

fn decode(field: &str, text: &str) -> Result<Bytes, Problem> {
    BASE64.decode(text).map(Bytes::from).map_err(|error| bad(format!("`{field}` is no Base64: {error}")))
}

/// Takes the media type of the body out of the headers.
fn take_content_type(headers: &mut Vec<Header>) -> Result<Option<String>, Problem> {
    header_rules::take_content_type(headers).map_err(bad)
}

/// Headers in the order of the request.
#[derive(Default)]
pub(in crate::api) struct Headers(pub(in crate::api) Vec<Header>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedHeaders;
        impl<'de> Visitor<'de> for OrderedHeaders {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let values = if let Value::Array(values) = value { values } else { vec![value] };
                    for value in values {
                        let value = header_rules::header_value(&name, value).map_err(serde::de::Error::custom)?;
                        headers.push(Header { name: name.clone(), value });
                    }
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(OrderedHeaders)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use courier_core::message::Timestamp;

    use super::*;

    fn draft(json: &str) -> Result<Draft, Problem> {
        read(serde_json::from_str(json).unwrap(), &Defaults::default())
    }

    fn refused(json: &str, status: u16, words: &str) {
        let problem = draft(json).expect_err(json);
        assert_eq!(problem.status, status, "{json}: {problem:?}");
        assert!(problem.detail.contains(words), "{json}: {}", problem.detail);
    }

    #[test]
    fn a_body_goes_out_as_it_is_written() {
        for body in [r#"{"b": 1.10,  "a":123456789012345678901234567890}"#, "null", "\"x\"", "[ ]", "1e2"] {
            let draft = draft(&format!(r#"{{"topic":"order","type":"OrderCreated","body": {body} }}"#)).unwrap();
            assert_eq!(draft.body, body);
            assert_eq!(draft.content_type, "application/json");
        }
    }

    #[test]
    fn every_field_is_taken() {
        let draft = draft(
            r#"{"topic":"order","type":"OrderCreated","body_base64":"AP8","key_base64":"/w==","source":"shop","id":"o-1",
                "kind":"event","delay":null,"headers":{"a":"1","b":{"base64":"/w=="},"c":null,"d":["x","y"],
                "Content-Type":"image/png"}}"#,
        )
        .unwrap();
        let header =
            |name: &str, value: Option<&'static [u8]>| Header { name: name.into(), value: value.map(Bytes::from) };
        assert_eq!(
            draft,
            Draft {
                topic: "order".into(),
                type_name: "OrderCreated".into(),
                key: Some(Bytes::from(&[0xff][..])),
                source: "shop".into(),
                id: Some("o-1".into()),
                kind: Kind::Event,
                content_type: "image/png".into(),
                body: Bytes::from(&[0, 0xff][..]),
                is_tombstone: false,
                headers: vec![
                    header("a", Some(b"1")),
                    header("b", Some(&[0xff])),
                    header("c", None),
                    header("d", Some(b"x")),
                    header("d", Some(b"y")),
                ],
                time: None,
                fault: None,
                deliver_at: None,
                delay: None,
                sent_by: None,
            }
        );
    }

    /// Null and an empty body could not be told apart, and no tombstone could be
    /// published.
    #[test]
    fn a_tombstone_is_asked_for_by_name() {
        let draft = draft(r#"{"topic":"a","type":"T","key":"k","tombstone":true}"#).unwrap();
        assert!(draft.is_tombstone && draft.body.is_empty() && draft.content_type.is_empty());
        let null = super::tests::draft(r#"{"topic":"a","type":"T","body":null,"tombstone":false}"#).unwrap();
        assert!(!null.is_tombstone && null.body == "null");
        refused(r#"{"topic":"a","type":"T","tombstone":true,"body":null}"#, 400, "a tombstone has none");
        refused(r#"{"topic":"a","type":"T","tombstone":false}"#, 400, "neither `body`");
        refused(r#"{"topic":"a","type":"T","tombstone":"yes"}"#, 400, "`tombstone`");
    }

    #[test]
    fn a_delay_or_a_time_of_delivery_is_taken() {
        let due = |json: &str| {
            let draft = draft(&format!(r#"{{"topic":"a","type":"T","body":1,{json}}}"#)).unwrap();
            (draft.delay, draft.deliver_at)
        };
        assert_eq!(due(r#""delay":"1500ms""#), (Some(Duration::from_millis(1_500)), None));
        assert_eq!(due(r#""delay":"21d""#), (Some(Duration::from_secs(21 * 86_400)), None));
        assert_eq!(due(r#""deliver_at":"1970-01-01T01:00:00.5+01:00""#), (None, Some(Timestamp(500_000))));
        assert_eq!(due(r#""delay":null,"deliver_at":null"#), (None, None));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        refused(r#"{"topic":"a","type":"T","body":1,"topik":1}"#, 400, "`topik` is unknown; write one of `topic`, ");
        refused(r#"{"topic":"a","topic":"b","type":"T","body":1}"#, 400, "`topic` is given twice");
        refused(r#"{"topic":"a","type":"T"}"#, 400, "neither `body` nor `body_base64`");
        refused(r#"{"topic":"a","type":"T","body":null,"body_base64":""}"#, 400, "both `body`");
        refused(r#"{"topic":"a","type":"T","body":1,"key":"a","key_base64":""}"#, 400, "both `key`");
        refused(r#"{"topic":"a","type":"T","body":1,"key":42}"#, 400, "`key` is the number 42; write text");
        refused(r#"{"topic":"a","type":"T","body_base64":"%"}"#, 400, "`body_base64` is no Base64");
        refused(r#"{"topic":"a","type":"T","body":1,"headers":{"x":1}}"#, 400, "header `x` is neither text");
        refused(r#"{"topic":"a","type":"T","body":1,"headers":{"x":{"base64":1}}}"#, 400, "no Base64");
        refused(r#"{"topic":"a","type":"T","body":1,"headers":{"CE_id":"1"}}"#, 400, "belongs to Courier");
        refused(r#"{"topic":"a","type":"T","body":1,"headers":{"Courier_Hops":"1"}}"#, 400, "how often one message");
        let twice = r#"{"topic":"a","type":"T","body":1,"headers":{"content-type":["text/a","text/b"]}}"#;
        refused(twice, 400, "`content-type` is given twice");
        refused(r#"{"topic":"a","type":"T","body":1,"kind":"news"}"#, 400, "\"event\" or \"broadcast\"");
        refused(r#"{"topic":"a","type":"T","body":1,"delay":"2"}"#, 400, "`delay` is \"2\": a duration is");
        refused(r#"{"topic":"a","type":"T","body":1,"delay":2}"#, 400, "`delay` is the number 2; write text");
        refused(
            r#"{"topic":"a","type":"T","body":1,"deliver_at":"x"}"#,
            400,
            "`deliver_at` is wrong: \"x\" is no time",
        );
        refused("7", 400, "it is the number 7; write an object");
    }

    /// The send side refuses them and keeps a row that says so.
    #[test]
    fn a_missing_topic_or_type_is_left_to_the_send_side() {
        let draft = draft(r#"{"body":1}"#).unwrap();
        assert_eq!((draft.topic.as_str(), draft.type_name.as_str()), ("", ""));
    }

    #[test]
    fn the_requests_topic_stands_in() {
        let defaults = Defaults { topic: Some("order".into()), ..Defaults::default() };
        let topic = |json| read(serde_json::from_str(json).unwrap(), &defaults).unwrap().topic;
        assert_eq!(topic(r#"{"type":"T","body":1}"#), "order");
        assert_eq!(topic(r#"{"topic":"stock","type":"T","body":1}"#), "stock");
    }
}
