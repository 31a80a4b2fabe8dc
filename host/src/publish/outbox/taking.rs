//! Writes the messages of an outbox to the store as outbound rows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::Kind;
use courier_core::status::State;
use tokio::time::Instant;

use super::row::{self, BadRow};
use crate::clock::now;
use crate::publish::draft::{Draft, SendProblem, digest};
use crate::publish::send::Acceptor;
use crate::publish::send::result::count;
use crate::publish::waker::Watch;
use crate::store::undelivered::NewUndelivered;
use crate::store::{Accepted, Identity, NewMessage, OutboxCount, OutboxNote, OutboxRowRef, StoreError};

/// How long one look at an outbox may take to learn of the companions of its
/// broadcasts, and to create them.
const COMPANIONS_WITHIN: Duration = Duration::from_secs(2);

/// The result of writing a message.
pub(super) struct AcceptedRow {
    /// The message under which it is found; none for a row that is kept as
    /// undelivered.
    pub message: Option<Identity>,
    /// Its state, once nothing more happens to it.
    pub ended: Option<State>,
    /// Tells how it ends, if a relay of this process sends it.
    pub watch: Option<Watch>,
}

/// A row that was read, with its message.
pub(super) struct ReadRow {
    /// Its number at its source.
    pub seq: i64,
    /// Its id there.
    pub row_id: Option<Bytes>,
    /// What it says.
    pub draft: Draft,
}

/// A message on its way into the store.
struct OwedRow {
    /// The place of its row among those that are taken.
    place: usize,
    message: NewMessage,
    watch: Option<Watch>,
}

/// The store's answer to a message, or why it will never take it.
type Stored = Result<Accepted, SendProblem>;

impl Acceptor {
    /// Watches for what becomes of a message.
    pub(super) fn watch(&self, message: &Identity) -> Option<Watch> {
        self.inner.waker.watch(message)
    }

    /// The final states of these messages; messages that have not ended are left out.
    pub(super) async fn ended(&self, messages: &[Identity]) -> Result<Vec<Option<State>>, StoreError> {
        self.inner.store.ended(messages).await
    }

    /// Writes what is to be told of an outbox.
    pub(super) async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError> {
        self.inner.store.note_outbox(shard, note).await
    }

    /// Adds to the numbers of an outbox; false when it was done before.
    pub(super) async fn count_outbox(&self, shard: (i32, i64), count: &OutboxCount) -> Result<bool, StoreError> {
        self.inner.store.count_outbox(shard, count).await
    }

    /// The rows of an outbox that are counted and may still be at their source.
    pub(super) async fn counted_rows(&self, name: &str) -> Result<Vec<OutboxRowRef>, StoreError> {
        self.inner.store.counted_rows(name).await
    }

    /// Keeps rows that can never be sent as they are; a row that is kept
    /// already is left as it is.
    pub(super) async fn keep_bad_rows(&self, outbox: &str, rows: &[BadRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let now = now();
        let kept: Vec<NewUndelivered> = rows.iter().map(|row| row.undelivered(outbox, now)).collect();
        self.inner.store.keep_undelivered(&kept).await?;
        rows.iter().for_each(|_| count(State::SendFail));
        Ok(())
    }

    /// The topics for which so much is undelivered that nothing more is taken
    /// for them; the empty one stands for rows without a topic.
    pub(super) fn full_destinations(&self) -> Arc<HashSet<String>> {
        self.inner.full.all()
    }

    /// Takes rows of the outbox `name`, in order.
    ///
    /// # Errors
    /// What the store says of all of them: nothing was taken.
    pub(super) async fn take(
        &self,
        shard: (i32, i64),
        name: &str,
        rows: Vec<ReadRow>,
    ) -> Result<Vec<AcceptedRow>, StoreError> {
        let inner = &self.inner;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let spoken = rows.iter().map(|row| &row.draft).filter(|draft| draft.kind == Kind::Broadcast);
        let spoken: HashSet<&str> = spoken.map(|draft| draft.topic.as_str()).collect();
        let until = Instant::now() + COMPANIONS_WITHIN;
        for topic in spoken {
            inner.prepare_companion(topic, until).await;
        }
        // Before the rows are there, so that nothing that is sent directly
        // from now on overtakes them.
        let topics: HashSet<_> = rows.iter().map(|row| row.draft.kind.log_topic(&row.draft.topic)).collect();
        let marks: Vec<_> = topics.iter().map(|topic| inner.backlog.mark(topic)).collect();
        let now = now();
        let (mut owed, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            let draft = &row.draft;
            // When a row was written does not make it another message: a
            // sender that is in doubt may insert it once more.
            let digest = digest(&Draft { time: None, ..draft.clone() });
            match inner.made_ready(draft.clone(), now) {
                Ok(ready) => owed.push(match ready.due {
                    // The store keeps it until it is due: for its sender it
                    // has ended.
                    Some(_) => OwedRow { place, message: NewMessage { digest, ..ready.delayed() }, watch: None },
                    None => {
                        let watch = inner.waker.watch(&ready.identity());
                        let message = ready.owed("waits for its turn to be sent", None);
                        OwedRow { place, message: NewMessage { digest, ..message }, watch }
                    }
                }),
                Err((_, problem)) => bad.push((place, problem)),
            }
        }
        let messages: Vec<NewMessage> = owed.iter().map(|row| row.message.clone()).collect();
        let answers = self.store_all(shard, messages).await?;
        drop(marks);
        inner.waker.wake();
        let mut taken: Vec<Option<AcceptedRow>> = rows.iter().map(|_| None).collect();
        for (row, answer) in owed.into_iter().zip(answers) {
            let place = row.place;
            match self.judge(row, answer) {
                Ok(ends) => taken[place] = Some(ends),
                Err(problem) => bad.push((place, problem)),
            }
        }
        let refused = bad.iter().map(|(place, problem)| {
            let ReadRow { seq, row_id, draft } = &rows[*place];
            row::refused(*seq, row_id.clone(), draft.clone(), problem, now)
        });
        self.keep_bad_rows(name, &refused.collect::<Vec<_>>()).await?;
        let of_bad = || AcceptedRow { message: None, ended: Some(State::SendFail), watch: None };
        Ok(taken.into_iter().map(|one| one.unwrap_or_else(of_bad)).collect())
    }

    /// Stores messages in one transaction. When the store refuses the content
    /// of one, it is found by halving.
    async fn store_all(&self, shard: (i32, i64), messages: Vec<NewMessage>) -> Result<Vec<Stored>, StoreError> {
        match self.inner.store.take_outbox(shard, &messages).await {
            Err(StoreError::Data(why)) if messages.len() <= 1 => {
                Ok(messages.iter().map(|_| Err(SendProblem::invalid(format!("the store refuses it: {why}")))).collect())
            }
            Err(StoreError::Data(_)) => {
                let half = messages.len() / 2;
                let mut first = messages;
                let second = first.split_off(half);
                // The first half before the second: their order is that of
                // sending.
                let mut answers = Box::pin(self.store_all(shard, first)).await?;
                answers.extend(Box::pin(self.store_all(shard, second)).await?);
                Ok(answers)
            }
            answer => Ok(answer?.into_iter().map(Ok).collect()),
        }
    }

    /// What the store's answer means for a row, or why it can never be sent.
    fn judge(&self, row: OwedRow, answer: Stored) -> Result<AcceptedRow, SendProblem> {
        let OwedRow { message, watch, .. } = row;
        let identity = message.identity();
        let (ended, watch) = match answer? {
            Accepted::New => match message.due {
                Some(due) => {
                    self.inner.alarm.set(due, now());
                    (Some(State::Committed), None)
                }
                None => (None, watch),
            },
            Accepted::Same(known) if known.retrying => (None, watch),
            Accepted::Same(known) => (Some(known.state), None),
            Accepted::Other => return Err(SendProblem::conflict(&identity)),
            Accepted::Reserved { transaction } => return Err(SendProblem::reserved(&identity, &transaction)),
        };
        Ok(AcceptedRow { message: Some(identity), ended, watch })
    }
}
