//! Fills a store with the rows of a week of traffic.
//!
//! Two groups with eight partitions each, a hundred thousand keys, one
//! delivery in a hundred failed with one of fifty fingerprints and its record
//! kept, one message in four sent through this service, a hundred thousand
//! deliveries parked behind two thousand heads.
//!
//! Each day's table is filled before it gets its indexes, which takes a fifth
//! of the time.

use std::time::Instant;

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

/// A day and the whole span of the traffic, in microseconds.
const DAY: i64 = 86_400_000_000;
const SPAN: i64 = 6 * DAY + DAY / 3;

/// Puts `rows` deliveries into the empty tables of a host.
pub async fn fill(database: &mut PgConnection, rows: u64) -> Result<()> {
    let begun = Instant::now();
    let prepare = "
        SET synchronous_commit = off;
        SET maintenance_work_mem = '512MB';
        INSERT INTO consumer_group (name) VALUES ('stock'), ('mail') ON CONFLICT DO NOTHING;
        INSERT INTO word (word) VALUES ('host-1'), ('sha256:aa') ON CONFLICT DO NOTHING;
        INSERT INTO position (group_id, topic, incarnation, partition, topic_id, next, epoch, current)
        SELECT g.id, 'order', 0, p, 'id', 1000000000, 1, true FROM consumer_group g, generate_series(0, 7) p;";
    sqlx::raw_sql(prepare).execute(&mut *database).await?;
    let rows = i64::try_from(rows)?;
    let step = (SPAN / rows.max(1)).max(1);
    let now: i64 = sqlx::query("SELECT courier_now() AS now").fetch_one(&mut *database).await?.try_get("now")?;
    let first = now - rows * step;
    // The number of the day's first row.
    let starts = |day: i64| ((day * DAY - first).max(0) + step - 1) / step;
    for day in first.div_euclid(DAY)..=now.div_euclid(DAY) {
        let (from, to) = (starts(day).min(rows), starts(day + 1).min(rows));
        // SQL safety: the only variables are numbers.
        sqlx::raw_sql(AssertSqlSafe(of_day(day, first, step, from, to)))
            .execute(&mut *database)
            .await
            .with_context(|| format!("the deliveries of day {day} are put in"))?;
        println!("{to} of {rows} deliveries after {:.0} s", begun.elapsed().as_secs_f64());
    }
    sqlx::raw_sql(PARKED).execute(&mut *database).await.context("open rows are put in")?;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *database).await?;
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// SQL that inserts the deliveries `from..to`, all of one day, into that day's
/// table, and their messages. Delivery n came `n * step` after the first.
fn of_day(day: i64, first: i64, step: i64, from: i64, to: i64) -> String {
    let (next, last) = (day + 1, to - 1);
    format!(
        "DROP TABLE IF EXISTS delivery_day_{day};
         CREATE TABLE delivery_day_{day} (LIKE delivery INCLUDING DEFAULTS);
         INSERT INTO delivery_day_{day} (position_id, record_offset, record_time, received_at, started_at, settled_at,
             day, group_id, node_id, version_id, number, counted, state, verdict, message_id, key, type_name, reason,
             fingerprint, record)
         SELECT p.id, n, at, at, at, at + 2000, {day}, p.group_id, w.node, w.version, 1, 1,
             CASE WHEN failed THEN 4 ELSE 5 END, CASE WHEN failed THEN 2 ELSE 1 END,
             'message-' || n, convert_to('key-' || n % 100000, 'UTF8'),
             CASE WHEN n % 1000003 = 1 THEN 'Rare' ELSE 'OrderCreated' END,
             CASE WHEN failed THEN 'out of stock: item ' || n / 1600 % 50 END,
             CASE WHEN failed THEN 'print-' || n / 1600 % 50 END,
             CASE WHEN failed THEN convert_to(repeat('x', 400), 'UTF8') END
         FROM (
             SELECT n, {first} + n * {step} AS at, n / 16 % 100 = 0 AS failed
             FROM generate_series({from}::bigint, {last}) n) AS r
         JOIN (SELECT id, group_id, row_number() OVER (ORDER BY id) - 1 AS place FROM position) AS p
             ON p.place = n % 16,
         (SELECT min(id) FILTER (WHERE word = 'host-1') AS node, min(id) FILTER (WHERE word = 'sha256:aa') AS version
          FROM word) AS w;
         ALTER TABLE delivery ATTACH PARTITION delivery_day_{day} FOR VALUES FROM ({day}) TO ({next});
         INSERT INTO message (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying,
             partition, kafka_offset)
         SELECT 'message-' || n, convert_to('key-' || n % 100000, 'UTF8'), 'shop', 'order', 'OrderCreated', 'event', at,
             at, CASE WHEN n % 10000 = 7 THEN 1 ELSE 2 END, NULL, false, 0, n
         FROM (
             SELECT n, {first} + n * {step} AS at
             FROM generate_series({from}::bigint, {last}) n WHERE n % 4 = 3) AS r;"
    )
}

/// SQL that inserts the parked deliveries and the counters.
const PARKED: &str = "
    INSERT INTO open_delivery (position_id, record_offset, record_time, received_at, next_attempt_at, group_id, node_id,
        version_id, number, counted, state, verdict, held, message_id, key, type_name, reason, fingerprint, record)
    SELECT p.id, 2000000000 + n, courier_now(), courier_now(),
        CASE WHEN n < 2000 THEN courier_now() + 3600000000 END, p.group_id, w.node, w.version,
        CASE WHEN n < 2000 THEN 1 ELSE 0 END, 0, CASE WHEN n < 2000 THEN 4 ELSE 2 END, 3, false, 'open-' || n,
        convert_to('parked-' || n % 2000, 'UTF8'), 'OrderCreated', 'later', CASE WHEN n < 2000 THEN 'later' END,
        convert_to(repeat('x', 400), 'UTF8')
    FROM generate_series(0, 99999) n
    JOIN (SELECT id, group_id, row_number() OVER (ORDER BY id) - 1 AS place FROM position) AS p ON p.place = n % 16,
    (SELECT min(id) FILTER (WHERE word = 'host-1') AS node, min(id) FILTER (WHERE word = 'sha256:aa') AS version
     FROM word) AS w;
    INSERT INTO counter (group_id, node_id, handled, failed) SELECT id, 1, 4950000, 50000 FROM consumer_group;";
