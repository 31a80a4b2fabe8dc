//! The send side: takes messages to Kafka.
//!
//! There are two ways to Kafka. A sender's message is produced directly while
//! all is well ([`send`]). Every other message, and every message while Kafka
//! is slow or away, is a durable row first, which the [`relay`] sends. A topic
//! with unsent rows ([`backlog`]) uses the second way only, so that no message
//! overtakes another. No transaction is open while Kafka is awaited. A delayed
//! message becomes such a row when it is due ([`relay::delayed`]), and a half
//! message when its sender commits ([`transactions`]).
//!
//! Read [`draft`] and [`rules`] for what is valid, [`send`] for the direct way
//! and [`message_writer`] for its rows, then [`relay`], and [`outbox`] for rows
//! in senders' own databases.

pub mod backlog;
pub mod draft;
pub mod header_rules;
pub mod message_writer;
mod names;
pub mod outbox;
mod receipt;
pub mod relay;
pub mod rules;
pub mod send;
pub mod transactions;
pub mod undelivered;
mod unsent;
pub mod waker;

use bytes::Bytes;
use courier_core::message::{Header, Message, Offset, Timestamp};

use crate::kafka::record::{Record, shard_of};
use crate::kafka::{hops_header, is_hops};
use crate::store::{NewOutbound, SHARDS};

/// The prefix of all headers of a dead letter.
const DLQ_PREFIX: &str = "__dlq.errors.";
/// Bytes of a letter's key, value and headers: the usual limit of a topic
/// (`max.message.bytes`, 1,048,588) less what a batch of one record adds.
const LETTER_BYTES: usize = 1_048_588 - 100;
/// Bytes that a header's lengths take in a record at most.
const HEADER_BYTES: usize = 8;
/// Bytes of the reason in a dead letter.
const DLQ_MESSAGE_BYTES: usize = 4 * 1024;

/// The row of a message that a handler published, for the topic of its kind.
#[must_use]
pub fn outbound_from(message: &Message, group: &str) -> NewOutbound {
    let topic = message.kind.log_topic(&message.topic);
    NewOutbound {
        message_id: message.id.clone(),
        shard: shard_of(&topic, message.key.as_deref(), &message.id, SHARDS),
        topic: topic.into_owned(),
        type_name: message.type_name.clone(),
        source: message.source.clone(),
        key: message.key.clone(),
        record: Record::from_message(message).encode(),
        held_for: None,
        listed: true,
        group: Some(group.to_owned()),
    }
}

/// A failed delivery, for its dead letter.
#[derive(Clone, Copy, Debug)]
pub struct GivenUp<'a> {
    pub message_id: &'a str,
    pub type_name: &'a str,
    pub source: &'a str,
    /// The topic of the record.
    pub topic: &'a str,
    pub partition: i32,
    pub offset: Offset,
    /// The consumer group that gave it up.
    pub group: &'a str,
    /// Attempts of the group.
    pub attempts: u32,
    /// Why it failed, for people.
    pub reason: &'a str,
}

/// The row that takes a record to the dead letter topic `to`: raw key, value
/// and headers, and what KIP-1191 says about the failure in headers of its
/// names. What an earlier dead letter said there is replaced, and the letter is
/// one hop further than the record.
///
/// A record that fits into a topic must not become a letter that does not:
/// what the added headers have no room for is cut or left out, the reason
/// first, as the delivery has it all.
#[must_use]
pub fn dead_letter(record: &Record, failed: &GivenUp<'_>, to: &str) -> NewOutbound {
    let mut headers: Vec<Header> =
        record.headers.iter().filter(|header| !replaced_in_letters(&header.name)).cloned().collect();
    let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let taken = headers.iter().map(|header| header.name.len() + part(&header.value) + HEADER_BYTES).sum::<usize>()
        + part(&record.key)
        + part(&record.value);
    let hops = hops_header(record.hops().saturating_add(1));
    // A record above the usual limit is in a topic with a larger limit, which
    // its dead-letter topic must have too.
    let room = if taken > LETTER_BYTES { usize::MAX } else { LETTER_BYTES - taken };
    // The count of hops is never left out: dead letters could loop for ever.
    let mut room = room.saturating_sub(hops.name.len() + part(&hops.value) + HEADER_BYTES);
    let said = [
        ("topic", failed.topic.to_owned()),
        ("partition", failed.partition.to_string()),
        ("offset", failed.offset.to_string()),
        ("group", failed.group.to_owned()),
        ("delivery.count", failed.attempts.to_string()),
        ("message", cut(failed.reason, DLQ_MESSAGE_BYTES).to_owned()),
    ];
    for (name, value) in said {
        let name = format!("{DLQ_PREFIX}{name}");
        let Some(left) = room.checked_sub(name.len() + HEADER_BYTES) else { break };
        let value = if name.ends_with("message") { cut(&value, left).to_owned() } else { value };
        let Some(left) = left.checked_sub(value.len()) else { break };
        room = left;
        headers.push(Header { name, value: Some(Bytes::from(value)) });
    }
    headers.push(hops);
    let letter = Record {
        timestamp: Timestamp(0),
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        left_out: None,
    };
    NewOutbound {
        message_id: failed.message_id.to_owned(),
        topic: to.to_owned(),
        type_name: failed.type_name.to_owned(),
        source: failed.source.to_owned(),
        key: record.key.clone(),
        record: letter.encode(),
        shard: shard_of(to, record.key.as_deref(), failed.message_id, SHARDS),
        held_for: None,
        listed: false,
        group: Some(failed.group.to_owned()),
    }
}

fn replaced_in_letters(header: &str) -> bool {
    header.starts_with(DLQ_PREFIX) || is_hops(header)
}

/// The first `bytes` of `text`, ending between two characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_the_raw_record_and_says_why() {
        let old = Header { name: "__dlq.errors.topic".to_owned(), value: Some(Bytes::from_static(b"older")) };
        let own = Header { name: "x".to_owned(), value: Some(Bytes::from_static(&[0xff])) };
        let record = Record {
            timestamp: Timestamp(7),
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: vec![old, hops_header(4), own.clone()],
            left_out: None,
        };
        let failed = GivenUp {
            message_id: "m",
            type_name: "T",
            source: "",
            topic: "order",
            partition: 3,
            offset: Offset(42),
            group: "stock",
            attempts: 5,
            reason: &"é".repeat(DLQ_MESSAGE_BYTES),
        };
        let row = dead_letter(&record, &failed, "dlq.order.stock");
        let letter = Record::decode(&row.record).unwrap();
        assert_eq!((letter.key, letter.value, &letter.headers[0]), (record.key, None, &own));
        let said: Vec<_> = letter.headers[1..6]
            .iter()
            .map(|header| (header.name.as_str(), header.value.as_deref().unwrap()))
            .collect();
        let expected: [(&str, &[u8]); 5] = [
            ("__dlq.errors.topic", b"order"),
            ("__dlq.errors.partition", b"3"),
            ("__dlq.errors.offset", b"42"),
            ("__dlq.errors.group", b"stock"),
            ("__dlq.errors.delivery.count", b"5"),
        ];
        assert_eq!(said, expected);
        assert_eq!(letter.headers[6].value.as_ref().unwrap().len(), DLQ_MESSAGE_BYTES);
        assert_eq!(letter.headers[7..], [hops_header(5)], "one hop further than its record");
        assert!(!row.listed && row.topic == "dlq.order.stock");
    }

    #[test]
    fn the_letter_of_a_record_that_fits_fits_too() {
        let record = |bytes: usize| Record {
            timestamp: Timestamp(0),
            key: None,
            value: Some(Bytes::from(vec![b'x'; bytes])),
            headers: Vec::new(),
            left_out: None,
        };
        let failed = GivenUp {
            message_id: "m",
            type_name: "T",
            source: "",
            topic: "order",
            partition: 3,
            offset: Offset(42),
            group: "stock",
            attempts: 5,
            reason: &"r".repeat(1_000),
        };
        for bytes in [1_000, 1_047_500, 1_048_200, 1_048_450] {
            let letter = Record::decode(&dead_letter(&record(bytes), &failed, "dlq").record).unwrap();
            let added: usize = letter
                .headers
                .iter()
                .map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len) + HEADER_BYTES)
                .sum();
            assert!(bytes + added <= LETTER_BYTES, "{bytes} and {added}");
            assert_eq!(letter.headers.len() == 7, bytes <= 1_048_200, "{bytes}");
        }
    }
}
