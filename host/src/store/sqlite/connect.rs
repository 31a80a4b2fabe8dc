//! Opening the file: one connection that writes, a few that read, and one that copies the
//! log.
//!
//! Every write uses the one writing connection, see [`writing`](super::writing), and readers
//! can only query.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection};

use super::checkpoint::Checkpoints;
use super::columns::now;
use super::error::{fault, migration_fault};
use super::script::{Answer, Script};
use super::writing::{Writer, Writing};
use crate::store::exclusive::{Unmigrated, wait_until_alone};
use crate::store::{StoreError, Weakness};

/// Connections that lists and look-ups share.
const READERS: u32 = 4;
/// How long a statement waits for a writer of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection before the store counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Statements kept prepared per connection: bulk inserts have one per size.
const PREPARED_STATEMENTS: usize = 256;
/// Page cache of the writing connection, in KiB (negative by SQLite's custom).
const WRITER_CACHE: &str = "-65536";
/// Pages in the log before a commit copies what is left of them into the file.
/// The default of 1,000 makes every few settles pay for a copy; 32 MiB amortises
/// it, and leaves time for [`Checkpoints`].
const CHECKPOINT_PAGES: &str = "8192";
/// The size in bytes to which a log is truncated that grew while a reader was open for long.
const LOG_SIZE_LIMIT: &str = "134217728";

/// The mode of a new file: only its owner may read the bodies of messages and the hashes of
/// sessions in it. SQLite gives its log the same permissions.
pub(super) const FILE_MODE: u32 = 0o600;

/// Every migration, oldest first. One that was released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("migrations/0001_first.sql")),
    (2, "delayed", include_str!("migrations/0002_delayed.sql")),
    (3, "half messages", include_str!("migrations/0003_half_messages.sql")),
    (4, "outbox", include_str!("migrations/0004_outbox.sql")),
    (5, "redrive", include_str!("migrations/0005_redrive.sql")),
    (7, "broadcast", include_str!("migrations/0007_broadcast.sql")),
    (9, "centre", include_str!("migrations/0009_centre.sql")),
    (10, "unheard", include_str!("migrations/0010_unheard.sql")),
    (11, "undelivered", include_str!("migrations/0011_undelivered.sql")),
    (12, "identity", include_str!("migrations/0012_identity.sql")),
    (13, "outbox cause", include_str!("migrations/0013_outbox_cause.sql")),
    (14, "topics", include_str!("migrations/0014_topics.sql")),
    (16, "give up", include_str!("migrations/0016_give_up.sql")),
    (17, "copied records", include_str!("migrations/0017_copied_records.sql")),
    (18, "state quota", include_str!("migrations/0018_state_quota.sql")),
    (19, "senders", include_str!("migrations/0019_senders.sql")),
    (23, "given up", include_str!("migrations/0023_given_up.sql")),
    (24, "handled set", include_str!("migrations/0024_handled_set.sql")),
    (25, "address leases", include_str!("migrations/0025_address_leases.sql")),
    (26, "edges", include_str!("migrations/0026_edges.sql")),
];

/// The connections of one open store.
pub struct Connections {
    writer: Writer,
    checkpoints: Checkpoints,
    /// Connections that may only query.
    pub readers: SqlitePool,
}

impl Connections {
    /// Opens or creates the file that `url` names and runs the migrations.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            // Each connection would have a database of its own, and all would
            // be gone with the process.
            return Err(StoreError::NotFound(format!("the store's url {url:?} names no file")));
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| StoreError::NotFound(format!("the store's url {url:?} is not understood: {error}")))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A status that was acknowledged survives a power cut: the log is
            // synced at each commit, not only at checkpoints.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .statement_cache_capacity(PREPARED_STATEMENTS)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("journal_size_limit", LOG_SIZE_LIMIT);
        create(options.get_filename())?;
        Self::migrate(options.connect().await.map_err(fault)?).await?;
        let for_writing = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            // The statement journal stays in memory, since every larger insert would
            // write one to a file. Readers and migrations keep the default, since they may
            // sort whole tables.
            .pragma("temp_store", "MEMORY");
        let writer = Writer::new(for_writing.connect().await.map_err(fault)?, for_writing);
        let checkpoints = Checkpoints::start(pool(1).connect_lazy_with(options.clone()));
        let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await.map_err(fault)?;
        Ok(Self { writer, checkpoints, readers })
    }

    async fn migrate(mut connection: SqliteConnection) -> Result<(), StoreError> {
        let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        wait_until_alone(&mut connection).await?;
        Migrator::with_migrations(migrations.collect()).run(&mut connection).await.map_err(migration_fault)?;
        connection.close().await.map_err(fault)
    }

    /// Checks that a writing transaction could begin now.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.writer.probe().await
    }

    /// Begins a writing transaction once the one before it has ended.
    pub async fn write(&self) -> Result<Writing, StoreError> {
        Ok(self.write_after(Script::default()).await?.0)
    }

    /// Begins a writing transaction and runs `statements` in it, in one round trip.
    pub async fn write_after(&self, statements: Script) -> Result<(Writing, Vec<Answer>), StoreError> {
        self.checkpoints.written();
        self.writer.begin(statements).await
    }
}

/// Reports a journal mode other than WAL. Where there is no shared memory, as on some network
/// file systems, SQLite cannot keep a write-ahead log, and silently uses another mode.
pub fn weaknesses(journal_mode: &str) -> Vec<Weakness> {
    if journal_mode == "wal" {
        return Vec::new();
    }
    vec![Weakness {
        code: "store_without_log",
        sentence: format!(
            "the store's file is kept without a write-ahead log (journal_mode = {journal_mode}), so that lists hold up \
             writes: put it on a local disk"
        ),
    }]
}

/// Creates the file unless it exists. If SQLite created it, other users could read it.
fn create(file: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(file) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Refused(format!("{} cannot be created: {error}", file.display()))),
    }
}

#[async_trait]
impl Unmigrated for SqliteConnection {
    async fn applied(&mut self) -> Result<Vec<i64>, StoreError> {
        let known: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'")
                .fetch_optional(&mut *self)
                .await
                .map_err(fault)?;
        if known.is_none() {
            return Ok(Vec::new());
        }
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(&mut *self).await.map_err(fault)
    }

    async fn live_nodes(&mut self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT name FROM node WHERE writer_id IS NOT NULL AND lease_until > ? ORDER BY name")
            .bind(now().0)
            .fetch_all(&mut *self)
            .await
            .map_err(fault)
    }
}

/// A pool whose connections live as long as the store: an idle one has a warm cache, and a
/// file does not go away as a network does.
fn pool(size: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_made_is_its_owners_alone_and_one_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
        let file = folder.path().join("store.db");
        let url = format!("sqlite://{}", file.display());
        let connections = Connections::open(&url).await.unwrap();
        connections.probe().await.unwrap();
        let (writing, _) = connections.write_after(Script::default()).await.unwrap();
        writing.commit().await.unwrap();
        let all = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        for made in all {
            assert_eq!(mode(&made), FILE_MODE, "{}", made.display());
        }
        drop(connections);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        Connections::open(&url).await.unwrap();
        assert_eq!(mode(&file), 0o640);
    }

    /// Each connection has the settings that the other dialect sets for each session.
    #[tokio::test]
    async fn every_connection_syncs_its_commits_and_keeps_foreign_keys() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let connections = Connections::open(&url).await.unwrap();
        let mut script = Script::default();
        ["PRAGMA synchronous", "PRAGMA foreign_keys", "PRAGMA journal_mode"].iter().for_each(|one| script.push(one));
        let (mut writing, _) = connections.write_after(Script::default()).await.unwrap();
        let answers = script.run(&mut writing).await.unwrap();
        let number = |at: usize| sqlx::Row::get::<i64, _>(&answers[at].rows[0], 0);
        assert_eq!((number(0), number(1)), (2, 1), "synchronous = FULL, foreign_keys = on");
        assert_eq!(sqlx::Row::get::<String, _>(&answers[2].rows[0], 0), "wal");
    }
}
