//! What Courier remembers, behind one trait whose verbs are transitions.
//!
//! Two dialects implement it, [`sqlite`] for one host and [`postgres`] for
//! several, and one conformance suite runs on both. The store knows nothing of
//! Kafka and Wasm; it is handed rows and gives rows back.
//!
//! Invariants kept here:
//! - A settle locks its positions under their epochs before it writes; what an
//!   older epoch wants to write never reaches a table.
//! - Status, position, emissions and state writes of an attempt commit
//!   together, and advance the sequence of the writer by exactly one.
//! - Every update names the state it expects and checks its row count.
//!
//! Read [`rows`] for the shapes, then [`Store`].

pub mod address_leases;
pub mod audits;
pub mod broadcast;
pub mod dedupe;
pub mod delayed;
pub mod error;
mod exclusive;
pub mod give_up;
pub mod half;
pub mod handled_sets;
pub mod identity;
pub mod incarnations;
pub mod kept_state;
pub mod minutes;
pub mod node_bindings;
pub mod outbox;
pub mod postgres;
pub mod record_copies;
pub mod redrive;
pub mod rows;
pub mod seek;
pub mod sessions;
mod shared;
pub mod sqlite;
pub mod troubles;
pub mod undelivered;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};

pub use address_leases::{AddressLeaseRow, AddressLeases, AddressShare, AddressWish, is_address};
pub use audits::{AuditEntry, AuditFilter, AuditLinks, AuditRow, Audits, ChainEnd};
pub use broadcast::{Broadcasts, Extent, Listen, ListenerRow, Listening, UnheardRow};
pub use dedupe::{Dedupe, HandledBy, SameTopic};
pub use delayed::{Delayed, DelayedFilter, Due, Moved};
pub use error::StoreError;
pub use give_up::{GiveUp, GiveUps};
pub use half::{AfterAsking, HalfCheck, HalfMessage, HalfRow, HalfState, Halves, NewHalf};
pub use handled_sets::{HandledAt, HandledSets};
pub use identity::{Identity, SentBy, SourceHash};
pub use incarnations::{EndedLog, Growth, Incarnations, OlderPartition, Renewal, SeenLogEnd, TopicOfGroup};
pub use kept_state::{KeptState, StateUsage};
pub use minutes::{MinuteRow, Minutes, PaceRow};
pub use node_bindings::{NodeBinding, NodeBindings};
pub use outbox::{OutboxCause, OutboxCount, OutboxNote, OutboxRow, OutboxRowRef, Outboxes};
pub use record_copies::{Copies, Endangered, RecordCopies};
pub use rows::*;
pub use sessions::{SessionRow, Sessions};
pub use troubles::{
    DeadLetterFilter, DeadLetterRow, FailedRow, FailureFilter, FailureRow, Failures, LaneRow, LetterFate, Troubles,
};

/// A setting of the store that takes from what it promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// Names the sort, for programs.
    pub code: &'static str,
    /// What is at risk and what to set, for people.
    pub sentence: String,
}

/// A store that several tasks share.
pub type SharedStore = Arc<dyn Store>;

/// Opens the store that `url` names (`sqlite://path` or `postgres://..`) and
/// runs its migrations.
///
/// # Errors
/// When the store cannot be reached, or was migrated by a newer version.
pub async fn open(url: &str) -> Result<SharedStore, StoreError> {
    if url.starts_with("sqlite:") {
        Ok(Arc::new(sqlite::SqliteStore::open(url).await?))
    } else {
        Ok(Arc::new(postgres::PostgresStore::open(url).await?))
    }
}

/// The verbs of the store. All times come from the store's own clock unless
/// they are arguments; batches keep the caller's order. What a person asks for
/// is called by [`audits::in_name_of`], and its entry commits with it.
#[async_trait]
pub trait Store:
    AddressLeases
    + Audits
    + Broadcasts
    + Dedupe
    + Delayed
    + GiveUps
    + half::Halves
    + HandledSets
    + Incarnations
    + KeptState
    + Minutes
    + NodeBindings
    + Outboxes
    + RecordCopies
    + Sessions
    + Troubles
    + redrive::Redrives
    + seek::Seeks
    + undelivered::UndeliveredStore
    + Send
    + Sync
    + 'static
{
    /// Whether the store answers and takes writes: one that can only be read
    /// is `StaleSession` or `Refused`. Answers the store's clock.
    async fn ping(&self) -> Result<Timestamp, StoreError>;

    /// Settings of the store that take from what it promises and that only a
    /// person can change; none where all is well.
    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        Ok(Vec::new())
    }

    // ---- nodes and writers

    /// Takes the lease on `node` for this process and creates its writer with
    /// sequence 0. A live lease of another process under the same name is
    /// `Fenced` and names when it ends, unless that process left by
    /// [`Store::leave`]. `same_machine_pid_dead` is true when the caller knows
    /// that the earlier holder (see [`Holder`]) is dead: then its lease is
    /// taken over at once (a restart after kill -9 must be ready in seconds).
    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError>;

    /// Who holds the lease on `node` now, if anybody does.
    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError>;

    /// Drops the lease of `node` whatever its age and frees its relay shards,
    /// if `holder` still has it; `Conflict` when it does not.
    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError>;

    /// Extends the lease; `Fenced` when another process took the name.
    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError>;

    /// Ends the lease, so that the name is free at once.
    async fn leave(&self, writer: WriterId) -> Result<(), StoreError>;

    /// Nodes with their leases, live ones first.
    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;

    // ---- positions

    /// Stores where a group starts in a topic it has no position in yet: one
    /// row for each partition, epoch 0. Does nothing when any position of
    /// (group, topic) exists. `topic_id` is Kafka's id of the topic.
    async fn begin(&self, group: &str, topic: &str, topic_id: &str, starts: &[(i32, Offset)])
    -> Result<(), StoreError>;

    /// Makes `writer` the owner of a partition: epoch + 1. Reads what the new
    /// owner must know. A partition without a position starts at `fallback`
    /// (incarnation 0). When the topic's id changed or the log ends before the
    /// position, a new incarnation begins where [`Renewal`] says: a lost range
    /// is recorded, and what lay open in the old one and is not in the log any
    /// more is finally HANDLE_FAIL.
    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError>;

    /// Records that offsets were lost to retention and moves the position to
    /// `to` under the epoch; `Fenced` when the epoch is older.
    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError>;

    /// Writes the outcomes of `parts` in one transaction, as sequence
    /// `sequence` of `writer` (the writer's current sequence + 1).
    ///
    /// Locks the positions by (group, topic, partition, epoch) in key order
    /// first; parts whose position was not returned are left out and reported
    /// as stale. `Data` means that nothing was written; `CommitUnknown` that
    /// [`Store::sequence`] tells.
    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError>;

    /// The sequence of the last settle of `writer` that committed.
    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError>;

    /// The stored records of open deliveries, in the order of `offsets`; none
    /// where the row has gone, `record: None` where only coordinates are kept.
    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError>;

    /// Open deliveries of `positions` that somebody asked to run
    /// (`asked_at > since`), oldest first, at most `limit`.
    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError>;

    /// How many open deliveries, of whatever position, somebody asked to run
    /// within the `window` before now, and when the last of them. Another answer
    /// than before says that [`Store::asked`] may have something new.
    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError>;

    // ---- running again

    /// Asks that a delivery runs again now. An open one becomes due; a final
    /// one becomes an open row in one transaction, and leaves the final rows:
    /// a failed one stays HANDLE_FAIL until its next outcome, a handled one is
    /// COMMITTED; attempts and their numbers are kept, `counted` starts at 0. One that waits behind its lane's head is marked
    /// and goes on waiting. `Conflict` for one that is running its first
    /// flight or whose topic was created anew, `NotFound` for an unknown one.
    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError>;

    // ---- plugins

    /// Stores an uploaded version; the same digest again is the same version.
    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError>;

    /// The component of a version.
    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError>;

    /// All plugins with their versions (newest first) and activations.
    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError>;

    /// Makes a version the active one; `NotFound` when the plugin has none
    /// such. Appends to the plugin's history.
    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError>;

    /// The active digest of each plugin: what nodes poll.
    async fn active(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Says that `writer` compiled a version and can run it.
    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError>;

    /// The live nodes that did not prepare `digest` yet.
    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError>;

    /// The key of this name that all hosts of the store share: 32 random bytes,
    /// made when it is first asked for.
    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError>;

    // ---- the send side

    /// Takes messages of senders, in one transaction and in order. For each:
    /// a new [`Identity`] inserts its message row (and its outbound row, when
    /// it has one, or in its place the row of a delayed message) and answers
    /// `New`; a known one answers `Same` with the row when the content digest
    /// equals, else `Other`; one that a prepared transaction holds answers
    /// `Reserved`. A message that was refused for what was wrong with it makes
    /// room for a corrected one.
    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError>;

    /// Kafka took messages that were sent directly: state COMMITTED with
    /// partition and offset, outbound rows (if any) deleted.
    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError>;

    /// Direct sends that did not succeed: their outbound rows are the relay's
    /// from now on, and the messages SEND_FAIL with `retrying`.
    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError>;

    /// Direct sends that Kafka refused for ever and whose senders are told so:
    /// their outbound rows go, and the messages are SEND_FAIL as if they had
    /// been refused before they were sent, so that a corrected one is taken in
    /// their place.
    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError>;

    /// Topics that have outbound rows, so that nothing overtakes them.
    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError>;

    /// Leases relay shards (there are [`SHARDS`]) for `writer`: renews those
    /// it has, takes free or expired ones until it has `want`, lets go of what
    /// is beyond. Answers all it holds with their epochs.
    async fn lease_shards(&self, writer: WriterId, want: u32, lease: Duration) -> Result<Vec<(i32, i64)>, StoreError>;

    /// The first rows of the leased shards in id order, at most `limit` in
    /// all. A row that is not due yet (`held_until` in the future) hides the
    /// rows behind it that have the same topic and key. Of the topics in
    /// `waiting` only rows are answered that were never tried.
    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        waiting: &[String],
    ) -> Result<Vec<OutboundRow>, StoreError>;

    /// Stores the partitions chosen for rows, before they are produced there.
    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError>;

    /// Whether other hosts may write rows beside this one.
    fn is_shared(&self) -> bool {
        true
    }

    /// Those of `lanes` (topics with raw keys) that have unsent rows, on any
    /// host, by their places in the list.
    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError>;

    /// What became of outbound rows, under the epochs of their shards: taken
    /// by Kafka (the row goes, its message is COMMITTED; inserted when it has
    /// no row yet), undelivered (SEND_FAIL, not retrying; the row is kept among
    /// the undelivered ones) or to be tried again at a time (SEND_FAIL and
    /// retrying, when listed). Rows of shards whose epoch moved on are left alone.
    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError>;

    /// Sends a SEND_FAIL message again that has its whole body in the store.
    /// `Conflict` for one that a person cancelled: it would go before it is
    /// due.
    async fn resend(&self, message: &Identity) -> Result<(), StoreError>;

    // ---- key/value state of groups

    /// The value a group's handlers stored under `key`, however old it is.
    async fn state_get(&self, group: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.state_value(group, key, None).await
    }

    // ---- what people ask

    /// Messages of the send side, newest first.
    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError>;

    /// The messages of the send side with this id, on these topics or on all,
    /// newest first, at most [`MAX_SAME_ID`]; none for an id that only foreign
    /// records have.
    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError>;

    /// A message of the send side.
    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError>;

    /// The newest message of the send side with this id.
    async fn message(&self, id: &str) -> Result<Option<MessageRow>, StoreError> {
        Ok(self.messages_with_id(id, None).await?.into_iter().next())
    }

    /// Deliveries, open and final, newest first.
    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError>;

    /// One delivery.
    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError>;

    /// The attempts of deliveries, by number, in the order of `keys`.
    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError>;

    /// Positions of all groups, current incarnations only.
    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError>;

    /// Open deliveries by group and state, and what the groups' counters say.
    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError>;

    /// Lost ranges, newest first, at most `limit`.
    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError>;

    /// Pauses (with who said so) or resumes a group by the API.
    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError>;

    /// Groups paused by the API and why.
    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Removes what is older than `retention`: at most a chunk a call; answers
    /// whether more may be left. Never touches open deliveries.
    async fn prune(&self, retention: Duration) -> Result<bool, StoreError>;
}
