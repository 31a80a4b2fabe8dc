//! Evaluates the rows of a run: when each became durable, which are missing, and
//! which came in the wrong order.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use courier_core::message::Offset;
use courier_core::offset_runs::OffsetRuns;
use sqlx::{AssertSqlSafe, PgPool};

use super::contender::Contender;

/// HANDLED, as every contender numbers it.
pub const HANDLED: i16 = 5;
/// Part of a run that is left out at its beginning and at its end, since joining
/// a group, warming up and the last messages would distort the throughput.
const EDGE: f64 = 0.1;

/// A final row, or what is known of a message that has only a bit: its key and its
/// times are empty then.
#[derive(Clone, Debug)]
pub struct Row {
    pub partition: i64,
    pub offset: i64,
    pub key: Vec<u8>,
    pub state: i16,
    pub record_time: i64,
    pub started_at: i64,
    /// Commit time of its transaction, by PostgreSQL.
    pub durable_at: i64,
}

type Raw = (i64, i64, Vec<u8>, i16, i64, i64, i64);

/// The rows of a run in the order of the log.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn rows(pool: &PgPool, contender: &Contender, group: &str, topic: &str) -> Result<Vec<Row>> {
    const VALUES: &str = "d.record_offset, coalesce(d.key, ''::bytea), d.state, d.record_time, \
                          coalesce(d.started_at, 0), \
                          (extract(epoch FROM pg_xact_commit_timestamp(d.xmin)) * 1000000)::bigint FROM delivery d";
    let sql = if contender.is_courier() {
        format!(
            "SELECT p.partition::bigint, {VALUES} JOIN position p ON p.id = d.position_id \
             JOIN consumer_group g ON g.id = p.group_id WHERE g.name = $1 AND p.topic = $2 ORDER BY 1, 2"
        )
    } else {
        // The table holds one group and one topic.
        format!("SELECT d.position_id, {VALUES} WHERE $1 <> $2 ORDER BY 1, 2")
    };
    let rows: Vec<Raw> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(group).bind(topic).fetch_all(pool).await.context("cannot read rows")?;
    let row = |(partition, offset, key, state, record_time, started_at, durable_at): Raw| Row {
        partition,
        offset,
        key,
        state,
        record_time,
        started_at,
        durable_at,
    };
    let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
    if !contender.keeps_rows() {
        rows.extend(bits(pool, group, topic).await?);
        rows.sort_by_key(|row| (row.partition, row.offset));
    }
    Ok(rows)
}

/// The messages of a group that have only a bit.
async fn bits(pool: &PgPool, group: &str, topic: &str) -> Result<Vec<Row>> {
    let segments: Vec<(i64, i64, Vec<u8>, i64, bool)> = sqlx::query_as(
        "SELECT p.partition::bigint, s.first_offset, s.runs,
             (extract(epoch FROM pg_xact_commit_timestamp(s.xmin)) * 1000000)::bigint, s.compacted
         FROM handled_set s JOIN position p ON p.id = s.position_id JOIN consumer_group g ON g.id = p.group_id
         WHERE g.name = $1 AND p.topic = $2",
    )
    .bind(group)
    .bind(topic)
    .fetch_all(pool)
    .await
    .context("cannot read handled sets")?;
    let mut rows = Vec::new();
    for (partition, first, runs, durable_at, is_compacted) in segments {
        ensure!(!is_compacted, "the host joined the segments of a minute during the run, whose commit times are lost");
        let runs = OffsetRuns::decode(Offset(first), &runs).context("a segment cannot be read")?;
        rows.extend(runs.offsets().map(|offset| Row {
            partition,
            offset: offset.0,
            key: Vec::new(),
            state: HANDLED,
            record_time: 0,
            started_at: 0,
            durable_at,
        }));
    }
    Ok(rows)
}

/// The middle of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    pub from: i64,
    pub to: i64,
    pub messages: u64,
}

impl Middle {
    /// The middle of these rows; none for a run that is too short to have one.
    #[must_use]
    pub fn of(rows: &[Row]) -> Option<Self> {
        let mut times: Vec<i64> = rows.iter().map(|row| row.durable_at).collect();
        times.sort_unstable();
        let at = |part: f64| (times.len() as f64 * part) as usize;
        let (first, last) = (at(EDGE), at(1.0 - EDGE).min(times.len().checked_sub(1)?));
        let (from, to) = (times[first], times[last]);
        (to > from).then_some(Self { from, to, messages: (last - first) as u64 })
    }

    /// Messages a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.messages as f64 * 1e6 / (self.to - self.from) as f64
    }
}

/// Number of messages below the committed offsets that have no final row.
#[must_use]
pub fn lost(rows: &[Row], promised: &[i64]) -> u64 {
    let promise =
        |partition: i64| usize::try_from(partition).ok().and_then(|at| promised.get(at)).copied().unwrap_or(0);
    let kept = rows.iter().filter(|row| row.offset < promise(row.partition)).count() as u64;
    promised.iter().sum::<i64>().unsigned_abs().saturating_sub(kept)
}

/// Number of messages whose last attempt began before the last attempt of an
/// earlier message of the same key.
#[must_use]
pub fn inverted(rows: &[Row]) -> u64 {
    let mut last: HashMap<&[u8], i64> = HashMap::new();
    rows.iter().filter(|row| last.insert(&row.key, row.started_at).is_some_and(|at| at > row.started_at)).count() as u64
}

/// The p50 and p99, over the records since `since`, of the milliseconds from
/// Kafka's time of a record until its row was durable.
#[must_use]
pub fn latency(rows: &[Row], since: i64) -> Option<(f64, f64)> {
    let recent = rows.iter().filter(|row| row.record_time >= since);
    let mut ways: Vec<i64> = recent.map(|row| row.durable_at - row.record_time).collect();
    ways.sort_unstable();
    let at = |part: f64| ways.get((ways.len() as f64 * part) as usize).map(|way| *way as f64 / 1e3);
    Some((at(0.5)?, at(0.99)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: i64, offset: i64, key: &str, started_at: i64) -> Row {
        let (record_time, durable_at) = (offset * 1_000, offset * 1_000 + 2_000);
        Row { partition, offset, key: key.into(), state: HANDLED, record_time, started_at, durable_at }
    }

    #[test]
    fn what_was_promised_and_is_not_there_is_lost() {
        let rows = [row(0, 0, "a", 1), row(0, 2, "a", 2), row(1, 0, "b", 1), row(1, 1, "b", 0)];
        assert_eq!(lost(&rows, &[3, 1]), 1);
        assert_eq!(lost(&rows, &[1, 2]), 0);
        assert_eq!(inverted(&rows), 1);
    }

    #[test]
    fn the_rate_is_that_of_the_middle() {
        // A hundred rows, with one long before and one long after them.
        let mut rows: Vec<Row> = (0..100).map(|at| row(0, at, "a", at)).collect();
        rows[0].durable_at = -10_000_000;
        rows[99].durable_at = 90_000_000;
        let middle = Middle::of(&rows).unwrap();
        assert_eq!((middle.messages, middle.rate().round()), (80, 1_000.0));
        assert!(Middle::of(&[]).is_none());
        assert_eq!(latency(&rows[1..99], 50_000), Some((2.0, 2.0)));
    }
}
