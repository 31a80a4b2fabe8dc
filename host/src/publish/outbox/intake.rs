//! The loop of one outbox: reads rows, writes them to the store, learns how they end, deletes them at their source.
//!
//! It runs on every host, and does nothing without the lease on the outbox's
//! shard. The rows in hand are bounded ([`super::hand`]), and only their
//! numbers and ids are kept. A database that is away is tried again with
//! back-off, and delays no other outbox.
//!
//! A row that ended is counted before it is deleted, in one transaction with
//! the list of rows to delete: the next holder knows that rows on the list are
//! counted. So the numbers are right after any crash.

mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Kind;
use courier_core::status::State;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::SourceError;
use super::hand::{Hand, HeldRow};
use super::source::{self, OutboxSource, READ_ROWS, RowRef, SourceRow, bounded};
use super::taking::{AcceptedRow, ReadRow};
use super::{connect, row};
use crate::causes::{Causes, Subject};
use crate::clock::now;
use crate::config::OutboxConfig;
use crate::publish::relay::lease::Shards;
use crate::publish::send::Acceptor;
use crate::publish::waker::Watch;
use crate::store::{Identity, OutboxCount, OutboxNote, RelayResult, StoreError};

/// Pauses between looks: while there is something to do, and at the longest.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(250);
/// How long looks stay frequent after something happened.
const STAY_BUSY: Duration = Duration::from_secs(2);
/// First and longest pause after the database failed.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LONGEST: Duration = Duration::from_secs(10);
/// How often the store is asked what became of rows that another host's relay
/// may have sent.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Ids in one question.
const ASK_IDS: usize = 1_000;
/// Rows that ended are counted when there are so many, or when the last ones
/// were so long ago: each time is a commit of the store.
const COUNT_ROWS: usize = 500;
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// How often the database is asked what a look at rows does not tell: whether
/// it still takes writes, say.
const EXAMINE_EVERY: Duration = Duration::from_secs(5);
/// The destination of rows whose topic cannot be read.
const UNREADABLE: &str = "";

/// The intake of one outbox on this host.
pub(super) struct Intake {
    outbox: OutboxConfig,
    shard: i32,
    acceptor: Acceptor,
    shards: watch::Receiver<Shards>,
    causes: Causes,
    /// The epoch of the rows in hand.
    epoch: Option<i64>,
    hand: Hand,
    /// Rows that are counted and may still be at their source, as the store
    /// knows them too; none before it was asked what an earlier holder counted.
    counted: Option<BTreeSet<RowRef>>,
    /// A count whose answer was lost, to be repeated unchanged.
    counting: Option<OutboxCount>,
    counted_at: Instant,
    asked: Instant,
    examined: Option<Instant>,
    /// What a row without a place in the order is to be told of.
    unordered: Option<SourceError>,
    /// When the rows of the table were counted, if there are more than in hand.
    pending_at: Option<Instant>,
    note: OutboxNote,
    noted: Option<(Instant, OutboxNote)>,
}

/// Why a round ended early.
enum Broken {
    Source(SourceError),
    Store(StoreError),
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Intake {
    pub fn new(
        outbox: OutboxConfig,
        shard: i32,
        acceptor: Acceptor,
        shards: watch::Receiver<Shards>,
        node: Arc<str>,
        causes: Causes,
    ) -> Self {
        let note = OutboxNote { name: outbox.name.clone(), node: node.as_ref().to_owned(), ..OutboxNote::default() };
        Self {
            outbox,
            shard,
            acceptor,
            shards,
            causes,
            epoch: None,
            hand: Hand::default(),
            counted: None,
            counting: None,
            counted_at: Instant::now(),
            asked: Instant::now(),
            examined: None,
            unordered: None,
            pending_at: None,
            note,
            noted: None,
        }
    }

    /// Runs until `stop`. Work under way is dropped then, which is safe at any
    /// point.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.relay() => {}
        }
        metrics::gauge!("courier_outbox_failing", "outbox" => self.outbox.name.clone()).set(0.0);
        self.causes.clear(&Subject::Outbox(self.outbox.name));
    }

    async fn relay(&mut self) {
        let mut source: Option<Box<dyn OutboxSource>> = None;
        let mut again = AGAIN_FIRST;
        let mut pause = BUSY;
        let mut happened = Instant::now();
        loop {
            let Some(epoch) = self.lease() else {
                source = None;
                self.let_go();
                self.wait_for_lease().await;
                continue;
            };
            if self.epoch != Some(epoch) {
                self.let_go();
                self.epoch = Some(epoch);
            }
            let began = Instant::now();
            match self.turn(&mut source, epoch).await {
                Ok(progress) => {
                    again = AGAIN_FIRST;
                    self.tell(self.standing());
                    if progress {
                        happened = Instant::now();
                    }
                    let shortest = if happened.elapsed() < STAY_BUSY { BUSY } else { (pause * 2).min(IDLE) };
                    // A look past many waiting rows is slow: the database rests
                    // for as long.
                    pause = if progress { shortest } else { shortest.max(began.elapsed()) };
                }
                Err(Broken::Store(StoreError::Fenced(why))) => {
                    debug!(outbox = %self.outbox.name, %why, "another host relays the outbox");
                    self.let_go();
                    pause = IDLE;
                }
                Err(Broken::Store(error)) => {
                    // Nothing of it is the outbox's fault, nor lost.
                    if error.is_transient() {
                        debug!(outbox = %self.outbox.name, %error, "the outbox waits for the store");
                    } else {
                        let sentence = format!("courier's store does not take its rows: {error}");
                        self.tell(Some(SourceError::new("outbox_store", sentence)));
                    }
                    pause = IDLE;
                }
                Err(Broken::Source(error)) => {
                    source = None;
                    self.tell(Some(error));
                    (self.note.pending, self.note.oldest_at) = (None, None);
                    pause = again;
                    again = (again * 2).min(AGAIN_LONGEST);
                }
            }
            self.write_note(epoch).await;
            let notified = async {
                match &mut source {
                    Some(source) => source.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = notified => happened = Instant::now(),
            }
        }
    }

    /// The epoch of the lease, while it is surely held.
    fn lease(&self) -> Option<i64> {
        let shards = self.shards.borrow();
        let held = shards.held.iter().find(|(shard, _)| *shard == self.shard);
        held.filter(|_| Instant::now() < shards.until).map(|(_, epoch)| *epoch)
    }

    async fn wait_for_lease(&mut self) {
        // A sender that is gone means that the host stops.
        let _ = tokio::time::timeout(IDLE, self.shards.changed()).await;
    }

    /// Forgets the rows in hand; the next holder reads them again.
    fn let_go(&mut self) {
        self.epoch = None;
        self.hand.clear();
        (self.counted, self.counting) = (None, None);
        self.examined = None;
        self.noted = None;
        if self.note.cause.is_some() {
            self.causes.clear(&Subject::Outbox(self.outbox.name.clone()));
        }
        self.note = OutboxNote {
            name: std::mem::take(&mut self.note.name),
            node: std::mem::take(&mut self.note.node),
            ..OutboxNote::default()
        };
    }

    /// One look: learns which rows ended, deletes them, and takes new ones.
    /// True when something happened.
    async fn turn(&mut self, source: &mut Option<Box<dyn OutboxSource>>, epoch: i64) -> Result<bool, Broken> {
        let source = match source {
            Some(source) => source,
            None => {
                self.examined = None;
                source.insert(connect::open(&self.outbox).await?)
            }
        };
        let source = source.as_mut();
        self.examine(source).await?;
        if self.counted.is_none() {
            self.counted = Some(self.acceptor.counted_rows(&self.outbox.name).await?.into_iter().collect());
        }
        self.learn().await?;
        self.count_ended(epoch).await?;
        let ended = self.remove_counted(source).await?;
        self.hand.look_again(Instant::now());
        let mut taken = 0;
        let mut more = true;
        while more && self.hand.has_space() && !self.acceptor.full_destinations().contains(UNREADABLE) {
            let rows = bounded(source.read(&self.hand.numbers(), &self.topics_left_out(), READ_ROWS)).await?;
            more = source::may_have_more(&rows);
            taken += rows.len();
            self.take_in(rows, epoch).await?;
        }
        self.tell_pending(source, more).await?;
        Ok(ended + taken > 0)
    }

    /// The topics whose rows wait in the table: their bound in hand is reached,
    /// or too much is undelivered for them.
    fn topics_left_out(&self) -> Vec<String> {
        let mut topics = self.hand.full_topics();
        for full in self.acceptor.full_destinations().iter() {
            let companion_of = full.strip_suffix(&*Kind::Broadcast.log_topic(""));
            topics.extend(companion_of.into_iter().chain([full.as_str()]).map(str::to_owned));
        }
        topics
    }

    /// Asks the database now and then what keeps its rows from being relayed
    /// although they can be read.
    async fn examine(&mut self, source: &mut dyn OutboxSource) -> Result<(), SourceError> {
        if self.examined.is_some_and(|at| at.elapsed() < EXAMINE_EVERY) {
            return Ok(());
        }
        self.unordered = match bounded(source.examine()).await {
            Ok(()) => None,
            // The rows that have a place go on.
            Err(error) if error.code == source::WITHOUT_NUMBER => Some(error),
            Err(error) => return Err(error),
        };
        self.examined = Some(Instant::now());
        Ok(())
    }

    /// Learns what became of rows in hand: from this process's relay at once,
    /// of what others sent from the store.
    async fn learn(&mut self) -> Result<(), StoreError> {
        let mut told = Vec::new();
        for (seq, row) in self.hand.open() {
            match row.watch.as_mut().and_then(Watch::told) {
                Some(RelayResult::Taken { .. }) => told.push((*seq, State::Committed)),
                Some(RelayResult::Undelivered { .. }) => told.push((*seq, State::SendFail)),
                Some(RelayResult::Later { .. }) => {
                    row.watch = row.message.as_ref().and_then(|message| self.acceptor.watch(message))
                }
                None => {}
            }
        }
        if self.asked.elapsed() >= ASK_EVERY {
            self.asked = Instant::now();
            let open: Vec<(i64, Identity)> =
                self.hand.open().filter_map(|(seq, row)| Some((*seq, row.message.clone()?))).collect();
            for chunk in open.chunks(ASK_IDS) {
                let messages: Vec<Identity> = chunk.iter().map(|(_, message)| message.clone()).collect();
                let ended = self.acceptor.ended(&messages).await?;
                told.extend(chunk.iter().zip(ended).filter_map(|((seq, _), state)| Some((*seq, state?))));
            }
        }
        for (seq, state) in told {
            self.hand.end(seq, state, Instant::now());
        }
        Ok(())
    }

    /// Counts rows that ended, and keeps in the store which they are: they may
    /// be deleted then, and nobody counts them again.
    async fn count_ended(&mut self, epoch: i64) -> Result<(), StoreError> {
        let due = self.counted_at.elapsed() >= COUNT_EVERY || self.hand.has_ended(COUNT_ROWS);
        if self.counting.is_none() && due {
            self.counting = self.count_of_ended();
        }
        let Some(count) = &self.counting else { return Ok(()) };
        if self.acceptor.count_outbox((self.shard, epoch), count).await? {
            let (relayed, refused) = (count.relayed.unsigned_abs(), count.refused.unsigned_abs());
            let outbox = count.name.clone();
            metrics::counter!("courier_outbox_relayed_total", "outbox" => outbox.clone()).increment(relayed);
            metrics::counter!("courier_outbox_refused_total", "outbox" => outbox).increment(refused);
        }
        self.counted_at = Instant::now();
        self.counted = self.counting.take().map(|count| count.rows.into_iter().collect());
        Ok(())
    }

    /// What the rows that ended and are not counted yet add to the numbers.
    fn count_of_ended(&self) -> Option<OutboxCount> {
        let counted = self.counted.as_ref()?;
        let new = self.hand.ended().filter(|(row, _)| !counted.contains(row)).take(READ_ROWS);
        let mut count =
            OutboxCount { name: self.note.name.clone(), node: self.note.node.clone(), ..OutboxCount::default() };
        for (row, state) in new {
            match state {
                State::Committed => count.relayed += 1,
                _ => count.refused += 1,
            }
            count.rows.push(row);
        }
        if count.rows.is_empty() {
            return None;
        }
        count.rows.extend(counted.iter().cloned());
        count.rows.sort_unstable();
        Some(count)
    }

    /// Deletes the rows that are counted where they came from.
    async fn remove_counted(&mut self, source: &mut dyn OutboxSource) -> Result<usize, SourceError> {
        let Some(counted) = &mut self.counted else { return Ok(0) };
        let mut removed = 0;
        loop {
            let ended = self.hand.ended().map(|(row, _)| row).filter(|row| counted.contains(row));
            let rows: Vec<RowRef> = ended.take(READ_ROWS).collect();
            if rows.is_empty() {
                return Ok(removed);
            }
            bounded(source.remove(&rows)).await?;
            removed += rows.len();
            for row in &rows {
                self.hand.forget(row.0);
                counted.remove(row);
            }
        }
    }

    /// Writes rows to the store.
    async fn take_in(&mut self, rows: Vec<SourceRow>, epoch: i64) -> Result<(), StoreError> {
        let (name, shard) = (self.outbox.name.clone(), (self.shard, epoch));
        let (mut right, mut bad) = (Vec::new(), Vec::new());
        for row in rows {
            let (seq, row_id) = (row.seq, row.id.clone());
            match row::read(row, &name, now()) {
                Ok(draft) => right.push(ReadRow { seq, row_id, draft }),
                Err(row) => bad.push(*row),
            }
        }
        let at = Instant::now();
        let held = |row_id, topic: &str, created_at| HeldRow {
            row_id,
            message: None,
            topic: topic.into(),
            created_at,
            watch: None,
            ended: None,
        };
        self.acceptor.keep_bad_rows(&name, &bad).await?;
        for row in bad {
            if row.stays {
                self.hand.let_stay(row.seq, at);
            } else {
                let kept = held(row.row_id, &row.content.topic, row.content.time);
                self.hand.hold(row.seq, HeldRow { ended: Some(State::SendFail), ..kept }, at);
            }
        }
        // Rows of a topic past its bound wait where they are, and so do those
        // behind them: none is taken before an earlier one of its topic.
        let mut room: BTreeMap<String, bool> = BTreeMap::new();
        let mut refs = Vec::with_capacity(right.len());
        right.retain(|row| {
            let topic = &row.draft.topic;
            let has_room = room.entry(topic.clone()).or_insert(true);
            *has_room = *has_room && self.hand.has_room(topic);
            if *has_room {
                let row_id = row.row_id.clone();
                self.hand.hold(row.seq, held(row_id, topic, row.draft.time), at);
                refs.push(row.seq);
            }
            *has_room
        });
        match self.acceptor.take(shard, &name, right).await {
            Ok(taken) => {
                for (seq, AcceptedRow { message, ended, watch }) in refs.into_iter().zip(taken) {
                    self.hand.taken(seq, message, watch);
                    if let Some(state) = ended {
                        self.hand.end(seq, state, at);
                    }
                }
            }
            Err(error) => {
                // Nothing was taken: the rows are read again.
                refs.into_iter().for_each(|seq| self.hand.forget(seq));
                return Err(error);
            }
        }
        Ok(())
    }
}
