//! Finds the end of a log that has no records before it.
//!
//! Transaction markers, records of aborted transactions and compacted records
//! leave offsets without a record. A later record shows that they are holes. At
//! the end of the log nothing does, and a group that has handled everything
//! would seem to lag for ever. So once the client has read to the end and no
//! record came for a moment, the log is asked where the next record can be.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Offset;
use tokio::time::Instant;

use super::message::{OwnerMessage, OwnerRef};
use crate::kafka::log_reader::LogReader;
use crate::supervise::{self, Task};

/// How long no record must come before the log is asked: on a busy topic the
/// client reads to the end many times a second.
const QUIET: Duration = Duration::from_millis(500);
/// Wait before a log that did not answer is asked again.
const LOOK_RETRY: Duration = Duration::from_secs(1);

/// When one owner asks its log.
#[derive(Debug, Default)]
pub(in crate::consume) struct LogEndProbe {
    due: Option<(Instant, Offset)>,
}

impl LogEndProbe {
    /// The client has read to the end; the next record is expected at `next`.
    pub fn ended(&mut self, now: Instant, next: Offset) {
        self.due = Some((now + QUIET, next));
    }

    /// When [`LogEndProbe::look`] is wanted.
    pub fn look_at(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }

    /// Asks the log, and sends the answer to the owner. Does nothing when a
    /// record came since: the client reports the end again.
    pub fn look(&mut self, log: &LogReader, owner: &Arc<OwnerRef>, next: Offset) {
        if self.due.take().is_some_and(|(_, expected)| expected == next) {
            supervise::spawn(Task::PartitionOwner, ask(log.clone(), Arc::clone(owner), next));
        }
    }
}

async fn ask(log: LogReader, owner: Arc<OwnerRef>, next: Offset) {
    let place = &owner.place;
    let asked = async {
        loop {
            match log.next_record(&place.log_topic(), place.partition, next).await {
                Ok(found) => return found,
                Err(error) => tracing::debug!(%place, %error, "cannot look for the next record yet"),
            }
            tokio::time::sleep(LOOK_RETRY).await;
        }
    };
    tokio::select! {
        () = owner.dropped.cancelled() => {}
        found = asked => if found > next { owner.tell(OwnerMessage::LogEndMoved(found)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_end_counts() {
        let (mut log_end, now) = (LogEndProbe::default(), Instant::now());
        assert!(log_end.look_at().is_none());
        log_end.ended(now, Offset(3));
        log_end.ended(now + QUIET / 2, Offset(4));
        assert_eq!(log_end.look_at(), Some(now + QUIET / 2 + QUIET));
    }
}
