//! Which nodes run which groups.

use async_trait::async_trait;

use super::dialect::{StatementConnection as _, StoreDialect};
use super::statement::{SharedRow, Statement};
use crate::store::{NodeBinding, NodeBindingStore, StoreError};

#[async_trait]
impl<D: StoreDialect> NodeBindingStore for D {
    async fn keep_bindings(&self, node: &str, bindings: &[NodeBinding]) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            tx.execute(Statement::new("DELETE FROM node_binding WHERE node = $1").bind(node)).await?;
            for binding in bindings {
                let types = binding.types.as_ref().map(|types| serde_json::json!(types).to_string());
                let insert =
                    Statement::new("INSERT INTO node_binding (node, group_name, topic, types) VALUES ($1, $2, $3, $4)")
                        .bind(node)
                        .bind(&binding.group)
                        .bind(&binding.topic)
                        .bind(types.as_deref());
                tx.execute(insert).await?;
            }
            D::commit_writing(tx).await
        })
        .await
    }

    async fn live_bindings(&self) -> Result<Vec<NodeBinding>, StoreError> {
        // A node that left has no writer, whatever its lease says.
        let select = Statement::new(
            "SELECT DISTINCT b.group_name, b.topic, b.types FROM node_binding b JOIN node n ON n.name = b.node
             WHERE n.writer_id IS NOT NULL AND n.lease_until > courier_now() ORDER BY b.group_name, b.topic, b.types",
        );
        let binding = |mut row: SharedRow| {
            let (group, topic, types) = (row.text()?, row.text()?, row.text_option()?);
            Ok(NodeBinding { group, topic, types: types.and_then(|types| serde_json::from_str(&types).ok()) })
        };
        D::limited(self.read(select)).await?.into_iter().map(binding).collect()
    }
}
