//! Bounds the effects of attempts that the store has not taken yet.
//!
//! The memory budget of a group counts records, but a handler may publish,
//! store and log a megabyte for a record of ten bytes. So no attempt begins
//! while too many bytes of effects wait for the writer.

use std::sync::Arc;

use tokio::sync::watch;

/// Bytes of effects that may wait before no more attempts of the binding begin.
/// Running attempts still add theirs: at most `concurrency` times `batch` times
/// the output limit of one attempt.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The effects of a binding that wait to be written.
#[derive(Debug, Default)]
pub struct EffectsBudget {
    bytes: watch::Sender<usize>,
}

impl EffectsBudget {
    /// Counts the effects of an attempt until the permit is dropped; most
    /// attempts have none.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<EffectsPermit> {
        if bytes == 0 {
            return None;
        }
        // Waiters wait for the value to fall, so an increase need not wake them.
        self.bytes.send_if_modified(|waiting| {
            *waiting += bytes;
            false
        });
        Some(EffectsPermit { of: Arc::clone(self), bytes })
    }

    /// Whether the budget is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        *self.bytes.borrow() >= MAX_BYTES
    }

    /// Waits until the budget has room.
    pub async fn room(&self) {
        // `self` holds the sender, so the wait never fails.
        let _ = self.bytes.subscribe().wait_for(|waiting| *waiting < MAX_BYTES).await;
    }
}

/// The effects of one attempt, counted until they are written.
#[derive(Debug)]
pub struct EffectsPermit {
    of: Arc<EffectsBudget>,
    bytes: usize,
}

impl Drop for EffectsPermit {
    fn drop(&mut self) {
        self.of.bytes.send_if_modified(|waiting| {
            let before = *waiting;
            *waiting = before.saturating_sub(self.bytes);
            before >= MAX_BYTES && *waiting < MAX_BYTES
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn attempts_wait_until_enough_is_written() {
        let budget = Arc::new(EffectsBudget::default());
        assert!(budget.take(0).is_none());
        let first = budget.take(MAX_BYTES - 1);
        assert!(!budget.is_full());
        budget.room().await;
        let second = budget.take(1);
        assert!(budget.is_full());
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.room().await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "there is no room");
        drop(second);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it is woken").unwrap();
        drop(first);
        assert_eq!(*budget.bytes.borrow(), 0);
    }
}
