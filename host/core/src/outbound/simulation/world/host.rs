//! A simulated host, the passes that it has under way, and its rows in the store.

use std::collections::{BTreeMap, VecDeque};

use crate::message::Offset;
use crate::outbound::simulation::Identity;
use crate::outbound::simulation::kafka::Client;
use crate::outbound::{Choice, RowEnd, RowId, Shard, TopicId};

/// A row in the store.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) topic: usize,
    pub(super) key: Option<usize>,
    pub(super) identity: Identity,
    pub(super) size: usize,
    pub(super) chosen: Option<(TopicId, i32)>,
    pub(super) unknown_from: Option<Offset>,
    pub(super) tries: u32,
    pub(super) held_until: i64,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) client: Client,
    /// The epoch under which the passes take and write.
    pub(super) epoch: u64,
    pub(super) leased_until: i64,
    /// Passes under way, by their numbers.
    pub(super) passes: BTreeMap<u64, Pass>,
    /// Counts the passes.
    pub(super) begun: u64,
    /// Answers to the machines, each with its time and pass.
    pub(super) told: Vec<(i64, u64, Told)>,
    /// Rows that are handed to the client one after another.
    pub(super) sends: VecDeque<(u64, i64, i32)>,
    pub(super) frozen_until: i64,
}

/// Rows that were taken together.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) shard: Shard,
    pub(super) rows: BTreeMap<i64, (Stored, i32)>,
}

impl Host {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            epoch: 0,
            leased_until: 0,
            passes: BTreeMap::new(),
            begun: 0,
            told: Vec::new(),
            sends: VecDeque::new(),
            frozen_until: 0,
        }
    }

    /// The pass of a row, and the row.
    pub(super) fn row(&mut self, row: i64) -> Option<(u64, &mut (Stored, i32))> {
        self.passes.iter_mut().find_map(|(number, pass)| Some((*number, pass.rows.get_mut(&row)?)))
    }
}

/// An answer under way to a host.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Topic(usize),
    StoreChoices(Vec<Choice>),
    LookUp { row: RowId, partition: i32, from: Offset },
    Settle(Vec<(RowId, RowEnd)>),
}
