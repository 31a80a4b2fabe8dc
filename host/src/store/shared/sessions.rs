//! Sessions of people who signed in.

use std::time::Duration;

use async_trait::async_trait;

use super::dialect::{StatementConnection as _, StoreDialect};
use super::statement::{SharedRow, Statement};
use crate::store::sessions::MAX_SESSIONS_EACH;
use crate::store::{SessionRow, SessionStore, StoreError};

#[async_trait]
impl<D: StoreDialect> SessionStore for D {
    async fn open_session(
        &self,
        hash: &[u8; 32],
        token: &str,
        bound: &[u8; 32],
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let insert = Statement::new(
            "INSERT INTO session (hash, token, bound, created_at, expires_at)
             SELECT $1, $2, $3, now.at, now.at + $4 FROM (SELECT courier_now() AS at) AS now",
        )
        .bind(hash.as_slice())
        .bind(token)
        .bind(bound.as_slice())
        .bind(lifetime);
        let end_oldest = Statement::new(
            "DELETE FROM session WHERE token = $1 AND hash NOT IN (
                 SELECT hash FROM session WHERE token = $1 ORDER BY created_at DESC, expires_at DESC LIMIT $2)",
        )
        .bind(token)
        .bind(i64::from(MAX_SESSIONS_EACH));
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            tx.execute(insert).await?;
            tx.execute(end_oldest).await?;
            tx.note().await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        let select = Statement::new(
            "SELECT token, bound, created_at, expires_at FROM session WHERE hash = $1 AND expires_at > courier_now()",
        )
        .bind(hash.as_slice());
        let session = |mut row: SharedRow| {
            Ok(SessionRow { token: row.text()?, bound: row.bytes()?, created_at: row.time()?, expires_at: row.time()? })
        };
        D::limited(self.read(select)).await?.into_iter().next().map(session).transpose()
    }

    async fn close_session(&self, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let delete = Statement::new("DELETE FROM session WHERE hash = $1").bind(hash.as_slice());
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            let closed = tx.execute(delete).await? > 0;
            if closed {
                tx.note().await?;
            }
            D::commit_writing(tx).await?;
            Ok(closed)
        })
        .await
    }
}
