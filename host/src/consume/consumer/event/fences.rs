//! Counts how often Kafka fenced a consumer.

use std::time::{Duration, Instant};

/// How often this consumer may be fenced within [`WINDOW`] before it stands
/// back. Once may be its own doing, when it joined again after a restart of its
/// broker.
const MOST_FENCES: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// When this consumer was fenced.
#[derive(Debug, Default)]
pub(super) struct Fences(Vec<Instant>);

impl Fences {
    /// Counts one more; returns whether to stand back.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < WINDOW);
        self.0.push(now);
        self.0.len() >= MOST_FENCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_secs(5);

    #[test]
    fn one_who_is_put_out_again_and_again_stands_back() {
        let (mut fences, begun) = (Fences::default(), Instant::now());
        assert!(!fences.again(begun));
        assert!(!fences.again(begun + WINDOW * 2), "that is long ago");
        assert!(!fences.again(begun + WINDOW * 2 + MOMENT));
        assert!(fences.again(begun + WINDOW * 2 + MOMENT * 2));
    }
}
