//! The loop of one outbox: read, hand in, learn the end, delete.
//!
//! It runs on every host, and does nothing where the lease on the outbox's
//! shard is not held. What it has in hand is bounded by [`IN_HAND`], and of
//! that only numbers and ids are kept. A database that is away is tried again
//! with growing pauses, and holds up no other outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::row;
use super::source::{self, READ_ROWS, Source, SourceError, bounded};
use super::taking::Taken;
use crate::config::Outbox;
use crate::publish::accept::Acceptor;
use crate::publish::lease::Shards;
use crate::publish::waker::Watch;
use crate::store::{Identity, OutboxNote, RelayResult, StoreError};

/// Rows that were handed to the store and have not ended, at most. Past it
/// nothing more is read: the rows wait where they are.
const IN_HAND: usize = 4_000;
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
/// How often what is to be told is noted when it changed, and when not.
const NOTE_CHANGED: Duration = Duration::from_secs(1);
const NOTE_ALWAYS: Duration = Duration::from_secs(5);
/// How often the rows are counted while there are more than one look reads.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What relays one outbox, where it is this host's turn.
pub(super) struct Intake {
    outbox: Outbox,
    shard: i32,
    acceptor: Acceptor,
    shards: watch::Receiver<Shards>,
    /// The epoch under which everything in hand was taken.
    epoch: Option<i64>,
    in_hand: BTreeMap<i64, InHand>,
    asked: Instant,
    counted: Option<Instant>,
    note: OutboxNote,
    noted: Option<(Instant, OutboxNote)>,
}

/// A row that the store has and the source still has too.
struct InHand {
    row_id: Bytes,
    message: Identity,
    created_at: Option<Timestamp>,
    watch: Option<Watch>,
    ended: Option<State>,
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
        outbox: Outbox,
        shard: i32,
        acceptor: Acceptor,
        shards: watch::Receiver<Shards>,
        node: Arc<str>,
    ) -> Self {
        let note = OutboxNote { name: outbox.name.clone(), node: node.as_ref().to_owned(), ..OutboxNote::default() };
        Self {
            outbox,
            shard,
            acceptor,
            shards,
            epoch: None,
            in_hand: BTreeMap::new(),
            asked: Instant::now(),
            counted: None,
            note,
            noted: None,
        }
    }

    /// Relays until `stop`. What is under way then is dropped, which is safe at
    /// any point.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.relay() => {}
        }
        metrics::gauge!("courier_outbox_failing", "outbox" => self.outbox.name.clone()).set(0.0);
    }

    async fn relay(&mut self) {
        let mut source: Option<Box<dyn Source>> = None;
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
            match self.turn(&mut source, epoch).await {
                Ok(progress) => {
                    again = AGAIN_FIRST;
                    if self.note.why.take().is_some() {
                        info!(outbox = %self.outbox.name, "the outbox is relayed again");
                    }
                    if progress {
                        happened = Instant::now();
                    }
                    pause = if happened.elapsed() < STAY_BUSY { BUSY } else { (pause * 2).min(IDLE) };
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
                        warn!(outbox = %self.outbox.name, %error, "the outbox cannot be taken in");
                        self.note.why = Some(error.to_string());
                    }
                    pause = IDLE;
                }
                Err(Broken::Source(SourceError(why))) => {
                    source = None;
                    if self.note.why.as_ref() != Some(&why) {
                        warn!(outbox = %self.outbox.name, %why, "the outbox cannot be relayed");
                    }
                    self.note.why = Some(why);
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

    /// Forgets what is in hand: whoever relays next reads it again.
    fn let_go(&mut self) {
        self.epoch = None;
        self.in_hand.clear();
        self.noted = None;
        self.note = OutboxNote {
            name: std::mem::take(&mut self.note.name),
            node: std::mem::take(&mut self.note.node),
            ..OutboxNote::default()
        };
    }

    /// One look: learns what ended, deletes it, takes what is new. True when
    /// something happened.
    async fn turn(&mut self, source: &mut Option<Box<dyn Source>>, epoch: i64) -> Result<bool, Broken> {
        let source = match source {
            Some(source) => source,
            None => source.insert(source::open(&self.outbox).await?),
        };
        self.learn().await?;
        let ended = self.remove_ended(source.as_mut()).await?;
        let mut taken = 0;
        let mut full = true;
        while full && self.in_hand.len() < IN_HAND {
            let read = self.take_next(source.as_mut(), epoch).await?;
            taken += read;
            full = read >= READ_ROWS;
        }
        self.tell_pending(source.as_mut(), full).await?;
        Ok(ended + taken > 0)
    }

    /// Learns what became of rows in hand: from this process's relay at once,
    /// of what others sent from the store.
    async fn learn(&mut self) -> Result<(), StoreError> {
        for row in self.in_hand.values_mut().filter(|row| row.ended.is_none()) {
            match row.watch.as_mut().and_then(Watch::told) {
                Some(RelayResult::Taken { .. }) => row.ended = Some(State::Committed),
                Some(RelayResult::Undelivered { .. }) => row.ended = Some(State::SendFail),
                Some(RelayResult::Later { .. }) => row.watch = self.acceptor.watch(&row.message),
                None => {}
            }
        }
        if self.asked.elapsed() < ASK_EVERY {
            return Ok(());
        }
        self.asked = Instant::now();
        let open = self.in_hand.iter().filter(|(_, row)| row.ended.is_none());
        let (seqs, messages): (Vec<i64>, Vec<Identity>) = open.map(|(seq, row)| (*seq, row.message.clone())).unzip();
        for (seqs, messages) in seqs.chunks(ASK_IDS).zip(messages.chunks(ASK_IDS)) {
            for (seq, ended) in seqs.iter().zip(self.acceptor.ended(messages).await?) {
                if let Some(row) = self.in_hand.get_mut(seq) {
                    row.ended = ended;
                }
            }
        }
        Ok(())
    }

    /// Deletes the rows that ended where they came from.
    async fn remove_ended(&mut self, source: &mut dyn Source) -> Result<usize, SourceError> {
        let ended: Vec<(i64, Bytes, State)> =
            self.in_hand.iter().filter_map(|(seq, row)| Some((*seq, row.row_id.clone(), row.ended?))).collect();
        for chunk in ended.chunks(READ_ROWS) {
            let rows: Vec<(i64, Bytes)> = chunk.iter().map(|(seq, id, _)| (*seq, id.clone())).collect();
            bounded(source.remove(&rows)).await?;
            for (seq, _, state) in chunk {
                self.in_hand.remove(seq);
                self.count(*state);
            }
        }
        Ok(ended.len())
    }

    fn count(&mut self, state: State) {
        let outbox = self.outbox.name.clone();
        if state == State::Committed {
            self.note.relayed += 1;
            metrics::counter!("courier_outbox_relayed_total", "outbox" => outbox).increment(1);
        } else {
            self.note.refused += 1;
            metrics::counter!("courier_outbox_refused_total", "outbox" => outbox).increment(1);
        }
    }

    /// Reads the next rows and hands them to the store; answers how many.
    async fn take_next(&mut self, source: &mut dyn Source, epoch: i64) -> Result<usize, Broken> {
        let limit = READ_ROWS.min(IN_HAND - self.in_hand.len());
        let in_hand: Vec<i64> = self.in_hand.keys().copied().collect();
        let rows = bounded(source.read(&in_hand, limit)).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let read = rows.len();
        let name = &self.outbox.name;
        let kept: Vec<_> = rows.iter().map(|row| (row.seq, row.id.clone(), row.created_at)).collect();
        let drafts = rows.into_iter().map(|one| {
            let stand_in = row::stand_in(name, one.seq);
            (row::draft(one, name), stand_in)
        });
        let taken = self.acceptor.take((self.shard, epoch), drafts.collect()).await?;
        for ((seq, row_id, created_at), Taken { message, ended, watch }) in kept.into_iter().zip(taken) {
            self.in_hand.insert(seq, InHand { row_id, message, created_at, watch, ended });
        }
        Ok(read)
    }

    /// Works out how many rows wait: those in hand, unless there are more than
    /// one look reads.
    async fn tell_pending(&mut self, source: &mut dyn Source, more: bool) -> Result<(), SourceError> {
        if !more {
            self.note.pending = i64::try_from(self.in_hand.len()).ok();
            self.counted = None;
        } else if self.counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            self.note.pending = Some(bounded(source.count()).await?);
            self.counted = Some(Instant::now());
        }
        self.note.oldest_at = self.in_hand.values().next().and_then(|row| row.created_at);
        Ok(())
    }

    /// Writes what is to be told, now and then. What cannot be written is told
    /// the next time.
    async fn write_note(&mut self, epoch: i64) {
        let name = self.outbox.name.clone();
        let failing = if self.note.why.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("courier_outbox_failing", "outbox" => name.clone()).set(failing);
        if let Some(pending) = self.note.pending {
            metrics::gauge!("courier_outbox_pending", "outbox" => name).set(pending as f64);
        }
        let due = match &self.noted {
            None => true,
            Some((at, last)) if last.why != self.note.why => at.elapsed() >= BUSY,
            Some((at, last)) if *last != self.note => at.elapsed() >= NOTE_CHANGED,
            Some((at, _)) => at.elapsed() >= NOTE_ALWAYS,
        };
        if !due {
            return;
        }
        match self.acceptor.note_outbox((self.shard, epoch), &self.note).await {
            Ok(()) => {
                (self.note.relayed, self.note.refused) = (0, 0);
                self.noted = Some((Instant::now(), self.note.clone()));
            }
            Err(error) => debug!(%error, "what is to be told of an outbox is not written"),
        }
    }
}
