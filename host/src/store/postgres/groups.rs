//! Totals and pauses of groups.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit, prompt};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::clean;
use crate::store::{GroupStore, GroupTotals, StoreError};

#[async_trait]
impl GroupStore for PostgresStore {
    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError> {
        bounded(totals(self)).await
    }

    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError> {
        bounded(set_paused(self, group, why)).await
    }

    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError> {
        prompt(paused(self)).await
    }
}

/// Sums the rows of the nodes. A row may be negative, since one node opens a delivery that
/// another closes, but a sum is not.
async fn totals(store: &PostgresStore) -> Result<Vec<GroupTotals>, StoreError> {
    let rows = sqlx::query(
        "SELECT g.name,
             greatest(sum(c.waiting), 0)::bigint AS waiting, greatest(sum(c.push_fail), 0)::bigint AS push_fail,
             greatest(sum(c.retrying), 0)::bigint AS retrying, greatest(sum(c.held), 0)::bigint AS held,
             greatest(sum(c.handled), 0)::bigint AS handled, greatest(sum(c.failed), 0)::bigint AS failed
         FROM consumer_group g LEFT JOIN counter c ON c.group_id = g.id GROUP BY g.name ORDER BY g.name",
    )
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let sum = |row: &PgRow, column: &str| Ok::<_, StoreError>(row.take::<i64>(column)?.cast_unsigned());
    let totals = |row: &PgRow| {
        Ok(GroupTotals {
            group: row.take("name")?,
            waiting: sum(row, "waiting")?,
            push_fail: sum(row, "push_fail")?,
            retrying: sum(row, "retrying")?,
            held: sum(row, "held")?,
            handled: sum(row, "handled")?,
            failed: sum(row, "failed")?,
        })
    };
    rows.iter().map(totals).collect()
}

async fn set_paused(store: &PostgresStore, group: &str, why: Option<&str>) -> Result<(), StoreError> {
    // A second pause keeps the time of the first.
    let query = match why {
        Some(why) => sqlx::query(
            "INSERT INTO group_pause (name, why, at) VALUES ($1, $2, courier_now())
             ON CONFLICT (name) DO UPDATE SET why = excluded.why",
        )
        .bind(clean(group))
        .bind(clean(why)),
        // Resuming a group that is not paused is no error.
        None => sqlx::query("DELETE FROM group_pause WHERE name = $1").bind(clean(group)),
    };
    let mut tx = store.begin_tx().await?;
    query.execute(&mut *tx).await.map_err(at_statement)?;
    tx.note().await?;
    commit(tx).await
}

async fn paused(store: &PostgresStore) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query("SELECT name, why FROM group_pause ORDER BY name")
        .fetch_all(&store.pool)
        .await
        .map_err(at_statement)?;
    rows.iter().map(|row| Ok((row.take("name")?, row.take("why")?))).collect()
}
