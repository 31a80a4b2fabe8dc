//! The verbs of [`FakeStore`] for the message centre.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::fake_store::{FakeStore, absent, first_page};
use crate::store::*;

#[async_trait]
impl AuditStore for FakeStore {
    async fn audit_entries(&self, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError> {
        let world = self.read()?;
        let wanted = world.audited.iter().rev().filter(|row| filter.by.as_ref().is_none_or(|by| *by == row.by));
        let limit = usize::try_from(page.limit).unwrap();
        Ok(Listing { items: wanted.take(limit).cloned().collect(), next: None, truncated: false })
    }

    async fn record_deed(&self, deed: &AuditEntry) -> Result<(), StoreError> {
        self.read()?.append(deed);
        Ok(())
    }

    /// Three entries a step, so that a walk has more than one.
    async fn audit_links(&self, after: i64) -> Result<AuditLinks, StoreError> {
        let world = self.read()?;
        let genesis = ChainEnd { id: 0, hash: Bytes::copy_from_slice(&audits::GENESIS) };
        let head = world.audited.last().map(|last| ChainEnd { id: last.id, hash: last.hash.clone().unwrap() });
        let entries = world.audited.iter().filter(|row| row.id > after).take(3).cloned().collect();
        Ok(AuditLinks {
            head: world.head.clone().or(head).unwrap_or_else(|| genesis.clone()),
            anchor: genesis,
            entries,
        })
    }
}

#[async_trait]
impl StateStore for FakeStore {
    async fn state_value(&self, _: &str, _: &str, _: Option<Duration>) -> Result<Option<Bytes>, StoreError> {
        absent()
    }

    async fn state_usage(&self, _: &str) -> Result<StateUsage, StoreError> {
        absent()
    }

    async fn forget_state(&self, _: &str, _: Duration) -> Result<bool, StoreError> {
        absent()
    }
}

#[async_trait]
impl SessionStore for FakeStore {
    async fn open_session(
        &self,
        hash: &[u8; 32],
        token: &str,
        bound: &[u8; 32],
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let expires_at = Timestamp(0).after(lifetime);
        let bound = Bytes::copy_from_slice(bound);
        let row = SessionRow { token: token.into(), bound, created_at: Timestamp(0), expires_at };
        let mut world = self.read()?;
        world.sessions.insert(*hash, row);
        world.note();
        Ok(())
    }

    async fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        Ok(self.read()?.sessions.get(hash).cloned())
    }

    async fn close_session(&self, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let mut world = self.read()?;
        let closed = world.sessions.remove(hash).is_some();
        if closed {
            world.note();
        }
        Ok(closed)
    }
}

#[async_trait]
impl MinuteStore for FakeStore {
    async fn put_minutes(&self, _: WriterId, _: &[MinuteRow], _: &[PaceRow]) -> Result<(), StoreError> {
        absent()
    }

    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteRow>, StoreError> {
        drop(self.read()?);
        let row = |group: &str| MinuteRow {
            minute: since,
            group: group.into(),
            published: 7,
            handled: 2,
            ..MinuteRow::default()
        };
        Ok(vec![row(""), row("other"), row("stock")])
    }

    async fn paces(&self, _: Timestamp) -> Result<Vec<PaceRow>, StoreError> {
        let mut buckets = vec![0; 40];
        buckets[16] = 3;
        Ok(vec![PaceRow { group: "stock".into(), buckets }])
    }
}

#[async_trait]
impl FailureStore for FakeStore {
    async fn failures(&self, filter: &FailureFilter) -> Result<Failures, StoreError> {
        let world = self.read()?;
        let wanted = world.deliveries.iter().filter(|row| {
            filter.groups.as_ref().is_none_or(|groups| groups.contains(&row.group))
                && filter.group.as_ref().is_none_or(|group| *group == row.group)
        });
        let rows = wanted.map(|row| FailedRow {
            key: row.key,
            group: row.group.clone(),
            topic: row.topic.clone(),
            type_name: row.type_name.clone(),
            fingerprint: Some("f".into()),
            verdict: row.verdict,
            version: row.version.clone(),
            at: row.received_at,
            failed_at: row.received_at,
            open: false,
        });
        Ok(Failures { items: troubles::cluster(rows, filter), truncated: false })
    }

    async fn parked(
        &self,
        group: &str,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<LaneRow>, StoreError> {
        let world = self.read()?;
        let is_meant =
            |row: &&DeliveryRow| row.group == group && topics.is_none_or(|topics| topics.contains(&row.topic));
        let rows = world.deliveries.iter().filter(is_meant).map(|row| LaneRow {
            head: row.key,
            topic: row.topic.clone(),
            partition: row.partition,
            record_key: row.record_key.clone(),
            state: courier_core::status::State::HandleFail,
            reason: Some("later".into()),
            waiting: 2,
            next_attempt_at: None,
            held: true,
        });
        Ok(first_page(rows, page))
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &Page) -> Result<Listing<DeadLetterRow>, StoreError> {
        let world = self.read()?;
        let wanted = world.deliveries.iter().filter(|row| {
            filter.groups.as_ref().is_none_or(|groups| groups.contains(&row.group))
                && filter.source_topics.as_ref().is_none_or(|topics| topics.contains(&row.topic))
                && filter.topic.as_ref().is_none_or(|topic| *topic == letters_of(row))
        });
        let rows = wanted.map(|row| DeadLetterRow {
            key: row.key,
            group: row.group.clone(),
            source_topic: row.topic.clone(),
            partition: row.partition,
            topic: letters_of(row),
            at: row.received_at,
            message_id: row.message_id.clone(),
            record_key: row.record_key.clone(),
            type_name: row.type_name.clone(),
            reason: Some("no".into()),
            fate: crate::store::LetterFate::Sent,
            number: 1,
            handled_at: None,
        });
        Ok(first_page(rows, page))
    }
}

/// The topic of dead letters of a delivery.
fn letters_of(row: &DeliveryRow) -> String {
    format!("dlq.{}.{}", row.topic, row.group)
}
