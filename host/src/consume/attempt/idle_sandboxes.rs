//! The sandboxes of a binding that run nothing now. The one that ran last is
//! taken first: a binding with `isolation = "instance"` and little to do then
//! calls an instance that is warm, while with a sandbox for each worker most
//! calls would meet one that has run nothing yet.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::consume::fairness::worker_throttle::WorkerThrottle;
use crate::engine::Sandbox;

/// A sandbox, with the throttle that holds its guest back.
pub struct ThrottledSandbox {
    pub sandbox: Sandbox,
    pub throttle: Arc<WorkerThrottle>,
}

/// As many sandboxes as the binding has workers, so that there is always one
/// for a worker that has a delivery.
pub struct IdleSandboxes<T = ThrottledSandbox>(Mutex<Vec<T>>);

impl<T> IdleSandboxes<T> {
    /// Of all sandboxes of a binding.
    #[must_use]
    pub fn new(all: Vec<T>) -> Self {
        Self(Mutex::new(all))
    }

    /// The sandbox that ran last.
    ///
    /// # Panics
    /// When there are fewer of them than workers.
    #[must_use]
    pub fn take(&self) -> T {
        self.0.lock().pop().expect("a binding has a sandbox for each of its workers")
    }

    /// Takes a sandbox back whose attempt has ended.
    pub fn put(&self, sandbox: T) {
        self.0.lock().push(sandbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_that_ran_last_is_taken_first() {
        let idle = IdleSandboxes::new(vec![1, 2, 3]);
        let first = idle.take();
        idle.put(first);
        assert_eq!(idle.take(), first, "one delivery after the other meets one sandbox");
        let second = idle.take();
        idle.put(first);
        idle.put(second);
        assert_eq!([idle.take(), idle.take()], [second, first]);
    }
}
