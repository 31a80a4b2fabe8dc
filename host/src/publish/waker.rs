//! Wakes the relay, and tells who waits what became of a row.
//!
//! Both are shortcuts within one process: the relay also polls, and whoever
//! waits asks the store in the end, since another node may send the row.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use crate::store::{Identity, RelayResult};

/// Messages that are waited for at a time; past it, waiting is refused and the
/// answer is what the row said when it was written.
const MAX_WAITING: usize = 50_000;

/// Wakes the relay at once; clones share it.
#[derive(Clone, Default)]
pub struct Waker {
    inner: Arc<WakerParts>,
}

#[derive(Default)]
struct WakerParts {
    notify: Notify,
    waiting: Mutex<HashMap<Identity, oneshot::Sender<RelayResult>>>,
}

/// Waits for the result of one row.
pub struct Watch {
    waker: Waker,
    message: Identity,
    result: oneshot::Receiver<RelayResult>,
}

impl Waker {
    /// Says that there are new rows: the relay need not wait for its next poll.
    pub fn wake(&self) {
        self.inner.notify.notify_one();
    }

    /// Waits until somebody wakes it.
    pub(super) async fn woken(&self) {
        self.inner.notify.notified().await;
    }

    /// Watches for what becomes of a message, from before its row is written.
    /// None when somebody watches already, or too many do.
    pub(super) fn watch(&self, message: &Identity) -> Option<Watch> {
        let mut waiting = self.locked();
        if waiting.len() >= MAX_WAITING || waiting.contains_key(message) {
            return None;
        }
        let (sender, result) = oneshot::channel();
        waiting.insert(message.clone(), sender);
        Some(Watch { waker: self.clone(), message: message.clone(), result })
    }

    /// Tells whoever watches for a message, once the result is durable.
    pub(super) fn tell(&self, message: &Identity, result: RelayResult) {
        if let Some(watching) = self.locked().remove(message) {
            let _gone = watching.send(result);
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Identity, oneshot::Sender<RelayResult>>> {
        self.inner.waiting.lock()
    }
}

impl Watch {
    /// The result, if it was told by now.
    pub(super) fn told(&mut self) -> Option<RelayResult> {
        self.result.try_recv().ok()
    }

    /// The result; none when it does not come until `deadline`.
    pub(super) async fn result(mut self, deadline: tokio::time::Instant) -> Option<RelayResult> {
        tokio::time::timeout_at(deadline, &mut self.result).await.ok()?.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Only its own entry: after a result was told, another may watch.
        self.result.close();
        let mut waiting = self.waker.locked();
        if waiting.get(&self.message).is_some_and(oneshot::Sender::is_closed) {
            waiting.remove(&self.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use courier_core::message::Offset;

    use super::*;

    #[tokio::test]
    async fn a_result_reaches_who_watches_and_leaves_nothing_behind() {
        let waker = Waker::default();
        let [a, b, nobody] = ["a", "b", "nobody"].map(|id| Identity::new("order", "shop", id));
        let (watch, unheard) = (waker.watch(&a).unwrap(), waker.watch(&b).unwrap());
        assert!(waker.watch(&a).is_none());
        let same_id = Identity::new("order", "other", "a");
        waker.tell(&same_id, RelayResult::Taken { partition: 0, offset: Offset(0) });
        waker.tell(&a, RelayResult::Undelivered { code: "refused", reason: "no".to_owned() });
        waker.tell(&nobody, RelayResult::Undelivered { code: "refused", reason: "no".to_owned() });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        assert!(matches!(watch.result(deadline).await, Some(RelayResult::Undelivered { .. })));
        drop(unheard);
        assert!(waker.locked().is_empty());
    }
}
