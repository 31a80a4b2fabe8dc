//! Bounds what runs at once under one name, and under all names. More waits for its
//! turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns by name. Names come from the configuration, which bounds them.
#[derive(Debug)]
pub struct Turns {
    each: usize,
    all: Option<Arc<Semaphore>>,
    by_name: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// The turns of one name. Clones share them.
#[derive(Clone, Debug)]
pub struct NamedTurns {
    own: Arc<Semaphore>,
    all: Option<Arc<Semaphore>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _own: OwnedSemaphorePermit,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Turns of which one name has `each` at once, and all names `all` if that is
    /// bounded.
    #[must_use]
    pub fn new(each: usize, all: Option<usize>) -> Self {
        Self { each, all: all.map(|all| Arc::new(Semaphore::new(all))), by_name: Mutex::default() }
    }

    /// The turns of a name.
    #[must_use]
    pub fn of(&self, name: &str) -> NamedTurns {
        let mut by_name = self.by_name.lock();
        let own = by_name.entry(name.into()).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        NamedTurns { own: Arc::clone(own), all: self.all.clone() }
    }

    /// Whether all names together are bounded.
    #[must_use]
    pub fn are_shared(&self) -> bool {
        self.all.is_some()
    }
}

impl NamedTurns {
    /// Waits for a turn; `None` when that took longer than `wait`.
    pub async fn begin(&self, wait: Duration) -> Option<Turn> {
        // A name waits with its own turns first, so that it has as few places in the
        // queue of all names as it may have turns. No semaphore is ever closed.
        let turn = async {
            let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
            let of_all = match &self.all {
                Some(all) => Some(Arc::clone(all).acquire_owned().await.ok()?),
                None => None,
            };
            Some(Turn { _own: own, _of_all: of_all })
        };
        tokio::time::timeout(wait, turn).await.ok().flatten()
    }
}
