//! Writes a message as a CloudEvent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use courier_sdk::{Attempt, Kind, Message};
use serde_json::value::RawValue;

use crate::time::rfc3339;

/// The source and the type of a message without them: CloudEvents require both
/// not to be empty.
const UNKNOWN_SOURCE: &str = "/";
const UNKNOWN_TYPE: &str = "unknown";
/// The beginning of a record header that has an attribute of the event.
const RECORD_PREFIX: &str = "ce_";
/// Attributes that no record header can set, since fields of the message have them.
const OWN: [&str; 8] = ["specversion", "id", "source", "type", "time", "partitionkey", "datacontenttype", "data"];
/// The beginning of the attributes that Courier adds.
const COURIER: &str = "courier";

/// The kind as a word.
pub fn kind(message: &Message) -> &'static str {
    match message.kind {
        Kind::Event => "event",
        Kind::Broadcast => "broadcast",
    }
}

/// The attributes of a message without its content type.
pub fn attributes(message: &Message) -> Vec<(String, String)> {
    let or = |text: &str, unknown: &str| if text.is_empty() { unknown.to_owned() } else { text.to_owned() };
    let mut attributes = vec![
        ("specversion".to_owned(), "1.0".to_owned()),
        ("id".to_owned(), message.id.clone()),
        ("source".to_owned(), or(&message.source, UNKNOWN_SOURCE)),
        ("type".to_owned(), or(&message.type_, UNKNOWN_TYPE)),
        ("time".to_owned(), rfc3339(message.time)),
    ];
    if let Some(key) = &message.key {
        attributes.push(match std::str::from_utf8(key) {
            Ok(key) => ("partitionkey".to_owned(), key.to_owned()),
            Err(_) => ("courierkeybase64".to_owned(), STANDARD.encode(key)),
        });
    }
    for header in &message.headers {
        let Some((name, value)) = extension(&header.name, header.value.as_deref()) else { continue };
        if !attributes.iter().any(|(known, _)| *known == name) {
            attributes.push((name, value));
        }
    }
    attributes
}

/// The attribute in a record header, if it has one.
fn extension(name: &str, value: Option<&[u8]>) -> Option<(String, String)> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix(RECORD_PREFIX).filter(|name| !name.is_empty())?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_name || OWN.contains(&name) || name.starts_with(COURIER) {
        return None;
    }
    let value = std::str::from_utf8(value?).ok()?;
    (!value.chars().any(char::is_control)).then(|| (name.to_owned(), value.to_owned()))
}

/// The value of an attribute in a header: percent-encoded except for the
/// characters that every header can hold.
pub fn in_header(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' => encoded.push_str(&format!("%{byte:02X}")),
            0x21..=0x7e => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The event as one JSON object.
pub fn structured(message: &Message, attempt: &Attempt) -> String {
    let mut object = Object::default();
    for (name, value) in attributes(message) {
        object.text(&name, &value);
    }
    object.text("couriergroup", &attempt.group);
    object.text("couriertopic", &message.topic);
    object.text("courierkind", kind(message));
    object.text("courierdelivery", &attempt.delivery);
    object.json("courierattempt", &attempt.number.to_string());
    if !message.content_type.is_empty() {
        object.text("datacontenttype", &message.content_type);
    }
    match &message.body {
        None => object.json("couriertombstone", "true"),
        Some(body) => match json(&message.content_type, body) {
            // As the bytes are: written anew, numbers could change.
            Some(json) => object.json("data", json),
            None => object.text("data_base64", &STANDARD.encode(body)),
        },
    }
    object.end()
}

/// The body, if its content type is JSON and it parses as JSON.
fn json<'a>(content_type: &str, body: &'a [u8]) -> Option<&'a str> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_so = media_type == "application/json" || media_type == "text/json" || media_type.ends_with("+json");
    says_so.then(|| serde_json::from_slice::<&RawValue>(body).ok().map(RawValue::get)).flatten()
}

/// A JSON object that is being written.
#[derive(Default)]
struct Object(String);

impl Object {
    fn json(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.json(name, &quoted(value));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
