//! Waiting for something to become true, with an answer when it does not.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

/// Calls `look` until it returns a value. `Err` says why it is not so yet; the
/// last reason is part of the panic when `limit` passes.
pub async fn wait_until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    let mut pause = FIRST;
    loop {
        // One look that hangs must not hide that the time is up.
        let reason = match tokio::time::timeout(limit, look()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(reason)) => reason,
            Err(_) => "looking took as long as the whole wait may".to_owned(),
        };
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain until {what}; last seen: {reason}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
