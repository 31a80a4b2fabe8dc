//! The attempts that a worker finished one after the other, for their owners.
//!
//! A message wakes its owner, which costs more than a short handler runs: the kernel
//! takes the core from the worker's thread and gives it to the owner's, which soon
//! sleeps again. So a worker that runs several short attempts tells the owners of all
//! of them at once, when it begins to wait or the oldest has waited for
//! [`MAX_WAIT`].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::finished::FinishedAttempt;
use crate::consume::owner::message::{OwnerMessage, OwnerRef};

/// Finished attempts after which their owners are told in any case.
const MAX_FINISHED: usize = 256;
/// How long the owner of a finished attempt waits while its worker runs others. An
/// attempt that computes for longer is interrupted after a tick of the engine, which
/// tells the owners too.
const MAX_WAIT: Duration = Duration::from_micros(500);

/// Finished attempts whose owners were not told.
pub struct FinishedBatch {
    attempts: Mutex<Vec<(Arc<OwnerRef>, FinishedAttempt)>>,
    /// Where the owners run.
    owners: Handle,
}

impl FinishedBatch {
    /// An empty batch; owners run on `owners`.
    #[must_use]
    pub fn new(owners: Handle) -> Self {
        Self { attempts: Mutex::default(), owners }
    }

    /// Adds an attempt, and tells the owners when there are many or the first has
    /// waited for long.
    pub fn push(&self, owner: Arc<OwnerRef>, finished: FinishedAttempt) {
        let mut attempts = self.attempts.lock();
        let now = finished.finished_at;
        attempts.push((owner, finished));
        let is_due = now.since(attempts[0].1.finished_at) >= MAX_WAIT;
        if is_due || attempts.len() >= MAX_FINISHED {
            drop(attempts);
            self.tell();
        }
    }

    /// Tells the owners of all attempts in it.
    pub fn tell(&self) {
        let attempts = std::mem::take(&mut *self.attempts.lock());
        let Some((first, _)) = attempts.first() else { return };
        let tell = |(owner, finished): (Arc<OwnerRef>, FinishedAttempt)| {
            owner.tell(OwnerMessage::AttemptFinished(Box::new(finished)));
        };
        if attempts.iter().all(|(owner, _)| Arc::ptr_eq(owner, first)) {
            attempts.into_iter().for_each(tell);
        } else {
            // Several owners that are woken from here would take this core one after
            // the other. Woken from a thread of theirs, they queue up behind it.
            self.owners.spawn(async move { attempts.into_iter().for_each(tell) });
        }
    }
}
