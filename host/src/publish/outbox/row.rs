//! A message of a row, or what is wrong with the row.

use bytes::Bytes;
use courier_core::message::{Header, Kind};
use serde_json::Value;

use super::source::{BODY_BYTES, SourceRow};
use crate::publish::draft::{Draft, Problem, valid_id};

/// The media type of a body whose headers do not name one.
const JSON: &str = "application/json";

/// The message that a row of the outbox `name` says. What cannot be sent is a
/// draft with its fault, of which the send side keeps a row for people.
pub(super) fn draft(row: SourceRow, name: &str) -> Draft {
    let id = String::from_utf8(row.id.to_vec()).ok().filter(|id| valid_id(id));
    let mut faults = Faults::default();
    if id.is_none() {
        faults.found(format!("the id {:?} has to be 1 to 255 characters", String::from_utf8_lossy(&row.id)));
    }
    let kind = match row.kind.as_str() {
        "event" => Kind::Event,
        "broadcast" => Kind::Broadcast,
        other => {
            faults.found(format!("the kind {other:?} is unknown: it is 'event' or 'broadcast'"));
            Kind::Event
        }
    };
    let (mut content_type, mut headers) = (JSON.to_owned(), Vec::new());
    match read_headers(&row.headers) {
        Ok(read) => {
            for header in read {
                if header.name.eq_ignore_ascii_case("content-type") {
                    content_type = String::from_utf8_lossy(&header.value.unwrap_or_default()).into_owned();
                } else {
                    headers.push(header);
                }
            }
        }
        Err(why) => faults.found(why),
    }
    if let Some(Err(other)) = &row.deliver_at {
        faults.found(format!("deliver_at is {other:?}, which is no time"));
    }
    if row.body_bytes > BODY_BYTES {
        faults.too_large(format!("the body has {} bytes; at most {BODY_BYTES} are taken", row.body_bytes));
    }
    Draft {
        topic: row.topic,
        type_name: row.type_name,
        key: row.key,
        source: name.to_owned(),
        id: Some(id.unwrap_or_else(|| stand_in(name, row.seq))),
        kind,
        content_type,
        body: row.body,
        is_tombstone: false,
        headers,
        time: row.created_at,
        deliver_at: row.deliver_at.and_then(Result::ok),
        delay: None,
        fault: faults.0,
    }
}

/// The id under which people find a row whose own id cannot be had.
pub(super) fn stand_in(name: &str, seq: i64) -> String {
    format!("outbox:{name}:{seq}")
}

/// The first thing that is wrong.
#[derive(Default)]
struct Faults(Option<Problem>);

impl Faults {
    fn found(&mut self, why: String) {
        self.0.get_or_insert_with(|| Problem::invalid(format!("the outbox row is wrong: {why}")));
    }

    fn too_large(&mut self, why: String) {
        self.0.get_or_insert_with(|| Problem::too_large(why));
    }
}

/// Headers from their JSON object: text as it stands, null for a header
/// without a value, an array for a name that repeats, and other values as
/// their JSON.
fn read_headers(json: &str) -> Result<Vec<Header>, String> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(Value::Object(object)) = serde_json::from_str(json) else {
        return Err("headers are no JSON object".to_owned());
    };
    let mut headers = Vec::new();
    for (name, value) in object {
        let values = if let Value::Array(values) = value { values } else { vec![value] };
        for value in values {
            let value = match value {
                Value::Null => None,
                Value::String(text) => Some(Bytes::from(text)),
                other => Some(Bytes::from(other.to_string())),
            };
            headers.push(Header { name: name.clone(), value });
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SourceRow {
        SourceRow {
            seq: 7,
            id: Bytes::from_static(b"m-1"),
            topic: "order".to_owned(),
            type_name: "OrderCreated".to_owned(),
            key: Some(Bytes::from_static(b"o-1")),
            kind: "event".to_owned(),
            body: Bytes::from_static(b"{\"n\": 1.0}"),
            headers: r#"{"Content-Type": "text/x", "a": "1", "b": [2, null]}"#.to_owned(),
            ..SourceRow::default()
        }
    }

    #[test]
    fn a_row_is_a_message_from_its_outbox() {
        let draft = draft(row(), "shop");
        assert_eq!((draft.id.as_deref(), draft.source.as_str(), &draft.fault), (Some("m-1"), "shop", &None));
        assert_eq!((draft.content_type.as_str(), &draft.body[..]), ("text/x", &b"{\"n\": 1.0}"[..]));
        let header =
            |name: &str, value: Option<&'static str>| Header { name: name.into(), value: value.map(Bytes::from) };
        assert_eq!(draft.headers, [header("a", Some("1")), header("b", Some("2")), header("b", None)]);
        assert_eq!(super::draft(SourceRow { headers: String::new(), ..row() }, "shop").content_type, JSON);
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said_and_its_id_stays_the_same() {
        for (row, said) in [
            (SourceRow { id: Bytes::new(), ..row() }, "id \"\""),
            (SourceRow { id: Bytes::from_static(b"\xff"), ..row() }, "id"),
            (SourceRow { kind: "news".into(), ..row() }, "kind \"news\""),
            (SourceRow { headers: "[]".into(), ..row() }, "headers are no JSON object"),
            (SourceRow { deliver_at: Some(Err("soon".into())), ..row() }, "deliver_at is \"soon\""),
            (SourceRow { body_bytes: BODY_BYTES + 1, ..row() }, "at most 1048576"),
        ] {
            let (one, again) = (draft(row.clone(), "shop"), draft(row, "shop"));
            assert!(one.fault.as_ref().unwrap().detail.contains(said), "{said}: {:?}", one.fault);
            assert_eq!(one, again);
        }
    }
}
