//! CloudEvents 1.0, structured and binary.
//!
//! The topic is the extension attribute `topic` (the header `ce-topic` in the
//! binary form), or `?topic=` for events without one. `partitionkey` is the
//! key, and `kind` is `broadcast` for a broadcast. The extension attributes `delay`
//! ("2s") and `deliverat` (RFC 3339), or the headers `ce-delay` and
//! `ce-deliverat`, say when the event is due; they are for Courier and not part
//! of the record. Every other attribute becomes the record header `ce_<name>`, as
//! in the Kafka binding of CloudEvents, including an attribute named `key`.
//! `"data": null` is the JSON value null; only an event without `data` has no body.

use std::collections::BTreeMap;
use std::fmt;

use axum::http::{HeaderMap, header};
use base64::Engine;
use bytes::Bytes;
use courier_core::message::Header;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{Defaults, bad, read_delay, read_deliver_at};
use super::json::read_kind;
use crate::api::ports::Draft;
use crate::api::problem::Problem;
use crate::api::shape;
use crate::api::shown::BASE64;
use crate::rfc3339;

/// The only supported version of CloudEvents.
const SPEC_VERSION: &str = "1.0";

/// Reads a structured event.
///
/// # Errors
/// 400 that names the attribute at fault.
pub fn read_structured(raw: &RawValue, defaults: &Defaults) -> Result<Draft, Problem> {
    let Members(mut members) = shape::object(raw).map_err(|why| bad(format!("it is no CloudEvent: {why}")))?;
    let (data, data_base64) = (members.remove("data"), members.remove("data_base64"));
    let mut attributes = BTreeMap::new();
    for (name, value) in members {
        if let Some(text) = attribute_text(&name, value)? {
            attributes.insert(name, text);
        }
    }
    let media_type = attributes.remove("datacontenttype");
    let body = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(bad("it has both `data` and `data_base64`; write one of them")),
        (Some(data), None) => data_bytes(data, media_type.as_deref()),
        (None, Some(data)) => {
            let text: String = serde_json::from_str(data.get()).map_err(|_| bad("`data_base64` is not a string"))?;
            BASE64.decode(text).map_err(|error| bad(format!("`data_base64` is no Base64: {error}")))?.into()
        }
        (None, None) => Bytes::new(),
    };
    // In this format data without a media type is JSON.
    let content_type =
        media_type.unwrap_or_else(|| if data.is_some() { "application/json".into() } else { String::new() });
    draft(attributes, content_type, body, defaults)
}

/// Reads a binary event: attributes in `ce-` headers, data in the body.
///
/// # Errors
/// 400 that names the attribute at fault.
pub fn read_binary(headers: &HeaderMap, body: Bytes, defaults: &Defaults) -> Result<Draft, Problem> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = header_text(value.as_bytes())
            .ok_or_else(|| bad(format!("the header `ce-{name}` is not percent-encoded UTF-8")))?;
        if attributes.insert(name.to_owned(), text).is_some() {
            return Err(bad(format!("the header `ce-{name}` comes twice")));
        }
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    draft(attributes, content_type.to_owned(), body, defaults)
}

fn draft(
    mut attributes: BTreeMap<String, String>,
    content_type: String,
    body: Bytes,
    defaults: &Defaults,
) -> Result<Draft, Problem> {
    let mut require = |name: &str| {
        let value = attributes.remove(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| bad(format!("the CloudEvent has no `{name}`, which every one has")))
    };
    let version = require("specversion")?;
    if version != SPEC_VERSION {
        return Err(bad(format!("the CloudEvent has `specversion` {version:?}; only {SPEC_VERSION:?} is known")));
    }
    let (id, source, type_name) = (require("id")?, require("source")?, require("type")?);
    let time = attributes
        .remove("time")
        .map(|text| rfc3339::parse(&text).map_err(|why| bad(format!("`time` is wrong: {why}"))));
    let topic = defaults.topic(attributes.remove("topic"));
    let kind = read_kind(attributes.remove("kind").as_deref())?;
    let delay = attributes.remove("delay").map(|text| read_delay(&text)).transpose()?;
    let deliver_at = attributes.remove("deliverat").map(|text| read_deliver_at("deliverat", &text)).transpose()?;
    let key = attributes.remove("partitionkey").map(|key| Bytes::from(key.into_bytes()));
    let mut headers = Vec::new();
    for (name, value) in attributes {
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(bad(format!("the attribute `{name}` is misnamed: names have only a to z and 0 to 9")));
        }
        headers.push(Header { name: format!("ce_{name}"), value: Some(value.into_bytes().into()) });
    }
    Ok(defaults.complete(Draft {
        topic,
        type_name,
        key,
        source,
        id: Some(id),
        kind,
        content_type,
        body,
        is_tombstone: false,
        headers,
        time: time.transpose()?,
        fault: None,
        deliver_at,
        delay,
        sent_by: None,
    }))
}

/// The members of a structured event, each once.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format!("`{name}` is given twice; give it once")));
                    }
                    members.insert(name, value);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Each).map(Self)
    }
}

/// An attribute as text: a string, a boolean or an integer. Null is absent.
fn attribute_text(name: &str, raw: &RawValue) -> Result<Option<String>, Problem> {
    match serde_json::from_str(raw.get()) {
        Ok(Value::Null) => Ok(None),
        Ok(Value::String(text)) => Ok(Some(text)),
        Ok(Value::Bool(_)) => Ok(Some(raw.get().to_owned())),
        Ok(Value::Number(number)) if number.is_i64() => Ok(Some(number.to_string())),
        _ => Err(bad(format!(
            "the attribute `{name}` is neither a string, a boolean nor an integer; write it as text: \"..\""
        ))),
    }
}

/// The bytes of `data`: its JSON as it is written, or the text of a JSON string
/// when the media type is not JSON.
fn data_bytes(data: &RawValue, media_type: Option<&str>) -> Bytes {
    if !media_type.is_none_or(is_json)
        && let Ok(text) = serde_json::from_str::<String>(data.get())
    {
        return text.into_bytes().into();
    }
    Bytes::copy_from_slice(data.get().as_bytes())
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// The text of an attribute's header, by the HTTP binding of CloudEvents: a value in
/// double quotes is unquoted and unescaped (RFC 7230, 3.2.6), and then
/// percent-decoded once. `None` when the result is not UTF-8.
pub(super) fn header_text(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let Some(quoted) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return percent_decode(value);
    };
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        let escaped = if *byte == b'\\' { bytes.next() } else { None };
        plain.push(*escaped.unwrap_or(byte));
    }
    percent_decode(&plain)
}

/// Percent-decodes a text; `None` when the result is not UTF-8.
fn percent_decode(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = pair.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match decoded.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{HeaderName, HeaderValue};
    use courier_core::message::Timestamp;

    use super::*;

    fn structured(json: &str) -> Result<Draft, Problem> {
        read_structured(serde_json::from_str(json).unwrap(), &Defaults::default())
    }

    fn with(more: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"e-1","source":"/shop","type":"OrderCreated","topic":"order"{more}}}"#)
    }

    #[test]
    fn a_structured_event_becomes_a_draft() {
        let draft = structured(&with(
            r#","time":"1970-01-01T00:00:01Z","partitionkey":"k","subject":"s","flag":true,"n":7,"gone":null,"data":{"a": 1.0}"#,
        ))
        .unwrap();
        assert_eq!(
            (draft.topic.as_str(), draft.type_name.as_str(), draft.source.as_str()),
            ("order", "OrderCreated", "/shop")
        );
        assert_eq!((draft.id.as_deref(), draft.key.as_deref()), (Some("e-1"), Some(&b"k"[..])));
        assert_eq!((draft.time, draft.content_type.as_str()), (Some(Timestamp(1_000_000)), "application/json"));
        assert_eq!(draft.body, r#"{"a": 1.0}"#);
        let headers: Vec<_> =
            draft.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref().unwrap())).collect();
        assert_eq!(headers, [("ce_flag", &b"true"[..]), ("ce_n", b"7"), ("ce_subject", b"s")]);
    }

    #[test]
    fn an_event_says_when_it_is_due_and_its_record_does_not() {
        let draft = structured(&with(r#","delay":"2s""#)).unwrap();
        assert_eq!((draft.delay, draft.headers.len()), (Some(Duration::from_secs(2)), 0));
        let draft = structured(&with(r#","deliverat":"1970-01-01T00:00:01Z""#)).unwrap();
        assert_eq!((draft.deliver_at, draft.headers.len()), (Some(Timestamp(1_000_000)), 0));
    }

    #[test]
    fn data_is_text_when_its_media_type_is_not_json() {
        let body = |more: &str| structured(&with(more)).unwrap().body;
        assert_eq!(body(r#","datacontenttype":"text/plain","data":"a\nb""#), "a\nb");
        assert_eq!(body(r#","datacontenttype":"application/geo+json","data":"a""#), "\"a\"");
        assert_eq!(body(r#","datacontenttype":"text/xml","data":{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(body(r#","data_base64":"AP8=""#), &[0, 0xff][..]);
        assert_eq!(body(r#","data":null"#), "null");
        assert_eq!(body(""), "");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let refused = |json: &str, words: &str| {
            let problem = structured(json).expect_err(json);
            assert!(problem.status == 400 && problem.detail.contains(words), "{json}: {}", problem.detail);
        };
        refused("[]", "no CloudEvent: it is an array");
        refused(&with(r#","id":"e-2""#), "`id` is given twice");
        refused(&with(r#","a":1,"\u0061":2"#), "`a` is given twice");
        refused(r#"{"id":"1"}"#, "no `specversion`");
        refused(&with("").replace("1.0", "0.3"), "only \"1.0\"");
        refused(&with("").replace("/shop", ""), "no `source`");
        refused(&with(r#","time":"now""#), "`time` is wrong");
        refused(&with(r#","delay":"soon""#), "`delay` is \"soon\"");
        refused(&with(r#","deliverat":"soon""#), "`deliverat` is wrong");
        refused(&with(r#","my_ext":"x""#), "`my_ext` is misnamed");
        refused(&with(r#","ext":{"a":1}"#), "`ext` is neither");
        refused(&with(r#","data":1,"data_base64":"""#), "both `data`");
        refused(&with(r#","data_base64":"%""#), "no Base64");
    }

    /// The quotes of a value stayed in it.
    #[test]
    fn the_value_of_a_header_may_stand_in_quotes() {
        let text = |value: &str| header_text(value.as_bytes()).unwrap();
        assert_eq!(text("OrderCreated"), "OrderCreated");
        assert_eq!(text("\"OrderCreated\""), "OrderCreated");
        assert_eq!(text(r#""a \"b\" \\ %E2%82%AC""#), r#"a "b" \ €"#);
        assert_eq!(text("%22a%22"), "\"a\"", "what is decoded is not unquoted");
        assert_eq!((text("\""), text("a\"b\"").as_str()), ("\"".to_owned(), "a\"b\""), "no quoted value");
        assert_eq!((text("\"\""), text("100%")), (String::new(), "100%".to_owned()));
        assert_eq!(header_text(b"\"%ff\""), None);
    }

    #[test]
    fn a_binary_event_keeps_its_bytes() {
        let headers: HeaderMap = [
            ("ce-specversion", "1.0"),
            ("ce-id", "e%20%E2%82%AC"),
            ("ce-source", "/shop"),
            ("ce-type", "OrderCreated"),
            ("ce-topic", "\"order\""),
            ("ce-partitionkey", "100%"),
            ("ce-key", "s"),
            ("content-type", "text/csv; charset=latin1"),
            ("accept", "*/*"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let draft = read_binary(&headers, Bytes::from(&b"a,\xe9"[..]), &Defaults::default()).unwrap();
        assert_eq!((draft.id.as_deref(), draft.key.as_deref()), (Some("e €"), Some(&b"100%"[..])));
        assert_eq!((draft.content_type.as_str(), &draft.body[..]), ("text/csv; charset=latin1", &b"a,\xe9"[..]));
        let names: Vec<&str> = draft.headers.iter().map(|header| header.name.as_str()).collect();
        assert_eq!((names, draft.topic.as_str()), (vec!["ce_key"], "order"), "`key` is an extension as any other");
    }
}
