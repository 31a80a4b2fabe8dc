//! A message, as the API shows it.

use courier_core::message::{Message, Offset};
use courier_core::status::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::deliveries::flight::{self, RecordPlace};
use crate::api::deliveries::view::DeliveryView;
use crate::api::shown::{self, ShownBody, ShownKey, known};
use crate::rfc3339;
use crate::store::{DeliveryRow, MessageRow};

/// A message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageView {
    /// Its id.
    pub id: String,
    /// The primary key.
    #[serde(flatten)]
    pub key: ShownKey,
    /// The sending service.
    #[schema(required = true)]
    pub source: Option<String>,
    /// Who sent it: the name of a token, or `outbox:` and the name of an outbox;
    /// absent when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Whether `source` is known to be this sender's; absent without a sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_proven: Option<bool>,
    /// The topic.
    pub topic: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub type_name: Option<String>,
    /// `event` or `broadcast`.
    pub kind: String,
    /// When the sender says it happened.
    pub time: String,
    /// SEND_FAIL or COMMITTED.
    pub state: &'static str,
    /// Why it is SEND_FAIL; for a broadcast also that no node listened to it.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Its partition in Kafka.
    #[schema(required = true)]
    pub partition: Option<i32>,
    /// Its offset in the partition.
    #[schema(required = true)]
    pub offset: Option<i64>,
    /// The media type of the body, when the body is available.
    #[schema(required = true)]
    pub content_type: Option<String>,
    /// The headers; null in lists and when they are not available.
    #[schema(required = true, value_type = Option<Object>)]
    pub headers: Option<Value>,
    /// The body; null in lists and when it is not available.
    #[serde(flatten)]
    pub body: ShownBody,
    /// Why the body is not available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_missing: Option<String>,
    /// When a delayed message is due.
    #[schema(required = true)]
    pub deliver_at: Option<String>,
    /// Its deliveries, by group; null in lists.
    #[schema(required = true)]
    pub deliveries: Option<Vec<DeliveryView>>,
    /// Why no group will handle it, when none takes such messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Other messages with this id, newest first, and places of records with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub also: Vec<PlaceView>,
}

/// Another message with the same id, or the place of a record with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlaceView {
    /// The topic.
    pub topic: String,
    /// The partition; null for a message that is not on Kafka.
    #[schema(required = true)]
    pub partition: Option<i32>,
    /// The offset.
    #[schema(required = true)]
    pub offset: Option<i64>,
    /// The sending service, empty when unknown; null for a place that only
    /// deliveries name.
    #[schema(required = true)]
    pub source: Option<String>,
    /// When the sender says it happened.
    #[schema(required = true)]
    pub time: Option<String>,
    /// When the host took it.
    #[schema(required = true)]
    pub created_at: Option<String>,
    /// SEND_FAIL or COMMITTED.
    pub state: &'static str,
}

impl PlaceView {
    /// Another message that was sent through Courier.
    #[must_use]
    pub fn of_row(row: &MessageRow) -> Self {
        Self {
            topic: row.topic.clone(),
            partition: row.place.map(|(partition, _)| partition),
            offset: row.place.map(|(_, offset)| offset.0),
            source: Some(row.source.clone()),
            time: Some(rfc3339::format(row.time)),
            created_at: Some(rfc3339::format(row.created_at)),
            state: row.state.as_str(),
        }
    }

    /// A record of which only the place is known.
    #[must_use]
    pub fn of_place(place: &RecordPlace) -> Self {
        Self {
            topic: place.log_topic().into_owned(),
            partition: Some(place.partition),
            offset: Some(place.offset.0),
            source: None,
            time: None,
            created_at: None,
            state: State::Committed.as_str(),
        }
    }
}

/// The contents of a message, as far as they are known.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Not read, as in lists.
    Unasked,
    /// The whole message.
    Whole(Box<Message>),
    /// The first bytes of the body of a message that was refused.
    Refused(bytes::Bytes),
    /// The contents no longer exist, and why.
    Missing(String),
    /// The contents cannot be read now, and why.
    Away(String),
}

impl MessageView {
    /// Shows a message that was sent through Courier.
    #[must_use]
    pub fn of_row(row: &MessageRow) -> Self {
        Self {
            id: row.id.clone(),
            key: ShownKey::new(row.key.as_deref()),
            source: known(&row.source),
            sender: row.sent_by.as_ref().map(|by| by.sender.clone()),
            source_proven: row.sent_by.as_ref().map(|by| by.source_proven),
            topic: row.topic.clone(),
            type_name: known(&row.type_name),
            kind: row.kind.clone(),
            time: rfc3339::format(row.time),
            state: row.state.as_str(),
            reason: row.reason.as_deref().and_then(known).or_else(|| unknown_fate(row)),
            retrying: row.retrying,
            partition: row.place.map(|(partition, _)| partition),
            offset: row.place.map(|(_, offset)| offset.0),
            content_type: None,
            headers: None,
            body: ShownBody::new(None),
            body_missing: None,
            deliver_at: row.deliver_at.map(rfc3339::format),
            deliveries: None,
            warning: None,
            also: Vec::new(),
        }
    }

    /// Shows a record of another producer.
    #[must_use]
    pub fn of_record(message: &Message, partition: i32, offset: Offset) -> Self {
        Self {
            id: message.id.clone(),
            key: ShownKey::new(message.key.as_deref()),
            source: known(&message.source),
            sender: None,
            source_proven: None,
            topic: message.topic.clone(),
            type_name: known(&message.type_name),
            kind: message.kind.as_str().to_owned(),
            time: rfc3339::format(message.time),
            state: State::Committed.as_str(),
            reason: None,
            retrying: false,
            partition: Some(partition),
            offset: Some(offset.0),
            content_type: None,
            headers: None,
            body: ShownBody::new(None),
            body_missing: None,
            deliver_at: None,
            deliveries: None,
            warning: None,
            also: Vec::new(),
        }
    }

    /// Shows the message of a delivery, as far as its row knows it, when Kafka has
    /// dropped the record.
    #[must_use]
    pub fn of_delivery(row: &DeliveryRow) -> Self {
        let message = Message {
            id: row.message_id.clone(),
            key: row.record_key.clone(),
            topic: row.topic.clone(),
            type_name: row.type_name.clone(),
            kind: flight::kind_of(row.listener.as_ref()),
            time: row.record_time,
            ..Message::default()
        };
        Self::of_record(&message, row.partition, row.key.offset)
    }

    /// The same message with its contents.
    #[must_use]
    pub fn with(mut self, contents: &Contents) -> Self {
        match contents {
            Contents::Unasked => {}
            Contents::Whole(message) => {
                self.content_type = known(&message.content_type);
                self.headers = Some(shown::headers(&message.headers));
                self.body =
                    if message.is_tombstone { ShownBody::tombstone() } else { ShownBody::new(Some(&message.body)) };
            }
            Contents::Refused(body) => self.body = ShownBody::new(Some(body)),
            Contents::Missing(why) | Contents::Away(why) => self.body_missing = Some(why.clone()),
        }
        self
    }
}

/// The reason shown for a message that an earlier version counted as sent although
/// the client returned no offset: whether it is in the log is unknown.
fn unknown_fate(row: &MessageRow) -> Option<String> {
    let (partition, offset) = row.place.filter(|(_, offset)| offset.0 < 0)?;
    Some(format!(
        "unknown: kafka's client reported success at offset {offset} of partition {partition}, which is none; look for \
         it in the topic, and publish it anew if it is not there"
    ))
}

/// The contents that a row keeps: the record, or the first bytes of a refused body.
pub(super) fn kept(app: &App, row: &MessageRow) -> Option<Contents> {
    let record = row.record.as_ref()?;
    Some(match app.log.decode(&row.topic, record) {
        Some(message) => Contents::Whole(Box::new(message)),
        None => Contents::Refused(record.clone()),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courier_core::message::{Header, Kind, Timestamp};

    use super::*;

    #[test]
    fn a_message_without_a_real_offset_is_called_unknown() {
        let shown = |offset: i64| MessageView::of_row(&crate::api::testing::message_row("order", offset)).reason;
        assert!(shown(-1001).is_some_and(|reason| reason.starts_with("unknown: ") && reason.contains("-1001")));
        assert_eq!(shown(7), None);
    }

    #[test]
    fn a_message_has_exactly_the_members_that_programs_rely_on() {
        let message = Message {
            id: "o-1".into(),
            key: Some(Bytes::from("k")),
            source: String::new(),
            topic: "order".into(),
            type_name: String::new(),
            kind: Kind::Event,
            time: Timestamp(6),
            content_type: "application/json".into(),
            body: Bytes::from(r#"{"price": 1.10}"#),
            headers: vec![Header { name: "a".into(), value: Some("1".into()) }],
            ..Message::default()
        };
        let view = MessageView::of_record(&message, 3, Offset(17)).with(&Contents::Whole(Box::new(message)));
        assert_eq!(
            serde_json::to_string(&view).unwrap(),
            r#"{"id":"o-1","key":"k","source":null,"topic":"order","type":null,"kind":"event","time":"1970-01-01T00:00:00.000006Z","state":"COMMITTED","reason":null,"retrying":false,"partition":3,"offset":17,"content_type":"application/json","headers":{"a":"1"},"body":{"price": 1.10},"deliver_at":null,"deliveries":null}"#
        );
    }
}
