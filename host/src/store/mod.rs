//! What Courier remembers, behind traits whose verbs are transitions.
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
//! Each part of the host has a trait of its own, in the file of its subject, and
//! [`Store`] is the sum of them. Its verbs stand next to their SQL in a file of the
//! same name: in [`shared`] if one SQL serves both dialects, else in each. Read [`rows`] for the shapes, then [`Store`].

mod accept;
pub mod address_leases;
pub mod audits;
pub mod broadcast;
mod claim;
pub mod dedupe;
pub mod delayed;
mod deliveries;
pub mod error;
mod exclusive;
pub mod give_up;
mod groups;
pub mod half;
pub mod handled_sets;
mod health;
pub mod identity;
pub mod incarnations;
pub mod kept_state;
mod messages;
pub mod minutes;
pub mod node_bindings;
mod nodes;
mod open_rows;
mod outbound;
pub mod outbox;
mod plugins;
mod positions;
pub mod postgres;
mod prune;
pub mod record_copies;
pub mod redrive;
mod reruns;
pub mod rows;
pub mod seek;
pub mod sessions;
mod settle;
mod shards;
mod shared;
pub mod sqlite;
pub mod troubles;
pub mod undelivered;

use std::sync::Arc;

pub use accept::AcceptStore;
pub use address_leases::{AddressLeaseRow, AddressLeaseStore, AddressShare, AddressWish, is_address};
pub use audits::{AuditEntry, AuditFilter, AuditLinks, AuditRow, AuditStore, ChainEnd};
pub use broadcast::{Extent, Listen, ListenerRow, ListenerStore, Listening, UnheardRow};
pub use claim::ClaimStore;
pub use dedupe::{DedupeStore, HandledBy, SameTopic};
pub use delayed::{DelayedFilter, DelayedStore, Due, Moved};
pub use deliveries::DeliveryStore;
pub use error::StoreError;
pub use give_up::{GiveUp, GiveUpStore};
pub use groups::GroupStore;
pub use half::{AfterAsking, HalfCheck, HalfEnd, HalfMessage, HalfRow, HalfState, HalfStore, NewHalf};
pub use handled_sets::{HandledAt, HandledSetStore};
pub use health::{HealthStore, Weakness};
pub use identity::{Identity, SentBy, SourceHash};
pub use incarnations::{EndedLog, Growth, IncarnationStore, OlderPartition, Renewal, SeenLogEnd, TopicOfGroup};
pub use kept_state::{StateStore, StateUsage};
pub use messages::MessageStore;
pub use minutes::{MinuteRow, MinuteStore, PaceRow};
pub use node_bindings::{NodeBinding, NodeBindingStore};
pub use nodes::NodeStore;
pub use open_rows::OpenRowStore;
pub use outbound::OutboundStore;
pub use outbox::{OutboxCause, OutboxCount, OutboxNote, OutboxNoteStore, OutboxRow, OutboxRowRef, OutboxStore};
pub use plugins::PluginStore;
pub use positions::PositionStore;
pub use prune::PruneStore;
pub use record_copies::{Copies, Endangered, RecordCopyStore};
pub use redrive::RedriveStore;
pub use reruns::RerunStore;
pub use rows::*;
pub use seek::SeekStore;
pub use sessions::{SessionRow, SessionStore};
pub use settle::SettleStore;
pub use shards::ShardStore;
pub use troubles::{
    DeadLetterFilter, DeadLetterRow, FailedRow, FailureFilter, FailureRow, FailureStore, Failures, LaneRow, LetterFate,
};
pub use undelivered::UndeliveredStore;

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

/// Makes [`Store`] the sum of its parts, so that the list of them stands once.
macro_rules! store_of {
    ($($part:ident),+ $(,)?) => {
        /// What a dialect implements and [`SharedStore`] hands around: the sum of the
        /// traits of its consumers, each in a file of this folder.
        ///
        /// All times come from the store's own clock unless they are arguments, and
        /// batches keep the caller's order. A change that a person asks for is called
        /// by [`audits::in_name_of`], so that its entry commits with it.
        pub trait Store: $($part +)+ Send + Sync + 'static {}

        impl<S: $($part +)+ Send + Sync + 'static> Store for S {}
    };
}

store_of! {
    AcceptStore,
    AddressLeaseStore,
    AuditStore,
    ClaimStore,
    DedupeStore,
    DelayedStore,
    DeliveryStore,
    FailureStore,
    GiveUpStore,
    GroupStore,
    HalfStore,
    HandledSetStore,
    HealthStore,
    IncarnationStore,
    ListenerStore,
    MessageStore,
    MinuteStore,
    NodeBindingStore,
    NodeStore,
    OpenRowStore,
    OutboundStore,
    OutboxNoteStore,
    OutboxStore,
    PluginStore,
    PositionStore,
    PruneStore,
    RecordCopyStore,
    RedriveStore,
    RerunStore,
    SeekStore,
    SessionStore,
    SettleStore,
    ShardStore,
    StateStore,
    UndeliveredStore,
}
