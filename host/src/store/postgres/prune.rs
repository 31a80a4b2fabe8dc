//! Retention, and the tables of final rows, one for each day.
//!
//! A day's table is created before it is needed and dropped when all of it is older than the
//! retention. Both take strong locks for a moment. They wait for those no longer than
//! [`DAY_LOCK_WAIT`], since every settle queues behind a waiting lock, and the next call
//! tries again.
//!
//! A row at or above its position stays however old it is: without it a claim would run its
//! record again.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::AssertSqlSafe;
use sqlx::Transaction;
use sqlx::postgres::{PgConnection, Postgres};

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::settle_open::{Deltas, PEOPLE};
use super::{PostgresStore, bounded, commit, micros};
use crate::said;
use crate::store::minutes::MINUTES_KEPT;
use crate::store::redrive::PLAN_KEPT;
use crate::store::shared::half::abandon_unreachable;
use crate::store::{PruneStore, StoreError};

#[async_trait]
impl PruneStore for PostgresStore {
    async fn prune(&self, retention: Duration) -> Result<bool, StoreError> {
        bounded(prune(self, retention)).await
    }
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Days before today that have a table from the first start on, since some records are
/// handled on the day after they were sent.
const DAYS_BEFORE: i64 = 1;
/// Days after today that have a table: how long creating tables may fail before rows go to
/// the default table.
const DAYS_AHEAD: i64 = 3;
/// The key of the lock under which one host at a time creates and drops days.
const DAYS_LOCK: i64 = 0x636f_7572_6461_7900;
/// Days for which a table that is old may stay whole because rows of it are in use. The few
/// records that are handled on the day after they were sent keep it only for moments, and
/// dropping it costs nothing; after this, its rows are removed one by one.
const DAYS_OF_GRACE: i64 = 1;
/// How long creating or dropping a day's table may keep settles waiting.
const DAY_LOCK_WAIT: &str = "SET LOCAL lock_timeout = '500ms'";
/// Most rows of each kind that one call removes.
const CHUNK: i64 = 5_000;

/// Creates the tables of the days around today.
///
/// A table that cannot be created now is no failure: its rows go to the default table, and
/// the next call moves them.
pub(super) async fn create_days(store: &PostgresStore) -> Result<(), StoreError> {
    for day in days_around(clock(store).await?) {
        match create_day(store, day).await {
            Err(error) if error.is_transient() => {
                if let Some(unsaid) = said::again("a day's table could not be created") {
                    tracing::warn!(day, %error, unsaid, "a day's table could not be created yet");
                }
            }
            result => result?,
        }
    }
    Ok(())
}

async fn clock(store: &PostgresStore) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT courier_now() AS now").fetch_one(&store.pool).await.map_err(at_statement)?;
    Ok(row.time("now")?.0)
}

/// The days that always have a table.
fn days_around(now: i64) -> RangeInclusive<i64> {
    let today = now.div_euclid(DAY);
    today - DAYS_BEFORE..=today + DAYS_AHEAD
}

async fn begin_days(store: &PostgresStore) -> Result<Transaction<'static, Postgres>, StoreError> {
    let mut tx = store.begin_tx().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(DAYS_LOCK).execute(&mut *tx).await.map_err(at_statement)?;
    sqlx::query(DAY_LOCK_WAIT).execute(&mut *tx).await.map_err(at_statement)?;
    Ok(tx)
}

/// The name of a day's table, which is safe in a statement since it is made of a number.
fn table(day: i64) -> String {
    format!("delivery_day_{day}")
}

/// Whether a day has its table. It reads the catalogue, since `to_regclass` may answer from
/// a cache that does not have a table which another host has just created.
async fn has_table(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'delivery'::regclass AND c.relname = $1) AS has",
    )
    .bind(name)
    .fetch_one(connection)
    .await
    .map_err(at_statement)?
    .take("has")
}

async fn create_day(store: &PostgresStore, day: i64) -> Result<(), StoreError> {
    let name = table(day);
    if has_table(&mut *store.pool.acquire().await.map_err(at_statement)?, &name).await? {
        return Ok(());
    }
    let mut tx = begin_days(store).await?;
    if has_table(&mut tx, &name).await? {
        return Ok(());
    }
    // Rows of the day that were written before its table lie in the default one, and the
    // table cannot be attached while they do. The lock keeps more of them out until the
    // commit.
    let next = day + 1;
    for statement in [
        "LOCK TABLE delivery_other IN ACCESS EXCLUSIVE MODE".to_owned(),
        format!("CREATE TABLE {name} (LIKE delivery INCLUDING DEFAULTS)"),
        format!(
            "WITH moved AS (DELETE FROM delivery_other WHERE day = {day} RETURNING *) INSERT INTO {name} SELECT * FROM moved"
        ),
        format!("ALTER TABLE delivery ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({next})"),
    ] {
        // The statement's only variables are a number and a name made of one.
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await.map_err(at_statement)?;
    }
    commit(tx).await
}

async fn prune(store: &PostgresStore, retention: Duration) -> Result<bool, StoreError> {
    create_days(store).await?;
    let now = clock(store).await?;
    let cutoff = now.saturating_sub(micros(retention));
    // A day that is old is dropped as a whole. Rows are removed one by one from the tables
    // that stay: the default one, the days around today, where only a short retention finds
    // any, and those of which some rows are in use. Above a position that nobody moves any
    // more, because its binding is gone, rows are in use for ever, and would keep those of
    // all other groups.
    let mut more = prune_rows(store, "delivery_other", cutoff).await?;
    for day in days(store).await? {
        if days_around(now).contains(&day) {
            more |= prune_rows(store, &table(day), cutoff).await?;
        } else if day.saturating_add(1).saturating_mul(DAY) <= cutoff {
            match drop_day(store, day, cutoff).await {
                Err(error) if error.is_transient() => {
                    if let Some(unsaid) = said::again("a day's table could not be dropped") {
                        tracing::warn!(day, %error, unsaid, "a day's table could not be dropped yet");
                    }
                }
                Ok(OldDay::InUse) if day.saturating_add(1 + DAYS_OF_GRACE).saturating_mul(DAY) <= cutoff => {
                    more |= prune_rows(store, &table(day), cutoff).await?;
                }
                Ok(OldDay::InUse | OldDay::Gone) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let mut tx = store.begin_tx().await?;
    let abandoned = abandon_unreachable(&mut *tx, cutoff, CHUNK).await?;
    commit(tx).await?;
    more |= i64::try_from(abandoned).unwrap_or(CHUNK) >= CHUNK;
    for &statement in CHUNKS {
        let done = sqlx::query(statement).bind(cutoff).bind(CHUNK).execute(&store.pool).await.map_err(at_statement)?;
        more |= i64::try_from(done.rows_affected()).unwrap_or(CHUNK) >= CHUNK;
    }
    let plans_before = now.saturating_sub(micros(PLAN_KEPT)).max(cutoff);
    more |= super::redrive::prune(store, cutoff, plans_before, CHUNK).await?;
    more |= super::audits::prune(store, cutoff, CHUNK).await?;
    // Minutes are for charts of some hours, so the retention does not concern them.
    sqlx::query("DELETE FROM minute WHERE minute < $1")
        .bind(now.saturating_sub(micros(MINUTES_KEPT)))
        .execute(&store.pool)
        .await
        .map_err(at_statement)?;
    Ok(more)
}

/// Statements that remove old rows in chunks: `$1` is the time before which a row is old,
/// `$2` the most rows to remove. Rows are found by an index and removed by their `ctid`.
const CHUNKS: &[&str] = &[
    // Attempts are removed after their delivery, never before it.
    "DELETE FROM attempt WHERE ctid = ANY (ARRAY (
         SELECT a.ctid FROM attempt a WHERE a.finished_at < $1
             AND NOT EXISTS (SELECT FROM open_delivery o
                 WHERE o.position_id = a.position_id AND o.record_offset = a.record_offset)
             AND NOT EXISTS (SELECT FROM delivery d
                 WHERE d.position_id = a.position_id AND d.record_offset = a.record_offset)
         ORDER BY a.finished_at LIMIT $2)) AND finished_at < $1",
    super::handled_sets::PRUNE,
    // Messages that have still to be sent stay, delayed messages among them. The age of a
    // delayed message counts from the time at which it was due.
    "DELETE FROM message WHERE ctid = ANY (ARRAY (
         SELECT m.ctid FROM message m WHERE m.created_at < $1 AND NOT m.retrying AND coalesce(m.deliver_at, 0) < $1
             AND NOT EXISTS (SELECT FROM outbound o
                 WHERE left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id AND o.source = m.source
                     AND coalesce(o.published_on, o.topic) = m.topic)
             AND NOT EXISTS (SELECT FROM delayed d
                 WHERE left(d.message_id, 64) = left(m.id, 64) AND d.message_id = m.id AND d.source = m.source
                     AND d.published_on = m.topic)
         ORDER BY m.created_at LIMIT $2)) AND created_at < $1 AND NOT retrying",
    // Transactions that ended, with their items.
    "DELETE FROM half_message WHERE id IN (
         SELECT id FROM half_message WHERE ended_at < $1 ORDER BY ended_at LIMIT $2) AND ended_at < $1",
    "DELETE FROM state WHERE $1 IS NOT NULL AND value IS NULL AND ctid = ANY (ARRAY (
         SELECT ctid FROM state WHERE value IS NULL LIMIT $2))",
    "DELETE FROM dead_letter WHERE ctid = ANY (ARRAY (SELECT ctid FROM dead_letter WHERE at < $1 ORDER BY at LIMIT $2))
         AND at < $1",
    "DELETE FROM session WHERE $1 IS NOT NULL AND hash IN (
         SELECT hash FROM session WHERE expires_at < courier_now() ORDER BY expires_at LIMIT $2)",
    "DELETE FROM pace WHERE ctid = ANY (ARRAY (SELECT ctid FROM pace WHERE at < $1 LIMIT $2)) AND at < $1",
    // Ends of logs of a topic in which no group has a position.
    "DELETE FROM log_end WHERE ctid = ANY (ARRAY (
         SELECT e.ctid FROM log_end e WHERE e.seen_at < $1
             AND NOT EXISTS (SELECT FROM position p WHERE p.topic_id = e.topic_id AND p.current) LIMIT $2))
         AND seen_at < $1",
    "DELETE FROM lost_range WHERE id IN (SELECT id FROM lost_range WHERE found_at < $1 ORDER BY id LIMIT $2)",
    // Writers of no node, and the versions that they had compiled.
    "WITH gone AS (
         DELETE FROM writer w WHERE w.id IN (
             SELECT w.id FROM writer w WHERE w.created_at < $1
                 AND NOT EXISTS (SELECT FROM node n WHERE n.writer_id = w.id)
                 AND NOT EXISTS (SELECT FROM relay_shard s WHERE s.writer_id = w.id AND s.lease_until > courier_now())
             ORDER BY w.id LIMIT $2) RETURNING w.id
     )
     DELETE FROM prepared p USING gone WHERE p.writer_id = gone.id",
    "DELETE FROM node WHERE name IN (SELECT name FROM node WHERE lease_until < $1 ORDER BY name LIMIT $2)
         AND lease_until < $1",
];

/// The days that have a table.
async fn days(store: &PostgresStore) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "SELECT substr(c.relname, 14)::bigint AS day FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'delivery'::regclass AND c.relname ~ '^delivery_day_-?[0-9]+$' ORDER BY 1",
    )
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.take("day")).collect()
}

/// What became of the table of an old day.
enum OldDay {
    Gone,
    /// Some of its rows have to stay, and the table with them.
    InUse,
}

/// Drops a day's table if nothing of it was settled since `cutoff`, since a record may be
/// handled long after its day.
async fn drop_day(store: &PostgresStore, day: i64, cutoff: i64) -> Result<OldDay, StoreError> {
    let name = table(day);
    let mut tx = begin_days(store).await?;
    if !has_table(&mut tx, &name).await? {
        return Ok(OldDay::Gone);
    }
    // The check runs before the lock and again under it, so that a day which has to stay is
    // never locked. The only variable is a name made of a number.
    let in_use = format!(
        "SELECT EXISTS (SELECT FROM {name} WHERE settled_at >= $1) OR EXISTS (
             SELECT FROM position p JOIN {name} d ON d.position_id = p.id AND d.record_offset >= p.next
             WHERE p.current) AS used"
    );
    let used = async |tx: &mut PgConnection| {
        let row = sqlx::query(AssertSqlSafe(in_use.clone())).bind(cutoff).fetch_one(tx).await.map_err(at_statement)?;
        row.take::<bool>("used")
    };
    if used(&mut tx).await? {
        return Ok(OldDay::InUse);
    }
    for table in ["delivery", &name] {
        let lock = format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *tx).await.map_err(at_statement)?;
    }
    if used(&mut tx).await? {
        return Ok(OldDay::InUse);
    }
    let failed = format!("SELECT group_id, count(*) AS count FROM {name} WHERE state <> 5 GROUP BY group_id");
    let failed = sqlx::query(AssertSqlSafe(failed)).fetch_all(&mut *tx).await.map_err(at_statement)?;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE {name}"))).execute(&mut *tx).await.map_err(at_statement)?;
    let mut deltas = Deltas::default();
    for row in &failed {
        deltas.of(row.take("group_id")?).ended(State::HandleFail, -row.take::<i64>("count")?);
    }
    deltas.write(&mut tx, PEOPLE).await?;
    commit(tx).await?;
    Ok(OldDay::Gone)
}

/// Removes old rows of one table by the time they were settled.
async fn prune_rows(store: &PostgresStore, table: &str, cutoff: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin_tx().await?;
    // The only variable is the name of a table of the schema.
    let statement = format!(
        "WITH gone AS (
             DELETE FROM {table} WHERE ctid = ANY (ARRAY (
                 SELECT d.ctid FROM {table} d WHERE d.settled_at < $1
                     AND NOT EXISTS (SELECT FROM position p
                         WHERE p.id = d.position_id AND p.current AND d.record_offset >= p.next)
                 ORDER BY d.settled_at LIMIT $2))
                 AND settled_at < $1
             RETURNING group_id, state
         )
         SELECT group_id, state, count(*) AS count FROM gone GROUP BY group_id, state"
    );
    let gone = sqlx::query(AssertSqlSafe(statement))
        .bind(cutoff)
        .bind(CHUNK)
        .fetch_all(&mut *tx)
        .await
        .map_err(at_statement)?;
    let (mut deltas, mut rows) = (Deltas::default(), 0);
    for row in &gone {
        let count: i64 = row.take("count")?;
        rows += count;
        // Handled deliveries stay counted, since their total is of all time.
        if columns::state(row.take("state")?)? == State::HandleFail {
            deltas.of(row.take("group_id")?).ended(State::HandleFail, -count);
        }
    }
    deltas.write(&mut tx, PEOPLE).await?;
    commit(tx).await?;
    Ok(rows >= CHUNK)
}
