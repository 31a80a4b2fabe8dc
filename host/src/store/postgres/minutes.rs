//! Sums of minutes, and histograms of how long attempts took.

use async_trait::async_trait;
use courier_core::message::Timestamp;
use sqlx::postgres::PgRow;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit};
use crate::store::shared::text::clean;
use crate::store::{MinuteRow, MinuteStore, PaceRow, StoreError, WriterId};

#[async_trait]
impl MinuteStore for PostgresStore {
    async fn put_minutes(&self, writer: WriterId, minutes: &[MinuteRow], paces: &[PaceRow]) -> Result<(), StoreError> {
        bounded(put(self, writer, minutes, paces)).await
    }

    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteRow>, StoreError> {
        let select = sqlx::query(
            "SELECT minute, group_name, sum(published)::bigint AS published, sum(send_fail)::bigint AS send_fail,
                 sum(handled)::bigint AS handled, sum(failed)::bigint AS failed,
                 sum(given_up)::bigint AS given_up
             FROM minute WHERE minute >= $1 GROUP BY minute, group_name ORDER BY minute, group_name",
        )
        .bind(since.0)
        .fetch_all(&self.pool);
        let rows = bounded(async { select.await.map_err(at_statement) }).await?;
        let sum = |row: &PgRow, column: &str| Ok::<_, StoreError>(row.take::<i64>(column)?.cast_unsigned());
        let minute = |row: &PgRow| {
            Ok(MinuteRow {
                minute: row.time("minute")?,
                group: row.take("group_name")?,
                published: sum(row, "published")?,
                send_fail: sum(row, "send_fail")?,
                handled: sum(row, "handled")?,
                failed: sum(row, "failed")?,
                given_up: sum(row, "given_up")?,
            })
        };
        rows.iter().map(minute).collect()
    }

    async fn paces(&self, since: Timestamp) -> Result<Vec<PaceRow>, StoreError> {
        let select =
            sqlx::query("SELECT group_name, buckets FROM pace WHERE at >= $1").bind(since.0).fetch_all(&self.pool);
        let rows = bounded(async { select.await.map_err(at_statement) }).await?;
        rows.iter()
            .map(|row| {
                let buckets: Vec<i64> = row.take("buckets")?;
                let buckets = buckets.into_iter().map(i64::cast_unsigned).collect();
                Ok(PaceRow { group: row.take("group_name")?, buckets })
            })
            .collect()
    }
}

async fn put(
    store: &PostgresStore,
    writer: WriterId,
    minutes: &[MinuteRow],
    paces: &[PaceRow],
) -> Result<(), StoreError> {
    let of = |value: fn(&MinuteRow) -> u64| minutes.iter().map(|row| value(row).cast_signed()).collect::<Vec<i64>>();
    let times: Vec<i64> = minutes.iter().map(|row| row.minute.0).collect();
    let groups: Vec<_> = minutes.iter().map(|row| clean(&row.group)).collect();
    let mut tx = store.begin_tx().await?;
    sqlx::query(
        "INSERT INTO minute AS m (minute, writer_id, group_name, published, send_fail, handled, failed, given_up)
         SELECT r.minute, $1, r.group_name, r.published, r.send_fail, r.handled, r.failed, r.given_up
         FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
             AS r (minute, group_name, published, send_fail, handled, failed, given_up)
         ON CONFLICT (minute, writer_id, group_name) DO UPDATE SET published = excluded.published,
             send_fail = excluded.send_fail, handled = excluded.handled, failed = excluded.failed,
             given_up = excluded.given_up",
    )
    .bind(writer.0)
    .bind(&times)
    .bind(&groups)
    .bind(of(|row| row.published))
    .bind(of(|row| row.send_fail))
    .bind(of(|row| row.handled))
    .bind(of(|row| row.failed))
    .bind(of(|row| row.given_up))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    for pace in paces {
        let buckets: Vec<i64> = pace.buckets.iter().map(|count| count.cast_signed()).collect();
        sqlx::query(
            "INSERT INTO pace (writer_id, group_name, buckets, at) VALUES ($1, $2, $3, courier_now())
             ON CONFLICT (writer_id, group_name) DO UPDATE SET buckets = excluded.buckets, at = excluded.at",
        )
        .bind(writer.0)
        .bind(clean(&pace.group))
        .bind(&buckets)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    }
    commit(tx).await
}
