//! Bindings, positions, deliveries, attempts, messages and plugins for tests, with defaults in
//! the fields that most tests ignore.

use bytes::Bytes;
use courier_core::message::{Kind, Message, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use crate::api::ports::{self, BindingView};
use crate::store::{AttemptRow, DeliveryKey, DeliveryRow, MessageRow, NewVersion, PositionId, PositionRow};

/// A binding of `order-handler`.
pub fn binding(group: &str, topics: &[&str]) -> BindingView {
    BindingView {
        group: group.into(),
        topics: topics.iter().map(ToString::to_string).collect(),
        plugin: "order-handler".into(),
        types: None,
        ordering: "key".into(),
        isolation: "message".into(),
        concurrency: 8,
        paused: false,
        why: None,
        blocked: None,
        cause: None,
        policy: ports::PolicyView {
            version: None,
            start: "earliest".into(),
            timeout: "5s".into(),
            cpu: "500ms".into(),
            memory: 64 << 20,
            log: 64 << 10,
            batch: 1,
            max_gap: 50_000,
            max_hops: 32,
            max_copied_bytes: 256 << 20,
            ..ports::PolicyView::default()
        },
    }
}

/// A position at 17.
pub fn position(id: i64, group: &str, topic: &str, partition: i32) -> PositionRow {
    PositionRow {
        id: PositionId(id),
        group: group.into(),
        topic: topic.into(),
        listener: None,
        incarnation: 0,
        partition,
        next: Offset(17),
        epoch: 1,
        node: Some("host-1".into()),
    }
}

/// A delivery at position 1, handled at once.
pub fn delivery(group: &str, topic: &str, offset: i64) -> DeliveryRow {
    DeliveryRow {
        key: DeliveryKey { position: PositionId(1), offset: Offset(offset) },
        message_id: format!("m-{offset}"),
        source_hash: None,
        group: group.into(),
        topic: topic.into(),
        listener: None,
        incarnation: 0,
        partition: 0,
        record_key: Some("k".into()),
        type_name: "OrderCreated".into(),
        state: State::Handled,
        verdict: Some(Verdict::Success),
        reason: None,
        fingerprint: None,
        node: Some("host-1".into()),
        version: Some("sha256:aa".into()),
        record_time: Timestamp(offset),
        received_at: Timestamp(1_000_000),
        started_at: Some(Timestamp(2_000_000)),
        settled_at: Some(Timestamp(3_000_000)),
        next_attempt_at: None,
        number: 1,
        counted: 0,
        record: None,
    }
}

/// A failed attempt.
pub fn attempt(number: u32) -> AttemptRow {
    AttemptRow {
        number,
        counted: true,
        version: None,
        node: "host-1".into(),
        started_at: Timestamp(0),
        finished_at: Timestamp(1),
        verdict: Verdict::Retry,
        reason: Some("later".into()),
        fingerprint: Some("f".into()),
        log: None,
    }
}

/// A row of the send side, on Kafka at `offset`.
pub fn message_row(topic: &str, offset: i64) -> MessageRow {
    MessageRow {
        id: format!("m-{offset}"),
        key: Some("k".into()),
        source: "shop".into(),
        topic: topic.into(),
        type_name: "OrderCreated".into(),
        kind: "event".into(),
        time: Timestamp(0),
        created_at: Timestamp(0),
        state: State::Committed,
        reason: None,
        retrying: false,
        place: Some((0, Offset(offset))),
        record: None,
        deliver_at: None,
        sent_by: None,
    }
}

/// A record on Kafka.
pub fn message(topic: &str, offset: i64) -> Message {
    Message {
        id: format!("m-{offset}"),
        key: Some("k".into()),
        source: "shop".into(),
        topic: topic.into(),
        type_name: "OrderCreated".into(),
        kind: Kind::Event,
        time: Timestamp(0),
        content_type: "application/json".into(),
        body: Bytes::from_static(br#"{"n": 1}"#),
        ..Message::default()
    }
}

/// A version of a plugin, by `ci`.
pub fn plugin(name: &str) -> NewVersion {
    NewVersion {
        plugin: name.into(),
        digest: "sha256:aa".into(),
        wasm: Bytes::from_static(b"\0asm..."),
        imports: Vec::new(),
        exports: vec!["handle".into()],
        wants: None,
        by: "ci".into(),
    }
}
