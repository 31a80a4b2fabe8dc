//! Reads a contender's store: its positions and its rows.
//!
//! Both are read by plain SQL, so that no figure rests on a contender's own
//! statement.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

use crate::progress::Seen;

/// HANDLED, as `courier_core::status` numbers it.
const HANDLED: i64 = 5;

/// A store, opened for reading.
pub enum Stored {
    /// In PostgreSQL.
    Postgres(PgPool),
    /// In a SQLite file.
    Sqlite(SqlitePool),
}

/// A final row, in the order of the log.
#[derive(Debug)]
pub struct Row {
    partition: i32,
    offset: i64,
    record_time: i64,
    received_at: i64,
    started_at: i64,
    ended_at: i64,
    key: Vec<u8>,
    handled: bool,
}

type Raw = (i64, i64, i64, i64, i64, i64, Vec<u8>, i64);

/// Runs one query on either store.
macro_rules! fetch {
    ($stored:expr, $sql:expr, $($value:expr),*) => {
        match $stored {
            Stored::Postgres(pool) => sqlx::query_as(AssertSqlSafe($sql))$(.bind($value))*.fetch_all(pool).await,
            Stored::Sqlite(pool) => sqlx::query_as(AssertSqlSafe($sql))$(.bind($value))*.fetch_all(pool).await,
        }
    };
}

impl Stored {
    /// Opens an existing store.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse()?;
            return Ok(Self::Sqlite(SqlitePool::connect_with(options).await?));
        }
        Ok(Self::Postgres(PgPool::connect(url).await?))
    }

    /// A host's position in each partition of a topic.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn positions(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        const SQL: &str = "SELECT CAST(p.partition AS bigint), p.next FROM position p \
                           JOIN consumer_group g ON g.id = p.group_id WHERE g.name = $1 AND p.topic = $2";
        let rows: Vec<(i64, i64)> = fetch!(self, SQL, group, topic).context("cannot read positions")?;
        Ok(rows.into_iter().map(|(partition, next)| (i32::try_from(partition).unwrap_or(-1), next)).collect())
    }

    /// A host's final rows of a topic in a group, for records no older than
    /// `from`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn rows_of_host(&self, group: &str, topic: &str, from: i64) -> Result<Vec<Row>> {
        let (position, offset) = match self {
            Self::Postgres(_) => ("position_id", "record_offset"),
            Self::Sqlite(_) => ("position", "offset"),
        };
        let sql = format!(
            "SELECT CAST(p.partition AS bigint), d.{offset}, d.record_time, d.received_at, coalesce(d.started_at, 0), \
             d.settled_at, coalesce(d.key, $3), CAST(d.state AS bigint) FROM delivery d JOIN position p ON p.id = d.{position} \
             JOIN consumer_group g ON g.id = p.group_id WHERE g.name = $1 AND p.topic = $2 AND d.record_time >= $4 \
             ORDER BY 1, 2"
        );
        let rows: Vec<Raw> =
            fetch!(self, sql, group, topic, Vec::<u8>::new(), from).context("cannot read deliveries")?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    /// All rows that the plain consumer wrote.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn rows_of_plain(&self) -> Result<Vec<Row>> {
        const SQL: &str = "SELECT position_id, record_offset, record_time, received_at, coalesce(started_at, 0), \
                           settled_at, coalesce(key, $1), CAST(state AS bigint) FROM delivery ORDER BY 1, 2";
        let rows: Vec<Raw> = fetch!(self, SQL, Vec::<u8>::new()).context("cannot read rows")?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    /// Drops an index if it exists.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn drop_index(&self, name: &str) -> Result<()> {
        let sql = format!("DROP INDEX IF EXISTS {name}");
        match self {
            Self::Postgres(pool) => sqlx::query(AssertSqlSafe(sql)).execute(pool).await.map(drop),
            Self::Sqlite(pool) => sqlx::query(AssertSqlSafe(sql)).execute(pool).await.map(drop),
        }
        .with_context(|| format!("cannot drop the index {name}"))
    }

    /// Closes the connections.
    pub async fn close(self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

impl From<Raw> for Row {
    fn from((partition, offset, record_time, received_at, started_at, ended_at, key, state): Raw) -> Self {
        let partition = i32::try_from(partition).unwrap_or(-1);
        Self { partition, offset, record_time, received_at, started_at, ended_at, key, handled: state == HANDLED }
    }
}

/// Faults in the rows of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages without a HANDLED row.
    pub lost: u64,
    /// Invocations beyond one for each row.
    pub again: u64,
    /// Messages whose handler started before the handler of an earlier message
    /// of the same key.
    pub inverted: u64,
}

/// Compares the rows of a run, in the order of the log, with the numbers of sent
/// messages and of invocations.
#[must_use]
pub fn reconcile(rows: &[Row], sent: u64, invoked: u64) -> Faults {
    let mut places: Vec<_> = rows.iter().filter(|row| row.handled).map(|row| (row.partition, row.offset)).collect();
    places.dedup();
    let handled = places.len() as u64;
    let mut last: HashMap<&[u8], i64> = HashMap::new();
    let inverted = rows.iter().filter(|row| last.insert(&row.key, row.started_at).is_some_and(|t| t > row.started_at));
    let inverted = inverted.count() as u64;
    Faults { lost: sent.saturating_sub(handled), again: invoked.saturating_sub(handled), inverted }
}

/// The stages of a message's journey, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// From Kafka's time of the record until the host received it.
    pub fetched: f64,
    /// Until its handler began.
    pub queued: f64,
    /// Until its handler ended.
    pub ran: f64,
    /// Until its durable row was first seen.
    pub settled: f64,
}

impl Way {
    /// From Kafka's time of the record until its durable row was first seen.
    #[must_use]
    pub fn whole(&self) -> f64 {
        self.fetched + self.queued + self.ran + self.settled
    }
}

/// The journeys of the records no older than `from`.
#[must_use]
pub fn ways(rows: &[Row], seen: &[Seen], from: i64) -> Vec<Way> {
    let mut ways = Vec::with_capacity(rows.len());
    let (mut partition, mut at) = (i32::MIN, 0);
    for row in rows {
        // Rows are in the order of the log, so each partition's rows were seen in order.
        if row.partition != partition {
            (partition, at) = (row.partition, 0);
        }
        let durable = |seen: &Seen| seen.next.get(&row.partition).is_some_and(|next| *next > row.offset);
        while seen.get(at).is_some_and(|seen| !durable(seen)) {
            at += 1;
        }
        if let Some(seen) = seen.get(at)
            && row.record_time >= from
        {
            let milliseconds = |from: i64, to: i64| (to - from) as f64 / 1e3;
            ways.push(Way {
                fetched: milliseconds(row.record_time, row.received_at),
                queued: milliseconds(row.received_at, row.started_at),
                ran: milliseconds(row.started_at, row.ended_at),
                settled: milliseconds(row.ended_at, seen.at),
            });
        }
    }
    ways
}

/// The `part` quantile of a figure of these journeys.
#[must_use]
pub fn quantile_of(ways: &[Way], part: f64, what: impl Fn(&Way) -> f64) -> Option<f64> {
    let mut figures: Vec<f64> = ways.iter().map(what).collect();
    figures.sort_by(f64::total_cmp);
    quantile(&figures, part)
}

/// The `part` quantile of sorted figures.
#[must_use]
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: i32, offset: i64, started_at: i64, key: &str) -> Row {
        let record_time = offset * 1_000;
        let (received_at, ended_at) = (record_time, record_time + 500);
        Row { partition, offset, record_time, received_at, started_at, ended_at, key: key.into(), handled: true }
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_counted() {
        let rows = [row(0, 0, 5, "a"), row(0, 1, 4, "b"), row(0, 2, 4, "a"), row(1, 0, 1, "c")];
        assert_eq!(reconcile(&rows, 5, 6), Faults { lost: 1, again: 2, inverted: 1 });
        assert_eq!(reconcile(&rows[1..], 3, 3), Faults::default());
    }

    #[test]
    fn a_way_ends_with_the_first_sight_of_a_durable_row() {
        let seen = |at: i64, next: [i64; 2]| Seen { at, next: [(0, next[0]), (1, next[1])].into() };
        let seen = [seen(1_500, [1, 0]), seen(2_000, [2, 1])];
        let rows = [row(0, 0, 300, "a"), row(0, 1, 1_300, "a"), row(1, 0, 300, "b")];
        let whole = |from: i64| ways(&rows, &seen, from).iter().map(Way::whole).collect::<Vec<_>>();
        assert_eq!(whole(0), [1.5, 1.0, 2.0]);
        assert_eq!(whole(500), [1.0]);
        assert_eq!(ways(&rows, &seen, 500), [Way { fetched: 0.0, queued: 0.3, ran: 0.2, settled: 0.5 }]);
        assert_eq!(quantile_of(&ways(&rows, &seen, 0), 0.5, Way::whole), Some(1.5));
        assert_eq!((quantile(&[1.0, 2.0], 0.99), quantile(&[], 0.5)), (Some(2.0), None));
    }
}
