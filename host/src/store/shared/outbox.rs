//! What is noted of outboxes.

use async_trait::async_trait;

use super::dialect::{StatementConnection, StoreDialect};
use super::statement::{SharedRow, Statement};
use crate::store::StoreError;
use crate::store::outbox::{
    OutboxCount, OutboxNote, OutboxNoteStore, OutboxRow, OutboxRowRef, cause_from, fields_to_text, rows_from_text,
    rows_to_text,
};

/// Holds the shard's lease against a new holder until the transaction ends;
/// `Fenced` when it has another epoch.
pub(in crate::store) async fn hold_shard(
    connection: &mut impl StatementConnection,
    (shard, epoch): (i32, i64),
) -> Result<(), StoreError> {
    let select =
        Statement::new("SELECT 1 FROM relay_shard WHERE shard = $1 AND epoch = $2 FOR SHARE").bind(shard).bind(epoch);
    match connection.row(select).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::Fenced(format!("relay shard {shard} has another holder"))),
    }
}

#[async_trait]
impl<D: StoreDialect> OutboxNoteStore for D {
    async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError> {
        let fields = fields_to_text(note.cause.as_ref())?;
        let upsert = Statement::new(
            "INSERT INTO outbox AS o (name, node, shard, why, pending, oldest_at, cause_code, cause_fields, since,
                 noted_at)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $7 IS NOT NULL THEN now.at END, now.at
             FROM (SELECT courier_now() AS at) AS now WHERE true
             ON CONFLICT (name) DO UPDATE SET node = excluded.node, shard = excluded.shard, why = excluded.why,
                 pending = excluded.pending, oldest_at = excluded.oldest_at, cause_code = excluded.cause_code,
                 cause_fields = excluded.cause_fields,
                 since = CASE WHEN o.cause_code = excluded.cause_code THEN coalesce(o.since, excluded.since)
                     ELSE excluded.since END,
                 noted_at = excluded.noted_at",
        )
        .bind(&note.name)
        .bind(&note.node)
        .bind(shard.0)
        .bind(note.why.as_deref())
        .bind(note.pending)
        .bind(note.oldest_at)
        .bind(note.cause.as_ref().map(|cause| cause.code.as_str()))
        .bind(fields.as_deref());
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            hold_shard(&mut *tx, shard).await?;
            tx.execute(upsert).await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn count_outbox(&self, shard: (i32, i64), count: &OutboxCount) -> Result<bool, StoreError> {
        let upsert = Statement::new(
            "INSERT INTO outbox AS o (name, node, shard, relayed, refused, counted, noted_at)
             VALUES ($1, $2, $3, $4, $5, $6, courier_now())
             ON CONFLICT (name) DO UPDATE SET relayed = o.relayed + excluded.relayed,
                 refused = o.refused + excluded.refused, counted = excluded.counted
             WHERE o.counted IS DISTINCT FROM excluded.counted",
        )
        .bind(&count.name)
        .bind(&count.node)
        .bind(shard.0)
        .bind(count.relayed)
        .bind(count.refused)
        .bind(rows_to_text(&count.rows)?);
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            hold_shard(&mut *tx, shard).await?;
            let counted = tx.execute(upsert).await?;
            D::commit_writing(tx).await?;
            Ok(counted > 0)
        })
        .await
    }

    async fn counted_rows(&self, name: &str) -> Result<Vec<OutboxRowRef>, StoreError> {
        let select = self.read(Statement::new("SELECT counted FROM outbox WHERE name = $1").bind(name));
        let Some(mut row) = D::limited(select).await?.into_iter().next() else { return Ok(Vec::new()) };
        row.text_option()?.map_or(Ok(Vec::new()), |rows| rows_from_text(&rows))
    }

    async fn outboxes(&self) -> Result<Vec<OutboxRow>, StoreError> {
        let select = self.read(Statement::new(
            "SELECT name, node, shard, why, pending, oldest_at, cause_code, cause_fields, since, relayed, refused, noted_at
             FROM outbox ORDER BY name",
        ));
        let outbox = |mut row: SharedRow| {
            Ok(OutboxRow {
                name: row.text()?,
                node: row.text()?,
                shard: row.number()?,
                why: row.text_option()?,
                pending: row.number_option()?,
                oldest_at: row.time_option()?,
                cause: cause_from(row.text_option()?, row.text_option()?.as_deref()),
                since: row.time_option()?,
                relayed: row.number()?,
                refused: row.number()?,
                noted_at: row.time()?,
            })
        };
        D::limited(select).await?.into_iter().map(outbox).collect()
    }
}
