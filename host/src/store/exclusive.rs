//! Migrations that a running host of an older version cannot live with.
//!
//! Most migrations add to the schema, and older hosts go on beside the newer
//! one until they are replaced in their turn. One that changes what an older
//! host writes by is named in [`EXCLUSIVE`]: whoever opens the store waits
//! before it until no node holds a live lease, and the log says for whom.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::{info, warn};

use super::StoreError;

/// The migrations that run only while no host does. 12 changes the key of the
/// messages, by which older hosts write.
const EXCLUSIVE: &[i64] = &[12];

/// First and longest pause between looks at the leases.
const LOOK_FIRST: Duration = Duration::from_millis(100);
const LOOK_LONGEST: Duration = Duration::from_secs(2);
/// First and longest pause between two lines of the log about one wait.
const SAY_FIRST: Duration = Duration::from_secs(30);
const SAY_LONGEST: Duration = Duration::from_secs(600);

/// What is asked of a database before its migrations run.
#[async_trait]
pub(super) trait Unmigrated: Send {
    /// The migrations that it has; none of an empty database.
    async fn applied(&mut self) -> Result<Vec<i64>, StoreError>;

    /// The names of the nodes that hold a live lease.
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
    let mut pause = LOOK_FIRST;
    let (mut say_at, mut say_pause) = (Instant::now(), SAY_FIRST);
    let mut waited = false;
    loop {
        let nodes = database.live_nodes().await?;
        if nodes.is_empty() {
            if waited {
                info!(migration, "no host holds a lease any more: the store is migrated");
            }
            return Ok(());
        }
        if Instant::now() >= say_at {
            warn!(
                migration,
                nodes = %nodes.join(", "),
                "the store waits to be migrated until these nodes are stopped: hosts of an older version cannot run beside this one"
            );
            say_at = Instant::now() + say_pause;
            say_pause = (say_pause * 2).min(SAY_LONGEST);
        }
        waited = true;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_LONGEST);
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
