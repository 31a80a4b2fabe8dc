//! Reads the records of open deliveries again: from the store, or from Kafka
//! where the store keeps only coordinates.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::{Attempts, Offset, Timestamp};
use tokio::sync::Semaphore;

use super::message::{LoadedRecord, OwnerMessage, OwnerRef};
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::context::OwnerDeps;
use crate::kafka::buffered::BufferedRecord;
use crate::kafka::record::Record;
use crate::said;
use crate::store::{GiveUp, OpenRecord};

/// Wait before a stored record is asked for again.
const LOAD_RETRY: Duration = Duration::from_millis(200);
/// Rows of one query.
const LOAD_CHUNK: usize = 64;
/// Unwanted records that may lie between two that are read in one go.
const MAX_BETWEEN: i64 = 100;

/// Splits ascending offsets into runs that are read in one go.
pub(in crate::consume) fn runs(offsets: &[Offset]) -> impl Iterator<Item = &[Offset]> {
    offsets.chunk_by(|one, next| next.0 - one.0 <= MAX_BETWEEN)
}

/// Reads records for one owner.
pub(in crate::consume) struct RecordLoader {
    pub tools: OwnerDeps,
    pub address: Arc<OwnerRef>,
    /// Bounds the reloaded records in memory.
    pub room: Arc<Semaphore>,
}

impl RecordLoader {
    /// Reads `wanted`, with the attempts that the machine knows, until it is done
    /// or nothing more may begin; deliveries that are not read by then are returned.
    pub async fn load(self, wanted: Vec<(Offset, Attempts)>) {
        let mut told = 0;
        tokio::select! {
            biased;
            () = self.address.no_more.cancelled() => {}
            () = self.run(&wanted, &mut told) => {}
        }
        wanted[told..].iter().for_each(|(offset, _)| self.address.tell(OwnerMessage::NotStarted(*offset)));
    }

    /// Reads `wanted`, and counts those that were sent to the owner, without a
    /// wait between sending and counting.
    async fn run(&self, wanted: &[(Offset, Attempts)], told: &mut usize) {
        for chunk in wanted.chunks(LOAD_CHUNK) {
            let offsets: Vec<Offset> = chunk.iter().map(|(offset, _)| *offset).collect();
            let found = loop {
                match self.tools.store.open_records(self.address.position, &offsets).await {
                    Ok(found) => break found,
                    Err(error) => tracing::debug!(%error, place = %self.address.place, "cannot read open deliveries"),
                }
                tokio::time::sleep(LOAD_RETRY).await;
            };
            let bare = found.iter().flatten().filter(|open| open.record.is_none()).map(|open| open.row.offset);
            let mut read = self.read_near(bare.collect()).await;
            for ((offset, attempts), found) in chunk.iter().copied().zip(found) {
                self.one(offset, attempts, found, read.remove(&offset)).await;
                *told += 1;
            }
        }
    }

    /// Reads a run of records in one go. Those that are not found this way are
    /// read one by one.
    async fn read_near(&self, mut offsets: Vec<Offset>) -> HashMap<Offset, Record> {
        offsets.sort_unstable();
        let mut records = HashMap::new();
        for run in runs(&offsets).filter(|run| run.len() > 1) {
            let place = &self.address.place;
            match self.tools.log.read_these(&place.log_topic(), place.partition, run).await {
                Ok(found) => records.extend(found),
                Err(error) => tracing::debug!(%error, %place, "cannot read records again together"),
            }
        }
        records
    }

    async fn one(&self, offset: Offset, mut attempts: Attempts, found: Option<OpenRecord>, read: Option<Record>) {
        let Some(found) = found else {
            let gone = LoadedRecord { offset, attempts, asked: false, give_up: None, buffered: None };
            return self.address.tell(OwnerMessage::Loaded(gone));
        };
        // A row that was written meanwhile has newer attempts than the machine:
        // they go on from the row.
        let (asked, give_up) = (found.row.asked_at.is_some(), found.row.give_up.clone());
        if found.row.attempts.invoked > attempts.invoked {
            attempts = found.row.attempts;
        }
        // The semaphore is never closed.
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return };
        let buffered = |record, room| {
            let times = (found.row.received_at, found.row.asked_at);
            Arc::new(BufferedRecord::reread(self.address.place.clone(), offset, record, times, room))
        };
        let record = match found.record.as_ref().map(Record::decode) {
            Some(Ok(record)) => Some(record),
            Some(Err(error)) => {
                self.say(offset, &format!("a stored record cannot be decoded ({error}); it is read from kafka"));
                self.read_again(offset).await
            }
            None => match read {
                Some(record) => Some(record),
                None => self.read_again(offset).await,
            },
        };
        let mail = match record {
            Some(record) => {
                let buffered = Some(buffered(record, room));
                OwnerMessage::Loaded(LoadedRecord { offset, attempts, asked, give_up, buffered })
            }
            None => {
                self.say(offset, "a parked record is no longer in kafka");
                let key = found.row.key.clone();
                let record = Record { timestamp: Timestamp(0), key, value: None, headers: Vec::new(), left_out: None };
                let buffered = buffered(record, room);
                match give_up {
                    Some(GiveUp { reason, .. }) => {
                        let reason = format!("{reason} (its record is no longer in kafka, so it left no dead letter)");
                        let give_up = Some(GiveUp { reason, dead_letter: false });
                        OwnerMessage::Loaded(LoadedRecord {
                            offset,
                            attempts,
                            asked,
                            give_up,
                            buffered: Some(buffered),
                        })
                    }
                    None => OwnerMessage::AttemptFinished(Box::new(FinishedAttempt::lost(buffered, attempts))),
                }
            }
        };
        self.address.tell(mail);
    }

    /// Logs a record that cannot be read; repeated lines are thinned out.
    fn say(&self, offset: Offset, what: &str) {
        let place = &self.address.place;
        if let Some(unsaid) = said::again(&format!("{place} {what}")) {
            tracing::error!(%place, %offset, unsaid, "{what}");
        }
    }

    /// The record at its coordinates; `None` when Kafka no longer has it.
    async fn read_again(&self, offset: Offset) -> Option<Record> {
        loop {
            let place = &self.address.place;
            match self.tools.log.read(&place.log_topic(), place.partition, offset).await {
                Ok(found) => return found,
                Err(error) => tracing::debug!(%error, %place, %offset, "cannot read a record again"),
            }
            tokio::time::sleep(LOAD_RETRY).await;
        }
    }
}
