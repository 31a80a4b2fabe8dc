//! Whether the file can be written, and whether its journal mode keeps the guarantees.

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::{SqliteStore, columns, connect, error};
use crate::store::{HealthStore, StoreError, Weakness};

#[async_trait]
impl HealthStore for SqliteStore {
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        sqlx::query("SELECT 1").execute(&self.connections.readers).await.map_err(error::fault)?;
        self.connections.probe().await?;
        Ok(columns::now())
    }

    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&self.connections.readers)
            .await
            .map_err(error::fault)?;
        Ok(connect::weaknesses(&mode))
    }
}
