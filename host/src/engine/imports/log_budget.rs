//! How much of their logs the attempts of a group leave behind.
//!
//! A log is kept with its attempt in the store, on the disk on which everybody
//! waits for their outcomes. A handler that fills its log with each message
//! would have that disk for itself, so the logs of a group share what may be
//! kept in a second; beyond it only the beginning of each is.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::engine::limits::{LOG_BURST_BYTES, LOG_BYTES_A_SECOND};

/// The budget of one group on one node.
#[derive(Clone, Debug)]
pub struct LogBudget(Arc<DefaultDirectRateLimiter>);

impl Default for LogBudget {
    fn default() -> Self {
        let quota = Quota::per_second(LOG_BYTES_A_SECOND).allow_burst(LOG_BURST_BYTES);
        Self(Arc::new(RateLimiter::direct(quota)))
    }
}

impl LogBudget {
    /// Whether a log of this many bytes may be kept whole now; if so they are
    /// spent.
    pub(super) fn spend(&self, bytes: usize) -> bool {
        let Some(bytes) = u32::try_from(bytes).ok().and_then(NonZeroU32::new) else {
            return bytes == 0;
        };
        // One that is larger than the whole budget is never kept whole.
        self.0.check_n(bytes).is_ok_and(|spent| spent.is_ok())
    }
}
