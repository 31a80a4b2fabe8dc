//! Sessions of people who signed in.

use std::time::Duration;

use async_trait::async_trait;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, audits, bounded, commit, micros};
use crate::store::shared::text::clean;
use crate::store::{SessionRow, Sessions, StoreError};

#[async_trait]
impl Sessions for PostgresStore {
    async fn open_session(
        &self,
        hash: &[u8; 32],
        token: &str,
        bound: &[u8; 32],
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO session (hash, token, bound, created_at, expires_at)
             SELECT $1, $2, $3, now, now + $4 FROM (SELECT courier_now() AS now) AS clock",
        )
        .bind(hash.as_slice())
        .bind(clean(token))
        .bind(bound.as_slice())
        .bind(micros(lifetime));
        bounded(async {
            let mut tx = self.begin_tx().await?;
            insert.execute(&mut *tx).await.map_err(at_statement)?;
            audits::note(&mut tx).await?;
            commit(tx).await
        })
        .await
    }

    async fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        let select = sqlx::query(
            "SELECT token, bound, created_at, expires_at FROM session WHERE hash = $1 AND expires_at > courier_now()",
        )
        .bind(hash.as_slice())
        .fetch_optional(&self.pool);
        let row = bounded(async { select.await.map_err(at_statement) }).await?;
        row.map(|row| {
            Ok(SessionRow {
                token: row.take("token")?,
                bound: row.take::<Vec<u8>>("bound")?.into(),
                created_at: row.time("created_at")?,
                expires_at: row.time("expires_at")?,
            })
        })
        .transpose()
    }

    async fn close_session(&self, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM session WHERE hash = $1").bind(hash.as_slice());
        bounded(async {
            let mut tx = self.begin_tx().await?;
            let closed = delete.execute(&mut *tx).await.map_err(at_statement)?.rows_affected() > 0;
            if closed {
                audits::note(&mut tx).await?;
            }
            commit(tx).await?;
            Ok(closed)
        })
        .await
    }
}
