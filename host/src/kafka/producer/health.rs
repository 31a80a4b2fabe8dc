//! Whether the cluster is there, as far as the producer knows.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What is known of the cluster, shared with the client's callbacks.
pub(super) struct ClusterHealth {
    down: watch::Sender<bool>,
    // The same, for the path that every acknowledgement takes.
    is_down: AtomicBool,
    pub(super) suspected: AtomicBool,
    /// The client will never send again.
    pub(super) fatal: AtomicBool,
}

impl ClusterHealth {
    pub(super) fn new() -> Self {
        Self {
            down: watch::Sender::new(false),
            is_down: AtomicBool::new(false),
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

    pub(super) fn set(&self, down: bool) {
        self.is_down.store(down, Ordering::Relaxed);
        self.down.send_if_modified(|was| std::mem::replace(was, down) != down);
    }
}
