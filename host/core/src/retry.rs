//! The retry schedule: when a delivery that did not succeed runs again.

use std::time::Duration;

/// The longest wait that a handler may ask for. A wait of centuries is an
/// arithmetic mistake of the handler, and would park its lane for ever.
pub const MAX_ASKED_WAIT: Duration = Duration::from_secs(7 * 86_400);

/// A binding's schedule of attempts (`[binding.retry]`).
///
/// The wait before attempt `n + 1` is `initial * multiplier^(n - 1)`, at most
/// `max`, spread by `jitter`: exponential backoff with proportional jitter, so
/// that deliveries which failed together do not come back together.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Whether a plain error is retried. Without it only the verdict `retry`
    /// asks for another attempt.
    pub on_error: bool,
    /// The most attempts that are counted, the first one included; at least 1.
    pub max_attempts: u32,
    /// Wait after the first failed attempt.
    pub initial: Duration,
    /// Growth of the wait from one attempt to the next; at least 1.
    pub multiplier: f64,
    /// The longest wait of the schedule, before the jitter.
    pub max: Duration,
    /// The part of a wait, from 0 to 1, that chance adds or subtracts at most.
    pub jitter: f64,
    /// The time after which no attempt begins, counted from when the delivery was
    /// received or a rerun was last requested; `None` is without limit.
    pub budget: Option<Duration>,
}

impl Default for RetryPolicy {
    /// The policy of a binding without `[binding.retry]`: an error is final, and a
    /// handler that asks for a retry gets ten attempts over about eight minutes.
    fn default() -> Self {
        Self {
            on_error: false,
            max_attempts: 10,
            initial: Duration::from_secs(1),
            multiplier: 2.0,
            max: Duration::from_secs(300),
            jitter: 0.2,
            budget: None,
        }
    }
}

impl RetryPolicy {
    /// The wait after `counted` attempts were used up (at least 1).
    ///
    /// `chance` is uniform in `[0, 1)`. `asked` is the wait that the handler
    /// asked for; it replaces the schedule, up to [`MAX_ASKED_WAIT`].
    #[must_use]
    pub fn wait(&self, counted: u32, asked: Option<Duration>, chance: f64) -> Duration {
        if let Some(asked) = asked {
            return asked.min(MAX_ASKED_WAIT);
        }
        let steps = i32::try_from(counted.saturating_sub(1)).unwrap_or(i32::MAX);
        let base = self.initial.as_secs_f64() * self.multiplier.powi(steps);
        let capped = base.min(self.max.as_secs_f64());
        let spread = capped * (1.0 + self.jitter * (2.0 * chance - 1.0));
        Duration::try_from_secs_f64(spread.max(0.0)).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { jitter: 0.0, ..RetryPolicy::default() }
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let waits: Vec<u64> = (1..=11).map(|n| policy().wait(n, None, 0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(policy().wait(u32::MAX, None, 0.5), Duration::from_secs(300));
    }

    #[test]
    fn jitter_spreads_both_ways_and_no_further() {
        let policy = RetryPolicy { jitter: 0.2, ..RetryPolicy::default() };
        assert_eq!(policy.wait(1, None, 0.0), Duration::from_millis(800));
        assert_eq!(policy.wait(1, None, 0.5), Duration::from_secs(1));
        assert!(policy.wait(1, None, 0.999) < Duration::from_millis(1_200));
    }

    #[test]
    fn a_wait_until_the_year_9999_is_cut_to_a_week() {
        let centuries = Duration::from_secs(8_000 * 365 * 86_400);
        assert_eq!(policy().wait(1, Some(centuries), 0.5), MAX_ASKED_WAIT);
        assert_eq!(policy().wait(1, Some(Duration::MAX), 0.5), MAX_ASKED_WAIT);
        assert_eq!(policy().wait(1, Some(MAX_ASKED_WAIT), 0.5), MAX_ASKED_WAIT);
    }

    #[test]
    fn the_handlers_own_wait_replaces_the_schedule() {
        assert_eq!(policy().wait(7, Some(Duration::from_millis(500)), 0.9), Duration::from_millis(500));
    }
}
