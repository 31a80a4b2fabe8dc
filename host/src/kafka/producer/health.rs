//! Whether the cluster is there, as far as the producer knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

/// How long after an outage a topic that the cluster does not know may exist all the
/// same: a broker that has just started learns of its topics while it serves already.
const LEARNS_WITHIN: Duration = Duration::from_secs(10);

/// What is known of the cluster, shared with the client's callbacks.
pub(super) struct ClusterHealth {
    down: watch::Sender<bool>,
    // The same, for the path that every acknowledgement takes.
    is_down: AtomicBool,
    /// When the last outage ended.
    back_at: Mutex<Option<Instant>>,
    pub(super) suspected: AtomicBool,
    /// The client will never send again.
    pub(super) fatal: AtomicBool,
}

impl ClusterHealth {
    pub(super) fn new() -> Self {
        Self {
            down: watch::Sender::new(false),
            is_down: AtomicBool::new(false),
            back_at: Mutex::new(None),
            // Whether the cluster is there is asked once at the start.
            suspected: AtomicBool::new(true),
            fatal: AtomicBool::new(false),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Has the cluster asked whether it is there.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }

    /// Whether the cluster may not know all of its topics yet.
    pub(super) fn may_be_learning(&self, now: Instant) -> bool {
        self.back_at.lock().is_some_and(|back| now.duration_since(back) < LEARNS_WITHIN)
    }

    pub(super) fn set(&self, down: bool) {
        if self.is_down.swap(down, Ordering::Relaxed) && !down {
            *self.back_at.lock() = Some(Instant::now());
        }
        self.down.send_if_modified(|was| std::mem::replace(was, down) != down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_may_be_learning_of_its_topics_for_a_while_after_an_outage() {
        let health = ClusterHealth::new();
        health.set(false);
        assert!(!health.may_be_learning(Instant::now()), "there was no outage");
        health.set(true);
        health.set(false);
        let now = Instant::now();
        assert!(health.may_be_learning(now) && !health.may_be_learning(now + LEARNS_WITHIN));
    }
}
