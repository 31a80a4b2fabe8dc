//! The audit log: who changed what, each entry sealed to the one before.
//!
//! An entry's hash covers the hash before it and all of its own fields, so
//! that nothing can be altered, taken out or put in between without the chain
//! showing it. Entries are appended one at a time, under the lock of the
//! chain's head. Retention removes the oldest and keeps the hash of the last
//! one removed as the anchor that the rest hangs on.
//!
//! An entry commits with the change that it tells of, or neither does. Whoever
//! asks for a change calls the verb by [`in_name_of`]; the verb appends the
//! [`AuditEntry`] as the last thing that its transaction does, so that the lock of the
//! chain is held for a moment only and comes after every other lock. Who asks is
//! a circumstance of the call and no argument of the verb, since the host uses
//! the same verbs in nobody's name.

use std::cell::RefCell;
use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sha2::{Digest, Sha256};

use super::{Listing, Page, StoreError};

/// The hash that the first entry hangs on.
pub const GENESIS: [u8; 32] = [0; 32];

/// Entries that one step of a verification reads.
pub const LINKS_STEP: u32 = 1_000;

tokio::task_local! {
    /// What the verb that runs in this task does in somebody's name, until a
    /// transaction takes it.
    static DEED: RefCell<Option<AuditEntry>>;
}

/// What somebody does: an entry before it has its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who: the name of a token.
    pub by: String,
    /// What is done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Anything else, for people; empty when there is nothing.
    pub detail: String,
}

impl AuditEntry {
    /// The entry that it is in its place, sealed to the one before. `clean` is
    /// how a store writes text: an entry is sealed as it is written.
    #[must_use]
    pub(crate) fn sealed<'a, T: Into<String>>(
        &'a self,
        id: i64,
        at: Timestamp,
        previous: Vec<u8>,
        clean: impl Fn(&'a str) -> T,
    ) -> AuditRow {
        let [by, action, subject, detail] =
            [&self.by, &self.action, &self.subject, &self.detail].map(|text| clean(text).into());
        let mut entry = AuditRow { id, at, by, action, subject, detail, previous: None, hash: None };
        entry.hash = Some(Bytes::copy_from_slice(&entry.seal(&previous)));
        entry.previous = Some(previous.into());
        entry
    }
}

/// Runs a verb in somebody's name: `deed` is in the audit log if, and only if,
/// what the verb changes is in the store. A verb that fails or finds nothing to
/// change leaves no entry.
///
/// The verb must not hand its work to another task: the deed stays in this one.
pub async fn in_name_of<T>(deed: AuditEntry, verb: impl Future<Output = T>) -> T {
    DEED.scope(RefCell::new(Some(deed)), verb).await
}

/// Takes the deed that a transaction is about to commit; none when the verb runs
/// in nobody's name.
#[must_use]
pub(crate) fn deed() -> Option<AuditEntry> {
    DEED.try_with(|deed| deed.try_borrow_mut().ok().and_then(|mut deed| deed.take())).ok().flatten()
}

/// What was done, by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRow {
    /// The order; ascending, maybe with gaps.
    pub id: i64,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Who: the name of a token.
    pub by: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Anything else, for people; empty when there is nothing.
    pub detail: String,
    /// The hash of the entry before; none for one from before the chain.
    pub previous: Option<Bytes>,
    /// The hash of this entry.
    pub hash: Option<Bytes>,
}

impl AuditRow {
    /// The hash that this entry must have after `previous`. Each text is
    /// preceded by its length, so that none can lend a letter to the next.
    #[must_use]
    pub fn seal(&self, previous: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(previous);
        hash.update(self.id.to_be_bytes());
        hash.update(self.at.0.to_be_bytes());
        for text in [&self.by, &self.action, &self.subject, &self.detail] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().into()
    }
}

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// By this token.
    pub by: Option<String>,
    /// Of this kind.
    pub action: Option<String>,
    /// About this.
    pub subject: Option<String>,
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// An end of the chain: an entry and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The entry.
    pub id: i64,
    /// Its hash.
    pub hash: Bytes,
}

/// A part of the chain, read at one moment.
#[derive(Clone, Debug)]
pub struct AuditLinks {
    /// The last entry that retention removed, or the last one from before the
    /// chain with [`GENESIS`].
    pub anchor: ChainEnd,
    /// The newest entry.
    pub head: ChainEnd,
    /// Entries in their order.
    pub entries: Vec<AuditRow>,
}

/// The verbs of the audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Entries, newest first.
    async fn audit_entries(&self, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError>;

    /// Appends an entry of what changes nothing in the store, such as an attempt
    /// to sign in that was refused.
    async fn record_deed(&self, deed: &AuditEntry) -> Result<(), StoreError>;

    /// The ends of the chain and at most [`LINKS_STEP`] entries after `after`
    /// and after the anchor, all of one moment.
    async fn audit_links(&self, after: i64) -> Result<AuditLinks, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deed_is_taken_once_and_only_in_its_task() {
        assert_eq!(deed(), None);
        let ops = AuditEntry { by: "ops".into(), ..AuditEntry::default() };
        let taken = in_name_of(ops.clone(), async { (deed(), deed()) }).await;
        assert_eq!(taken, (Some(ops.clone()), None));
        let elsewhere = in_name_of(ops, async { tokio::spawn(async { deed() }).await.unwrap() }).await;
        assert_eq!((elsewhere, deed()), (None, None));
    }

    #[test]
    fn a_seal_covers_every_field_and_its_place() {
        let entry = AuditRow {
            id: 7,
            at: Timestamp(1),
            by: "ops".into(),
            action: "pause".into(),
            subject: "stock".into(),
            detail: "night".into(),
            ..AuditRow::default()
        };
        let seal = entry.seal(&GENESIS);
        let others = [
            AuditRow { id: 8, ..entry.clone() },
            AuditRow { at: Timestamp(2), ..entry.clone() },
            AuditRow { by: "opsp".into(), action: "ause".into(), ..entry.clone() },
            AuditRow { subject: String::new(), ..entry.clone() },
            AuditRow { subject: "stocknight".into(), detail: String::new(), ..entry.clone() },
        ];
        for other in others {
            assert_ne!(other.seal(&GENESIS), seal, "{other:?}");
        }
        assert_ne!(entry.seal(&[1; 32]), seal);
        assert_eq!(entry.seal(&GENESIS), seal);
    }
}
