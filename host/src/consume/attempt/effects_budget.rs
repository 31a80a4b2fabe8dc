//! What attempts did and the store has not taken yet.
//!
//! A record in memory holds a share of its group's budget, but a handler may
//! publish, store and log a megabyte for a record of ten bytes. So no attempt
//! begins while too much of that waits for the writer.

use std::sync::Arc;

use tokio::sync::watch;

/// Bytes of a binding's effects that may wait before no more attempts begin.
/// Those that are under way then still add theirs: `concurrency` times `batch`
/// times what one attempt may put out.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How much of a binding waits to be written.
#[derive(Debug, Default)]
pub struct EffectsBudget {
    bytes: watch::Sender<usize>,
}

impl EffectsBudget {
    /// Counts the effects of an attempt until the share is dropped; most
    /// attempts have none.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<EffectsPermit> {
        if bytes == 0 {
            return None;
        }
        // Who waits is waiting for less.
        self.bytes.send_if_modified(|waiting| {
            *waiting += bytes;
            false
        });
        Some(EffectsPermit { of: Arc::clone(self), bytes })
    }

    /// Whether no attempt may begin for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        *self.bytes.borrow() >= MAX_BYTES
    }

    /// Waits until attempts may begin.
    pub async fn room(&self) {
        // It ends with an error when the sender is gone, which `self` holds.
        let _ = self.bytes.subscribe().wait_for(|waiting| *waiting < MAX_BYTES).await;
    }
}

/// Effects that wait to be written.
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
        let unwritten = Arc::new(EffectsBudget::default());
        assert!(unwritten.take(0).is_none());
        let first = unwritten.take(MAX_BYTES - 1);
        assert!(!unwritten.is_full());
        unwritten.room().await;
        let second = unwritten.take(1);
        assert!(unwritten.is_full());
        let waiting = tokio::spawn({
            let unwritten = Arc::clone(&unwritten);
            async move { unwritten.room().await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "there is no room");
        drop(second);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it is woken").unwrap();
        drop(first);
        assert_eq!(*unwritten.bytes.borrow(), 0);
    }
}
