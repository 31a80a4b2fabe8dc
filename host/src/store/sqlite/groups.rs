//! Totals and pauses of groups.

use std::collections::BTreeMap;

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, now};
use super::error::{commit_fault, fault};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::clean;
use crate::store::{GroupStore, GroupTotals, StoreError};

#[async_trait]
impl GroupStore for SqliteStore {
    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError> {
        let mut totals = BTreeMap::new();
        let rows = sqlx::query(
            "SELECT g.name, max(coalesce(sum(c.handled), 0), 0), max(coalesce(sum(c.failed), 0), 0)
             FROM consumer_group g LEFT JOIN counter c ON c.group_id = g.id GROUP BY g.id",
        )
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        for row in &rows {
            let mut columns = Columns::of(row);
            let group: String = columns.take()?;
            let (handled, failed) = (columns.number()?, columns.number()?);
            totals.insert(group.clone(), GroupTotals { group, handled, failed, ..GroupTotals::default() });
        }
        // The number of open rows is bounded, so that they can be counted.
        let rows = sqlx::query(
            "SELECT g.name, o.state, o.held, count(*) FROM open_delivery o
             JOIN consumer_group g ON g.id = o.group_id GROUP BY o.group_id, o.state, o.held",
        )
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        for row in &rows {
            let mut columns = Columns::of(row);
            let group: String = columns.take()?;
            let (state, held, count): (State, bool, u64) = (columns.state()?, columns.flag()?, columns.number()?);
            let sums = totals.entry(group.clone()).or_insert(GroupTotals { group, ..GroupTotals::default() });
            match state {
                _ if held => sums.held += count,
                State::PushFail => sums.push_fail += count,
                State::HandleFail => sums.retrying += count,
                _ => sums.waiting += count,
            }
        }
        Ok(totals.into_values().collect())
    }

    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, group).await?;
        // A second pause keeps the time of the first, and a second resume changes nothing.
        let statement = match why {
            Some(why) => sqlx::query(
                "INSERT INTO group_pause (group_id, why, paused_at) VALUES (?, ?, ?)
                 ON CONFLICT (group_id) DO UPDATE SET why = excluded.why",
            )
            .bind(group)
            .bind(clean(why))
            .bind(now().0),
            None => sqlx::query("DELETE FROM group_pause WHERE group_id = ?").bind(group),
        };
        statement.execute(&mut *tx).await.map_err(fault)?;
        tx.note().await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.name, p.why FROM group_pause p JOIN consumer_group g ON g.id = p.group_id ORDER BY g.name",
        )
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((columns.take()?, columns.take()?))
            })
            .collect()
    }
}

/// Returns the number of a group. A new name gets one.
pub(super) async fn group_number(connection: &mut SqliteConnection, group: &str) -> Result<i64, StoreError> {
    // The update changes nothing. Without it RETURNING would have no row for a group that
    // exists.
    sqlx::query_scalar(
        "INSERT INTO consumer_group (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
    )
    .bind(clean(group))
    .fetch_one(connection)
    .await
    .map_err(fault)
}
