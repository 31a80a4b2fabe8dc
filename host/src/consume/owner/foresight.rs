//! The parked records that Kafka is about to remove, and the causes that report them.

use courier_core::message::{Offset, Timestamp};

use crate::causes::{COPIED_FULL, Cause, Causes, RECORDS_REMOVED, RETENTION_NEAR, Subject};
use crate::config::show_size;
use crate::store::Copies;

/// The records near their end, found at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foresight {
    /// The copies in the store.
    pub(super) copies: Copies,
    /// Records that do not fit the copies, and will be lost.
    pub(super) doomed: Option<Doomed>,
    /// Records that Kafka has removed, and of which there is no copy.
    pub(super) removed: Option<ParkedRecords>,
}

/// Some parked records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParkedRecords {
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) count: u64,
}

impl ParkedRecords {
    /// How many, in words.
    fn counted(self) -> String {
        if self.count == 1 { "1 parked record".to_owned() } else { format!("{} parked records", self.count) }
    }

    /// A cause with the facts for programs.
    fn within(self, cause: Cause) -> Cause {
        cause.with("count", self.count).with("first_offset", self.first).with("last_offset", self.last)
    }

    /// The cause of records that Kafka has removed. Their deliveries end when
    /// they have their turn, which may be long from now.
    fn removed(self) -> Cause {
        let Self { first, last, .. } = self;
        let why = format!(
            "kafka removed {}, at offsets {first} to {last}, before they were copied: their deliveries cannot run any \
             more, and fail when they have their turn; give them up, or publish the messages anew",
            self.counted()
        );
        self.within(Cause::new(RECORDS_REMOVED, why).at_once())
    }
}

/// Parked records that will be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) records: ParkedRecords,
    /// When Kafka may remove the oldest one; `None` when only the start of the
    /// log shows it.
    pub(super) at: Option<Timestamp>,
}

impl Foresight {
    /// Whether records will be lost.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.doomed.is_some()
    }

    /// Reports the causes that hold, and clears those that do not.
    pub(super) fn tell(&self, causes: &Causes, subject: &Subject, max_copied_bytes: u64) {
        match self.doomed {
            Some(doomed) => causes.report(subject.clone(), doomed.cause(max_copied_bytes)),
            None => causes.clear_code(subject, COPIED_FULL),
        }
        match self.removed {
            Some(removed) => causes.report(subject.clone(), removed.removed()),
            None => causes.clear_code(subject, RECORDS_REMOVED),
        }
        let Copies { count, bytes } = self.copies;
        if count == 0 {
            return causes.clear_code(subject, RETENTION_NEAR);
        }
        let are = if count == 1 { "1 parked record is" } else { &format!("{count} parked records are") };
        let why = format!(
            "{are} older than kafka keeps them, or nearly: they are copied into the store ({bytes} bytes of {}), and \
             kafka may remove its own; retry or give up what they wait behind",
            show_size(max_copied_bytes)
        );
        let cause = Cause::new(RETENTION_NEAR, why).foreseen().with("count", count).with("copied_bytes", bytes);
        causes.report(subject.clone(), cause.with("max_copied_bytes", max_copied_bytes));
    }
}

impl Doomed {
    pub(super) fn cause(self, max_copied_bytes: u64) -> Cause {
        let Self { records, at } = self;
        let ParkedRecords { first, last, .. } = records;
        let at = at.and_then(|at| jiff::Timestamp::from_microsecond(at.0).ok()).map(|at| at.to_string());
        let when = at.as_ref().map_or_else(|| "soon".to_owned(), |at| format!("from {at} on"));
        let why = format!(
            "kafka will remove {} {when}, at offsets {first} to {last}, and no more copies fit into \
             max_copied_bytes ({}): the partition pauses; retry or give up what is parked, raise retention.ms of the \
             topic, or raise max_copied_bytes of the binding",
            records.counted(),
            show_size(max_copied_bytes)
        );
        let cause = records.within(Cause::new(COPIED_FULL, why).at_once());
        let cause = cause.with("max_copied_bytes", max_copied_bytes);
        match at {
            Some(at) => cause.with("at", at),
            None => cause,
        }
    }
}
