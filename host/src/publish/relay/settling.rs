//! Stores what became of rows, as it becomes known.

use std::collections::HashMap;
use std::sync::Arc;

use courier_core::outbound::{RowEnd, RowId, ShardEvent};
use courier_core::status::State;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::pass::{PassId, RowResult, result_of};
use super::{Done, REFUSED_PAUSE, Relay, STORE_PAUSE};
use crate::publish::send::result::count;
use crate::said;
use crate::store::{RelayResult, Relayed, SharedStore, StoreError};

/// Transactions with results at a time. What ends meanwhile goes into the next, so that
/// under load each has many rows; the second goes past one that waits for a lock.
const MAX_TRANSACTIONS: usize = 2;

impl Relay {
    /// Keeps results until they are written.
    pub(super) fn keep_results(&mut self, id: PassId, ends: Vec<(RowId, RowEnd)>) {
        let Some(pass) = self.passes.get(&id) else { return };
        let (shard, epoch) = (pass.shard, pass.epoch);
        let relayed = |(row, end): (RowId, RowEnd)| Relayed { id: row.0, shard, result: result_of(end) };
        self.settling.waiting.extend(ends.into_iter().map(|end| RowResult { pass: id, epoch, relayed: relayed(end) }));
    }

    /// Writes the results that wait, unless enough are being written.
    pub(super) fn settle(&mut self) {
        while !self.settling.waiting.is_empty() && self.settling.transactions < MAX_TRANSACTIONS {
            // A shard that was lost and leased again has passes of two epochs.
            let mut leases: HashMap<i32, i64> = HashMap::new();
            let (results, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.settling.waiting)
                .into_iter()
                .partition(|result| *leases.entry(result.relayed.shard).or_insert(result.epoch) == result.epoch);
            self.settling.waiting = waiting;
            self.settling.transactions += 1;
            let leases: Vec<(i32, i64)> = leases.into_iter().collect();
            let (store, shutdown) = (Arc::clone(&self.store), self.shutdown.clone());
            self.write(async move {
                let rows: Vec<Relayed> = results.iter().map(|result| result.relayed.clone()).collect();
                let stored = store_results(&store, &leases, &rows, &shutdown).await;
                Done::Settled { results, stored }
            });
        }
    }

    /// Reports results that are stored, and has their rows forgotten.
    pub(super) fn settled(&mut self, results: Vec<RowResult>, stored: Result<(), StoreError>) {
        self.settling.transactions -= 1;
        if let Err(error) = &stored
            && let Some(unsaid) = said::again("results of the relay")
        {
            // The rows are sent again, with the same ids.
            error!(%error, unsaid, "cannot store what became of {} rows of the relay", results.len());
        }
        let mut rows: HashMap<PassId, Vec<RowId>> = HashMap::new();
        for RowResult { pass: id, relayed, .. } in results {
            let row = RowId(relayed.id);
            let message = self.passes.get(&id).and_then(|pass| Some(pass.rows.get(&row)?.row.identity()));
            if stored.is_ok() {
                match relayed.result {
                    RelayResult::Taken { .. } => count(State::Committed),
                    RelayResult::Undelivered { .. } => count(State::SendFail),
                    RelayResult::Later { .. } => {}
                }
                if let Some(message) = message {
                    self.waker.tell(&message, relayed.result);
                }
            }
            rows.entry(id).or_default().push(row);
        }
        for (pass, rows) in rows {
            self.tell(pass, ShardEvent::Settled { rows });
        }
    }
}

/// Stores results, and retries until the store takes them or the host stops.
/// Repeating is safe, since rows that are gone are left alone; dropping results
/// would send the rows again.
async fn store_results(
    store: &SharedStore,
    shards: &[(i32, i64)],
    results: &[Relayed],
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let mut pause = STORE_PAUSE;
    loop {
        match store.relayed(shards, results).await {
            Err(error) if error.may_pass() && !shutdown.is_cancelled() => {
                if !error.is_transient() {
                    pause = (pause * 2).min(REFUSED_PAUSE);
                    if let Some(unsaid) = said::again("refused results of the relay") {
                        warn!(%error, again_in = ?pause, unsaid, "the store refused results of the relay; they are retried");
                    }
                }
                tokio::time::sleep(pause).await;
            }
            Err(StoreError::Data(reason)) if results.len() > 1 => {
                warn!(%reason, "the store refused a result of the relay; each is stored alone");
                for result in results {
                    if let Err(error) = store.relayed(shards, std::slice::from_ref(result)).await
                        && let Some(unsaid) = said::again("a result of the relay")
                    {
                        error!(%error, row = result.id, unsaid, "cannot store what became of a row");
                    }
                }
                return Ok(());
            }
            answer => return answer,
        }
    }
}
