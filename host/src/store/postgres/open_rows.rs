//! Reading open deliveries.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Attempts, Offset, Timestamp};
use sqlx::postgres::PgRow;

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::{PostgresStore, micros, prompt};
use crate::store::{AskedLately, GiveUp, OpenRecord, OpenRow, OpenRowStore, PositionId, StoreError};

#[async_trait]
impl OpenRowStore for PostgresStore {
    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        prompt(open_records(self, position, offsets)).await
    }

    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError> {
        prompt(asked(self, positions, since, limit)).await
    }

    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError> {
        prompt(asked_lately(self, window)).await
    }
}

pub(super) fn open_row(row: &PgRow) -> Result<OpenRow, StoreError> {
    Ok(OpenRow {
        position: PositionId(row.take("position_id")?),
        offset: row.offset("record_offset")?,
        key: row.bytes("key")?,
        message_id: row.take("message_id")?,
        state: columns::state(row.take("state")?)?,
        next_attempt_at: row.time_opt("next_attempt_at")?,
        held: row.take("held")?,
        attempts: Attempts { invoked: row.count("number")?, used: row.count("counted")? },
        received_at: row.time("received_at")?,
        record_bytes: usize::try_from(row.take::<i32>("record_bytes")?).unwrap_or(0),
        asked_at: row.time_opt("asked_at")?,
        give_up: give_up_of(row)?,
    })
}

fn give_up_of(row: &PgRow) -> Result<Option<GiveUp>, StoreError> {
    let dead_letter = row.take("give_up_letter")?;
    Ok(row.take::<Option<String>>("give_up_reason")?.map(|reason| GiveUp { reason, dead_letter }))
}

async fn open_records(
    store: &PostgresStore,
    position: PositionId,
    offsets: &[Offset],
) -> Result<Vec<Option<OpenRecord>>, StoreError> {
    let wanted: Vec<i64> = offsets.iter().map(|offset| offset.0).collect();
    let rows = sqlx::query(
        "SELECT o.position_id, o.record_offset, o.key, o.message_id, o.state, o.next_attempt_at, o.held, o.number, o.counted,
             o.received_at, o.asked_at, o.give_up_reason, o.give_up_letter,
             CASE WHEN o.copied_bytes > 0 THEN 0 ELSE coalesce(octet_length(o.record), 0) END AS record_bytes, o.record
         FROM open_delivery o WHERE o.position_id = $1 AND o.record_offset = ANY($2)",
    )
    .bind(position.0)
    .bind(&wanted)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let record = row.bytes("record")?;
        found.insert(row.take::<i64>("record_offset")?, OpenRecord { row: open_row(row)?, record });
    }
    Ok(wanted.iter().map(|offset| found.get(offset).cloned()).collect())
}

async fn asked(
    store: &PostgresStore,
    positions: &[PositionId],
    since: Timestamp,
    limit: u32,
) -> Result<Vec<OpenRow>, StoreError> {
    let positions: Vec<i64> = positions.iter().map(|position| position.0).collect();
    let rows = sqlx::query(
        "SELECT position_id, record_offset, key, message_id, state, next_attempt_at, held, number, counted, received_at,
             asked_at, give_up_reason, give_up_letter,
             CASE WHEN copied_bytes > 0 THEN 0 ELSE coalesce(octet_length(record), 0) END AS record_bytes
         FROM open_delivery WHERE position_id = ANY($1) AND asked_at > $2
         ORDER BY asked_at, position_id, record_offset LIMIT $3",
    )
    .bind(&positions)
    .bind(since.0)
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(open_row).collect()
}

async fn asked_lately(store: &PostgresStore, window: Duration) -> Result<AskedLately, StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS rows, max(asked_at) AS newest FROM open_delivery WHERE asked_at > courier_now() - $1",
    )
    .bind(micros(window))
    .fetch_one(&store.pool)
    .await
    .map_err(at_statement)?;
    Ok(AskedLately { rows: row.take("rows")?, newest: row.time_opt("newest")? })
}
