//! Who runs beside whom: most tests share the machine, those that measure or
//! load it have it alone.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// For a test that bears others beside it; hold it to the test's end.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// For a test that measures time or uses all the machine has.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}
