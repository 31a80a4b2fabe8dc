//! Which tests run at the same time: most share the machine; those that measure
//! time run alone.

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::scale;

static MACHINE: RwLock<()> = RwLock::const_new(());
/// Held by the test that loads the machine.
static LOAD: Mutex<()> = Mutex::const_new(());

/// For a test that may run beside others; hold it to the test's end.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// For a test that loads the machine and measures nothing: one of these runs at a
/// time, beside others. At full scale, where there is load enough without others,
/// it runs alone.
pub async fn heavy() -> Heavy {
    if scale(false, true) {
        return Heavy::Alone(alone().await);
    }
    // First the lock that is held for long, so that a waiting test holds up no
    // other.
    let load = LOAD.lock().await;
    Heavy::One(load, shared().await)
}

/// For a test that measures time.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// The turn of a heavy test.
pub enum Heavy {
    /// The only one that loads the machine.
    One(MutexGuard<'static, ()>, RwLockReadGuard<'static, ()>),
    /// The only one that runs.
    Alone(RwLockWriteGuard<'static, ()>),
}
