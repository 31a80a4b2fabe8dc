//! Records as messages and back: CloudEvents over Kafka, and whatever else
//! lies in a topic.
//!
//! Courier writes binary CloudEvents: attributes in `ce_*` headers, the body's
//! bytes as they came. It reads those and structured CloudEvents (one JSON
//! document); every other record is a message too, with its coordinates for an
//! id. Nothing is refused here: a document that only pretends to be an event
//! is delivered as it is.
//!
//! Three readings of the specification that both this module and the HTTP API
//! hold to. `"data": null` is the JSON value null, since only attributes are
//! unset by it. An attribute `key` is an extension as any other and becomes the
//! header `ce_key`: the key is `partitionkey`. A record without a key whose
//! event has a `partitionkey` has that for its key, also for the order within
//! its partition ([`Record::lane_key`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use courier_core::message::{Header, Kind, Message, Offset, Timestamp};
use serde::de::IgnoredAny;

use super::record::Record;

const CONTENT_TYPE: &str = "content-type";
const CE_SPECVERSION: &str = "ce_specversion";
const CE_ID: &str = "ce_id";
const CE_TYPE: &str = "ce_type";
const CE_SOURCE: &str = "ce_source";
const CE_TIME: &str = "ce_time";
const CE_PARTITIONKEY: &str = "ce_partitionkey";
/// Courier's own: the kind, when it is not an event.
const COURIER_KIND: &str = "courier_kind";
/// Courier's own: how many handlings led to the record. A loop of topics that
/// lead into one another is found by it.
pub const COURIER_HOPS: &str = "courier_hops";

/// The media types of whole CloudEvents begin so.
const WHOLE_EVENTS: &str = "application/cloudevents";
/// The media type of a structured CloudEvent in JSON.
const STRUCTURED: &str = "application/cloudevents+json";
/// The version of CloudEvents that is written.
const SPECVERSION: &str = "1.0";
/// CloudEvents demand a source that is not empty; this one stands for an
/// unknown source, and is read as one.
const UNKNOWN_SOURCE: &str = "/";
/// Longer ids, which only foreign records can have, are not taken for ids:
/// they would not fit the stores' indexes.
pub const MAX_FOREIGN_ID_BYTES: usize = 1_024;

/// The attributes that the fields of a message are made of.
#[derive(Clone, Copy)]
enum Attribute {
    SpecVersion,
    Id,
    Type,
    Source,
    Time,
    PartitionKey,
    ContentType,
    Kind,
    Hops,
}

/// Which attribute a header carries. Names differ in case between producers.
fn attribute(name: &str) -> Option<Attribute> {
    // The length rules out almost every header at once, and at most three names
    // share one: this runs for each header of each record.
    let candidates: &[(&str, Attribute)] = match name.len() {
        5 => &[(CE_ID, Attribute::Id)],
        7 => &[(CE_TYPE, Attribute::Type), (CE_TIME, Attribute::Time)],
        9 => &[(CE_SOURCE, Attribute::Source)],
        12 => {
            &[(CONTENT_TYPE, Attribute::ContentType), (COURIER_KIND, Attribute::Kind), (COURIER_HOPS, Attribute::Hops)]
        }
        14 => &[(CE_SPECVERSION, Attribute::SpecVersion)],
        15 => &[(CE_PARTITIONKEY, Attribute::PartitionKey)],
        _ => return None,
    };
    candidates.iter().find(|(expected, _)| name.eq_ignore_ascii_case(expected)).map(|(_, found)| *found)
}

/// What the attributes of a record say, as far as they can be read.
#[derive(Default)]
struct Attributes {
    id: Option<String>,
    type_name: Option<String>,
    source: Option<String>,
    time: Option<Timestamp>,
    partition_key: Option<Bytes>,
    content_type: Option<String>,
    kind: Kind,
    hops: u32,
}

impl Record {
    /// The message that this record, found at the given place, stands for.
    #[must_use]
    pub fn to_message(&self, topic: &str, partition: i32, offset: Offset) -> Message {
        let mut found = Attributes::default();
        let mut headers = Vec::new();
        for header in &self.headers {
            match attribute(&header.name) {
                Some(attribute) if take(attribute, header.value.as_ref(), &mut found) => {}
                _ => headers.push(header.clone()),
            }
        }
        let is_tombstone = self.value.is_none();
        let mut body = self.value.clone().unwrap_or_default();
        if found.content_type.as_deref().is_some_and(is_structured)
            && let Some(event) = structured(&body)
        {
            body = event.body;
            headers.extend(event.extensions);
            // What the document says of itself is more exact than headers that
            // a gateway may have added around it.
            let (outer, inner) = (found, event.attributes);
            found = Attributes {
                id: inner.id.or(outer.id),
                type_name: inner.type_name.or(outer.type_name),
                source: inner.source.or(outer.source),
                time: inner.time.or(outer.time),
                partition_key: inner.partition_key.or(outer.partition_key),
                content_type: inner.content_type,
                kind: outer.kind,
                hops: outer.hops,
            };
        }
        Message {
            id: found.id.unwrap_or_else(|| format!("{topic}:{partition}:{offset}")),
            key: self.key.clone().or(found.partition_key),
            source: found.source.unwrap_or_default(),
            topic: topic.to_owned(),
            type_name: found.type_name.unwrap_or_default(),
            kind: found.kind,
            time: found.time.unwrap_or(self.timestamp),
            content_type: found.content_type.unwrap_or_default(),
            body,
            is_tombstone,
            hops: found.hops,
            headers,
        }
    }

    /// How many handlings led to this record, as its header says.
    #[must_use]
    pub fn hops(&self) -> u32 {
        let counts = self.headers.iter().filter(|header| is_hops(&header.name));
        counts.filter_map(|header| std::str::from_utf8(header.value.as_ref()?).ok()?.parse().ok()).last().unwrap_or(0)
    }

    /// The key by which the record waits for others of its partition: its own,
    /// else the `partitionkey` of its event. It is the key of
    /// [`to_message`](Self::to_message), found without reading more than is
    /// needed.
    #[must_use]
    pub fn lane_key(&self) -> Option<Bytes> {
        self.key.clone().or_else(|| self.partition_key())
    }

    fn partition_key(&self) -> Option<Bytes> {
        let of = |wanted: fn(&Attribute) -> bool| {
            let named = self.headers.iter().filter(move |header| attribute(&header.name).as_ref().is_some_and(wanted));
            // The last one counts, as in `to_message`.
            named.filter_map(|header| header.value.as_ref()).filter(|value| std::str::from_utf8(value).is_ok()).last()
        };
        let content_type = of(|found| matches!(found, Attribute::ContentType));
        let is_event = content_type.and_then(|text| std::str::from_utf8(text).ok()).is_some_and(is_structured);
        let inner = match &self.value {
            Some(value) if is_event => structured(value).and_then(|event| event.attributes.partition_key),
            _ => None,
        };
        inner.or_else(|| of(|found| matches!(found, Attribute::PartitionKey)).cloned())
    }

    /// The message of a record in the log of `kind` that belongs to `topic`.
    ///
    /// What lies in a companion is a broadcast, whoever put it there. Its
    /// topic is the one that people know; an id made of coordinates names the
    /// companion, since the same ones in the topic itself are another record.
    #[must_use]
    pub fn to_message_of(&self, kind: Kind, topic: &str, partition: i32, offset: Offset) -> Message {
        let message = self.to_message(&kind.log_topic(topic), partition, offset);
        match kind {
            Kind::Event => message,
            Kind::Broadcast => Message { topic: topic.to_owned(), kind, ..message },
        }
    }

    /// The binary CloudEvent that carries `message`.
    ///
    /// It has no time of its own: Kafka's time is when Kafka takes it, since
    /// retention counts from there. The message's time is an attribute.
    ///
    /// Headers of the message that bear the name of an attribute are left out:
    /// they would contradict it.
    #[must_use]
    pub fn from_message(message: &Message) -> Self {
        let mut headers = Vec::with_capacity(8 + message.headers.len());
        let mut add = |name: &str, value: Bytes| headers.push(Header { name: name.to_owned(), value: Some(value) });
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        add(CE_SPECVERSION, Bytes::from_static(SPECVERSION.as_bytes()));
        add(CE_ID, text(&message.id));
        if !message.type_name.is_empty() {
            add(CE_TYPE, text(&message.type_name));
        }
        add(CE_SOURCE, text(if message.source.is_empty() { UNKNOWN_SOURCE } else { &message.source }));
        if let Some(time) = rfc3339(message.time) {
            add(CE_TIME, Bytes::from(time));
        }
        if let Some(key) = &message.key
            && std::str::from_utf8(key).is_ok_and(|key| !key.is_empty())
        {
            add(CE_PARTITIONKEY, key.clone());
        }
        if !message.content_type.is_empty() {
            add(CONTENT_TYPE, text(&message.content_type));
        }
        if message.kind != Kind::Event {
            add(COURIER_KIND, text(message.kind.as_str()));
        }
        if message.hops > 0 {
            headers.push(hops_header(message.hops));
        }
        headers.extend(message.headers.iter().filter(|header| attribute(&header.name).is_none()).cloned());
        let value = (!message.is_tombstone).then(|| message.body.clone());
        Self { timestamp: Timestamp(0), key: message.key.clone(), value, headers, left_out: None }
    }
}

/// The header that says how many handlings led to a record.
#[must_use]
pub fn hops_header(hops: u32) -> Header {
    Header { name: COURIER_HOPS.to_owned(), value: Some(Bytes::from(hops.to_string())) }
}

/// Whether this is the name of the header that [`hops_header`] makes.
#[must_use]
pub fn is_hops(header: &str) -> bool {
    header.eq_ignore_ascii_case(COURIER_HOPS)
}

/// Whether a header of this name is part of a message's own fields, so that a
/// sender may not set it.
#[must_use]
pub fn is_attribute(header: &str) -> bool {
    attribute(header).is_some()
}

/// Takes one attribute over; false when its value says nothing, so that the
/// header stays among the others.
fn take(attribute: Attribute, value: Option<&Bytes>, found: &mut Attributes) -> bool {
    let Some(value) = value else { return false };
    let Ok(text) = std::str::from_utf8(value) else { return false };
    match attribute {
        Attribute::SpecVersion => {}
        Attribute::Id => match usable_id(text) {
            true => found.id = Some(text.to_owned()),
            false => return false,
        },
        Attribute::Type => found.type_name = Some(text.to_owned()),
        Attribute::Source => found.source = known_source(text),
        Attribute::Time => match parse_time(text) {
            Some(time) => found.time = Some(time),
            None => return false,
        },
        Attribute::PartitionKey => found.partition_key = Some(value.clone()),
        Attribute::ContentType => found.content_type = Some(text.to_owned()),
        Attribute::Kind => match text {
            "event" => found.kind = Kind::Event,
            "broadcast" => found.kind = Kind::Broadcast,
            _ => return false,
        },
        Attribute::Hops => match text.parse() {
            Ok(hops) => found.hops = hops,
            Err(_) => return false,
        },
    }
    true
}

fn usable_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_FOREIGN_ID_BYTES && !id.chars().any(char::is_control)
}

fn known_source(source: &str) -> Option<String> {
    (source != UNKNOWN_SOURCE).then(|| source.to_owned())
}

fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_microsecond()))
}

/// RFC 3339 in UTC with microseconds; none for a time past the calendar's end.
fn rfc3339(time: Timestamp) -> Option<String> {
    jiff::Timestamp::from_microsecond(time.0).ok().map(|time| format!("{time:.6}"))
}

fn is_structured(content_type: &str) -> bool {
    media_type(content_type).eq_ignore_ascii_case(STRUCTURED)
}

/// Whether a content type says that the body is a whole CloudEvent, or several, with
/// ids and sources of their own. It reads the type as [`is_structured`] does: what one
/// of them took for another type would carry a source that nobody checked.
#[must_use]
pub fn names_whole_events(content_type: &str) -> bool {
    let start = media_type(content_type).get(..WHOLE_EVENTS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(WHOLE_EVENTS))
}

/// The media type without parameters and the white space round it.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// A structured CloudEvent, taken apart.
struct Structured {
    attributes: Attributes,
    body: Bytes,
    extensions: Vec<Header>,
}

/// Reads a structured CloudEvent; none when it is malformed.
///
/// The members are walked by hand so that `data` keeps the very bytes that the
/// sender wrote: parsing it into a tree and printing it again would reorder
/// members and round numbers.
fn structured(document: &Bytes) -> Option<Structured> {
    let mut attributes = Attributes::default();
    let mut extensions = Vec::new();
    let (mut data, mut version) = (None, false);
    for (name, value) in members(document)? {
        match name.as_str() {
            // A JSON null is data as any other; only attributes are unset by it.
            "data" => data = Some(Data::Json(value)),
            _ if value.as_ref() == b"null" => {}
            "data_base64" => data = Some(Data::Binary(BASE64.decode(string(&value)?).ok()?.into())),
            "specversion" => version = string(&value)? == SPECVERSION,
            "id" => attributes.id = Some(string(&value)?).filter(|id| usable_id(id)),
            "type" => attributes.type_name = Some(string(&value)?),
            "source" => attributes.source = known_source(&string(&value)?),
            "time" => attributes.time = parse_time(&string(&value)?),
            "partitionkey" => attributes.partition_key = Some(Bytes::from(string(&value)?)),
            "datacontenttype" => attributes.content_type = Some(string(&value)?),
            _ => {
                let value = string(&value).map_or(value, Bytes::from);
                // The tracing extension keeps the name that everybody reads.
                let traced = matches!(name.as_str(), "traceparent" | "tracestate");
                let name = if traced { name } else { format!("ce_{name}") };
                extensions.push(Header { name, value: Some(value) });
            }
        }
    }
    if !version || attributes.id.is_none() || attributes.type_name.is_none() {
        return None;
    }
    let body = match data {
        None => Bytes::new(),
        Some(Data::Binary(bytes)) => bytes,
        Some(Data::Json(json)) => {
            let declared = attributes.content_type.get_or_insert_with(|| "application/json".to_owned());
            // A JSON string under another media type is that text itself.
            if is_json(declared) { json } else { string(&json).map_or(json, Bytes::from) }
        }
    };
    Some(Structured { attributes, body, extensions })
}

enum Data {
    Json(Bytes),
    Binary(Bytes),
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

fn string(json: &[u8]) -> Option<String> {
    serde_json::from_slice(json).ok()
}

/// The members of a JSON object with their values as they are written; none
/// when `document` is not one JSON object.
fn members(document: &Bytes) -> Option<Vec<(String, Bytes)>> {
    let mut members = Vec::new();
    let mut at = expect(document, 0, b'{')?;
    if let Some(end) = expect(document, at, b'}') {
        return (skip_space(document, end) == document.len()).then_some(members);
    }
    loop {
        let (name, next) = value::<String>(document, at)?;
        at = expect(document, next, b':')?;
        let start = skip_space(document, at);
        let (_, end) = value::<IgnoredAny>(document, start)?;
        members.push((name, document.slice(start..end)));
        if let Some(next) = expect(document, end, b',') {
            at = next;
        } else {
            let end = expect(document, end, b'}')?;
            return (skip_space(document, end) == document.len()).then_some(members);
        }
    }
}

/// The JSON value that starts at `at`, and where it ends.
fn value<'a, T: serde::Deserialize<'a>>(document: &'a [u8], at: usize) -> Option<(T, usize)> {
    let mut values = serde_json::Deserializer::from_slice(document.get(at..)?).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, at + values.byte_offset()))
}

fn skip_space(document: &[u8], at: usize) -> usize {
    at + document[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

fn expect(document: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = skip_space(document, at);
    (document.get(at) == Some(&byte)).then_some(at + 1)
}

#[cfg(test)]
#[path = "cloudevents_tests.rs"]
mod tests;
