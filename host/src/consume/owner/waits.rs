//! Waits of an owner for optional things: `None` waits for ever.

use std::sync::Arc;
use std::time::Duration;

use courier_core::partition::{Answer, Batch};
use tokio::sync::oneshot;

use crate::consume::attempt::finished::FinishedAttempt;

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
