//! An outbox in PostgreSQL.
//!
//! Every statement is a transaction of its own, so that a host which is frozen
//! or killed holds nothing of the sender's. A listening session is woken by
//! the trigger that `courier outbox schema --notify` prints, where there is
//! one; it costs the sender nothing where there is none.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::source::{
    BODY_BYTES, BODY_FRONT, COUNTED_ROWS, READ_BYTES, Source, SourceError, SourceRow, check_columns, quoted,
};
use crate::config::Outbox;
use crate::supervise::{self, Task};

/// One session that reads and deletes, one that listens.
const MAX_CONNECTIONS: u32 = 2;
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// What the trigger notifies.
const CHANNEL: &str = "courier_outbox";
/// Pause before a listening session that broke is made again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// The server's limits for the sessions.
const SESSION: [(&str, &str); 3] =
    [("statement_timeout", "15s"), ("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "5s")];

/// A connection to a PostgreSQL that has an outbox.
pub(super) struct PostgresSource {
    pool: PgPool,
    table: String,
    notified: Arc<Notify>,
    listening: JoinHandle<()>,
}

impl Drop for PostgresSource {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl PostgresSource {
    /// Connects and checks the table.
    pub async fn open(outbox: &Outbox) -> Result<Self, SourceError> {
        let options = PgConnectOptions::from_str(&outbox.url)?
            .application_name(&format!("courier outbox {}", outbox.name))
            .options(SESSION);
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_with(options)
            .await?;
        check(&pool, &outbox.table).await?;
        let notified = Arc::new(Notify::new());
        let listening = supervise::spawn(Task::OutboxListener, listen(pool.clone(), Arc::clone(&notified)));
        Ok(Self { pool, table: quoted(&outbox.table), notified, listening })
    }
}

/// Says what is wrong with the table and what would be right.
async fn check(pool: &PgPool, table: &str) -> Result<(), SourceError> {
    let name = quoted(table);
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&name).fetch_one(pool).await?;
    if !there {
        return Err(SourceError(format!(
            "there is no table {table}: create it with what `courier outbox schema --for postgres` prints"
        )));
    }
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute
         WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
    )
    .bind(&name)
    .fetch_all(pool)
    .await?;
    check_columns(table, &columns, "postgres")?;
    let (user, may): (String, bool) = sqlx::query_as(
        "SELECT current_user::text, has_table_privilege(to_regclass($1), 'SELECT')
             AND has_table_privilege(to_regclass($1), 'DELETE')",
    )
    .bind(&name)
    .fetch_one(pool)
    .await?;
    if !may {
        return Err(SourceError(format!(
            "{user} may not read and delete rows of {table}: GRANT SELECT, DELETE ON {name} TO \"{user}\""
        )));
    }
    Ok(())
}

/// Passes notifications on, until it is aborted.
async fn listen(pool: PgPool, notified: Arc<Notify>) {
    loop {
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            loop {
                listener.recv().await?;
                notified.notify_one();
            }
        };
        let broken: Result<(), sqlx::Error> = listening.await;
        if let Err(error) = broken {
            // Polling goes on meanwhile.
            tracing::debug!(%error, "an outbox is not listened to");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn read(&mut self, in_hand: &[i64], limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        // The lengths are known without reading the bodies, which are read
        // only of the rows that are answered.
        let read = format!(
            "SELECT seq, id, topic, type, key, kind,
                 CASE WHEN body_bytes > $4 THEN left(body, $5) ELSE body END AS body, body_bytes, headers,
                 CASE WHEN deliver_at IS NULL THEN NULL
                     WHEN isfinite(deliver_at) THEN (extract(epoch FROM deliver_at) * 1000000)::bigint
                     WHEN deliver_at > 'epoch' THEN 9223372036854775807
                     ELSE 0 END AS deliver_at,
                 CASE WHEN isfinite(created_at) THEN (extract(epoch FROM created_at) * 1000000)::bigint
                     END AS created_at
             FROM (
                 SELECT r.*, sum(least(r.body_bytes, $4) + r.headers_bytes) OVER (ORDER BY r.seq)
                     - least(r.body_bytes, $4) - r.headers_bytes AS bytes_before
                 FROM (
                     SELECT o.seq::bigint AS seq, o.id::text AS id, o.topic::text AS topic, o.type::text AS type,
                         o.key::text AS key, o.kind::text AS kind, o.body::text AS body,
                         octet_length(o.body::text)::bigint AS body_bytes, o.headers::text AS headers,
                         octet_length(o.headers::text)::bigint AS headers_bytes, o.deliver_at, o.created_at
                     FROM {} o WHERE o.seq <> ALL ($1) ORDER BY o.seq LIMIT $2
                 ) r
             ) s WHERE bytes_before < $3 ORDER BY seq",
            self.table
        );
        let rows = sqlx::query(AssertSqlSafe(read))
            // Planned each time, with the numbers in hand known: a plan for
            // any numbers would compare each row with each of them.
            .persistent(false)
            .bind(in_hand)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(READ_BYTES)
            .bind(BODY_BYTES)
            .bind(i32::try_from(BODY_FRONT).unwrap_or(i32::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(source_row).collect()
    }

    async fn remove(&mut self, rows: &[(i64, Bytes)]) -> Result<(), SourceError> {
        // With the id: the numbers begin again when a table is emptied with
        // RESTART IDENTITY.
        let remove = format!(
            "DELETE FROM {} o USING unnest($1::bigint[], $2::text[]) AS d (seq, id)
             WHERE o.seq = d.seq AND o.id = d.id",
            self.table
        );
        sqlx::query(AssertSqlSafe(remove))
            .bind(rows.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, id)| String::from_utf8_lossy(id).into_owned()).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn count(&mut self) -> Result<i64, SourceError> {
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT $1) r", self.table);
        Ok(sqlx::query_scalar(AssertSqlSafe(count)).bind(COUNTED_ROWS).fetch_one(&self.pool).await?)
    }

    async fn notified(&mut self) {
        self.notified.notified().await;
    }
}

fn source_row(row: &PgRow) -> Result<SourceRow, SourceError> {
    let due: Option<i64> = row.try_get("deliver_at")?;
    Ok(SourceRow {
        seq: row.try_get("seq")?,
        id: Bytes::from(row.try_get::<String, _>("id")?),
        topic: row.try_get("topic")?,
        type_name: row.try_get("type")?,
        key: row.try_get::<Option<String>, _>("key")?.map(Bytes::from),
        kind: row.try_get("kind")?,
        body: Bytes::from(row.try_get::<String, _>("body")?),
        body_bytes: row.try_get("body_bytes")?,
        headers: row.try_get("headers")?,
        deliver_at: due.map(|due| if due == i64::MAX { Err("infinity".to_owned()) } else { Ok(Timestamp(due)) }),
        created_at: row.try_get::<Option<i64>, _>("created_at")?.map(Timestamp),
    })
}
