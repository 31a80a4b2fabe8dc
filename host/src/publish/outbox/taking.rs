//! Hands the messages of an outbox to the store, as owed to Kafka.

use std::collections::HashSet;
use std::time::Duration;

use courier_core::message::Kind;
use courier_core::status::State;
use tokio::time::Instant;

use crate::clock::now;
use crate::publish::accept::Acceptor;
use crate::publish::draft::{Draft, digest};
use crate::publish::landing::count;
use crate::publish::waker::Watch;
use crate::store::half::reserved;
use crate::store::{Accepted, Identity, NewMessage, OutboxNote, StoreError};

/// How long one look at an outbox may take to learn of the companions of its
/// broadcasts, and to create them.
const COMPANIONS_WITHIN: Duration = Duration::from_secs(2);

/// What the store made of a message.
pub(super) struct Taken {
    /// The message under which it is found.
    pub message: Identity,
    /// Its state, once nothing more happens to it.
    pub ended: Option<State>,
    /// Tells how it ends, if a relay of this process sends it.
    pub watch: Option<Watch>,
}

/// A message on its way into the store.
struct Row {
    message: NewMessage,
    watch: Option<Watch>,
}

impl Acceptor {
    /// Watches for what becomes of a message.
    pub(super) fn watch(&self, message: &Identity) -> Option<Watch> {
        self.inner.waker.watch(message)
    }

    /// How these messages have ended; none of one that has not.
    pub(super) async fn ended(&self, messages: &[Identity]) -> Result<Vec<Option<State>>, StoreError> {
        self.inner.store.ended(messages).await
    }

    /// Writes what is to be told of an outbox.
    pub(super) async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError> {
        self.inner.store.note_outbox(shard, note).await
    }

    /// Takes drafts, in order; each comes with an id of its own to stand in
    /// where the one it has is taken by another message.
    ///
    /// # Errors
    /// What the store says of all of them: nothing was taken.
    pub(super) async fn take(&self, shard: (i32, i64), drafts: Vec<(Draft, String)>) -> Result<Vec<Taken>, StoreError> {
        let inner = &self.inner;
        let spoken = drafts.iter().filter(|(draft, _)| draft.fault.is_none() && draft.kind == Kind::Broadcast);
        let spoken: HashSet<&str> = spoken.map(|(draft, _)| draft.topic.as_str()).collect();
        let until = Instant::now() + COMPANIONS_WITHIN;
        for topic in spoken {
            inner.prepare_companion(topic, until).await;
        }
        // Before the rows are there, so that nothing that is sent directly
        // from now on overtakes them.
        let topics: HashSet<_> = drafts.iter().map(|(draft, _)| draft.kind.log_topic(&draft.topic)).collect();
        let marks: Vec<_> = topics.iter().map(|topic| inner.backlog.mark(topic)).collect();
        let now = now();
        let (mut rows, mut stand_ins) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for (draft, stand_in) in drafts {
            stand_ins.push(stand_in);
            // When a row was written does not make it another message: a
            // sender that is in doubt may insert it once more.
            let digest = digest(&Draft { time: None, ..draft.clone() });
            rows.push(match inner.made_ready(draft, now) {
                Ok(ready) => match ready.due {
                    // The store keeps it until it is due: for its sender it
                    // has ended.
                    Some(_) => Row { message: NewMessage { digest, ..ready.delayed() }, watch: None },
                    None => {
                        let watch = inner.waker.watch(&ready.identity());
                        let owed = ready.owed("waits for its turn to be sent", None);
                        Row { message: NewMessage { digest, ..owed }, watch }
                    }
                },
                Err((refused, _)) => Row { message: NewMessage { digest, ..*refused }, watch: None },
            });
        }
        let messages: Vec<NewMessage> = rows.iter().map(|row| row.message.clone()).collect();
        let answers = self.store_all(shard, messages, &stand_ins).await?;
        drop(marks);
        inner.waker.wake();
        let mut taken = Vec::with_capacity(rows.len());
        for ((row, answer), stand_in) in rows.into_iter().zip(answers).zip(stand_ins) {
            taken.push(self.judge(shard, row, answer, stand_in).await?);
        }
        Ok(taken)
    }

    /// Stores messages in one transaction. When the store refuses the content
    /// of one, it is found by halving, and a row that says so takes its place.
    async fn store_all(
        &self,
        shard: (i32, i64),
        messages: Vec<NewMessage>,
        stand_ins: &[String],
    ) -> Result<Vec<Accepted>, StoreError> {
        match self.inner.store.take_outbox(shard, &messages).await {
            Err(StoreError::Data(why)) if messages.len() <= 1 => {
                let mut answers = Vec::with_capacity(messages.len());
                for (message, stand_in) in messages.into_iter().zip(stand_ins) {
                    let why = format!("the store refuses it: {why}");
                    let bare = NewMessage { key: None, source: String::new(), record: None, ..message };
                    answers.push(self.refuse(shard, bare, stand_in, why).await?);
                }
                Ok(answers)
            }
            Err(StoreError::Data(_)) => {
                let half = messages.len() / 2;
                let mut first = messages;
                let second = first.split_off(half);
                // The first half before the second: their order is that of
                // sending.
                let mut answers = Box::pin(self.store_all(shard, first, &stand_ins[..half])).await?;
                answers.extend(Box::pin(self.store_all(shard, second, &stand_ins[half..])).await?);
                Ok(answers)
            }
            answer => answer,
        }
    }

    /// Keeps a message that will never be sent under another id.
    async fn refuse(
        &self,
        shard: (i32, i64),
        message: NewMessage,
        id: &str,
        why: String,
    ) -> Result<Accepted, StoreError> {
        let refused = NewMessage {
            id: id.to_owned(),
            state: State::SendFail,
            reason: Some(why),
            retrying: false,
            outbound: None,
            ..message
        };
        let mut answers = self.inner.store.take_outbox(shard, &[refused]).await?;
        answers.pop().ok_or_else(|| StoreError::Bug("no answer for a message of an outbox".to_owned()))
    }

    async fn judge(
        &self,
        shard: (i32, i64),
        row: Row,
        answer: Accepted,
        stand_in: String,
    ) -> Result<Taken, StoreError> {
        let message = row.message.identity();
        let why = match answer {
            Accepted::New if row.message.is_refused() => {
                count(State::SendFail);
                return Ok(Taken { message, ended: Some(State::SendFail), watch: None });
            }
            Accepted::New => {
                let Some(due) = row.message.due else { return Ok(Taken { message, ended: None, watch: row.watch }) };
                self.inner.alarm.set(due, now());
                return Ok(Taken { message, ended: Some(State::Committed), watch: None });
            }
            Accepted::Same(known) if known.retrying => return Ok(Taken { message, ended: None, watch: row.watch }),
            Accepted::Same(known) => return Ok(Taken { message, ended: Some(known.state), watch: None }),
            Accepted::Other => format!("the message {message} was sent before, with other content"),
            Accepted::Reserved { transaction } => format!("the {}", reserved(&message, &transaction)),
        };
        // A look at the body is what helps to tell the two apart.
        let body = row.message.record.clone();
        self.refuse(shard, NewMessage { record: body, ..row.message }, &stand_in, why).await?;
        count(State::SendFail);
        Ok(Taken { message: Identity { id: stand_in, ..message }, ended: Some(State::SendFail), watch: None })
    }
}
