//! Migrations that a running host of an older version cannot live with.
//!
//! Most migrations add to the schema, and older hosts go on beside the newer one
//! until they are replaced in their turn. A migration that an older host cannot write
//! after is named in [`EXCLUSIVE`]. A host that opens the store waits before such a
//! migration until no node holds a live lease, and logs which nodes it waits for.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::{info, warn};

use super::StoreError;

/// The migrations that run only while no host does. Migration 12 changes the primary
/// key of the messages, and an older host would insert under the old one.
const EXCLUSIVE: &[i64] = &[12];

/// First and longest pause between two polls of the leases.
const POLL_FIRST: Duration = Duration::from_millis(100);
const POLL_LONGEST: Duration = Duration::from_secs(2);
/// First and longest pause between two log lines about one wait.
const LOG_FIRST: Duration = Duration::from_secs(30);
const LOG_LONGEST: Duration = Duration::from_secs(600);

/// A connection to a database whose migrations have not run.
#[async_trait]
pub(super) trait Unmigrated: Send {
    /// Reads the versions of the migrations that it has; an empty database has none.
    async fn applied(&mut self) -> Result<Vec<i64>, StoreError>;

    /// Reads the names of the nodes that hold a live lease.
    async fn live_nodes(&mut self) -> Result<Vec<String>, StoreError>;
}

/// Waits until an exclusive migration may run, if one is due.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn wait_until_alone(database: &mut impl Unmigrated) -> Result<(), StoreError> {
    let applied = database.applied().await?;
    let due = EXCLUSIVE.iter().find(|version| !applied.contains(version));
    let Some(migration) = due.filter(|_| !applied.is_empty()) else { return Ok(()) };
    let mut pause = POLL_FIRST;
    let (mut log_at, mut log_pause) = (Instant::now(), LOG_FIRST);
    let mut waited = false;
    loop {
        let nodes = database.live_nodes().await?;
        if nodes.is_empty() {
            if waited {
                info!(migration, "no host holds a lease any more: the store is migrated");
            }
            return Ok(());
        }
        if Instant::now() >= log_at {
            warn!(
                migration,
                nodes = %nodes.join(", "),
                "the store waits to be migrated until these nodes are stopped: hosts of an older version cannot run beside this one"
            );
            log_at = Instant::now() + log_pause;
            log_pause = (log_pause * 2).min(LOG_LONGEST);
        }
        waited = true;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database whose nodes leave one after another.
    struct Leaving {
        applied: Vec<i64>,
        nodes: Vec<String>,
        looks: usize,
    }

    #[async_trait]
    impl Unmigrated for Leaving {
        async fn applied(&mut self) -> Result<Vec<i64>, StoreError> {
            Ok(self.applied.clone())
        }

        async fn live_nodes(&mut self) -> Result<Vec<String>, StoreError> {
            self.looks += 1;
            let live = self.nodes.clone();
            self.nodes.pop();
            Ok(live)
        }
    }

    #[tokio::test]
    async fn an_exclusive_migration_waits_for_the_last_lease() {
        let nodes = vec!["host-1".to_owned(), "host-2".to_owned()];
        for (applied, looks) in [(vec![], 0), (vec![1, 10], 3), (vec![1, 10, 12], 0)] {
            let mut database = Leaving { applied, nodes: nodes.clone(), looks: 0 };
            wait_until_alone(&mut database).await.unwrap();
            assert_eq!(database.looks, looks, "{:?}", database.applied);
        }
    }
}
