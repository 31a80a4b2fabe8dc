//! Stale sessions: those of the pool that are replaced before they are used again.
//!
//! After a fail-over behind one address, open sessions still lead to the old server, which
//! takes no more writes, as long as they live. The first statement that shows this marks
//! all older sessions as stale, and the pool replaces them without asking each one.
//!
//! The mark is one for the process, which has one store. Another pool would only open new
//! sessions once more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two marks. While the address still leads to a server that
/// takes no writes, every write fails, and each failure would replace the whole pool.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

static MARK: Mutex<Option<Instant>> = Mutex::new(None);

/// Marks every session that is open now as stale.
pub(super) fn mark() {
    let now = Instant::now();
    let mut mark = MARK.lock().unwrap_or_else(PoisonError::into_inner);
    if may_move(*mark, now) {
        *mark = Some(now);
        tracing::debug!("sessions with the store are replaced");
    }
}

/// Whether a session that was opened this long ago is stale.
pub(super) fn is_stale(age: Duration) -> bool {
    let mark = *MARK.lock().unwrap_or_else(PoisonError::into_inner);
    is_before(mark, age, Instant::now())
}

fn may_move(mark: Option<Instant>, now: Instant) -> bool {
    mark.is_none_or(|mark| now.saturating_duration_since(mark) >= MARK_INTERVAL)
}

fn is_before(mark: Option<Instant>, age: Duration, now: Instant) -> bool {
    mark.is_some_and(|mark| age > now.saturating_duration_since(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_older_than_the_mark_are_stale_and_newer_ones_are_not() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let now = begun + second * 10;
        assert!(!is_before(None, second * 3600, now), "nothing failed yet");
        let mark = Some(begun + second * 7);
        assert!(is_before(mark, second * 9, now), "it was opened before the mark");
        assert!(!is_before(mark, second * 2, now), "it was opened after the mark");
        assert!(!may_move(mark, begun + second * 7 + MARK_INTERVAL / 2), "new sessions get their time");
        assert!(may_move(mark, begun + second * 7 + MARK_INTERVAL));
    }
}
