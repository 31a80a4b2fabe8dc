//! A rate limit for repeated log lines: the first one is logged, later ones after
//! growing pauses.
//!
//! A log line in a loop would fill the log while its cause lasts. Parts that
//! stand still report to the [board of causes](crate::causes); this is for other
//! lines that repeat.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// First and longest pause between two lines about one thing; it doubles with
/// each line.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Things remembered at a time. Past it those whose pause is over are forgotten,
/// and all if that is not enough.
const MAX_REMEMBERED: usize = 1_024;

static SAID: LazyLock<Mutex<Said>> = LazyLock::new(Mutex::default);

/// Asks whether to log a line about `what` now. Returns how many lines were left
/// out since the last one, or `None` while the pause lasts.
#[must_use]
pub fn again(what: &str) -> Option<u64> {
    SAID.lock().at(Instant::now(), what)
}

/// A line without its digits, so that lines that differ only in ports, ids or
/// times count as one thing.
#[must_use]
pub fn without_numbers(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

/// The things that were logged, and when.
#[derive(Debug, Default)]
struct Said {
    things: HashMap<String, Thing>,
}

#[derive(Debug)]
struct Thing {
    at: Instant,
    pause: Duration,
    unsaid: u64,
}

impl Said {
    fn at(&mut self, now: Instant, what: &str) -> Option<u64> {
        if let Some(thing) = self.things.get_mut(what) {
            if now.saturating_duration_since(thing.at) < thing.pause {
                thing.unsaid += 1;
                return None;
            }
            thing.at = now;
            thing.pause = (thing.pause * 2).min(LONGEST_PAUSE);
            return Some(std::mem::take(&mut thing.unsaid));
        }
        if self.things.len() >= MAX_REMEMBERED {
            self.things.retain(|_, thing| now.saturating_duration_since(thing.at) < thing.pause);
        }
        if self.things.len() >= MAX_REMEMBERED {
            self.things.clear();
        }
        self.things.insert(what.to_owned(), Thing { at: now, pause: FIRST_PAUSE, unsaid: 0 });
        Some(0)
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

    #[test]
    fn what_was_not_said_is_counted() {
        let (mut said, begun) = (Said::default(), Instant::now());
        assert_eq!(said.at(begun, "no leader"), Some(0));
        assert_eq!((said.at(begun, "no leader"), said.at(begun, "no leader")), (None, None));
        assert_eq!(said.at(begun + FIRST_PAUSE, "no leader"), Some(2));
    }

    #[test]
    fn more_things_than_are_remembered_are_still_said() {
        let (mut said, begun) = (Said::default(), Instant::now());
        for thing in 0..MAX_REMEMBERED * 3 {
            assert_eq!(said.at(begun, &thing.to_string()), Some(0));
            assert!(said.things.len() <= MAX_REMEMBERED);
        }
    }

    #[test]
    fn lines_that_differ_in_numbers_are_alike() {
        assert_eq!(without_numbers("127.0.0.1:9092 failed (after 17ms)"), "...: failed (after ms)");
    }
}
