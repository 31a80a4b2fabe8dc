//! Whether the database answers and takes writes, and whether its settings keep the
//! guarantees.

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, prompt, server, stale};
use crate::store::{HealthStore, StoreError, Weakness};

#[async_trait]
impl HealthStore for PostgresStore {
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        let looked =
            sqlx::query("SELECT courier_now() AS now, current_setting('transaction_read_only') = 'on' AS read_only")
                .fetch_one(&self.pool);
        prompt(async {
            let row = looked.await.map_err(at_statement)?;
            if row.take("read_only")? {
                stale::mark();
                return Err(StoreError::StaleSession(
                    "the server takes no writes: it is a standby, or default_transaction_read_only is on".to_owned(),
                ));
            }
            row.time("now")
        })
        .await
    }

    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        let looked = sqlx::query(
            "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes",
        )
        .fetch_one(&self.pool);
        prompt(async {
            let row = looked.await.map_err(at_statement)?;
            Ok(server::weaknesses(row.take("fsync")?, row.take("full_page_writes")?))
        })
        .await
    }
}
