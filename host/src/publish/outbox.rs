//! Outboxes: takes rows that senders wrote in their own transactions to Kafka.
//!
//! A sender inserts a row into a table of its own database, which exists if and
//! only if its transaction committed. One host reads the table: the holder of
//! the relay shard of the outbox's name. It writes the rows to the store, in
//! the order of their numbers, with their own ids and under the epoch of the
//! shard, as outbound rows, which the relays of all hosts send like any other.
//! A row is deleted at its source once its message is COMMITTED. A row that can
//! never be sent as it is ([`row`]) is kept as undelivered with its whole
//! content and then deleted; a row that is too large to be read stays at its
//! source, and the entry says where.
//!
//! What a crash leaves behind:
//! - Before the store took a row: it is read again.
//! - After: it is read again, and the store says that it knows its id.
//! - After it was deleted: its message has ended.
//!
//! The numbers of rows become visible out of order, since a transaction that
//! began early may commit late. So the table is never read "after the last
//! row": each look reads from the front and skips the rows in hand. The order
//! of a key rests on its sender, which writes the second row after the first
//! was committed, and on a single reader.
//!
//! [`intake`] is the loop of one outbox, [`hand`] the rows that are under way,
//! [`source`] what it needs of a database ([`postgres`], [`sqlite`], which
//! [`connect`] chooses), [`columns`] what a table has to be, [`row`] makes a message of a row,
//! [`taking`] hands messages to the store, [`error`] says in sentences why an
//! outbox stands still.

mod columns;
mod connect;
mod error;
mod hand;
mod intake;
mod postgres;
mod row;
mod source;
mod sqlite;
mod taking;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::intake::Intake;
use super::send::Acceptor;
use crate::causes::Causes;
use crate::config::OutboxConfig;
use crate::kafka::record::shard_of;
use crate::publish::relay::lease::Leases;
use crate::store::SHARDS;
use crate::supervise::{self, Task};

pub use self::connect::examine;
pub use self::error::SourceError;

/// The outboxes of the configuration in force.
pub struct RunningOutboxes {
    acceptor: Acceptor,
    leases: Leases,
    node: Arc<str>,
    causes: Causes,
    running: Mutex<Vec<RunningOutbox>>,
}

struct RunningOutbox {
    outbox: OutboxConfig,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningOutboxes {
    /// No outboxes yet.
    #[must_use]
    pub fn new(acceptor: Acceptor, leases: Leases, node: Arc<str>, causes: Causes) -> Self {
        Self { acceptor, leases, node, causes, running: Mutex::default() }
    }

    /// Makes the running outboxes those of `wanted`. An unchanged one runs on;
    /// a removed one ends at its next step, and the rows that the store has
    /// taken are still sent.
    pub fn apply(&self, wanted: &[OutboxConfig]) {
        let mut running = self.running.lock();
        running.retain(|one| {
            let stays = wanted.contains(&one.outbox);
            if !stays {
                one.stop.cancel();
            }
            stays
        });
        for outbox in wanted {
            if running.iter().any(|one| one.outbox == *outbox) {
                continue;
            }
            let stop = CancellationToken::new();
            let intake = Intake::new(
                outbox.clone(),
                shard_of_outbox(&outbox.name),
                self.acceptor.clone(),
                self.leases.0.clone(),
                Arc::clone(&self.node),
                self.causes.clone(),
            );
            let task = supervise::spawn_until(Task::OutboxIntake, stop.clone(), intake.run(stop.clone()));
            running.push(RunningOutbox { outbox: outbox.clone(), stop, task });
        }
    }

    /// The outboxes of the configuration in force.
    #[must_use]
    pub fn configured(&self) -> Vec<OutboxConfig> {
        let running = self.running.lock();
        running.iter().map(|one| one.outbox.clone()).collect()
    }

    /// Ends all at their next step.
    pub async fn stop(&self) {
        let all = std::mem::take(&mut *self.running.lock());
        for one in &all {
            one.stop.cancel();
        }
        for one in all {
            let _panicked = one.task.await;
        }
    }
}

/// The relay shard whose holder reads an outbox.
#[must_use]
pub fn shard_of_outbox(name: &str) -> i32 {
    // No topic has a colon, so the shard of an outbox is independent of its topics.
    shard_of("outbox:", Some(name.as_bytes()), "", SHARDS)
}
