//! Rows of a shard that were taken together, translated between the store and the
//! machine.

use std::collections::HashMap;

use courier_core::message::Offset;
use courier_core::outbound::{Fate, Retry, Row, RowEnd, RowId, Shard, TopicId, Undeliverable};

use tokio::time::Instant;

use super::waits::RelayPartition;
use crate::kafka::producer::{OrderedSends, ProduceError};
use crate::kafka::record::murmur2_hash;
use crate::store::{OutboundRow, RelayResult, Relayed};

/// Names a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PassId(pub(super) u64);

/// One pass over rows of a shard.
pub(super) struct Pass {
    pub(super) shard: i32,
    pub(super) epoch: i64,
    pub(super) begun: Instant,
    pub(super) machine: Shard,
    /// The order in which its rows are sent.
    pub(super) order: OrderedSends,
    pub(super) rows: HashMap<RowId, RelayedRow>,
}

/// A row under way.
pub(super) struct RelayedRow {
    pub(super) row: OutboundRow,
    pub(super) partition: Option<i32>,
    /// Whether the client had it, so that its end says something about the partition.
    pub(super) asked: bool,
}

impl Pass {
    pub(super) fn new(shard: i32, epoch: i64) -> Self {
        Self {
            shard,
            epoch,
            begun: Instant::now(),
            machine: Shard::default(),
            order: OrderedSends::default(),
            rows: HashMap::new(),
        }
    }

    /// Keeps the content of a row, and returns the row of the machine.
    pub(super) fn keep(&mut self, row: OutboundRow) -> Row {
        let id = RowId(row.id);
        let machines = Row {
            id,
            topic: row.topic.as_str().into(),
            key: row.key.as_deref().map(Into::into),
            // The same choice as of a direct send.
            hash: murmur2_hash(row.key.as_deref().unwrap_or(row.message_id.as_bytes())),
            size_bytes: row.record.len(),
            chosen: row.partition.map(|partition| (TopicId(row.topic_id.as_str().into()), partition)),
            unknown_from: row.unknown_from,
            tries: row.tries,
        };
        self.rows.insert(id, RelayedRow { partition: row.partition, asked: false, row });
        machines
    }

    /// The partition to which a row was produced.
    pub(super) fn asked(&self, row: RowId) -> Option<RelayPartition> {
        self.rows.get(&row).filter(|kept| kept.asked)?;
        self.partition(row)
    }

    /// The partition of a row, once it is chosen.
    pub(super) fn partition(&self, row: RowId) -> Option<RelayPartition> {
        let kept = self.rows.get(&row)?;
        kept.partition.map(|partition| (kept.row.topic.clone(), partition))
    }
}

/// Results on their way to the store.
#[derive(Default)]
pub(super) struct Settling {
    pub(super) waiting: Vec<RowResult>,
    /// Transactions under way.
    pub(super) transactions: usize,
}

/// What became of a row.
pub(super) struct RowResult {
    pub(super) pass: PassId,
    pub(super) epoch: i64,
    pub(super) relayed: Relayed,
}

/// The fate of a row by the client's answer.
pub(super) fn fate_of(answer: Result<(i32, Offset), ProduceError>) -> Fate {
    match answer {
        Ok((_, offset)) => Fate::Acknowledged(offset),
        Err(ProduceError::Refused(reason)) => Fate::Refused(reason),
        Err(ProduceError::Later(reason)) => Fate::Later(reason),
        Err(ProduceError::Unknown { from, .. }) => Fate::Unknown(from),
    }
}

/// The result that is stored for a row's end.
pub(super) fn result_of(end: RowEnd) -> RelayResult {
    match end {
        RowEnd::Acknowledged { partition, offset } => RelayResult::Taken { partition, offset },
        RowEnd::Undelivered(Undeliverable { code, reason }) => RelayResult::Undelivered { code, reason },
        RowEnd::Retry(Retry { reason, wait, unknown_from }) => RelayResult::Later { reason, wait, unknown_from },
    }
}
