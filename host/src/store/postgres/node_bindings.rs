//! Which nodes run which groups.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit};
use crate::store::shared::text::clean;
use crate::store::{NodeBinding, NodeBindings, StoreError};

#[async_trait]
impl NodeBindings for PostgresStore {
    async fn keep_bindings(&self, node: &str, bindings: &[NodeBinding]) -> Result<(), StoreError> {
        bounded(keep(self, node, bindings)).await
    }

    async fn live_bindings(&self) -> Result<Vec<NodeBinding>, StoreError> {
        let read = sqlx::query(
            "SELECT DISTINCT b.group_name, b.topic, b.types FROM node_binding b JOIN node n ON n.name = b.node
             WHERE n.lease_until > courier_now() ORDER BY b.group_name, b.topic, b.types",
        )
        .fetch_all(&self.pool);
        bounded(async { read.await.map_err(at_statement) }).await?.iter().map(node_binding).collect()
    }
}

async fn keep(store: &PostgresStore, node: &str, bindings: &[NodeBinding]) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    sqlx::query("DELETE FROM node_binding WHERE node = $1")
        .bind(clean(node))
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    for binding in bindings {
        sqlx::query("INSERT INTO node_binding (node, group_name, topic, types) VALUES ($1, $2, $3, $4)")
            .bind(clean(node))
            .bind(clean(&binding.group))
            .bind(clean(&binding.topic))
            .bind(binding.types.as_ref().map(|types| serde_json::json!(types).to_string()))
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
    }
    commit(tx).await
}

fn node_binding(row: &PgRow) -> Result<NodeBinding, StoreError> {
    let types: Option<String> = row.take("types")?;
    Ok(NodeBinding {
        group: row.take("group_name")?,
        topic: row.take("topic")?,
        types: types.as_deref().and_then(|types| serde_json::from_str(types).ok()),
    })
}
