//! Waits of an owner for optional things: `None` waits for ever.

use std::sync::Arc;
use std::time::Duration;

use courier_core::partition::{Answer, Batch};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::consume::attempt::finished::FinishedAttempt;

/// How long a position that moved over skipped records waits for an outcome with
/// which it is written, before it is written alone.
const POSITION_WAIT: Duration = Duration::from_secs(1);

/// When the position is written alone. The time does not move while records come: a
/// topic whose records are all skipped would never have its position written.
#[derive(Debug, Default)]
pub(super) struct PositionWait {
    until: Option<Instant>,
}

impl PositionWait {
    /// When the wait is over; none while everything is written.
    pub(super) fn until(&mut self, is_unwritten: bool) -> Option<Instant> {
        self.until = is_unwritten.then(|| self.until.unwrap_or_else(|| Instant::now() + POSITION_WAIT));
        self.until
    }

    /// Begins the next wait: what could not be written now is tried again after it.
    pub(super) fn is_over(&mut self) {
        self.until = None;
    }
}

pub(super) type UnderWay = (oneshot::Receiver<Answer>, Arc<Batch<Box<FinishedAttempt>>>);

pub(super) async fn answered(answer: &mut Option<UnderWay>) -> Answer {
    match answer {
        // A writer that ended without an answer has ended the process.
        Some((receiver, _)) => match receiver.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each batch of skipped records began a new wait, which never ended.
    #[test]
    fn the_wait_of_a_position_ends_while_records_come() {
        let mut wait = PositionWait::default();
        assert_eq!(wait.until(false), None);
        let until = wait.until(true);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(wait.until(true), until);
        wait.is_over();
        assert!(wait.until(true) > until, "what is still unwritten waits once more");
        assert_eq!(wait.until(false), None);
    }
}
