//! The verbs of [`FakeStore`] for the send side: delayed messages, half messages,
//! outboxes and undelivered rows.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::status::State;

use super::fake_store::{FakeStore, absent};
use crate::store::undelivered::{
    NewUndelivered, Repaired, UndeliveredFilter, UndeliveredRow, UndeliveredStore, UndeliveredTotal,
};
use crate::store::*;

#[async_trait]
impl OutboxStore for FakeStore {
    async fn take_outbox(&self, _: (i32, i64), _: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        absent()
    }

    async fn ended(&self, _: &[Identity]) -> Result<Vec<Option<State>>, StoreError> {
        absent()
    }
}

#[async_trait]
impl OutboxNoteStore for FakeStore {
    async fn note_outbox(&self, _: (i32, i64), _: &OutboxNote) -> Result<(), StoreError> {
        absent()
    }

    async fn count_outbox(&self, _: (i32, i64), _: &OutboxCount) -> Result<bool, StoreError> {
        absent()
    }

    async fn counted_rows(&self, _: &str) -> Result<Vec<OutboxRowRef>, StoreError> {
        absent()
    }

    async fn outboxes(&self) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(self.read()?.noted.clone())
    }
}

#[async_trait]
impl DelayedStore for FakeStore {
    async fn next_due(&self, _: &[(i32, i64)]) -> Result<Option<Duration>, StoreError> {
        absent()
    }

    async fn move_due(&self, _: &[(i32, i64)], _: Option<&str>) -> Result<Moved, StoreError> {
        absent()
    }

    async fn cancel(&self, message: &Identity) -> Result<MessageRow, StoreError> {
        let mut world = self.read()?;
        let row = world.messages.iter_mut().find(|row| row.identity() == *message);
        let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {message}")))?;
        if row.deliver_at.is_none() || row.place.is_some() {
            return Err(StoreError::Conflict(delayed::not_cancelled(row)));
        }
        row.state = State::SendFail;
        row.reason = Some(delayed::CANCELLED.to_owned());
        let row = row.clone();
        world.note();
        Ok(row)
    }

    async fn delayed(&self, filter: &DelayedFilter, _: &Page) -> Result<Listing<MessageRow>, StoreError> {
        let world = self.read()?;
        let kept = world.messages.iter().filter(|row| {
            row.deliver_at.is_some()
                && row.place.is_none()
                && filter.topics.as_ref().is_none_or(|topics| topics.contains(&row.topic))
        });
        Ok(Listing { items: kept.cloned().collect(), next: None, truncated: false })
    }
}

#[async_trait]
impl HalfStore for FakeStore {
    async fn prepared_halves(&self, _: Option<&str>, _: u32) -> Result<u32, StoreError> {
        absent()
    }

    async fn prepare_half(&self, _: &NewHalf) -> Result<HalfRow, StoreError> {
        absent()
    }

    async fn commit_half(&self, _: &str, _: &str) -> Result<HalfRow, StoreError> {
        absent()
    }

    async fn roll_back_half(&self, _: &str, _: &str) -> Result<HalfRow, StoreError> {
        absent()
    }

    async fn claim_checks(&self, _: Duration, _: u32) -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError> {
        absent()
    }

    async fn leave_half(&self, _: &HalfCheck, _: &str, _: AfterAsking) -> Result<(), StoreError> {
        absent()
    }

    async fn unreachable_halves(&self, _: Option<&[String]>, _: u32) -> Result<Vec<HalfRow>, StoreError> {
        let world = self.read()?;
        Ok(world.halves.iter().filter(|half| half.unreachable_since.is_some()).cloned().collect())
    }

    async fn half(&self, id: &str) -> Result<Option<HalfRow>, StoreError> {
        Ok(self.read()?.halves.iter().find(|half| half.id == id).cloned())
    }

    async fn halves(
        &self,
        state: Option<HalfState>,
        topics: Option<&[String]>,
        _: &Page,
    ) -> Result<Listing<HalfRow>, StoreError> {
        let world = self.read()?;
        let kept = world.halves.iter().filter(|half| {
            state.is_none_or(|state| half.state == state)
                && topics.is_none_or(|topics| half.messages.iter().all(|message| topics.contains(&message.topic)))
        });
        Ok(Listing { items: kept.cloned().collect(), next: None, truncated: false })
    }
}

#[async_trait]
impl UndeliveredStore for FakeStore {
    async fn keep_undelivered(&self, _: &[NewUndelivered]) -> Result<(), StoreError> {
        absent()
    }

    async fn undelivered(&self, _: &UndeliveredFilter, _: &Page) -> Result<Listing<UndeliveredRow>, StoreError> {
        Ok(Listing { items: Vec::new(), next: None, truncated: false })
    }

    async fn undelivered_one(&self, id: i64) -> Result<Option<UndeliveredRow>, StoreError> {
        Ok(self.read()?.undelivered.iter().find(|row| row.id == id).cloned())
    }

    async fn resend_undelivered(&self, _: i64, repaired: Option<&Repaired>) -> Result<(), StoreError> {
        let mut world = self.read()?;
        world.repaired.push(repaired.cloned());
        world.note();
        Ok(())
    }

    async fn give_up_undelivered(&self, _: i64, _: &str) -> Result<(), StoreError> {
        absent()
    }

    async fn undelivered_totals(&self) -> Result<Vec<UndeliveredTotal>, StoreError> {
        Ok(Vec::new())
    }
}
