//! Keys, headers and bodies as JSON.
//!
//! Keys and headers may be any bytes. Text is shown as text under its own name, other
//! bytes as Base64 under `<name>_base64`. Exactly one of the two is present; the text
//! is null when there is no value.

use base64::Engine;
use bytes::Bytes;
use courier_core::message::Header;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub use super::ports::BASE64;

/// A key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ShownKey {
    /// The key when it is text; null without a key; absent beside `key_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key: Option<Option<String>>,
    /// The key when it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
}

impl ShownKey {
    /// Shows a record's raw key.
    #[must_use]
    pub fn new(key: Option<&[u8]>) -> Self {
        match key.map(std::str::from_utf8) {
            None => Self { key: Some(None), key_base64: None },
            Some(Ok(text)) => Self { key: Some(Some(text.to_owned())), key_base64: None },
            Some(Err(_)) => Self { key: None, key_base64: key.map(|key| BASE64.encode(key)) },
        }
    }
}

/// A body.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShownBody {
    /// The body when it is JSON, unchanged; null when it is empty or not available;
    /// absent beside `body_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    body: Option<Box<RawValue>>,
    /// The body when it is not JSON; "" beside a null `body` when it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// True when the record has no value, which is not the body `null`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    tombstone: bool,
    /// True when the body is larger than a response shows; `body_base64` is then its
    /// beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    body_cut: bool,
    /// Size of a body that was cut, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<usize>,
}

/// Bytes of a body that a response shows. It is Kafka's default limit, so that usual
/// messages are whole.
const MAX_SHOWN_BODY: usize = 1 << 20;
/// Bytes of a header's value that a response shows.
const MAX_SHOWN_HEADER: usize = 64 << 10;

impl ShownBody {
    /// Shows a body; `None` when it is not available.
    #[must_use]
    pub fn new(body: Option<&[u8]>) -> Self {
        match body {
            None => Self {
                body: Some(RawValue::NULL.to_owned()),
                body_base64: None,
                tombstone: false,
                body_cut: false,
                body_bytes: None,
            },
            // An empty body keeps the member `body`, as null; the empty `body_base64`
            // distinguishes it from the body `null`.
            Some([]) => Self { body_base64: Some(String::new()), ..Self::new(None) },
            Some(bytes) if bytes.len() > MAX_SHOWN_BODY => Self {
                body: None,
                body_base64: Some(BASE64.encode(&bytes[..MAX_SHOWN_BODY])),
                body_cut: true,
                body_bytes: Some(bytes.len()),
                ..Self::new(None)
            },
            Some(bytes) => match as_json(bytes) {
                Some(json) => Self { body: Some(json.to_owned()), ..Self::new(None) },
                None => Self { body: None, body_base64: Some(BASE64.encode(bytes)), ..Self::new(None) },
            },
        }
    }
}

impl ShownBody {
    /// Shows that a record has no value.
    #[must_use]
    pub fn tombstone() -> Self {
        Self { tombstone: true, ..Self::new(None) }
    }
}

/// The bytes as JSON, if every parser can read them. They are parsed as a value
/// first: JSON that is nested too deeply or has half a surrogate pair passes as raw
/// text, but would make the whole response unreadable for clients.
fn as_json(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice::<Value>(bytes).ok()?;
    serde_json::from_slice(bytes).ok()
}

/// Headers by name. A value is text, `{"base64": ".."}` or null; a repeated name has an
/// array of values. A long value is cut to its beginning, with `cut` and its size in
/// `bytes`.
#[must_use]
pub fn headers(headers: &[Header]) -> Value {
    let mut shown = Map::new();
    for header in headers {
        let value = header_value(header.value.as_ref());
        match shown.get_mut(&header.name) {
            None => {
                shown.insert(header.name.clone(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    Value::Object(shown)
}

fn header_value(value: Option<&Bytes>) -> Value {
    if let Some(bytes) = value.filter(|bytes| bytes.len() > MAX_SHOWN_HEADER) {
        let beginning = BASE64.encode(&bytes[..MAX_SHOWN_HEADER]);
        return json!({ "base64": beginning, "cut": true, "bytes": bytes.len() });
    }
    match value.map(|bytes| std::str::from_utf8(bytes).map_err(|_| BASE64.encode(bytes))) {
        None => Value::Null,
        Some(Ok(text)) => Value::from(text),
        Some(Err(base64)) => json!({ "base64": base64 }),
    }
}

/// A text that may be unknown: an empty text becomes null.
#[must_use]
pub fn known(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(shown: &impl Serialize) -> String {
        serde_json::to_string(shown).unwrap()
    }

    #[test]
    fn a_key_is_shown_under_one_name() {
        assert_eq!(text(&ShownKey::new(None)), r#"{"key":null}"#);
        assert_eq!(text(&ShownKey::new(Some(b"a\"\0"))), r#"{"key":"a\"\u0000"}"#);
        assert_eq!(text(&ShownKey::new(Some(b""))), r#"{"key":""}"#);
        assert_eq!(text(&ShownKey::new(Some(&[0xff, 0]))), r#"{"key_base64":"/wA="}"#);
    }

    #[test]
    fn a_body_keeps_the_senders_own_digits() {
        let body = br#"{"price": 1.10, "n": 123456789012345678901234567890}"#;
        assert_eq!(text(&ShownBody::new(Some(body))), format!("{{\"body\":{}}}", String::from_utf8_lossy(body)));
        assert_eq!(text(&ShownBody::new(Some(b"<a>"))), r#"{"body_base64":"PGE+"}"#);
        assert_eq!(text(&ShownBody::new(Some(b"{} {}"))), r#"{"body_base64":"e30ge30="}"#);
        assert_eq!(text(&ShownBody::new(Some(b"\xff"))), r#"{"body_base64":"/w=="}"#);
        assert_eq!(text(&ShownBody::new(Some(b""))), r#"{"body":null,"body_base64":""}"#);
        assert_eq!(text(&ShownBody::new(None)), r#"{"body":null}"#);
        assert_eq!(text(&ShownBody::new(Some(b"null"))), r#"{"body":null}"#);
        assert_eq!(text(&ShownBody::tombstone()), r#"{"body":null,"tombstone":true}"#);
    }

    /// One `GET` answered 200 MB.
    #[test]
    fn a_large_body_is_cut_and_says_so() {
        let large = format!("\"{}\"", "x".repeat(MAX_SHOWN_BODY - 1)).into_bytes();
        let shown = serde_json::to_value(ShownBody::new(Some(&large))).unwrap();
        assert_eq!((&shown["body_cut"], &shown["body_bytes"]), (&json!(true), &json!(MAX_SHOWN_BODY + 1)));
        let beginning = BASE64.decode(shown["body_base64"].as_str().unwrap()).unwrap();
        assert_eq!(beginning, large[..MAX_SHOWN_BODY]);
        assert!(shown.get("body").is_none());
        let whole = format!("\"{}\"", "x".repeat(MAX_SHOWN_BODY - 2));
        let whole = serde_json::to_value(ShownBody::new(Some(whole.as_bytes()))).unwrap();
        assert!(whole.get("body_cut").is_none() && whole["body"].is_string());
        let long = Header { name: "a".into(), value: Some(vec![b'x'; MAX_SHOWN_HEADER + 1].into()) };
        let shown = headers(&[long]);
        assert_eq!((&shown["a"]["cut"], &shown["a"]["bytes"]), (&json!(true), &json!(MAX_SHOWN_HEADER + 1)));
    }

    #[test]
    fn a_body_that_would_spoil_the_answer_is_not_shown_as_json() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        for hostile in [deep.as_str(), r#""\ud800""#] {
            assert!(text(&ShownBody::new(Some(hostile.as_bytes()))).starts_with(r#"{"body_base64""#));
        }
    }

    #[test]
    fn headers_that_repeat_become_an_array() {
        let header =
            |name: &str, value: Option<&'static [u8]>| Header { name: name.into(), value: value.map(Bytes::from) };
        let shown = headers(&[
            header("a", Some(b"1")),
            header("b", Some(&[0xff])),
            header("a", None),
            header("a", Some(b"3")),
            header("c", None),
        ]);
        assert_eq!(shown, json!({ "a": ["1", null, "3"], "b": { "base64": "/w==" }, "c": null }));
    }
}
