//! Bounds the state that the handlers of a group may keep.
//!
//! The store knows how much a group holds, but is not asked at each write: a
//! write is admitted while the last known amount, plus what was written here
//! since, is within the limits. Otherwise the store is asked, and the value that
//! is replaced is subtracted. Unsettled writes of other attempts are not seen,
//! so a group may exceed its limits by what is in flight.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::contract::Refusal;
use super::fault::size;

/// How long the store's answer is used: other hosts write too.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// An amount of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHeld {
    /// The number of values.
    pub keys: u64,
    /// Bytes of the keys and the values.
    pub bytes: u64,
}

impl StateHeld {
    pub(super) fn and(self, more: Self) -> Self {
        Self { keys: self.keys.saturating_add(more.keys), bytes: self.bytes.saturating_add(more.bytes) }
    }
}

/// The limits of a group's state.
#[derive(Debug)]
pub struct StateQuota {
    limit: StateHeld,
    /// The age at which a value is forgotten.
    pub(super) ttl: Option<Duration>,
    /// The store's last answer, with what was admitted since, and its time.
    heard: Mutex<Option<(Instant, StateHeld)>>,
}

impl StateQuota {
    /// A quota of this many keys and bytes, whose values are forgotten at the age
    /// `ttl`.
    #[must_use]
    pub fn new(limit: StateHeld, ttl: Option<Duration>) -> Self {
        Self { limit, ttl, heard: Mutex::new(None) }
    }

    /// Whether a write surely stays within the limits; if so, it is counted.
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

    /// Notes the store's answer.
    pub(super) fn hear(&self, held: StateHeld) {
        *self.heard.lock() = Some((Instant::now(), held));
    }

    fn fits(&self, held: StateHeld) -> bool {
        held.keys <= self.limit.keys && held.bytes <= self.limit.bytes
    }

    /// Refuses the writes of a call, `own` in all, to a group that holds `held`, if
    /// they exceed the limits when `replaced` is subtracted.
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
