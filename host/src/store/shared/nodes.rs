//! Leases on the names of nodes.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::dialect::{StatementConnection, StoreDialect};
use super::statement::{SharedRow, Statement};
use crate::store::{Holder, Joined, NodeRow, NodeStore, StoreError, WriterId};

/// What each dialect writes by itself: how a name is taken, and how long the renewal of its
/// lease may take.
#[async_trait]
pub(in crate::store) trait NodeDialect: StoreDialect {
    /// See [`NodeStore::join`].
    async fn take_name(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError>;

    /// Extends the lease of a writer. Returns false when it has none.
    async fn extend_lease(&self, writer: WriterId, lease: Duration) -> Result<bool, StoreError>;
}

#[async_trait]
impl<D: NodeDialect> NodeStore for D {
    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
        D::limited(self.take_name(node, holder, lease)).await
    }

    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
        let select = Statement::new(
            "SELECT incarnation, boot, pid, started, lease_until FROM node
             WHERE name = $1 AND writer_id IS NOT NULL AND lease_until > courier_now()",
        );
        let holder = |mut row: SharedRow| {
            let holder = Holder {
                incarnation: row.text()?,
                boot: row.text()?,
                pid: row.number()?,
                started: row.number::<i64>()?.cast_unsigned(),
            };
            Ok((holder, row.time()?))
        };
        D::limited(self.read(select.bind(node))).await?.into_iter().next().map(holder).transpose()
    }

    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError> {
        // Only the process that the caller found dead loses the name: another one may have
        // taken it since.
        let lock = Statement::new(
            "SELECT writer_id FROM node WHERE name = $1 AND incarnation = $2 AND writer_id IS NOT NULL FOR UPDATE",
        )
        .bind(node)
        .bind(&holder.incarnation);
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            let Some(mut held) = tx.row(lock).await? else {
                let text = format!("the node name {node:?} is not held by that process any more");
                return Err(StoreError::Conflict(text));
            };
            end_lease(&mut *tx, WriterId(held.number()?)).await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError> {
        // A lease that ran out and that no process took is extended too: its process was
        // slow, and still has the name.
        if self.extend_lease(writer, lease).await? {
            return Ok(());
        }
        Err(StoreError::Fenced(format!("another process took the name of this node from writer {}", writer.0)))
    }

    async fn leave(&self, writer: WriterId) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            // A name that another process took is no error: a process that stops has no use
            // for it.
            end_lease(&mut *tx, writer).await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let select = Statement::new(
            "SELECT name, joined_at, lease_until, writer_id IS NOT NULL AND lease_until > courier_now() AS live
             FROM node ORDER BY live DESC, name",
        );
        let node = |mut row: SharedRow| {
            Ok(NodeRow { name: row.text()?, joined_at: row.time()?, lease_until: row.time()?, live: row.flag()? })
        };
        D::limited(self.read(select)).await?.into_iter().map(node).collect()
    }
}

/// Frees the name and the relay shards of a process that stops or is dead.
async fn end_lease(tx: &mut impl StatementConnection, writer: WriterId) -> Result<(), StoreError> {
    let free_name = "UPDATE node SET writer_id = NULL, lease_until = courier_now() WHERE writer_id = $1";
    tx.execute(Statement::new(free_name).bind(writer.0)).await?;
    free_shards(tx, writer).await
}

/// Frees the relay shards of a writer, so that the next relay can take them at once. The
/// epochs stay: the next holder raises them, and what the former one still writes is refused.
pub(in crate::store) async fn free_shards(
    tx: &mut impl StatementConnection,
    writer: WriterId,
) -> Result<(), StoreError> {
    let update = "UPDATE relay_shard SET writer_id = NULL, lease_until = 0 WHERE writer_id = $1";
    tx.execute(Statement::new(update).bind(writer.0)).await.map(drop)
}
