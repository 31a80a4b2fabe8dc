//! Bounds how many bytes of logs the attempts of a group may store.
//!
//! A log is stored with its attempt, on the disk on which every group waits for
//! its outcomes. A handler that fills its log with each message would use up
//! that disk, so the logs of a group share a budget of bytes a second; beyond it
//! only the beginning of each log is kept.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::limits::{LOG_BURST_BYTES, LOG_BYTES_A_SECOND};

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
    /// Takes this many bytes from the budget; false when they are too many now.
    pub(super) fn spend(&self, bytes: usize) -> bool {
        let Some(bytes) = u32::try_from(bytes).ok().and_then(NonZeroU32::new) else {
            return bytes == 0;
        };
        // A log larger than the whole budget is never kept whole.
        self.0.check_n(bytes).is_ok_and(|spent| spent.is_ok())
    }
}
