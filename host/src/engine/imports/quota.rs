//! How much the handlers of a group may keep.
//!
//! What a group holds is known to the store. It is not asked at each write: as
//! long as what was last heard, with what was written here since, is within the
//! limits, a write goes through. Otherwise the store is asked, and the value
//! that is replaced is taken off. What other attempts wrote and did not settle
//! yet is not seen, so a group may go over by what is in flight.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::contract::Refusal;
use crate::engine::fault::size;

/// How long what the store said is believed: other hosts write too.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// What the state of a group holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHeld {
    /// Values that are there.
    pub keys: u64,
    /// Bytes of their keys and of them.
    pub bytes: u64,
}

impl StateHeld {
    pub(super) fn and(self, more: Self) -> Self {
        Self { keys: self.keys.saturating_add(more.keys), bytes: self.bytes.saturating_add(more.bytes) }
    }
}

/// What a binding says of the state of its group.
#[derive(Debug)]
pub struct StateQuota {
    limit: StateHeld,
    /// How long a value is remembered after it was written.
    pub(in crate::engine) ttl: Option<Duration>,
    /// What the store last said, and when.
    heard: Mutex<Option<(Instant, StateHeld)>>,
}

impl StateQuota {
    /// A quota of this many keys and bytes, whose values are forgotten after
    /// `ttl`.
    #[must_use]
    pub fn new(limit: StateHeld, ttl: Option<Duration>) -> Self {
        Self { limit, ttl, heard: Mutex::new(None) }
    }

    /// Whether a write surely stays within the limits; if so it is noted.
    pub(super) fn admits(&self, more: StateHeld) -> bool {
        let mut heard = self.heard.lock();
        let Some((_, held)) = heard.as_mut().filter(|(at, _)| at.elapsed() < BELIEVED_FOR) else { return false };
        let after = held.and(more);
        let fits = self.fits(after);
        if fits {
            *held = after;
        }
        fits
    }

    /// Notes what the store says.
    pub(super) fn hear(&self, held: StateHeld) {
        *self.heard.lock() = Some((Instant::now(), held));
    }

    fn fits(&self, held: StateHeld) -> bool {
        held.keys <= self.limit.keys && held.bytes <= self.limit.bytes
    }

    /// Refuses a write of `own` in all by this call to a group that holds
    /// `held`, when it replaces `replaced`.
    pub(super) fn check(
        &self,
        group: &str,
        held: StateHeld,
        own: StateHeld,
        replaced: StateHeld,
    ) -> Result<(), Refusal> {
        let after = held.and(own);
        let after = StateHeld {
            keys: after.keys.saturating_sub(replaced.keys),
            bytes: after.bytes.saturating_sub(replaced.bytes),
        };
        if self.fits(after) {
            return Ok(());
        }
        let StateHeld { keys, bytes } = held;
        let (limit, key) = if after.bytes > self.limit.bytes {
            (size(self.limit.bytes), "state_bytes")
        } else {
            (format!("{} keys", self.limit.keys), "state_keys")
        };
        Err(Refusal::Limit(format!(
            "the state of group {group} holds {bytes} bytes in {keys} keys, and this value would take it over its limit \
             of {limit} (binding.grant `{key}`): delete keys by setting them without a value, let them be forgotten with \
             `state_ttl`, or raise the limit"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(keys: u64, bytes: u64) -> StateHeld {
        StateHeld { keys, bytes }
    }

    #[test]
    fn what_surely_fits_needs_no_question_and_is_counted() {
        let quota = StateQuota::new(held(10, 100), None);
        assert!(!quota.admits(held(1, 1)), "nothing is known yet");
        quota.hear(held(8, 50));
        assert!(quota.admits(held(1, 10)) && quota.admits(held(1, 10)));
        assert!(!quota.admits(held(1, 1)), "ten keys are there");
        quota.hear(held(0, 95));
        assert!(!quota.admits(held(1, 6)));
        assert!(quota.admits(held(1, 5)));
    }

    #[test]
    fn a_full_group_is_told_which_limit_it_met_and_what_helps() {
        let quota = StateQuota::new(held(10, 1 << 20), None);
        let none = held(0, 0);
        quota.check("stock", held(9, 5), held(1, 5), none).unwrap();
        let Err(Refusal::Limit(why)) = quota.check("stock", held(10, 5), held(1, 5), none) else { panic!() };
        assert!(why.contains("holds 5 bytes in 10 keys") && why.contains("limit of 10 keys"), "{why}");
        assert!(why.contains("`state_keys`") && why.contains("`state_ttl`"), "{why}");
        quota.check("stock", held(10, 5), held(1, 5), held(1, 4)).unwrap();
        let Err(Refusal::Limit(why)) = quota.check("stock", held(1, 1 << 20), held(1, 5), held(1, 4)) else { panic!() };
        assert!(why.contains("limit of 1MiB") && why.contains("`state_bytes`"), "{why}");
    }
}
