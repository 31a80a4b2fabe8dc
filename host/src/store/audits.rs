//! The audit log: who changed what, each entry chained to the one before.
//!
//! An entry's hash covers the hash before it and all of its own fields, so that the
//! chain shows when an entry was altered, removed or inserted. Entries are appended
//! one at a time, under the lock of the chain's head. Retention removes the oldest
//! entries and keeps the hash of the last one removed as the anchor of the rest.
//!
//! An entry commits with the change that it records, or neither does. A caller that
//! acts for a person calls the verb by [`in_name_of`]. The verb appends the
//! [`AuditEntry`] as the last step of its transaction, so that the lock of the chain
//! is held for a moment only and comes after every other lock. The person is passed
//! in a task-local and not as an argument, because the host also calls the same verbs
//! itself, and then no entry is written.

use std::cell::RefCell;
use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sha2::{Digest, Sha256};

use super::{Listing, Page, StoreError};

/// The hash before the first entry.
pub const GENESIS: [u8; 32] = [0; 32];

/// Entries that one step of a verification reads: a bound on what one response of the
/// API holds in memory.
pub const LINKS_STEP: u32 = 1_000;

tokio::task_local! {
    /// The entry of the verb that runs in this task, until a transaction takes it.
    static DEED: RefCell<Option<AuditEntry>>;
}

/// What a person does: an entry before it has its place in the chain.
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
    /// The entry in its place, chained to the one before. `clean` is how a store
    /// writes text, since the hash covers the text as it is stored.
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

/// Runs a verb for a person: `deed` is in the audit log if, and only if, what the verb
/// changes is in the store. A verb that fails or finds nothing to change leaves no
/// entry.
///
/// The verb must not move its work to another task, which would not see the entry.
pub async fn in_name_of<T>(deed: AuditEntry, verb: impl Future<Output = T>) -> T {
    DEED.scope(RefCell::new(Some(deed)), verb).await
}

/// Takes the entry that a transaction is about to commit; `None` when the verb does
/// not run for a person.
#[must_use]
pub(crate) fn deed() -> Option<AuditEntry> {
    DEED.try_with(|deed| deed.try_borrow_mut().ok().and_then(|mut deed| deed.take())).ok().flatten()
}

/// An entry of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRow {
    /// The entry's number: ascending, with gaps.
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
    /// The hash of the entry before; `None` in a row that is older than the chain.
    pub previous: Option<Bytes>,
    /// The hash of this entry; `None` in a row that is older than the chain.
    pub hash: Option<Bytes>,
}

impl AuditRow {
    /// Computes the hash that this entry must have after `previous`. The length of
    /// each text precedes it, so that moving a letter from one field to the next
    /// changes the hash.
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
    /// The last entry that retention removed, or the last one that is older than the
    /// chain, with [`GENESIS`].
    pub anchor: ChainEnd,
    /// The newest entry.
    pub head: ChainEnd,
    /// Entries in their order.
    pub entries: Vec<AuditRow>,
}

/// Reads and verifies the audit log, for the API.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Lists entries, newest first.
    async fn audit_entries(&self, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError>;

    /// Appends an entry that no change of the store carries, such as a refused
    /// sign-in.
    async fn record_deed(&self, deed: &AuditEntry) -> Result<(), StoreError>;

    /// Reads the ends of the chain and at most [`LINKS_STEP`] entries after `after` and
    /// after the anchor, in one snapshot.
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
