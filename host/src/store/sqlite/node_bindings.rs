//! Which nodes run which groups.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use crate::store::shared::text::clean;
use crate::store::{NodeBinding, NodeBindings, StoreError};

#[async_trait]
impl NodeBindings for SqliteStore {
    async fn keep_bindings(&self, node: &str, bindings: &[NodeBinding]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        sqlx::query("DELETE FROM node_binding WHERE node = ?")
            .bind(clean(node))
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        for binding in bindings {
            sqlx::query("INSERT INTO node_binding (node, group_name, topic, types) VALUES (?, ?, ?, ?)")
                .bind(clean(node))
                .bind(clean(&binding.group))
                .bind(clean(&binding.topic))
                .bind(binding.types.as_ref().map(json).transpose()?)
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn live_bindings(&self) -> Result<Vec<NodeBinding>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT b.group_name, b.topic, b.types FROM node_binding b JOIN node n ON n.name = b.node
             WHERE n.writer_id IS NOT NULL AND n.lease_until > ? ORDER BY b.group_name, b.topic, b.types",
        )
        .bind(now().0)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter().map(node_binding).collect()
    }
}

fn node_binding(row: &SqliteRow) -> Result<NodeBinding, StoreError> {
    let mut columns = Columns::of(row);
    let (group, topic): (String, String) = (columns.take()?, columns.take()?);
    let types: Option<String> = columns.take()?;
    Ok(NodeBinding { group, topic, types: types.as_deref().and_then(|types| serde_json::from_str(types).ok()) })
}
