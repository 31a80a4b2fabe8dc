//! Makes the request for a message, or for several.

use std::time::Duration;

use courier_sdk::{Attempt, Message};

use crate::{event, settings::Settings, sign::signatures};

const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";
/// Record headers that are never forwarded: those of this protocol, of the
/// connection, and of authorization.
const NEVER_FORWARDED: [&str; 20] = [
    "host",
    "authorization",
    "cookie",
    "set-cookie",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "forwarded",
    "idempotency-key",
    "traceparent",
    "date",
    "via",
];
const NEVER_FORWARDED_PREFIXES: [&str; 5] = ["content-", "ce-", "webhook-", "courier-", "x-forwarded-"];

/// The contents of a request.
pub struct Request {
    /// Headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The request for one message.
pub fn of_message(settings: &Settings, message: &Message, attempt: &Attempt, now: Duration) -> Request {
    let mut headers = fixed(settings);
    forward(settings, message, &mut headers);
    set(&mut headers, "courier-group", &attempt.group);
    set(&mut headers, "courier-topic", &message.topic);
    set(&mut headers, "courier-kind", event::kind(message));
    set(&mut headers, "courier-delivery", &attempt.delivery);
    set(&mut headers, "courier-attempt", &attempt.number.to_string());
    set(&mut headers, "idempotency-key", &attempt.delivery);
    let body = if settings.structured {
        set(&mut headers, "content-type", STRUCTURED);
        let body = event::structured(message, attempt).into_bytes();
        sign(settings, &attempt.delivery, now, &body, &mut headers);
        body
    } else {
        for (name, value) in event::attributes(message) {
            set(&mut headers, &format!("ce-{name}"), &event::in_header(&value));
        }
        if !message.content_type.is_empty() {
            set(&mut headers, "content-type", &message.content_type);
        }
        if message.body.is_none() {
            set(&mut headers, "courier-tombstone", "true");
        }
        message.bytes().to_vec()
    };
    Request { headers, body }
}

/// The request for several messages.
pub fn of_batch(settings: &Settings, items: &[(&Message, &Attempt)], now: Duration) -> Request {
    let mut headers = fixed(settings);
    let events: Vec<String> = items.iter().map(|(message, attempt)| event::structured(message, attempt)).collect();
    let body = format!("[{}]", events.join(",")).into_bytes();
    if let (Some((_, first)), Some((_, last))) = (items.first(), items.last()) {
        set(&mut headers, "courier-group", &first.group);
        set(&mut headers, "content-type", BATCH);
        sign(settings, &format!("{}..{}", first.delivery, last.delivery), now, &body, &mut headers);
    }
    Request { headers, body }
}

fn sign(settings: &Settings, id: &str, now: Duration, body: &[u8], headers: &mut Vec<(String, Vec<u8>)>) {
    if settings.keys.is_empty() {
        return;
    }
    let seconds = now.as_secs();
    set(headers, "webhook-id", id);
    set(headers, "webhook-timestamp", &seconds.to_string());
    set(headers, "webhook-signature", &signatures(&settings.keys, id, seconds, body));
}

/// The headers that the binding sets for each request.
fn fixed(settings: &Settings) -> Vec<(String, Vec<u8>)> {
    let mut headers = Vec::new();
    for (name, value) in &settings.headers {
        set(&mut headers, name, value);
    }
    if let Some(authorization) = &settings.authorization {
        set(&mut headers, "authorization", authorization);
    }
    headers
}

fn forward(settings: &Settings, message: &Message, headers: &mut Vec<(String, Vec<u8>)>) {
    for header in &message.headers {
        let name = header.name.to_ascii_lowercase();
        let listed = settings.forward.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        });
        let taken = headers.iter().any(|(known, _)| *known == name);
        if let Some(value) = header.value.as_deref().filter(|value| is_value(value))
            && listed
            && !taken
            && is_forwardable(&name)
        {
            headers.push((name, value.to_vec()));
        }
    }
}

fn is_forwardable(name: &str) -> bool {
    let is_token =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$&'*+^`|~".contains(&byte));
    // Many servers treat an underscore as a hyphen.
    let name = &name.replace('_', "-")[..];
    is_token
        && !NEVER_FORWARDED.contains(&name)
        && !NEVER_FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a header can have this value: one with a line break would end it.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

/// Sets a header in place of the binding's of that name. A value that no header
/// can hold, such as a foreign record's content type, is left out.
fn set(headers: &mut Vec<(String, Vec<u8>)>, name: &str, value: &str) {
    let name = name.to_ascii_lowercase();
    headers.retain(|(known, _)| *known != name);
    if is_value(value.as_bytes()) {
        headers.push((name, value.as_bytes().to_vec()));
    }
}
