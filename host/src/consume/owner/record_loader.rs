//! Reads the records of open deliveries again: from the store, or from Kafka
//! where the store keeps only coordinates.
//!
//! Nothing waits here in silence: what cannot be read is reported as a cause of its
//! partition for as long as it is tried. And nothing waits here that is recalled: a
//! delivery that was given up is returned, whatever those before it wait for.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Attempts, Offset};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::message::{LoadedRecord, OwnerMessage, OwnerRef};
use crate::causes::{Cause, Causes, RECORD_UNREADABLE, Subject};
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::context::OwnerDeps;
use crate::kafka::buffered::{BufferedRecord, TopicPartition};
use crate::kafka::log_reader::LogError;
use crate::kafka::record::Record;
use crate::said;
use crate::store::{GiveUp, OpenRecord, PositionId, StoreError};

/// Wait before a record is asked for again.
const LOAD_RETRY: Duration = Duration::from_millis(200);
/// Rows of one query.
const LOAD_CHUNK: usize = 64;
/// Unwanted records that may lie between two that are read in one go.
const MAX_BETWEEN: i64 = 100;
/// Reloaded records of one partition that may be in memory to run, and as many to end.
const MAX_REREAD: usize = 1_024;

/// Splits ascending offsets into runs that are read in one go.
pub(in crate::consume) fn runs(offsets: &[Offset]) -> impl Iterator<Item = &[Offset]> {
    offsets.chunk_by(|one, next| next.0 - one.0 <= MAX_BETWEEN)
}

/// Where open deliveries and their records are.
#[async_trait]
pub(in crate::consume) trait OpenRecords: Clone + Send + Sync + 'static {
    /// The open rows of `offsets`, in their order.
    async fn rows(&self, position: PositionId, offsets: &[Offset]) -> Result<Vec<Option<OpenRecord>>, StoreError>;

    /// The record that lies in Kafka, if it is still there.
    async fn record(&self, place: &TopicPartition, offset: Offset) -> Result<Option<Record>, LogError>;

    /// Those of the records of a run that are still in Kafka.
    async fn run(&self, place: &TopicPartition, run: &[Offset]) -> Result<Vec<(Offset, Record)>, LogError>;
}

#[async_trait]
impl OpenRecords for OwnerDeps {
    async fn rows(&self, position: PositionId, offsets: &[Offset]) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        self.store.open_records(position, offsets).await
    }

    async fn record(&self, place: &TopicPartition, offset: Offset) -> Result<Option<Record>, LogError> {
        self.log.read(&place.log_topic(), place.partition, offset).await
    }

    async fn run(&self, place: &TopicPartition, run: &[Offset]) -> Result<Vec<(Offset, Record)>, LogError> {
        self.log.read_these(&place.log_topic(), place.partition, run).await
    }
}

/// How many reloaded records of one owner may be in memory.
#[derive(Clone, Debug)]
pub(in crate::consume) struct Room {
    /// Those that run. They keep their room while workers wait, as in a pause.
    running: Arc<Semaphore>,
    /// Those that end without an attempt, for which no worker is needed.
    ending: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(MAX_REREAD)
    }
}

impl Room {
    fn of(records: usize) -> Self {
        let room = || Arc::new(Semaphore::new(records));
        Self { running: room(), ending: room() }
    }
}

/// A delivery whose record is to be read.
#[derive(Clone, Debug)]
pub(in crate::consume) struct WantedRecord {
    pub offset: Offset,
    /// The attempts that the machine knows.
    pub attempts: Attempts,
    /// Recalls the delivery; `None` if a person has given it up already.
    pub recall: Option<CancellationToken>,
}

impl WantedRecord {
    fn is_recalled(&self) -> bool {
        self.recall.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

/// Deliveries of which the owner was not told yet, in their order.
type Rest = VecDeque<WantedRecord>;

/// Reads records for one owner.
pub(in crate::consume) struct RecordLoader<R> {
    pub records: R,
    pub address: Arc<OwnerRef>,
    pub room: Room,
    /// Changes after each recall.
    pub recalled: watch::Receiver<()>,
    pub causes: Causes,
    /// The partition.
    pub subject: Subject,
}

impl<R: OpenRecords> RecordLoader<R> {
    /// Reads `wanted` until it is done or nothing more may begin. Deliveries that are not
    /// read by then, or that are recalled, are returned.
    pub async fn load(self, wanted: Vec<WantedRecord>) {
        let mut rest = Rest::from(wanted);
        tokio::select! {
            biased;
            () = self.address.no_more.cancelled() => {}
            () = self.run(&mut rest) => {}
        }
        rest.iter().for_each(|wanted| self.give_back(wanted));
    }

    async fn run(&self, rest: &mut Rest) {
        while !rest.is_empty() {
            let chunk: Vec<WantedRecord> = rest.iter().take(LOAD_CHUNK).cloned().collect();
            let Some((found, mut read)) = self.unless_recalled(rest, self.chunk(&chunk)).await else { continue };
            for (wanted, found) in chunk.iter().zip(found) {
                // It was returned while one before it waited.
                if rest.front().is_none_or(|first| first.offset != wanted.offset) {
                    continue;
                }
                let told = self.one(wanted, found, read.remove(&wanted.offset));
                if let Some(told) = self.unless_recalled(rest, told).await {
                    self.address.tell(told);
                    rest.pop_front();
                }
            }
        }
    }

    /// The rows of a chunk, and those of their records that were found in Kafka together.
    async fn chunk(&self, chunk: &[WantedRecord]) -> (Vec<Option<OpenRecord>>, HashMap<Offset, Record>) {
        let offsets: Vec<Offset> = chunk.iter().map(|wanted| wanted.offset).collect();
        let rows = || self.records.rows(self.address.position, &offsets);
        let found = self.until_read(chunk[0].offset, "the store does not tell of it", rows).await;
        let bare = found.iter().flatten().filter(|open| open.record.is_none()).map(|open| open.row.offset);
        let read = self.read_near(bare.collect()).await;
        (found, read)
    }

    /// Waits for `what`, and returns the deliveries of `rest` that are recalled meanwhile.
    /// `None` when the first of them is.
    async fn unless_recalled<T>(&self, rest: &mut Rest, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        let mut recalled = self.recalled.clone();
        loop {
            recalled.borrow_and_update();
            let first = rest.front().map(|first| first.offset);
            rest.retain(|wanted| {
                let is_recalled = wanted.is_recalled();
                if is_recalled {
                    self.give_back(wanted);
                }
                !is_recalled
            });
            if rest.front().map(|first| first.offset) != first {
                return None;
            }
            tokio::select! {
                biased;
                done = &mut what => return Some(done),
                Ok(()) = recalled.changed() => {}
            }
        }
    }

    fn give_back(&self, wanted: &WantedRecord) {
        self.address.tell(OwnerMessage::NotStarted(wanted.offset));
    }

    /// Reads a run of records in one go. Those that are not found this way are
    /// read one by one.
    async fn read_near(&self, mut offsets: Vec<Offset>) -> HashMap<Offset, Record> {
        offsets.sort_unstable();
        let mut records = HashMap::new();
        for run in runs(&offsets).filter(|run| run.len() > 1) {
            let place = &self.address.place;
            match self.records.run(place, run).await {
                Ok(found) => records.extend(found),
                Err(error) => tracing::debug!(%error, %place, "cannot read records again together"),
            }
        }
        records
    }

    /// What the owner is told of a delivery.
    async fn one(&self, wanted: &WantedRecord, found: Option<OpenRecord>, read: Option<Record>) -> OwnerMessage {
        let &WantedRecord { offset, mut attempts, .. } = wanted;
        let Some(OpenRecord { row, record }) = found else {
            let gone = LoadedRecord { offset, attempts, asked: false, give_up: None, buffered: None };
            return OwnerMessage::Loaded(gone);
        };
        // A row that was written or requested meanwhile has newer attempts than the
        // machine: they go on from the row.
        let (asked, give_up) = (row.asked_at.is_some(), row.give_up);
        if row.attempts.invoked >= attempts.invoked {
            attempts = row.attempts;
        }
        let room = if give_up.is_some() { &self.room.ending } else { &self.room.running };
        let room = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
        let record = match record.as_ref().map(Record::decode) {
            Some(Ok(record)) => Some(record),
            Some(Err(error)) => {
                self.say(offset, &format!("a stored record cannot be decoded ({error}); it is read from kafka"));
                self.read_again(offset, give_up.as_ref()).await
            }
            None => match read {
                Some(record) => Some(record),
                None => self.read_again(offset, give_up.as_ref()).await,
            },
        };
        let is_gone = record.is_none();
        let record = record.unwrap_or_else(|| Record::removed(row.key));
        let times = (row.received_at, row.asked_at);
        let buffered = Arc::new(BufferedRecord::reread(self.address.place.clone(), offset, record, times, room));
        let give_up = match give_up {
            Some(GiveUp { reason, dead_letter: true }) if is_gone => {
                let reason = format!("{reason} (its record is no longer in kafka, so it left no dead letter)");
                Some(GiveUp { reason, dead_letter: false })
            }
            None if is_gone => {
                self.say(offset, "a parked record is no longer in kafka");
                return OwnerMessage::AttemptFinished(Box::new(FinishedAttempt::lost(buffered, attempts)));
            }
            give_up => give_up,
        };
        OwnerMessage::Loaded(LoadedRecord { offset, attempts, asked, give_up, buffered: Some(buffered) })
    }

    /// Logs a record that cannot be read; repeated lines are thinned out.
    fn say(&self, offset: Offset, what: &str) {
        let place = &self.address.place;
        if let Some(unsaid) = said::again(&format!("{place} {what}")) {
            tracing::error!(%place, %offset, unsaid, "{what}");
        }
    }

    /// The record at its coordinates; `None` when Kafka no longer has it.
    ///
    /// A delivery that is given up without a dead letter needs no record to end, so it
    /// is asked for once.
    async fn read_again(&self, offset: Offset, give_up: Option<&GiveUp>) -> Option<Record> {
        let read = || self.records.record(&self.address.place, offset);
        if give_up.is_some_and(|give_up| !give_up.dead_letter) {
            return read().await.unwrap_or_default();
        }
        self.until_read(offset, "kafka does not return it", read).await
    }

    /// Asks until there is an answer, and reports meanwhile that there is none.
    async fn until_read<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        offset: Offset,
        what: &str,
        read: impl Fn() -> F,
    ) -> T {
        let mut report = None;
        loop {
            match read().await {
                Ok(found) => return found,
                Err(error) => {
                    let place = &self.address.place;
                    tracing::debug!(%place, %offset, %error, "cannot read an open delivery again");
                    let why = format!(
                        "the record of the open delivery at offset {offset} cannot be read ({what}: {error}): it and \
                         those behind it wait until it can, or until it is given up without a dead letter"
                    );
                    let cause = Cause::new(RECORD_UNREADABLE, why).with("offset", offset).with("error", error);
                    self.causes.report(self.subject.clone(), cause);
                    report.get_or_insert_with(|| Report { causes: &self.causes, subject: &self.subject });
                }
            }
            tokio::time::sleep(LOAD_RETRY).await;
        }
    }
}

/// A cause that is reported until the record is read, or not wanted any more.
struct Report<'a> {
    causes: &'a Causes,
    subject: &'a Subject,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.causes.clear_code(self.subject, RECORD_UNREADABLE);
    }
}

#[cfg(test)]
mod tests;
