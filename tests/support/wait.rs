//! Waits for a condition, and reports the last reason when it does not come true.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

/// Calls `look` until it returns a value. `Err` is the reason why not yet; the last
/// reason is in the panic when `limit` passes.
pub async fn wait_until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    let mut pause = FIRST;
    loop {
        // A look that hangs must not hide that the time is over.
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
