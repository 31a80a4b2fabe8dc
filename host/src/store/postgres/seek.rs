//! Moving positions, and what owners read to notice it.

use std::collections::HashMap;

use async_trait::async_trait;
use courier_core::message::Offset;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::open_rows::open_row;
use super::positions::{cut_lost, insert_lost};
use super::reruns::{asking_time, reopen_many};
use super::settle_open::{Deltas, PEOPLE};
use super::{PostgresStore, bounded, commit};
use crate::store::seek::{MAX_SOUGHT, SeekMove, SeekStore};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::{DeliveryKey, OpenRow, PositionId, StoreError};

#[async_trait]
impl SeekStore for PostgresStore {
    async fn seek(&self, moves: &[SeekMove], why: &str) -> Result<Vec<Offset>, StoreError> {
        bounded(seek(self, moves, why)).await
    }

    async fn epochs(&self, positions: &[PositionId]) -> Result<Vec<(PositionId, i64)>, StoreError> {
        let ids: Vec<i64> = positions.iter().map(|position| position.0).collect();
        let read = sqlx::query("SELECT id, epoch FROM position WHERE id = ANY($1)").bind(&ids).fetch_all(&self.pool);
        let rows = bounded(async { read.await.map_err(at_statement) }).await?;
        rows.iter().map(|row| Ok((PositionId(row.take("id")?), row.take("epoch")?))).collect()
    }

    async fn open_page(&self, position: PositionId, after: Offset, limit: u32) -> Result<Vec<OpenRow>, StoreError> {
        let read = sqlx::query(
            "SELECT position_id, record_offset, key, message_id, state, next_attempt_at, held, number, counted, received_at,
                 asked_at, give_up_reason, give_up_letter, CASE WHEN copied_bytes > 0 THEN 0 ELSE coalesce(octet_length(record), 0) END AS record_bytes
             FROM open_delivery WHERE position_id = $1 AND record_offset > $2 ORDER BY record_offset LIMIT $3",
        )
        .bind(position.0)
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(&self.pool);
        bounded(async { read.await.map_err(at_statement) }).await?.iter().map(open_row).collect()
    }
}

async fn seek(store: &PostgresStore, moves: &[SeekMove], why: &str) -> Result<Vec<Offset>, StoreError> {
    let mut tx = store.begin_tx().await?;
    let ids: Vec<i64> = moves.iter().map(|one| one.position.0).collect();
    let rows = sqlx::query("SELECT id, next, current FROM position WHERE id = ANY($1) ORDER BY id FOR UPDATE")
        .bind(&ids)
        .fetch_all(&mut *tx)
        .await
        .map_err(at_statement)?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        found.insert(row.take::<i64>("id")?, (row.take::<i64>("next")?, row.take::<bool>("current")?));
    }
    let (mut before, mut again) = (Vec::with_capacity(moves.len()), Vec::new());
    let mut deltas = Deltas::default();
    for one in moves {
        let Some((next, current)) = found.get(&one.position.0) else {
            return Err(StoreError::NotFound(format!("there is no position {}", one.position.0)));
        };
        if !current {
            return Err(StoreError::Conflict("the topic was created anew meanwhile: seek again".to_owned()));
        }
        // From here on whatever the present owner writes is refused.
        sqlx::query("UPDATE position SET next = $2, epoch = epoch + 1 WHERE id = $1")
            .bind(one.position.0)
            .bind(one.to.0)
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
        before.push(Offset(*next));
        if one.to.0 > *next {
            insert_lost(&mut tx, one.position.0, *next, one.to.0, why).await?;
            continue;
        }
        cut_lost(&mut tx, one.position.0, one.to.0).await?;
        // A delivery that ended above the old position does not run again; the next owner
        // knows it as settled.
        let ended = sqlx::query(
            "SELECT record_offset FROM delivery WHERE position_id = $1 AND record_offset >= $2 AND record_offset < $3
             ORDER BY record_offset LIMIT $4",
        )
        .bind(one.position.0)
        .bind(one.to.0)
        .bind(*next)
        .bind(i64::from(MAX_SOUGHT) + 1)
        .fetch_all(&mut *tx)
        .await
        .map_err(at_statement)?;
        let ended: Vec<Offset> = ended.iter().map(|row| row.offset("record_offset")).collect::<Result<_, _>>()?;
        again.extend(ended.iter().map(|offset| DeliveryKey { position: one.position, offset: *offset }));
        if again.len() > MAX_SOUGHT as usize {
            return Err(StoreError::Conflict(format!(
                "more than {MAX_SOUGHT} finished deliveries would run again at once: seek less far back, or one \
                 partition at a time, or replay the range in parts"
            )));
        }
        super::handled_sets::forget(&mut tx, one.position.0, (one.to, Offset(*next)), ended, &mut deltas).await?;
        super::attempts::remove_left_over(&mut tx, &[(one.position.0, one.to.0, *next)]).await?;
    }
    let at = asking_time(&mut tx).await?;
    reopen_many(&mut tx, &again, at, &mut deltas).await?;
    deltas.write(&mut tx, PEOPLE).await?;
    tx.note().await?;
    commit(tx).await?;
    Ok(before)
}
