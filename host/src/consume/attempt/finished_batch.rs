//! The attempts that a worker finished since it was last polled, for their owners.
//!
//! A message wakes its owner, which costs more than a short handler runs: the owner's
//! thread takes the core from the worker's. So a worker that runs several short
//! attempts tells the owners of all of them at once, before it waits for anything.

use std::sync::Arc;

use parking_lot::Mutex;

use super::finished::FinishedAttempt;
use crate::consume::owner::message::{OwnerMessage, OwnerRef};

/// Finished attempts after which their owners are told in any case. An owner that
/// hears of them sooner has the next ones ready sooner.
const MAX_FINISHED: usize = 32;

/// Finished attempts whose owners were not told.
#[derive(Default)]
pub struct FinishedBatch(Mutex<Vec<(Arc<OwnerRef>, FinishedAttempt)>>);

impl FinishedBatch {
    /// Adds an attempt, and tells the owners when there are many.
    pub fn push(&self, owner: Arc<OwnerRef>, finished: FinishedAttempt) {
        let mut batch = self.0.lock();
        batch.push((owner, finished));
        if batch.len() >= MAX_FINISHED {
            drop(batch);
            self.tell();
        }
    }

    /// Tells the owners of all attempts in it.
    pub fn tell(&self) {
        for (owner, finished) in self.0.lock().drain(..) {
            owner.tell(OwnerMessage::AttemptFinished(Box::new(finished)));
        }
    }
}
