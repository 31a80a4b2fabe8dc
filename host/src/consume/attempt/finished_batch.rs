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

#[cfg(test)]
mod tests {
    use courier_core::message::{Attempts, Kind, Offset, Timestamp};
    use tokio::sync::{Semaphore, mpsc, watch};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::kafka::buffered::{BufferedRecord, TopicPartition};
    use crate::kafka::record::Record;
    use crate::store::PositionId;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition { topic: "order".into(), partition, kind: Kind::Event }
    }

    fn owner(partition: i32) -> (Arc<OwnerRef>, mpsc::UnboundedReceiver<OwnerMessage>) {
        let (mail, inbox) = mpsc::unbounded_channel();
        let owner = OwnerRef {
            place: place(partition),
            position: PositionId(1),
            mail,
            no_more: CancellationToken::new(),
            dropped: CancellationToken::new(),
            refused: watch::channel(false).1,
        };
        (Arc::new(owner), inbox)
    }

    async fn finished(offset: i64, at_micros: i64) -> FinishedAttempt {
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let record = Record { timestamp: Timestamp(0), key: None, value: None, headers: Vec::new(), left_out: None };
        let buffered = BufferedRecord::reread(place(0), Offset(offset), record, (Timestamp(0), None), room);
        let mut finished = FinishedAttempt::duplicate(Arc::new(buffered), Attempts::default());
        finished.finished_at = Timestamp(at_micros);
        finished
    }

    async fn offset(inbox: &mut mpsc::UnboundedReceiver<OwnerMessage>) -> i64 {
        match inbox.recv().await {
            Some(OwnerMessage::AttemptFinished(finished)) => finished.buffered.offset.0,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn each_owner_hears_of_its_attempts_in_their_order_when_the_worker_waits() {
        let batch = FinishedBatch::new(Handle::current());
        let ((one, mut ones), (other, mut others)) = (owner(0), owner(1));
        for number in 0..4 {
            batch.push(Arc::clone(&one), finished(number, number).await);
            batch.push(Arc::clone(&other), finished(10 + number, number).await);
        }
        assert!(ones.try_recv().is_err() && others.try_recv().is_err(), "they are not told one by one");
        batch.tell();
        for number in 0..4 {
            assert_eq!((offset(&mut ones).await, offset(&mut others).await), (number, 10 + number));
        }
        batch.tell();
        assert!(ones.try_recv().is_err(), "nothing is told twice");
    }

    #[tokio::test]
    async fn the_first_attempt_waits_for_few_others_and_not_for_long() {
        let batch = FinishedBatch::new(Handle::current());
        let (one, mut ones) = owner(0);
        for number in 1..MAX_FINISHED {
            batch.push(Arc::clone(&one), finished(number as i64, 0).await);
        }
        assert!(ones.try_recv().is_err());
        batch.push(Arc::clone(&one), finished(0, 0).await);
        for _ in 0..MAX_FINISHED {
            offset(&mut ones).await;
        }
        let late = i64::try_from(MAX_WAIT.as_micros()).unwrap();
        batch.push(Arc::clone(&one), finished(1, 7).await);
        batch.push(Arc::clone(&one), finished(2, 6 + late).await);
        assert!(ones.try_recv().is_err());
        batch.push(Arc::clone(&one), finished(3, 7 + late).await);
        assert_eq!([offset(&mut ones).await, offset(&mut ones).await, offset(&mut ones).await], [1, 2, 3]);
    }
}
