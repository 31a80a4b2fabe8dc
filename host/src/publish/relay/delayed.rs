//! Lets delayed messages go when they are due.
//!
//! Whoever leases a relay shard moves what is due in it: in one transaction a
//! row leaves the delayed ones and joins those that the relay owes to Kafka,
//! under the shard's epoch. What is due is judged by the store's clock alone:
//! the store says how long it is until the next row, and this host counts that
//! down by a clock that nobody sets.
//!
//! A message that another host took, and that is due before all others, is
//! found by polling: as often as the relay polls while something is due soon,
//! and a few times a second otherwise.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::lease::Shards;
use crate::kafka::producer::Producer;
use crate::publish::waker::Waker;
use crate::said;
use crate::store::{Due, SharedStore, StoreError};

/// Longest pause between looks: while something went out a moment ago or is
/// due soon, and otherwise.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(250);
/// How long the busy pace lasts after something went out, and how soon
/// something must be due for it.
const SOON: Duration = Duration::from_secs(5);
/// A message that is due this soon must not wait for the next look. Longer
/// than that is away, by as much as the clocks of host and store may differ.
const HURRY: Duration = Duration::from_secs(2);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// Pause after a move that found nothing although something is due: a person
/// is just cancelling it, or the shard went to another host.
const NOT_YET: Duration = Duration::from_millis(2);

/// Says that a delayed message was taken, which may be due before the others;
/// clones share it.
#[derive(Clone, Default)]
pub struct DelayedWaker(Arc<Notify>);

impl DelayedWaker {
    /// Lets the mover look again.
    pub(in crate::publish) fn look(&self) {
        self.0.notify_one();
    }

    /// Lets the mover look again, if the message that was taken may be due
    /// before the next look; else there is no hurry.
    pub(in crate::publish) fn set(&self, due: Due, now: Timestamp) {
        let wait = match due {
            Due::At(time) => time.since(now),
            Due::After(wait) => wait,
        };
        if wait <= HURRY {
            self.look();
        }
    }
}

/// Moves what is due to the relay.
pub(in crate::publish) struct DelayedScheduler {
    store: SharedStore,
    producer: Producer,
    shards: watch::Receiver<Shards>,
    waker: Waker,
    alarm: DelayedWaker,
}

impl DelayedScheduler {
    pub(in crate::publish) fn new(
        store: SharedStore,
        producer: Producer,
        shards: watch::Receiver<Shards>,
        waker: Waker,
        alarm: DelayedWaker,
    ) -> Self {
        Self { store, producer, shards, waker, alarm }
    }

    /// Moves until `shutdown`.
    pub(in crate::publish) async fn run(mut self, shutdown: CancellationToken) {
        let mut busy_until = Instant::now();
        let mut pause = Duration::ZERO;
        // When the next one is due, by what the store said last.
        let mut next_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.alarm.0.notified() => {}
                // Shards of a host that is gone have messages that are overdue.
                Ok(()) = self.shards.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let due = next_at.is_some_and(|at| at <= Instant::now());
            pause = match self.look(due).await {
                Ok(look) => {
                    next_at = look.next.map(|next| Instant::now() + next);
                    if look.moved || look.next.is_some_and(|next| next <= SOON) {
                        busy_until = Instant::now() + SOON;
                    }
                    let longest = if Instant::now() < busy_until { BUSY } else { IDLE };
                    match look.next {
                        Some(Duration::ZERO) if look.moved => Duration::ZERO,
                        Some(Duration::ZERO) => NOT_YET,
                        Some(next) => next.min(longest),
                        None => longest,
                    }
                }
                Err(error) => {
                    if error.is_transient() {
                        debug!(%error, "delayed messages wait for the store");
                    } else {
                        if let Some(unsaid) = said::again("cannot move what is due") {
                            warn!(%error, unsaid, "cannot move what is due");
                        }
                    }
                    STORE_PAUSE
                }
            };
        }
    }

    /// Moves what is due, if anything is. One that is known to be `due` is not
    /// asked for first.
    async fn look(&self, due: bool) -> Result<DelayedLook, StoreError> {
        let shards = {
            let shards = self.shards.borrow();
            if Instant::now() >= shards.until {
                // Somebody else may have them by now.
                return Ok(DelayedLook { moved: false, next: None });
            }
            shards.held.clone()
        };
        if !due {
            let next = self.store.next_due(&shards).await?;
            if next != Some(Duration::ZERO) {
                return Ok(DelayedLook { moved: false, next });
            }
        }
        let away = self.producer.is_down().then_some("kafka cannot be reached");
        let moved = self.store.move_due(&shards, away).await?;
        if moved.rows > 0 {
            debug!(rows = moved.rows, "delayed messages are due");
            self.waker.wake();
        }
        Ok(DelayedLook { moved: moved.rows > 0, next: moved.next })
    }
}

/// What a look found.
struct DelayedLook {
    moved: bool,
    next: Option<Duration>,
}
