//! Half messages: messages that are stored and not sent until their sender
//! says that its own transaction committed.
//!
//! ```text
//! PREPARED  -> COMMITTED     the sender said so, or its check URL did
//!           -> ROLLED_BACK   the same
//!           -> ABANDONED     nobody ended it in time, and the check URL did not
//!                            know within the number of calls that it gets
//! ABANDONED -> COMMITTED     the sender, or a person, said so after all
//!           -> ROLLED_BACK   the same
//! ```
//!
//! COMMITTED and ROLLED_BACK are final. While a transaction is PREPARED no other message
//! can take the identities of its messages, so that it can commit. A commit writes the
//! messages and their outbound rows in the transaction of the store that changes the
//! state. An ABANDONED one keeps its records until retention.

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::delayed::is_cancelled;
use super::{Due, Identity, Listing, MessageRow, NewMessage, NewOutbound, Page, SentBy, StoreError};

/// The state of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfState {
    /// Its sender has neither committed it nor rolled it back.
    Prepared,
    /// Its messages exist.
    Committed,
    /// Its messages are never sent.
    RolledBack,
    /// Nobody ended it in time. Its messages are not sent unless somebody commits it
    /// after all.
    Abandoned,
}

impl HalfState {
    /// All states; a transaction begins with the first.
    pub const ALL: [Self; 4] = [Self::Prepared, Self::Committed, Self::RolledBack, Self::Abandoned];

    /// The word that people and programs see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "PREPARED",
            Self::Committed => "COMMITTED",
            Self::RolledBack => "ROLLED_BACK",
            Self::Abandoned => "ABANDONED",
        }
    }

    /// The number that stores keep; it never changes.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Prepared => 1,
            Self::Committed => 2,
            Self::RolledBack => 3,
            Self::Abandoned => 4,
        }
    }

    /// The state with this [`code`](Self::code).
    ///
    /// # Errors
    /// When there is none.
    pub fn from_code(code: i16) -> Result<Self, StoreError> {
        let state = Self::ALL.into_iter().find(|state| state.code() == code);
        state.ok_or_else(|| StoreError::Bug(format!("no state of a transaction has the code {code}")))
    }
}

impl FromStr for HalfState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
            format!("unknown state {word:?}: a transaction is PREPARED, COMMITTED, ROLLED_BACK or ABANDONED")
        })
    }
}

/// A transaction as it is prepared.
#[derive(Clone, Debug)]
pub struct NewHalf {
    /// Its id, made by the host.
    pub id: String,
    /// The messages that are sent if it commits, in order. Each has its outbound row.
    pub messages: Vec<NewMessage>,
    /// The URL at which its sender is asked how it ended.
    pub check_url: Option<String>,
    /// How long its sender has before it is asked, or the transaction is abandoned.
    pub timeout: Duration,
}

/// A message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfMessage {
    pub id: String,
    pub topic: String,
    pub type_name: String,
    pub key: Option<Bytes>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfRow {
    pub id: String,
    pub state: HalfState,
    /// Its messages, in order.
    pub messages: Vec<HalfMessage>,
    /// The URL at which its sender is asked how it ended.
    pub check_url: Option<String>,
    /// How long its sender has to end it.
    pub timeout: Duration,
    /// When it was prepared.
    pub created_at: Timestamp,
    /// When the sender's time ends.
    pub deadline: Timestamp,
    /// How often the check URL was called.
    pub checks: u32,
    /// Since when the check URL does not answer; `None` while it does.
    pub unreachable_since: Option<Timestamp>,
    /// When the check URL is called next; `None` once the transaction has ended.
    pub next_check_at: Option<Timestamp>,
    /// The result of the last call, for people.
    pub last_answer: Option<String>,
    /// Why it ended, for people.
    pub reason: Option<String>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The token that prepared it; `None` on a host without tokens, and for what an
    /// earlier version took.
    pub sender: Option<String>,
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfEnd {
    pub row: HalfRow,
    /// Whether this call ended it; false when it had ended so before.
    pub has_moved: bool,
}

/// A transaction whose check URL is to be called, claimed by one host for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfCheck {
    pub id: String,
    /// The URL to call; `None` when the sender named none.
    pub check_url: Option<String>,
    /// How long its sender had.
    pub timeout: Duration,
    /// The number of this call, from 1. A claim that another host took over has a lower
    /// one.
    pub checks: u32,
    /// How many calls were answered.
    pub answered: u32,
    /// How many calls in a row before this one were not answered.
    pub unreachable: u32,
}

/// What follows a call that did not end its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAsking {
    /// The URL answered, and is called again after this long.
    Again(Duration),
    /// The URL did not answer: it is called again after this long, and the call does
    /// not count.
    Retry(Duration),
    /// The transaction is ABANDONED.
    Abandon,
}

impl AfterAsking {
    /// How long until the next call, if there is one.
    #[must_use]
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::Again(wait) | Self::Retry(wait) => Some(wait),
            Self::Abandon => None,
        }
    }
}

/// The reason of a transaction that is ABANDONED because its check URL did not answer
/// within the retention.
pub const UNREACHABLE: &str = "its check_url gave no answer until it was older than the retention";

/// Prepares and ends transactions, for `publish/transactions/` and the API.
#[async_trait]
pub trait HalfStore: Send + Sync + 'static {
    /// Counts the PREPARED transactions, of one sender or of all, up to `most`.
    async fn prepared_halves(&self, sender: Option<&str>, most: u32) -> Result<u32, StoreError>;

    /// Stores a transaction as PREPARED. It holds the identities of its messages until
    /// it ends. `Conflict` when another message was sent under one of them, or another
    /// prepared transaction holds one.
    async fn prepare_half(&self, half: &NewHalf) -> Result<HalfRow, StoreError>;

    /// Writes the messages of a transaction as [`super::AcceptStore::accept`] would
    /// and makes it COMMITTED, all in one transaction of the store. A second call
    /// returns the same row. `Conflict` for a ROLLED_BACK one, for an ABANDONED one
    /// whose records are gone, and for one of whose messages an identity was taken
    /// meanwhile or is that of the same message which nobody sends any more; the last
    /// two stay as they are.
    async fn commit_half(&self, id: &str, reason: &str) -> Result<HalfEnd, StoreError>;

    /// Makes a transaction ROLLED_BACK. A second call returns the same row. `Conflict` for
    /// one that is COMMITTED.
    async fn roll_back_half(&self, id: &str, reason: &str) -> Result<HalfEnd, StoreError>;

    /// Claims transactions whose deadline has passed, for `lease`, in which no other host
    /// gets them. Returns also how long it takes until the next one; `None` when no
    /// transaction is prepared.
    async fn claim_checks(&self, lease: Duration, limit: u32)
    -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError>;

    /// Records the result of a call that did not end its transaction, and what follows.
    /// Does nothing when the transaction has ended or was claimed anew meanwhile.
    async fn leave_half(&self, check: &HalfCheck, answer: &str, then: AfterAsking) -> Result<(), StoreError>;

    /// Lists the PREPARED transactions whose check URL does not answer, oldest first. If
    /// `topics` are named, only transactions all of whose messages are on them.
    async fn unreachable_halves(&self, topics: Option<&[String]>, limit: u32) -> Result<Vec<HalfRow>, StoreError>;

    /// Reads one transaction.
    async fn half(&self, id: &str) -> Result<Option<HalfRow>, StoreError>;

    /// Lists transactions, newest first: in `state` if one is named, and only those all
    /// of whose messages are on `topics` if some are.
    async fn halves(
        &self,
        state: Option<HalfState>,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<HalfRow>, StoreError>;
}

/// Whether a transaction has to be moved from `state` to `wanted`; false when it is
/// there already.
///
/// # Errors
/// `Conflict` for one that ended in another state.
pub fn may_end(id: &str, state: HalfState, wanted: HalfState) -> Result<bool, StoreError> {
    match state {
        state if state == wanted => Ok(false),
        HalfState::Prepared | HalfState::Abandoned => Ok(true),
        ended => Err(StoreError::Conflict(format!(
            "transaction {id} is {}, which is final: it cannot become {}",
            ended.as_str(),
            wanted.as_str()
        ))),
    }
}

/// The error for a message whose identity another message has.
#[must_use]
pub fn identity_taken(message: &Identity) -> StoreError {
    StoreError::Conflict(format!("message {message} was sent before, with other content"))
}

/// The error for a message whose identity a prepared transaction holds.
#[must_use]
pub fn identity_reserved(message: &Identity, transaction: &str) -> StoreError {
    StoreError::Conflict(reserved(message, transaction))
}

/// The text of [`identity_reserved`].
#[must_use]
pub fn reserved(message: &Identity, transaction: &str) -> String {
    format!("message {message} is part of the transaction {transaction}, which is prepared and has not ended")
}

/// Checks the message that the store has already under the identity of a message of a
/// transaction, and that is the same. If nobody sends it any more, the transaction
/// would commit and the message would never exist.
///
/// # Errors
/// `Conflict` when it is neither in Kafka nor on its way there.
pub fn may_repeat(known: &MessageRow) -> Result<(), StoreError> {
    if known.state == State::Committed || known.retrying {
        return Ok(());
    }
    let identity = known.identity();
    if is_cancelled(known) {
        return Err(StoreError::Conflict(format!("message {identity} was sent before and cancelled")));
    }
    let reason = known.reason.as_deref().unwrap_or("its reason is not known");
    Err(StoreError::Conflict(format!("message {identity} was sent before and is no longer sent: {reason}")))
}

/// The error for an abandoned transaction whose records are gone.
#[must_use]
pub fn records_gone(id: &str) -> StoreError {
    StoreError::Conflict(format!("transaction {id} was abandoned, and its records are no longer kept"))
}

/// A message as a transaction keeps it.
#[derive(Clone, Debug)]
pub struct KeptMessage {
    pub id: String,
    /// SHA-256 over the content, which tells a repeated message from another one.
    pub digest: [u8; 32],
    pub key: Option<Bytes>,
    pub source: String,
    /// The topic that it is published on.
    pub topic: String,
    /// Kafka's topic for its record.
    pub goes_to: String,
    pub type_name: String,
    /// `event` or `broadcast`.
    pub kind: String,
    /// The time of the event, by its sender.
    pub time: Timestamp,
    /// Its relay shard.
    pub shard: i32,
    /// The whole record, encoded.
    pub record: Bytes,
    /// When it is due after the transaction committed.
    pub due: Option<Due>,
    /// Who handed it in, when that is known.
    pub sent_by: Option<SentBy>,
}

impl NewHalf {
    /// The sender who prepares it: all its messages come in one request.
    #[must_use]
    pub fn sender(&self) -> Option<&str> {
        Some(self.messages.first()?.sent_by.as_ref()?.sender.as_str())
    }
}

impl From<KeptMessage> for NewMessage {
    /// The message to be accepted when the transaction commits.
    fn from(kept: KeptMessage) -> Self {
        let outbound = NewOutbound {
            message_id: kept.id.clone(),
            topic: kept.goes_to,
            type_name: kept.type_name.clone(),
            source: kept.source.clone(),
            key: kept.key.clone(),
            record: kept.record,
            shard: kept.shard,
            held_for: None,
            listed: true,
            group: None,
        };
        // A delayed message is COMMITTED at once; any other is on its way to Kafka.
        let waits = kept.due.is_some();
        Self {
            id: kept.id,
            digest: kept.digest,
            key: kept.key,
            source: kept.source,
            topic: kept.topic,
            type_name: kept.type_name,
            kind: if kept.kind == "broadcast" { "broadcast" } else { "event" },
            time: kept.time,
            state: if waits { State::Committed } else { State::SendFail },
            reason: (!waits).then(|| "its transaction committed, and it is being sent".to_owned()),
            retrying: !waits,
            place: None,
            record: None,
            outbound: Some(outbound),
            due: kept.due,
            sent_by: kept.sent_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers the whole table, so that no transition appears or vanishes by accident.
    #[test]
    fn a_transaction_ends_once_and_an_abandoned_one_can_still_be_ended() {
        for from in HalfState::ALL {
            assert_eq!(from.as_str().parse(), Ok(from));
            assert_eq!(HalfState::from_code(from.code()).unwrap(), from);
            for to in [HalfState::Committed, HalfState::RolledBack, HalfState::Abandoned] {
                let may = may_end("t", from, to);
                match (from, from == to) {
                    (_, true) => assert!(!may.unwrap()),
                    (HalfState::Prepared | HalfState::Abandoned, _) => assert!(may.unwrap()),
                    (_, false) => assert!(matches!(may, Err(StoreError::Conflict(_)))),
                }
            }
        }
        assert!("prepared".parse::<HalfState>().unwrap_err().contains("PREPARED"));
    }
}
