//! Half messages: messages that are stored and not sent until their sender
//! says that its own transaction committed.
//!
//! ```text
//! PREPARED  -> COMMITTED     the sender said so, or its check URL did
//!           -> ROLLED_BACK   the same
//!           -> ABANDONED     nobody said anything, and the check URL answered
//!                            as often as it is asked without knowing
//! ABANDONED -> COMMITTED     the sender, or a person, said so after all
//!           -> ROLLED_BACK   the same
//! ```
//!
//! COMMITTED and ROLLED_BACK are final. While a transaction is PREPARED nobody
//! else can take the identities of its messages, so that it can commit. A commit
//! writes the messages and the rows through which they go to Kafka in the
//! transaction that changes the state. An ABANDONED one keeps its records until
//! retention.

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::{Due, Identity, Listing, NewMessage, NewOutbound, Page, SentBy, StoreError};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfState {
    /// Its sender has not said what became of it.
    Prepared,
    /// Its messages exist.
    Committed,
    /// They never will.
    RolledBack,
    /// Nobody said anything in time: they never will either.
    Abandoned,
}

impl HalfState {
    /// All of them; a transaction begins with the first.
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
    /// What is sent if it commits, in order; each has its outbound row.
    pub messages: Vec<NewMessage>,
    /// Where it is asked what became of it.
    pub check_url: Option<String>,
    /// How long its sender has before it is asked, or it is abandoned.
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
    /// Where it stands.
    pub state: HalfState,
    /// What it is about, in order.
    pub messages: Vec<HalfMessage>,
    /// Where it is asked what became of it.
    pub check_url: Option<String>,
    /// How long its sender has.
    pub timeout: Duration,
    /// When it was prepared.
    pub created_at: Timestamp,
    /// When the sender's time is over.
    pub deadline: Timestamp,
    /// How often the check URL was asked.
    pub checks: u32,
    /// Since when the check URL gives no answer; none while it does.
    pub unreachable_since: Option<Timestamp>,
    /// When it is asked next; none once it has ended.
    pub next_check_at: Option<Timestamp>,
    /// What the last asking brought, for people.
    pub last_answer: Option<String>,
    /// Why it ended, for people.
    pub reason: Option<String>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A transaction of which somebody has to be asked, claimed for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfCheck {
    pub id: String,
    /// Where to ask; none means that nobody can be.
    pub check_url: Option<String>,
    /// How long its sender had.
    pub timeout: Duration,
    /// Which asking this is, from 1; a claim that was lost has an older one.
    pub checks: u32,
    /// How many askings were answered.
    pub answered: u32,
    /// How many askings in a row were not, until this one.
    pub unreachable: u32,
}

/// What follows an asking that did not end its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAsking {
    /// It was answered, and is asked again after this long.
    Again(Duration),
    /// Nobody answered: it is tried again after this long, and does not count.
    Retry(Duration),
    /// It is ABANDONED.
    Abandon,
}

impl AfterAsking {
    /// How long until the next asking, if there is one.
    #[must_use]
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::Again(wait) | Self::Retry(wait) => Some(wait),
            Self::Abandon => None,
        }
    }
}

/// Why a transaction whose sender could not be asked until retention is
/// ABANDONED.
pub const UNREACHABLE: &str = "its check_url gave no answer until it was older than the retention";

/// The verbs of half messages.
#[async_trait]
pub trait HalfStore: Send + Sync + 'static {
    /// How many transactions are PREPARED, counted up to `most`.
    async fn prepared_halves(&self, sender: Option<&str>, most: u32) -> Result<u32, StoreError>;

    /// Stores a transaction as PREPARED, which holds the identities of its
    /// messages until it ends. `Conflict` when something else was sent under
    /// one of them, or another prepared transaction holds it.
    async fn prepare_half(&self, half: &NewHalf) -> Result<HalfRow, StoreError>;

    /// Writes the messages of a transaction as [`super::AcceptStore::accept`] would
    /// and makes it COMMITTED, all in one transaction. Again, it answers the
    /// same. `Conflict` for one that is ROLLED_BACK, and, leaving it as it is,
    /// for an ABANDONED one of which the records are gone or an identity was
    /// taken meanwhile.
    async fn commit_half(&self, id: &str, reason: &str) -> Result<HalfRow, StoreError>;

    /// Makes a transaction ROLLED_BACK. Again, it answers the same; `Conflict`
    /// for one that is COMMITTED.
    async fn roll_back_half(&self, id: &str, reason: &str) -> Result<HalfRow, StoreError>;

    /// Claims transactions whose sender's time is over, for `lease`: no other
    /// host gets them meanwhile. Answers also how long until the next, none
    /// when nothing is prepared.
    async fn claim_checks(&self, lease: Duration, limit: u32)
    -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError>;

    /// Nobody said what became of a claimed transaction, and `then` follows.
    /// Does nothing when it has ended, or was claimed anew, meanwhile.
    async fn leave_half(&self, check: &HalfCheck, answer: &str, then: AfterAsking) -> Result<(), StoreError>;

    /// PREPARED transactions whose check URL gives no answer, the oldest first.
    /// Where topics are named, all messages of a transaction are on these topics.
    async fn unreachable_halves(&self, topics: Option<&[String]>, limit: u32) -> Result<Vec<HalfRow>, StoreError>;

    /// One transaction.
    async fn half(&self, id: &str) -> Result<Option<HalfRow>, StoreError>;

    /// Transactions, newest first; those in `state` if one is named, and those
    /// that are about `topics` alone if some are.
    async fn halves(
        &self,
        state: Option<HalfState>,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<HalfRow>, StoreError>;
}

/// Whether a transaction may go from `state` to `wanted`: true when it may,
/// false when it is there already.
///
/// # Errors
/// `Conflict` for one that ended otherwise.
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

/// Why a message is not taken into a transaction: something else has its
/// identity.
#[must_use]
pub fn identity_taken(message: &Identity) -> StoreError {
    StoreError::Conflict(format!("message {message} was sent before, with other content"))
}

/// Why a message is not taken: a prepared transaction holds its identity.
#[must_use]
pub fn identity_reserved(message: &Identity, transaction: &str) -> StoreError {
    StoreError::Conflict(reserved(message, transaction))
}

/// The same, for people.
#[must_use]
pub fn reserved(message: &Identity, transaction: &str) -> String {
    format!("message {message} is part of the transaction {transaction}, which is prepared and has not ended")
}

/// Why an abandoned transaction cannot commit any more.
#[must_use]
pub fn records_gone(id: &str) -> StoreError {
    StoreError::Conflict(format!("transaction {id} was abandoned, and its records are no longer kept"))
}

/// A message as a transaction keeps it, apart from its record.
#[derive(Clone, Debug)]
pub struct KeptMessage {
    pub id: String,
    /// SHA-256 of what makes it the same message.
    pub digest: [u8; 32],
    pub key: Option<Bytes>,
    pub source: String,
    /// The topic it is for.
    pub topic: String,
    /// The topic its record goes to.
    pub goes_to: String,
    pub type_name: String,
    /// `event` or `broadcast`.
    pub kind: String,
    /// When the sender says it happened.
    pub time: Timestamp,
    /// Its relay shard.
    pub shard: i32,
    /// The whole record, encoded.
    pub record: Bytes,
    /// When it is due once the transaction committed.
    pub due: Option<Due>,
    /// Who handed it in, when that is known.
    pub sent_by: Option<SentBy>,
}

impl NewHalf {
    /// Who prepares it: all its messages come in one request.
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
        // What is not due yet is the bus's; what is due is on its way.
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

    /// The whole table, so that no arrow appears or vanishes by accident.
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
