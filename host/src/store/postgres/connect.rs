//! The pool, the limits of its sessions, and the migrations.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, SqlSafeStr};

use super::error::{at_migration, at_statement};
use crate::store::StoreError;

/// Sessions of one host. The settles of a host follow one another and need
/// one; the others are for the relay, the API and the wake-ups.
const MAX_CONNECTIONS: u32 = 10;
/// How long a verb waits for a free session.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// Sessions beyond the first go when they were idle for this long.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// Sessions are renewed, since a server's backend keeps the memory it once
/// needed.
const MAX_LIFETIME: Duration = Duration::from_secs(1_800);

/// The limits that the server sets on a session. A host that is frozen within
/// a transaction holds its locks for `idle_in_transaction_session_timeout` at
/// most; whoever waits for a lock gives up after `lock_timeout` and repeats,
/// and must outlast the former, or else a claim would fail once for nothing.
///
/// The last two concern how queries are planned. A list reads a hundred rows by
/// an index: compiling its plan takes longer than running it, and with the
/// price of a random page that a spinning disk had, the server would rather
/// fetch and sort every failure of a week than walk the newest by the index.
const SESSION: [(&str, &str); 9] = [
    ("idle_in_transaction_session_timeout", "4s"),
    ("lock_timeout", "8s"),
    ("statement_timeout", "20s"),
    // A peer that has vanished is noticed within 5 + 3 * 5 seconds, and its
    // statement is stopped, not run to its end.
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("client_connection_check_interval", "5s"),
    ("jit", "off"),
    ("random_page_cost", "1.1"),
];

/// Migrations in their order; one that was released never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "tables", include_str!("migrations/0001_tables.sql")),
    (2, "delayed", include_str!("migrations/0002_delayed.sql")),
    (3, "half messages", include_str!("migrations/0003_half_messages.sql")),
    (4, "outbox", include_str!("migrations/0004_outbox.sql")),
    (5, "redrive", include_str!("migrations/0005_redrive.sql")),
    (7, "broadcast", include_str!("migrations/0007_broadcast.sql")),
    (9, "centre", include_str!("migrations/0009_centre.sql")),
    (10, "unheard", include_str!("migrations/0010_unheard.sql")),
    (11, "undelivered", include_str!("migrations/0011_undelivered.sql")),
    (14, "topics", include_str!("migrations/0014_topics.sql")),
];

/// Connects, migrates, and gives the pool.
pub(super) async fn open(url: &str) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(at_statement)?.application_name("courier");
    migrate(&options).await?;
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(IDLE_LIMIT)
        .max_lifetime(MAX_LIFETIME)
        // The test is a round trip before every verb. A session that died
        // shows in its first statement, which the caller repeats anyway.
        .test_before_acquire(false)
        .connect_with(options.options(SESSION))
        .await
        .map_err(at_statement)
}

/// Runs the migrations on a session of its own without limits: the lock that
/// lets one host migrate at a time is waited for as long as it takes, and a
/// table may take longer to alter than a verb may.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let migrations = MIGRATIONS.iter().map(|&(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut connection = PgConnection::connect_with(options).await.map_err(at_statement)?;
    Migrator::with_migrations(migrations.collect()).run(&mut connection).await.map_err(at_migration)?;
    connection.close().await.map_err(at_statement)
}
