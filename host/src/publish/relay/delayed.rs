//! Moves delayed messages to the relay when they are due.
//!
//! The holder of a relay shard moves the due messages of the shard: one
//! transaction deletes the delayed row and inserts an outbound row under the
//! epoch of the shard. Only the store's clock decides what is due: the store
//! returns the time until the next row, and this host counts it down by its
//! monotonic clock.
//!
//! A message that another host accepted, and that is due before all others, is
//! found by polling: as often as the relay polls while a message is due soon,
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

/// Longest poll interval: while a message was moved lately or is due soon, and
/// otherwise.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(250);
/// How long polls stay frequent after a move, and how soon a message must be
/// due for it.
const SOON: Duration = Duration::from_secs(5);
/// A message that is due this soon must not wait for the next poll. Longer than
/// the poll interval by as much as the clocks of host and store may differ.
const HURRY: Duration = Duration::from_secs(2);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// Pause after a move that found nothing although a message is due: it is being
/// cancelled, or the shard went to another host.
const NOT_YET: Duration = Duration::from_millis(2);

/// Wakes the scheduler for a delayed message that may be due before the others;
/// clones share it.
#[derive(Clone, Default)]
pub struct DelayedWaker(Arc<Notify>);

impl DelayedWaker {
    /// Wakes the scheduler.
    pub(in crate::publish) fn look(&self) {
        self.0.notify_one();
    }

    /// Wakes the scheduler if the accepted message may be due before the next
    /// poll.
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

/// Moves due messages to the relay.
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
        // When the next message is due, by the store's last answer.
        let mut next_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.alarm.0.notified() => {}
                // Shards of a host that is gone may have overdue messages.
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
                        if let Some(unsaid) = said::again("cannot move delayed messages that are due") {
                            warn!(%error, unsaid, "cannot move what is due");
                        }
                    }
                    STORE_PAUSE
                }
            };
        }
    }

    /// Moves the due messages, if any. The store is not asked first when one is
    /// known to be `due`.
    async fn look(&self, due: bool) -> Result<DelayedLook, StoreError> {
        let shards = {
            let shards = self.shards.borrow();
            if Instant::now() >= shards.until {
                // Another host may hold them by now.
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

/// The result of a poll.
struct DelayedLook {
    moved: bool,
    next: Option<Duration>,
}
