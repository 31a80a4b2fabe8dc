//! Saying the same thing once, and then with growing pauses.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first pause and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Things that are remembered; past it, all are forgotten.
const MAX_REMEMBERED: usize = 256;

/// What was said, and when.
#[derive(Debug, Default)]
pub struct Said {
    things: HashMap<String, Thing>,
}

#[derive(Debug)]
struct Thing {
    at: Instant,
    pause: Duration,
    unsaid: u64,
}

impl Said {
    /// Whether to say this now; how often it was not said since the last time.
    pub fn again(&mut self, what: &str) -> Option<u64> {
        self.at(Instant::now(), what)
    }

    fn at(&mut self, now: Instant, what: &str) -> Option<u64> {
        if self.things.len() >= MAX_REMEMBERED {
            self.things.clear();
        }
        let Some(thing) = self.things.get_mut(what) else {
            self.things.insert(what.to_owned(), Thing { at: now, pause: PAUSES.0, unsaid: 0 });
            return Some(0);
        };
        if now.duration_since(thing.at) < thing.pause {
            thing.unsaid += 1;
            return None;
        }
        thing.at = now;
        thing.pause = (thing.pause * 2).min(PAUSES.1);
        Some(std::mem::take(&mut thing.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_and_again_is_said_ever_more_seldom() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let times: Vec<u64> =
            (0..3_600).filter(|second| said.at(begun + Duration::from_secs(*second), "no leader").is_some()).collect();
        assert_eq!(times, [0, 10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430, 3_030]);
        assert_eq!(said.at(begun, "another thing"), Some(0));
    }
}
