//! The rows of one shard that are being sent, between the store's shapes and
//! the machine's.

use std::collections::HashMap;

use courier_core::message::Offset;
use courier_core::outbound::{Fate, Retry, Row, RowEnd, RowId, Shard, TopicId, Undeliverable};

use super::waits::RelayPartition;
use crate::kafka::producer::ProduceError;
use crate::kafka::record::murmur2_hash;
use crate::store::{Identity, OutboundRow, RelayResult};

/// One pass over a shard's rows.
pub(super) struct Pass {
    pub(super) epoch: i64,
    pub(super) machine: Shard,
    pub(super) rows: HashMap<RowId, RelayedRow>,
}

/// A row with what is remembered of it.
pub(super) struct RelayedRow {
    pub(super) row: OutboundRow,
    pub(super) partition: Option<i32>,
    /// Whether the client had it, so that its end tells of the partition.
    pub(super) asked: bool,
}

impl Pass {
    pub(super) fn new(epoch: i64) -> Self {
        Self { epoch, machine: Shard::default(), rows: HashMap::new() }
    }

    /// Keeps a row's content; answers what the machine needs of it.
    pub(super) fn keep(&mut self, row: OutboundRow) -> Row {
        let id = RowId(row.id);
        let machines = Row {
            id,
            topic: row.topic.as_str().into(),
            key: row.key.as_deref().map(Into::into),
            // The same choice as the direct way makes.
            hash: murmur2_hash(row.key.as_deref().unwrap_or(row.message_id.as_bytes())),
            size_bytes: row.record.len(),
            chosen: row.partition.map(|partition| (TopicId(row.topic_id.as_str().into()), partition)),
            unknown_from: row.unknown_from,
            tries: row.tries,
        };
        self.rows.insert(id, RelayedRow { partition: row.partition, asked: false, row });
        machines
    }

    /// The message that a row stands for.
    pub(super) fn message(&self, row: RowId) -> Option<Identity> {
        self.rows.get(&row).map(|kept| kept.row.identity())
    }

    /// The partition that a row was handed to the client for.
    pub(super) fn asked(&self, row: RowId) -> Option<RelayPartition> {
        let kept = self.rows.get(&row).filter(|kept| kept.asked)?;
        kept.partition.map(|partition| (kept.row.topic.clone(), partition))
    }
}

/// What the client's answer means for a row.
pub(super) fn fate_of(answer: Result<(i32, Offset), ProduceError>) -> Fate {
    match answer {
        Ok((_, offset)) => Fate::Acknowledged(offset),
        Err(ProduceError::Refused(reason)) => Fate::Refused(reason),
        Err(ProduceError::Later(reason)) => Fate::Later(reason),
        Err(ProduceError::Unknown { from, .. }) => Fate::Unknown(from),
    }
}

/// What the store is told of a row's end.
pub(super) fn result_of(end: RowEnd) -> RelayResult {
    match end {
        RowEnd::Acknowledged { partition, offset } => RelayResult::Taken { partition, offset },
        RowEnd::Undelivered(Undeliverable { code, reason }) => RelayResult::Undelivered { code, reason },
        RowEnd::Waits(Retry { reason, wait, unknown_from }) => RelayResult::Later { reason, wait, unknown_from },
    }
}
