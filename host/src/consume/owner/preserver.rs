//! Copies parked records into the store before Kafka removes them.
//!
//! Above a bound an open row keeps only the coordinates of its record. The
//! owner of a partition with such rows looks which records are near their end
//! ([`NearEnd`]) and copies them into the store, up to `max_copied_bytes` of
//! the binding. A cause reports the copies and, once the bound is reached, what
//! will be lost and when. The partition pauses then, since more records would
//! only be parked behind them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::Offset;
use courier_core::retention::{LogRange, NearEnd, removed_at};
use tokio::time::Instant;

use super::foresight::{Doomed, Foresight, ParkedRecords};
use super::message::{OwnerMessage, OwnerRef};
use super::record_loader::runs;
use crate::causes::{Causes, Subject};
use crate::clock::now;
use crate::config::Binding;
use crate::consume::context::LookError;
use crate::consume::context::OwnerDeps;
use crate::kafka::buffered::TopicPartition;
use crate::store::{Endangered, StoreError};
use crate::supervise::{self, Task};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Rows of one query.
const PAGE: u32 = 64;
/// Bytes of records that one transaction copies, unless a single record is
/// larger: other writers wait for the transaction.
const MAX_COPY_BYTES: usize = 1024 * 1024;

/// The looks of one owner.
#[derive(Debug)]
pub(in crate::consume) struct Preserver {
    look_at: Option<Instant>,
    subject: Subject,
    max_copied_bytes: u64,
    /// Whether a cause is reported.
    told: bool,
}

impl Preserver {
    /// For the owner of a partition.
    pub fn of(binding: &Binding, place: &TopicPartition) -> Self {
        let subject = Subject::Partition {
            group: binding.group.clone(),
            topic: place.log_topic().into_owned(),
            partition: place.partition,
        };
        Self::new(subject, binding.max_copied_bytes)
    }

    fn new(subject: Subject, max_copied_bytes: u64) -> Self {
        Self { look_at: Some(Instant::now()), subject, max_copied_bytes, told: false }
    }

    /// When [`Preserver::look`] is due; never while every open row has its
    /// record and no cause is reported.
    pub fn look_at(&self, bare_rows: usize) -> Option<Instant> {
        self.look_at.filter(|_| bare_rows > 0 || self.told)
    }

    /// Copies the records near their end, and sends the result to the owner.
    pub fn look(&mut self, tools: OwnerDeps, owner: &Arc<OwnerRef>, epoch: i64) {
        // No second look until this one is answered.
        self.look_at = None;
        let look = PreserverLook { tools, owner: Arc::clone(owner), epoch, max_copied_bytes: self.max_copied_bytes };
        supervise::spawn(Task::PartitionOwner, async move {
            let found = tokio::select! {
                () = look.owner.dropped.cancelled() => return,
                found = look.run() => found,
            };
            // A failed look clears nothing.
            let found = found.inspect_err(|error| {
                tracing::debug!(place = %look.owner.place, %error, "cannot look what kafka is about to remove");
            });
            look.owner.tell(OwnerMessage::Foreseen(found.ok()));
        });
    }

    /// Reports the result of a look.
    pub fn looked(&mut self, found: Option<&Foresight>, causes: &Causes) {
        self.look_at = Some(Instant::now() + LOOK);
        if let Some(found) = found {
            self.told = *found != Foresight::default();
            found.tell(causes, &self.subject, self.max_copied_bytes);
        }
    }

    /// Clears the causes of an owner that ends; the next owner reports its own.
    pub fn end(&self, causes: &Causes) {
        if self.told {
            Foresight::default().tell(causes, &self.subject, self.max_copied_bytes);
        }
    }
}

/// One look.
struct PreserverLook {
    tools: OwnerDeps,
    owner: Arc<OwnerRef>,
    epoch: i64,
    max_copied_bytes: u64,
}

impl PreserverLook {
    async fn run(&self) -> Result<Foresight, LookError> {
        let (store, position) = (&self.tools.store, self.owner.position);
        let topic = self.owner.place.log_topic();
        let (start, end) = self.tools.log.range(&topic, self.owner.place.partition).await?;
        let retention = self.tools.log.retention(&topic).await;
        // No copy can be made of what a jump of the log's start has passed.
        let removed = store.endangered(position, &NearEnd::removed(start), 1).await?;
        let mut near = NearEnd::of(LogRange { start, end }, retention, now());
        let doomed = loop {
            let endangered = store.endangered(position, &near, PAGE).await?;
            let Some(last) = endangered.first.last().copied() else { break None };
            // Records that Kafka has removed, by compaction for instance, are
            // not found here; their deliveries end when they have their turn.
            let mut records: Vec<(Offset, Bytes)> = Vec::new();
            for run in runs(&endangered.first) {
                let read = self.tools.log.read_these(&topic, self.owner.place.partition, run).await?;
                records.extend(read.into_iter().map(|(offset, record)| (offset, record.encode())));
            }
            if let Some(rest) = self.copy(&records).await? {
                let left = store.endangered(position, &near.at_least(rest), 1).await?;
                break doomed(&left, retention.time);
            }
            near = near.at_least(last.next());
        };
        Ok(Foresight { copies: store.copies(position).await?, doomed, removed: span(&removed) })
    }

    /// Copies the records that fit, and returns the first that does not.
    async fn copy(&self, records: &[(Offset, Bytes)]) -> Result<Option<Offset>, StoreError> {
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, record): &&(Offset, Bytes)| {
                bytes += record.len();
                bytes <= MAX_COPY_BYTES
            };
            let at_once = rest.iter().take_while(fits).count().max(1);
            let (position, epoch) = (self.owner.position, self.epoch);
            let copied =
                self.tools.store.copy_records(position, epoch, &rest[..at_once], self.max_copied_bytes).await?;
            if copied < at_once {
                return Ok(Some(rest[copied].0));
            }
            rest = &rest[at_once..];
        }
        Ok(None)
    }
}

fn doomed(left: &Endangered, retention: Option<Duration>) -> Option<Doomed> {
    let at = left.oldest.zip(retention).map(|(oldest, retention)| removed_at(oldest, retention));
    Some(Doomed { records: span(left)?, at })
}

fn span(found: &Endangered) -> Option<ParkedRecords> {
    Some(ParkedRecords { first: *found.first.first()?, last: found.last?, count: found.count })
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;

    use super::*;
    use crate::causes::{COPIED_FULL, RECORDS_REMOVED, RETENTION_NEAR};
    use crate::store::Copies;

    fn subject() -> Subject {
        Subject::Partition { group: "stock".into(), topic: "order".into(), partition: 3 }
    }

    #[test]
    fn what_will_be_lost_is_told_with_its_count_its_offsets_and_when() {
        let causes = Causes::default();
        let left = Endangered {
            first: vec![Offset(18)],
            count: 92,
            last: Some(Offset(109)),
            oldest: Some(Timestamp(1_700_000_000_000_000)),
        };
        let doomed = doomed(&left, Some(Duration::from_secs(600)));
        let found = Foresight { copies: Copies { count: 18, bytes: 20_000 }, doomed, removed: None };
        let mut preserver = Preserver::new(subject(), 20 * 1024);
        preserver.looked(Some(&found), &causes);
        let standing = causes.of(&subject()).expect("it is told at once");
        assert_eq!((standing.code, standing.fields["count"].as_str()), (COPIED_FULL, "92"));
        assert_eq!((standing.fields["first_offset"].as_str(), standing.fields["last_offset"].as_str()), ("18", "109"));
        assert_eq!(standing.fields["at"], "2023-11-14T22:23:20Z");
        assert!(standing.why.contains("92 parked records from 2023-11-14T22:23:20Z on, at offsets 18 to 109"));
        assert!(standing.why.contains("max_copied_bytes (20KiB)"), "{}", standing.why);
        // A look that failed says nothing new.
        preserver.looked(None, &causes);
        assert_eq!(causes.of(&subject()).map(|standing| standing.code), Some(COPIED_FULL));
        preserver.looked(Some(&Foresight::default()), &causes);
        assert_eq!(causes.of(&subject()), None);
    }

    #[test]
    fn copies_are_told_and_degrade_nothing() {
        let causes = Causes::default();
        let found = Foresight { copies: Copies { count: 27, bytes: 5_000 }, ..Foresight::default() };
        let mut preserver = Preserver::new(subject(), 256 << 20);
        assert!(preserver.look_at(0).is_none() && preserver.look_at(1).is_some());
        preserver.looked(Some(&found), &causes);
        let standing = causes.of(&subject()).expect("it is told before anything is lost");
        assert_eq!((standing.code, standing.fields["count"].as_str()), (RETENTION_NEAR, "27"));
        assert!(!standing.degrades() && standing.why.contains("5000 bytes of 256MiB"), "{}", standing.why);
        assert!(preserver.look_at(0).is_some(), "until it is over");
        preserver.end(&causes);
        assert_eq!(causes.of(&subject()), None);
    }

    /// Issue 16: that retention had passed 27 of 110 parked records was known for
    /// each delivery alone, and only once it had its turn.
    #[test]
    fn what_a_jump_of_the_logs_start_has_passed_is_told_at_once() {
        let causes = Causes::default();
        let passed = Endangered { first: vec![Offset(4)], count: 27, last: Some(Offset(30)), oldest: None };
        let found = Foresight { removed: span(&passed), ..Foresight::default() };
        assert!(!found.is_loss(), "a pause would save nothing");
        let mut preserver = Preserver::new(subject(), 1024);
        preserver.looked(Some(&found), &causes);
        let standing = causes.of(&subject()).expect("it is told at once");
        assert_eq!((standing.code, standing.fields["count"].as_str()), (RECORDS_REMOVED, "27"));
        assert!(standing.why.starts_with("kafka removed 27 parked records, at offsets 4 to 30"), "{}", standing.why);
        preserver.looked(Some(&Foresight::default()), &causes);
        assert_eq!(causes.of(&subject()), None, "their deliveries have ended");
    }

    #[test]
    fn without_a_retention_nobody_knows_when() {
        let left = Endangered { first: vec![Offset(5)], count: 1, last: Some(Offset(5)), oldest: Some(Timestamp(0)) };
        let causes = Causes::default();
        Foresight { doomed: doomed(&left, None), ..Foresight::default() }.tell(&causes, &subject(), 1024);
        let why = causes.of(&subject()).unwrap().why;
        assert!(why.starts_with("kafka will remove 1 parked record soon, at offsets 5 to 5"), "{why}");
    }
}
