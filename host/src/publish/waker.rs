//! Wakes the relay, and reports the result of a row to who waits for it.
//!
//! Both are shortcuts within one process: the relay also polls, and the waiting
//! side asks the store in the end, since another node may send the row.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use crate::store::{Identity, RelayResult};

/// Messages that may be waited for at once; beyond it the answer is the state
/// of the row when it was written.
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
    /// Makes the relay poll at once.
    pub fn wake(&self) {
        self.inner.notify.notify_one();
    }

    /// Waits for a wake-up.
    pub(super) async fn woken(&self) {
        self.inner.notify.notified().await;
    }

    /// Watches for the result of a message, from before its row is written.
    /// `None` when it is watched already, or too many are.
    pub(super) fn watch(&self, message: &Identity) -> Option<Watch> {
        let mut waiting = self.locked();
        if waiting.len() >= MAX_WAITING || waiting.contains_key(message) {
            return None;
        }
        let (sender, result) = oneshot::channel();
        waiting.insert(message.clone(), sender);
        Some(Watch { waker: self.clone(), message: message.clone(), result })
    }

    /// Reports the result of a message, once it is durable.
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
    /// The result, if it is there.
    pub(super) fn told(&mut self) -> Option<RelayResult> {
        self.result.try_recv().ok()
    }

    /// The result; `None` when it is not there at `deadline`.
    pub(super) async fn result(mut self, deadline: tokio::time::Instant) -> Option<RelayResult> {
        tokio::time::timeout_at(deadline, &mut self.result).await.ok()?.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Only its own entry: after a result another may watch.
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
