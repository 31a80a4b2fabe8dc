//! Copying records of open deliveries before Kafka removes them.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::retention::NearEnd;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit};
use crate::store::record_copies::{fenced, fitting};
use crate::store::{Copies, Endangered, PositionId, RecordCopyStore, StoreError};

#[async_trait]
impl RecordCopyStore for PostgresStore {
    async fn endangered(&self, position: PositionId, near: &NearEnd, limit: u32) -> Result<Endangered, StoreError> {
        bounded(endangered(self, position, near, limit)).await
    }

    async fn copies(&self, position: PositionId) -> Result<Copies, StoreError> {
        bounded(async {
            let sums = sqlx::query(
                "SELECT count(*) AS count, coalesce(sum(copied_bytes), 0)::bigint AS bytes
                 FROM open_delivery WHERE position_id = $1 AND copied_bytes > 0",
            )
            .bind(position.0)
            .fetch_one(&self.pool)
            .await
            .map_err(at_statement)?;
            let number =
                |column: &str| Ok::<u64, StoreError>(u64::try_from(sums.take::<i64>(column)?).unwrap_or_default());
            Ok(Copies { count: number("count")?, bytes: number("bytes")? })
        })
        .await
    }

    async fn copy_records(
        &self,
        position: PositionId,
        epoch: i64,
        records: &[(Offset, Bytes)],
        max_copied_bytes: u64,
    ) -> Result<usize, StoreError> {
        bounded(copy_records(self, position, epoch, records, max_copied_bytes)).await
    }
}

async fn endangered(
    store: &PostgresStore,
    position: PositionId,
    near: &NearEnd,
    limit: u32,
) -> Result<Endangered, StoreError> {
    let rows = sqlx::query(
        "WITH near AS (
             SELECT record_offset, record_time FROM open_delivery
             WHERE position_id = $1 AND record_offset >= $2 AND (record_offset < $3 OR record_time <= $4)
                 AND record IS NULL
         )
         SELECT n.record_offset, s.count, s.last, s.oldest
         FROM (SELECT record_offset FROM near ORDER BY record_offset LIMIT $5) n
             CROSS JOIN (SELECT count(*) AS count, max(record_offset) AS last, min(record_time) AS oldest FROM near) s
         ORDER BY n.record_offset",
    )
    .bind(position.0)
    .bind(near.from.0)
    .bind(near.below.0)
    .bind(near.recorded_until.map_or(i64::MIN, |until| until.0))
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let Some(sums) = rows.first() else { return Ok(Endangered::default()) };
    Ok(Endangered {
        first: rows.iter().map(|row| row.offset("record_offset")).collect::<Result<_, _>>()?,
        count: u64::try_from(sums.take::<i64>("count")?).unwrap_or_default(),
        last: sums.take::<Option<i64>>("last")?.map(Offset),
        oldest: sums.take::<Option<i64>>("oldest")?.map(Timestamp),
    })
}

async fn copy_records(
    store: &PostgresStore,
    position: PositionId,
    epoch: i64,
    records: &[(Offset, Bytes)],
    max_copied_bytes: u64,
) -> Result<usize, StoreError> {
    let mut tx = store.begin_tx().await?;
    // A settle locks the position too, so that a row does not end in between.
    let found = sqlx::query("SELECT epoch FROM position WHERE id = $1 FOR UPDATE")
        .bind(position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?;
    if found.map(|row| row.take::<i64>("epoch")).transpose()? != Some(epoch) {
        return Err(fenced(position, epoch));
    }
    let copied = sqlx::query(
        "SELECT coalesce(sum(copied_bytes), 0)::bigint AS bytes
         FROM open_delivery WHERE position_id = $1 AND copied_bytes > 0",
    )
    .bind(position.0)
    .fetch_one(&mut *tx)
    .await
    .map_err(at_statement)?;
    let fit = fitting(copied.take("bytes")?, records, max_copied_bytes);
    let (offsets, bytes): (Vec<i64>, Vec<&[u8]>) =
        fit.iter().map(|(offset, record)| (offset.0, record.as_ref())).unzip();
    sqlx::query(
        "UPDATE open_delivery o SET record = r.record, copied_bytes = octet_length(r.record)
         FROM unnest($2::bigint[], $3::bytea[]) AS r (record_offset, record)
         WHERE o.position_id = $1 AND o.record_offset = r.record_offset AND o.record IS NULL",
    )
    .bind(position.0)
    .bind(&offsets)
    .bind(&bytes)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await?;
    Ok(fit.len())
}
