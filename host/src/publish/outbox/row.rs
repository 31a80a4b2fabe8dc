//! Makes a message of a row, or says what is wrong with the row. Pure.
//!
//! The columns become a draft, which is checked by the same rules as one over
//! HTTP. NULL headers are no headers, and a NULL kind is an event. A row without
//! topic, type, id or body is bad, and so is a row that cannot be read.

use std::fmt;

use bytes::Bytes;
use courier_core::message::{Header, Kind, Message, Timestamp};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::source::{SourceRow, SourceTime};
use crate::kafka::record::{Record, shard_of};
use crate::publish::cut;
use crate::publish::draft::{Draft, OUTBOX_IDS, SendProblem, valid_id, valid_topic};
use crate::publish::header_rules::{header_value, take_content_type};
use crate::store::undelivered::NewUndelivered;
use crate::store::{SHARDS, SentBy};

/// The media type of a body whose headers do not name one.
const JSON: &str = "application/json";
/// What the names of the headers begin with that hold columns which no message
/// could be made of.
const UNREAD_PREFIX: &str = "courier_outbox_";
/// How much of a value that is wrong is repeated in the reason.
const SHOWN_BYTES: usize = 200;

/// A row that can never be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadRow {
    /// Its number.
    pub seq: i64,
    /// Its id as the source has it.
    pub row_id: Option<Bytes>,
    /// The column at fault.
    pub column: &'static str,
    /// What is wrong with it and what would be right.
    pub why: String,
    /// All that could be read of it.
    pub content: Draft,
    /// Columns that the draft cannot hold, as they stand in the table.
    pub unread: Vec<(&'static str, Bytes)>,
    /// Whether the row is too large to be read, and so is not deleted at its
    /// source: what is kept of it is its beginning.
    pub stays: bool,
}

impl BadRow {
    /// The reason for people: which row of which outbox, which column, what is
    /// wrong.
    pub fn reason(&self, outbox: &str) -> String {
        let Self { seq, column, why, .. } = self;
        let id = self.row_id.as_ref().map(|id| format!(" (id {:?})", shown(id))).unwrap_or_default();
        let stays = if self.stays { "; the whole row is still in the table" } else { "" };
        format!("row {seq}{id} of outbox {outbox} cannot be sent: column {column}: {why}{stays}")
    }

    /// The same as an undelivered entry of the outbox.
    ///
    /// What the message cannot hold of the row stands in headers of its record.
    /// An entry without a topic cannot be sent again as it is, only edited:
    /// so is that of a row of which only the beginning was read.
    pub fn undelivered(&self, outbox: &str, now: Timestamp) -> NewUndelivered {
        let one = &self.content;
        let mut unread = self.unread.clone();
        let topic = if self.stays || !valid_topic(&one.topic) {
            unread.push(("topic", Bytes::copy_from_slice(one.topic.as_bytes())));
            String::new()
        } else {
            one.kind.log_topic(&one.topic).into_owned()
        };
        let mut headers = one.headers.clone();
        headers.extend(
            unread
                .into_iter()
                .map(|(column, value)| Header { name: format!("{UNREAD_PREFIX}{column}"), value: Some(value) }),
        );
        let message_id = one.id.clone().unwrap_or_else(|| stand_in(outbox, self.seq));
        let message = Message {
            id: message_id.clone(),
            key: one.key.clone(),
            source: one.source.clone(),
            topic: one.topic.clone(),
            type_name: one.type_name.clone(),
            kind: one.kind,
            time: one.time.unwrap_or(now),
            content_type: one.content_type.clone(),
            body: one.body.clone(),
            is_tombstone: false,
            hops: 0,
            headers,
        };
        let row_id = self.row_id.as_ref().map(|id| format!(", id {:?}", shown(id))).unwrap_or_default();
        NewUndelivered {
            shard: shard_of(&topic, one.key.as_deref(), &message_id, SHARDS),
            message_id,
            topic,
            type_name: cut(&one.type_name, SHOWN_BYTES).to_owned(),
            source: cut(&one.source, SHOWN_BYTES).to_owned(),
            key: one.key.clone(),
            record: Record::from_message(&message).encode(),
            outbox: Some((outbox.to_owned(), format!("seq {}{row_id}", self.seq))),
            code: if self.stays { "outbox_row_too_large" } else { "outbox_row" }.to_owned(),
            reason: self.reason(outbox),
        }
    }
}

/// Reads the message that a row of the outbox `name` says.
///
/// # Errors
/// The row with the column at fault and everything that could be read.
pub(super) fn read(row: SourceRow, name: &str, now: Timestamp) -> Result<Draft, Box<BadRow>> {
    let mut reader = ColumnReader::default();
    let (seq, row_id) = (row.seq, row.id.clone());
    let stays = row.is_too_large();
    if stays {
        let (column, bytes) = row.largest();
        reader.fault(column, format!("it has {bytes} bytes, and the whole row {}; {}", row.row_bytes, row.bound()));
    }
    let id = reader.text("id", row.id);
    if id.as_ref().is_some_and(|id| !valid_id(id)) {
        reader.fault("id", "it has to be 1 to 255 characters, no control characters, and not `.` or `..`".to_owned());
    }
    let id = id.filter(|id| valid_id(id)).unwrap_or_else(|| stand_in(name, seq));
    let topic = reader.text("topic", row.topic).unwrap_or_default();
    let type_name = reader.text("type", row.type_name).unwrap_or_default();
    let source = reader.optional("source", row.source).filter(|source| !source.is_empty());
    let kind = reader.kind(row.kind);
    let body = row.body.unwrap_or_else(|| {
        reader.fault("body", "it is NULL, and a message has a body: write one, '{}' say".to_owned());
        Bytes::new()
    });
    let (content_type, headers) = reader.headers(row.headers);
    let deliver_at = reader.time("deliver_at", row.deliver_at);
    let time = reader.time("created_at", row.created_at);
    let draft = Draft {
        topic,
        type_name,
        key: row.key,
        source: source.unwrap_or_else(|| name.to_owned()),
        id: Some(id),
        kind,
        content_type,
        body,
        headers,
        time,
        deliver_at,
        sent_by: Some(SentBy { sender: format!("{OUTBOX_IDS}{name}"), source_proven: false }),
        ..Draft::default()
    };
    let ColumnReader { fault, unread } = reader;
    let fault = fault.or_else(|| draft.wrong(now).map(|problem| (column_at_fault(&draft, now), problem.detail)));
    match fault {
        None => Ok(draft),
        Some((column, why)) => Err(Box::new(BadRow { seq, row_id, column, why, content: draft, unread, stays })),
    }
}

/// The same for a row that was refused after it was read, by a rule that its
/// columns do not tell: the topic's schema, say.
pub(super) fn refused(
    seq: i64,
    row_id: Option<Bytes>,
    content: Draft,
    problem: &SendProblem,
    now: Timestamp,
) -> BadRow {
    let column = match column_at_fault(&content, now) {
        _ if problem.kind.is_of_identity() => "id",
        // Whether a name is that of a companion depends on what is bound.
        "body" if problem.detail.starts_with("topic ") => "topic",
        column => column,
    };
    BadRow { seq, row_id, column, why: problem.detail.clone(), content, unread: Vec::new(), stays: false }
}

/// The id under which people find a row whose own id cannot be had.
pub(super) fn stand_in(name: &str, seq: i64) -> String {
    format!("{OUTBOX_IDS}{name}:{seq}")
}

/// The column whose value alone breaks a rule; the body where none does.
fn column_at_fault(draft: &Draft, now: Timestamp) -> &'static str {
    let right = || Draft { topic: "t".to_owned(), type_name: "T".to_owned(), ..Draft::default() };
    let one = draft.clone();
    let alone = [
        ("topic", Draft { topic: one.topic, kind: one.kind, ..right() }),
        ("type", Draft { type_name: one.type_name, ..right() }),
        ("id", Draft { id: one.id, ..right() }),
        ("source", Draft { source: one.source, ..right() }),
        ("key", Draft { key: one.key, ..right() }),
        ("headers", Draft { headers: one.headers, content_type: one.content_type, ..right() }),
        ("deliver_at", Draft { deliver_at: one.deliver_at, ..right() }),
    ];
    alone.iter().find(|(_, draft)| draft.wrong(now).is_some()).map_or("body", |(column, _)| *column)
}

/// Reads columns, and remembers the first wrong one.
#[derive(Default)]
struct ColumnReader {
    fault: Option<(&'static str, String)>,
    unread: Vec<(&'static str, Bytes)>,
}

impl ColumnReader {
    fn fault(&mut self, column: &'static str, why: String) {
        self.fault.get_or_insert((column, why));
    }

    /// A column that cannot be read: its value is kept beside the message.
    fn unreadable(&mut self, column: &'static str, value: Bytes, why: String) {
        self.unread.push((column, value));
        self.fault(column, why);
    }

    /// The text of a column that every message has.
    fn text(&mut self, column: &'static str, value: Option<Bytes>) -> Option<String> {
        if value.is_none() {
            self.fault(column, format!("it is NULL, and every message has {}", article(column)));
        }
        self.optional(column, value)
    }

    /// The text of a column that may be NULL.
    fn optional(&mut self, column: &'static str, value: Option<Bytes>) -> Option<String> {
        let value = value?;
        match String::from_utf8(value.to_vec()) {
            Ok(text) => Some(text),
            Err(error) => {
                self.unreadable(column, value, "it is no text in UTF-8".to_owned());
                Some(String::from_utf8_lossy(error.as_bytes()).into_owned())
            }
        }
    }

    fn kind(&mut self, value: Option<Bytes>) -> Kind {
        match value.as_deref() {
            None | Some(b"event") => Kind::Event,
            Some(b"broadcast") => Kind::Broadcast,
            Some(other) => {
                let why = format!("{:?} is unknown: it is 'event' or 'broadcast'", shown(other));
                self.unreadable("kind", Bytes::copy_from_slice(other), why);
                Kind::Event
            }
        }
    }

    /// The media type of the body and the other headers.
    fn headers(&mut self, value: Option<Bytes>) -> (String, Vec<Header>) {
        let read = value.as_deref().map_or(Ok(Vec::new()), read_headers).and_then(|mut headers| {
            let content_type = take_content_type(&mut headers)?;
            Ok((content_type.unwrap_or_else(|| JSON.to_owned()), headers))
        });
        match read {
            Ok(read) => read,
            Err(why) => {
                self.unreadable("headers", value.unwrap_or_default(), why);
                (JSON.to_owned(), Vec::new())
            }
        }
    }

    fn time(&mut self, column: &'static str, value: Option<SourceTime>) -> Option<Timestamp> {
        match value? {
            Ok(time) => Some(time),
            Err(text) => {
                let why = format!("{:?} is no time between the years 1 and 9999", shown(text.as_bytes()));
                self.unreadable(column, Bytes::from(text), why);
                None
            }
        }
    }
}

fn article(column: &str) -> String {
    let article = if column.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {column}")
}

fn shown(value: &[u8]) -> String {
    cut(&String::from_utf8_lossy(value), SHOWN_BYTES).to_owned()
}

/// Headers from their JSON object, in its order: text as it stands, null for a
/// header without a value, `{"base64": ".."}` for bytes, an array for a name
/// that repeats, and other values as their JSON.
fn read_headers(json: &[u8]) -> Result<Vec<Header>, String> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = deserializer.deserialize_map(OrderedMembers).and_then(|members| deserializer.end().map(|()| members));
    let members = members
        .map_err(|_| format!("it has to be a JSON object, as in {{\"tenant\": \"eu\"}}, and is {:?}", shown(json)))?;
    let mut headers = Vec::new();
    for (name, value) in members {
        let values = if let Value::Array(values) = value { values } else { vec![value] };
        for value in values {
            let value = match value {
                Value::Bool(_) | Value::Number(_) | Value::Array(_) => Some(Bytes::from(value.to_string())),
                Value::Object(ref object) if !object.contains_key("base64") => Some(Bytes::from(value.to_string())),
                value => header_value(&name, value)?,
            };
            headers.push(Header { name: name.clone(), value });
        }
    }
    Ok(headers)
}

/// The members of an object in their order.
struct OrderedMembers;

impl<'de> Visitor<'de> for OrderedMembers {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::ROW_BYTES;
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn row() -> SourceRow {
        SourceRow {
            seq: 7,
            id: text("m-1"),
            topic: text("order"),
            type_name: text("OrderCreated"),
            key: text("o-1"),
            kind: text("event"),
            body: text("{\"n\": 1.0}"),
            headers: text(r#"{"a": "1", "Content-Type": "text/x", "b": [2, null, {"base64": "/w=="}], "c": true}"#),
            ..SourceRow::default()
        }
    }

    fn text(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from(text))
    }

    fn draft(row: SourceRow) -> Draft {
        read(row, "shop", NOW).unwrap()
    }

    fn bad(row: SourceRow) -> BadRow {
        *read(row, "shop", NOW).unwrap_err()
    }

    #[test]
    fn a_row_is_a_message_from_its_outbox() {
        let one = draft(row());
        assert_eq!((one.id.as_deref(), one.source.as_str(), &one.fault), (Some("m-1"), "shop", &None));
        assert_eq!((one.content_type.as_str(), &one.body[..]), ("text/x", &b"{\"n\": 1.0}"[..]));
        let header =
            |name: &str, value: Option<&'static [u8]>| Header { name: name.into(), value: value.map(Bytes::from) };
        let expected = [
            header("a", Some(b"1")),
            header("b", Some(b"2")),
            header("b", None),
            header("b", Some(&[0xff])),
            header("c", Some(b"true")),
        ];
        assert_eq!(one.headers, expected);
        assert_eq!(draft(SourceRow { source: text("billing"), ..row() }).source, "billing");
    }

    #[test]
    fn what_has_a_default_may_be_null() {
        let bare = SourceRow { headers: None, key: None, kind: None, created_at: None, ..row() };
        let one = draft(bare);
        assert_eq!((one.headers.len(), one.content_type.as_str(), one.key, one.kind), (0, JSON, None, Kind::Event));
        assert_eq!(one.time, None, "its time is when it is taken");
    }

    #[test]
    fn null_where_a_message_needs_a_value_is_a_bad_row_that_names_the_column() {
        for (column, row) in [
            ("id", SourceRow { id: None, ..row() }),
            ("topic", SourceRow { topic: None, ..row() }),
            ("type", SourceRow { type_name: None, ..row() }),
            ("body", SourceRow { body: None, ..row() }),
        ] {
            let (one, again) = (bad(row.clone()), bad(row));
            assert_eq!(one.column, column);
            assert!(one.why.starts_with("it is NULL") && !one.stays, "{}", one.why);
            assert_eq!(one, again, "a row that is read again is kept once");
        }
    }

    #[test]
    fn a_time_in_the_year_294276_is_a_bad_row_that_names_the_column() {
        let far = || Some(Err("294276-12-31 23:59:59+00".to_owned()));
        let one = bad(SourceRow { created_at: far(), ..row() });
        assert_eq!(
            one.reason("shop"),
            "row 7 (id \"m-1\") of outbox shop cannot be sent: column created_at: \"294276-12-31 23:59:59+00\" is no \
             time between the years 1 and 9999"
        );
        assert_eq!(one.unread, [("created_at", Bytes::from("294276-12-31 23:59:59+00"))]);
        assert_eq!(one.content.body, "{\"n\": 1.0}", "its content is kept");
        assert_eq!(bad(SourceRow { deliver_at: far(), ..row() }).column, "deliver_at");
        let century = Some(Ok(Timestamp(NOW.0 * 4)));
        assert_eq!(bad(SourceRow { deliver_at: century, ..row() }).column, "deliver_at");
    }

    #[test]
    fn a_key_of_any_bytes_stays_as_it_is() {
        let key = Some(Bytes::from_static(&[0x6b, 0x31, 0x00, 0xff]));
        assert_eq!(draft(SourceRow { key: key.clone(), ..row() }).key, key);
    }

    #[test]
    fn headers_follow_the_rules_of_http() {
        for (headers, said) in [
            (r#"{"ce_time": "x"}"#, "`ce_time` belongs to Courier"),
            (r#"{"courier_kind": "broadcast"}"#, "`courier_kind` belongs to Courier"),
            (r#"{"CE_ID": "x"}"#, "`CE_ID` belongs to Courier"),
            (r#"{"content-type": ""}"#, "no media type"),
            (r#"{"content-type": "a/first", "Content-Type": "b/last"}"#, "given twice"),
            (r#"{"": "x"}"#, "header \"\" is not valid"),
            (r#"{"a": {"base64": "%"}}"#, "no Base64"),
            ("[]", "has to be a JSON object"),
            ("{} {}", "has to be a JSON object"),
            ("tenant=eu", "has to be a JSON object"),
        ] {
            let one = bad(SourceRow { headers: text(headers), ..row() });
            assert!(one.column == "headers" && one.why.contains(said), "{headers}: {}", one.why);
        }
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said_and_its_column_named() {
        for (row, column, said) in [
            (SourceRow { id: text(""), ..row() }, "id", "1 to 255"),
            (SourceRow { id: Some(Bytes::from_static(b"\xff")), ..row() }, "id", "UTF-8"),
            (SourceRow { topic: text("no topic"), ..row() }, "topic", "topic \"no topic\" is not valid"),
            (SourceRow { type_name: text(""), ..row() }, "type", "no type"),
            (SourceRow { source: text("a\nb"), ..row() }, "source", "source"),
            (SourceRow { kind: text("news"), ..row() }, "kind", "\"news\" is unknown"),
            (SourceRow { key: Some(Bytes::from(vec![0; 2_000])), ..row() }, "key", "2000 bytes"),
        ] {
            let one = bad(row);
            assert!(one.column == column && one.why.contains(said), "{column}: {} {}", one.column, one.why);
        }
        let stand_in = bad(SourceRow { id: text(""), ..row() }).content.id;
        assert_eq!(stand_in.as_deref(), Some("outbox:shop:7"));
    }

    #[test]
    fn a_row_above_the_bound_stays_at_its_source() {
        let one = bad(SourceRow { row_bytes: ROW_BYTES + 1, body_bytes: ROW_BYTES - 9, ..row() });
        assert!(one.stays && one.column == "body", "{one:?}");
        let reason = one.reason("shop");
        assert!(reason.contains("at most 2097152 are read") && reason.ends_with("still in the table"), "{reason}");
    }

    #[test]
    fn a_bad_row_is_undelivered_with_its_whole_content() {
        let kept = bad(SourceRow { headers: text("tenant=eu"), ..row() }).undelivered("shop", NOW);
        assert_eq!((kept.topic.as_str(), kept.message_id.as_str(), kept.code.as_str()), ("order", "m-1", "outbox_row"));
        assert_eq!(kept.outbox, Some(("shop".to_owned(), "seq 7, id \"m-1\"".to_owned())));
        assert!(kept.reason.contains("column headers"), "{}", kept.reason);
        let record = Record::decode(&kept.record).unwrap();
        assert_eq!((record.key, record.value), (text("o-1"), text("{\"n\": 1.0}")));
        let header = |name: &str| record.headers.iter().find(|header| header.name == name).unwrap().value.clone();
        assert_eq!((header("courier_outbox_headers"), header("ce_id")), (text("tenant=eu"), text("m-1")));
        let nowhere = bad(SourceRow { topic: text("no topic"), id: None, ..row() }).undelivered("shop", NOW);
        assert_eq!((nowhere.topic.as_str(), nowhere.message_id.as_str()), ("", "outbox:shop:7"));
        let long = bad(SourceRow { row_bytes: ROW_BYTES + 1, ..row() }).undelivered("shop", NOW);
        assert_eq!((long.topic.as_str(), long.code.as_str()), ("", "outbox_row_too_large"), "half a row is not sent");
    }

    #[test]
    fn what_no_column_alone_breaks_is_told_of_the_body() {
        let content = draft(row());
        let problem = SendProblem::breaks_schema("\"n\" is missing");
        let one = refused(7, text("m-1"), content, &problem, NOW);
        assert_eq!((one.column, one.why.as_str()), ("body", "\"n\" is missing"));
        let problem = SendProblem::invalid("topic \"order.broadcast\" carries the broadcasts of \"order\"");
        assert_eq!(refused(7, text("m-1"), draft(row()), &problem, NOW).column, "topic");
    }
}
