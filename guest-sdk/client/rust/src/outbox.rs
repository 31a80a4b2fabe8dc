//! Rows of the outbox, within the service's own transaction.

use courier_sdk::Event;
use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::draft::{Draft, Due, millis, rfc3339};
use crate::{PublishError, Publisher};

/// A connection or transaction into whose database an outbox row can be
/// written: those of PostgreSQL and SQLite, as features say.
pub trait OutboxConnection: sealed::Write {}

mod sealed {
    /// Writes a row.
    pub trait Write: Send {
        /// The row's columns.
        fn write(&mut self, table: &str, row: super::Row) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    }
}

/// The columns of a row.
#[derive(Debug)]
pub struct Row {
    id: String,
    /// None leaves the column out: an outbox of one's own may have none.
    source: Option<String>,
    topic: String,
    type_name: String,
    key: Option<String>,
    kind: &'static str,
    body: String,
    headers: String,
    deliver_at: Option<String>,
    /// From the database's clock on, which is that of everything else in the row.
    delay_millis: Option<i64>,
}

impl Publisher {
    /// Writes an event into the outbox within a transaction of the service's
    /// own: it is published if and only if that transaction commits. Answers
    /// its id.
    ///
    /// # Errors
    /// When the event or the row cannot be written; the transaction is the
    /// service's to roll back.
    pub async fn publish_in<C: OutboxConnection, E: Event + Serialize>(
        &self,
        tx: &mut C,
        event: &E,
    ) -> Result<String, PublishError> {
        self.send_in(tx, self.draft(event)?).await
    }

    /// Writes a draft into the outbox: a delayed one or a broadcast, say.
    ///
    /// # Errors
    /// As [`publish_in`](Self::publish_in).
    pub async fn send_in<C: OutboxConnection>(&self, tx: &mut C, draft: Draft) -> Result<String, PublishError> {
        let invalid = |why: String| PublishError::Invalid { id: Some(draft.id.clone()), why };
        let key = draft.key.clone().map(String::from_utf8).transpose();
        let key = key.map_err(|_| invalid("a key in an outbox is text, and this one is not".to_owned()))?;
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !self.table.split('.').all(plain) {
            return Err(invalid(format!("the outbox table {:?} is no plain name", self.table)));
        }
        let (deliver_at, delay_millis) = match draft.due {
            Some(Due::At(time)) => (Some(rfc3339(time, &draft.id)?), None),
            Some(Due::After(delay)) => {
                let millis = i64::try_from(millis(delay)).map_err(|_| invalid(format!("the delay is {delay:?}")))?;
                (None, Some(millis))
            }
            None => (None, None),
        };
        let headers = draft.headers_json().to_string();
        let id = draft.id.clone();
        let row = Row {
            id: draft.id,
            source: self.source.clone(),
            topic: draft.topic,
            type_name: draft.type_name,
            key,
            kind: if draft.broadcast { "broadcast" } else { "event" },
            body: draft.body,
            headers,
            deliver_at,
            delay_millis,
        };
        tx.write(&self.table, row).await?;
        Ok(id)
    }
}

fn quoted(table: &str) -> String {
    table.split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".")
}

macro_rules! outbox_connection {
    ($feature:literal, $connection:ty, $transaction:ty, $values:literal, $delay:expr) => {
        #[cfg(any(feature = $feature, test))]
        impl sealed::Write for $connection {
            async fn write(&mut self, table: &str, row: Row) -> Result<(), sqlx::Error> {
                let (column, value) = if row.source.is_some() { (", source", ", $10") } else { ("", "") };
                let insert = format!(
                    "INSERT INTO {} (id, topic, type, key, kind, body, headers, deliver_at{column}) VALUES ({}{value})",
                    quoted(table),
                    $values
                );
                let mut query = sqlx::query(AssertSqlSafe(insert))
                    .bind(row.id)
                    .bind(row.topic)
                    .bind(row.type_name)
                    .bind(row.key)
                    .bind(row.kind)
                    .bind(row.body)
                    .bind(row.headers)
                    .bind(row.deliver_at)
                    .bind(row.delay_millis.map($delay));
                if let Some(source) = row.source {
                    query = query.bind(source);
                }
                query.execute(self).await.map(|_| ())
            }
        }

        #[cfg(any(feature = $feature, test))]
        impl OutboxConnection for $connection {}

        #[cfg(any(feature = $feature, test))]
        impl sealed::Write for $transaction {
            async fn write(&mut self, table: &str, row: Row) -> Result<(), sqlx::Error> {
                <$connection as sealed::Write>::write(&mut **self, table, row).await
            }
        }

        #[cfg(any(feature = $feature, test))]
        impl OutboxConnection for $transaction {}
    };
}

outbox_connection!(
    "postgres",
    sqlx::PgConnection,
    sqlx::Transaction<'_, sqlx::Postgres>,
    "$1, $2, $3, $4, $5, $6, $7::text::jsonb, \
     coalesce($8::text::timestamptz, clock_timestamp() + $9::bigint * interval '1 millisecond')",
    postgres_delay
);
outbox_connection!(
    "sqlite",
    sqlx::SqliteConnection,
    sqlx::Transaction<'_, sqlx::Sqlite>,
    "$1, $2, $3, $4, $5, $6, $7, coalesce($8, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', $9))",
    sqlite_delay
);

/// A delay as PostgreSQL adds it to its clock.
#[cfg(any(feature = "postgres", test))]
fn postgres_delay(millis: i64) -> i64 {
    millis
}

/// A delay as SQLite adds it to its clock, which is cut to milliseconds: one
/// more, so that nothing is early.
#[cfg(any(feature = "sqlite", test))]
fn sqlite_delay(millis: i64) -> String {
    let millis = millis.saturating_add(1);
    format!("+{}.{:03} seconds", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use courier_sdk::Event;
    use serde::Serialize;
    use sqlx::{Connection as _, Row as _};

    use super::*;

    #[derive(Serialize)]
    struct Order {
        number: u32,
    }

    impl Event for Order {
        const TOPIC: &'static str = "order";
        const TYPE: &'static str = "Order";

        fn key(&self) -> Option<Vec<u8>> {
            None
        }
    }

    /// The delay was added to the clock of the service, which may be wrong, and
    /// the source was lost.
    #[tokio::test]
    async fn a_row_is_delayed_by_the_databases_clock_and_has_its_source() {
        let mut database = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let table = "CREATE TABLE courier_outbox
            (id text, source text, topic text, type text, key text, kind text, body text, headers text, deliver_at text,
             created_at text DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))";
        sqlx::query(table).execute(&mut database).await.unwrap();
        let shop = Publisher::new("http://a").unwrap().source("shop");
        let delay = Duration::from_millis(1_234_567);
        let draft = shop.draft(&Order { number: 1 }).unwrap();
        shop.send_in(&mut database, draft.clone().after(delay)).await.unwrap();
        let unnamed = Publisher::new("http://a").unwrap();
        unnamed.send_in(&mut database, draft).await.unwrap();
        let read = "SELECT source, round((julianday(deliver_at) - julianday(created_at)) * 86400000) AS millis
            FROM courier_outbox ORDER BY rowid";
        let rows = sqlx::query(read).fetch_all(&mut database).await.unwrap();
        assert_eq!(rows[0].get::<Option<String>, _>(0).as_deref(), Some("shop"));
        assert_eq!(rows[0].get::<f64, _>(1), 1_234_568.0);
        assert_eq!((rows[1].get::<Option<String>, _>(0), rows[1].get::<Option<f64>, _>(1)), (None, None));
    }
}
