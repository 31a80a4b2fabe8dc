//! Which tests run at the same time: most share the machine; those that measure or
//! load it run alone.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// For a test that may run beside others; hold it to the test's end.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// For a test that measures time or uses the whole machine.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}
