//! The pool and the migrations. [`server`](super::server) has the settings of a session,
//! and [`stale`](super::stale) decides when one is replaced.

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection, PgConnection, SqlSafeStr};

use super::error::{at_migration, at_statement};
use super::server::{self, Limited, Schema};
use super::stale;
use crate::store::StoreError;
use crate::store::exclusive::{Unmigrated, wait_until_alone};

/// Sessions of one host. Its settles follow one another and need one; the others are for
/// the relay, the API and the owners.
const MAX_CONNECTIONS: u32 = 10;
/// How long a verb waits for a free session.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// How long a session beyond the first may be idle before it is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// How long a session lives. It is replaced then, since a server's backend keeps the
/// memory that it once needed.
const MAX_LIFETIME: Duration = Duration::from_secs(1_800);

/// Every migration, oldest first. One that was released is never edited.
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
    (27, "sends", include_str!("migrations/0027_sends.sql")),
    (28, "plain question", include_str!("migrations/0028_plain_question.sql")),
];

/// Connects, migrates, and returns the pool.
pub(super) async fn open(url: &str) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(at_statement)?
        .application_name("courier")
        // Poolers refuse this start-up parameter, and no column is a float.
        .extra_float_digits(None);
    let schema = migrate(&options).await?;
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(IDLE_LIMIT)
        .max_lifetime(MAX_LIFETIME)
        // The test is a round trip before every verb. A session that died
        // shows in its first statement, which the caller repeats anyway.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let schema = schema.clone();
            Box::pin(async move { server::set_up(connection, &schema, Limited::Yes).await })
        })
        .before_acquire(|_, session| Box::pin(async move { Ok(!stale::is_stale(session.age)) }))
        .after_release(|_, session| Box::pin(async move { Ok(!stale::is_stale(session.age)) }))
        .connect_with(options)
        .await
        .map_err(at_statement)
}

/// Runs the migrations and returns the schema of the tables. The session has no limits:
/// it waits as long as another host migrates, and altering a table may take longer than a
/// verb may.
async fn migrate(options: &PgConnectOptions) -> Result<Schema, StoreError> {
    let migrations = MIGRATIONS.iter().map(|&(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    // A migration is a long text and may take long, and the driver would log all of it as
    // a slow statement.
    let quiet = options.clone().disable_statement_logging();
    let mut connection = PgConnection::connect_with(&quiet).await.map_err(at_statement)?;
    server::check_version(&mut connection).await?;
    let mut other = PgConnection::connect_with(options).await.map_err(at_statement)?;
    let looked = server::refuse_shared_sessions(&mut connection, &mut other);
    tokio::time::timeout(ACQUIRE_LIMIT, looked)
        .await
        .map_err(|_| StoreError::Unavailable(format!("the server did not answer within {ACQUIRE_LIMIT:?}")))??;
    other.close().await.map_err(at_statement)?;
    let schema = server::find_schema(&mut connection).await?;
    server::set_up(&mut connection, &schema, Limited::No).await.map_err(at_statement)?;
    wait_until_alone(&mut connection).await?;
    Migrator::with_migrations(migrations.collect()).run(&mut connection).await.map_err(at_migration)?;
    connection.close().await.map_err(at_statement)?;
    Ok(schema)
}

#[async_trait]
impl Unmigrated for PgConnection {
    async fn applied(&mut self) -> Result<Vec<i64>, StoreError> {
        let known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut *self)
            .await
            .map_err(at_statement)?;
        if !known {
            return Ok(Vec::new());
        }
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(&mut *self).await.map_err(at_statement)
    }

    async fn live_nodes(&mut self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT name FROM node WHERE writer_id IS NOT NULL AND lease_until > courier_now() ORDER BY name",
        )
        .fetch_all(&mut *self)
        .await
        .map_err(at_statement)
    }
}
