//! The store of a single host, in one SQLite file.
//!
//! It is as durable as the other dialect, since the log is synced at every commit. It does
//! not serve several hosts, but several processes may open the file, as the command line
//! does beside a running host.
//!
//! [`connect`] opens the file, [`writing`] has the transactions, and [`script`] runs several
//! statements in one round trip. Each family of verbs has a file of the same name as in the
//! other dialect. Three files are only SQLite's: [`checkpoint`] keeps the log short, [`slots`]
//! keeps the indexes of final rows small, and [`slices`] bounds the walks of lists. The schema
//! is in `migrations`.

mod accept;
mod attempts;
mod audits;
mod broadcast;
mod bulk;
mod checkpoint;
mod claim;
mod columns;
mod connect;
mod dedupe;
mod delayed;
mod deliveries;
mod dialect;
mod error;
mod groups;
mod half;
mod handled_sets;
mod health;
mod host_lock;
mod identities;
mod incarnations;
mod kept_state;
mod log_ends;
mod messages;
mod minutes;
mod nodes;
mod open_rows;
mod outbound;
mod outbox;
mod plugins;
mod positions;
mod prune;
mod record_copies;
mod redrive;
mod redrive_items;
mod redrive_plan;
mod relayed;
mod reruns;
mod script;
mod seek;
mod settle;
mod settle_open;
mod settle_rows;
mod shards;
mod slices;
mod slots;
mod troubles;
mod undelivered;
mod words;
mod writing;

use self::connect::Connections;
pub use self::host_lock::HostLock;
use self::words::SqliteWords;
use super::StoreError;

/// The store in a SQLite file.
pub struct SqliteStore {
    connections: Connections,
    words: SqliteWords,
}

impl SqliteStore {
    /// Opens or creates the file of a `sqlite://path` URL and runs its
    /// migrations.
    ///
    /// # Errors
    /// When the file cannot be opened, or was migrated by a newer version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { connections: Connections::open(url).await?, words: SqliteWords::default() })
    }

    /// Closes the connections that read, so that the store is unavailable from now on.
    #[cfg(test)]
    pub(crate) async fn close_readers(&self) {
        self.connections.readers.close().await;
    }
}
