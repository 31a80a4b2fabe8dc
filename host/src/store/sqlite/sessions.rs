//! Sessions of people who signed in.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::columns::{Columns, now};
use super::error::{commit_fault, fault};
use super::{SqliteStore, audits};
use crate::store::shared::text::clean;
use crate::store::{SessionRow, Sessions, StoreError};

#[async_trait]
impl Sessions for SqliteStore {
    async fn open_session(
        &self,
        hash: &[u8; 32],
        token: &str,
        bound: &[u8; 32],
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let now = now();
        let mut tx = self.connections.write().await?;
        sqlx::query("INSERT INTO session (hash, token, bound, created_at, expires_at) VALUES (?, ?, ?, ?, ?)")
            .bind(hash.as_slice())
            .bind(clean(token))
            .bind(bound.as_slice())
            .bind(now.0)
            .bind(now.after(lifetime).0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        let row =
            sqlx::query("SELECT token, bound, created_at, expires_at FROM session WHERE hash = ? AND expires_at > ?")
                .bind(hash.as_slice())
                .bind(now().0)
                .fetch_optional(&self.connections.readers)
                .await
                .map_err(fault)?;
        row.map(|row| {
            let mut columns = Columns::of(&row);
            Ok(SessionRow {
                token: columns.take()?,
                bound: Bytes::from(columns.take::<Vec<u8>>()?),
                created_at: columns.time()?,
                expires_at: columns.time()?,
            })
        })
        .transpose()
    }

    async fn close_session(&self, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let mut tx = self.connections.write().await?;
        let closed = sqlx::query("DELETE FROM session WHERE hash = ?")
            .bind(hash.as_slice())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        if closed.rows_affected() > 0 {
            audits::note(&mut tx).await?;
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(closed.rows_affected() > 0)
    }
}
