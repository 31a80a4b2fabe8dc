//! What a host asks of its store beside its work: what time it is there, and whether
//! its settings keep what Courier promises.

use std::time::{Duration, Instant};

use crate::causes::{Cause, Causes, Subject};
use crate::clock;
use crate::publish::send::Acceptor;
use crate::store::{SharedStore, Weakness};

/// How long the store may take to tell its time.
const PING_WAIT: Duration = Duration::from_secs(2);
/// The cause of a store that takes no messages.
const NOT_ACCEPTING: &str = "store_takes_no_messages";
/// How often it is looked whether messages are accepted.
const LOOK: Duration = Duration::from_secs(1);
/// How often the store is asked for its time and its settings.
const ASK: Duration = Duration::from_secs(10);

/// Sets the host's clock by the store's.
pub async fn set_clock(store: &SharedStore) {
    let asked = clock::machine_now();
    match tokio::time::timeout(PING_WAIT, store.ping()).await {
        Ok(Ok(time)) => {
            let ahead_micros = clock::follow(time, asked, clock::machine_now());
            metrics::gauge!("courier_store_clock_ahead_seconds").set(ahead_micros as f64 / 1e6);
        }
        Ok(Err(error)) => tracing::debug!(%error, "the store's time is not known"),
        Err(_) => tracing::debug!("the store's time is not known: it does not answer"),
    }
}

/// Keeps the host's clock, and says what weakens the store or keeps messages
/// from being accepted.
pub async fn keep(store: SharedStore, acceptor: Acceptor, causes: Causes) {
    let mut known: Vec<Weakness> = Vec::new();
    let mut looked: Option<Instant> = None;
    loop {
        match acceptor.why_closed() {
            Some(why) => {
                let why = format!("messages cannot be stored, so that none is accepted: {why}");
                causes.report(Subject::Store, Cause::new(NOT_ACCEPTING, why));
            }
            None => causes.clear_code(&Subject::Store, NOT_ACCEPTING),
        }
        if looked.is_none_or(|at| at.elapsed() >= ASK) {
            looked = Some(Instant::now());
            set_clock(&store).await;
            match store.weaknesses().await {
                Ok(found) => {
                    for gone in known.iter().filter(|one| !found.contains(one)) {
                        causes.clear_code(&Subject::Store, gone.code);
                    }
                    for one in &found {
                        causes.report(Subject::Store, Cause::new(one.code, &one.sentence).at_once());
                    }
                    known = found;
                }
                Err(error) => tracing::debug!(%error, "the store's settings are not known"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
