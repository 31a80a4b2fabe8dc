//! Opens the store at the start, and waits for it however long it is away.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::DatabaseUrl;
use crate::said;
use crate::store::{self, SharedStore, StoreError};

/// How often a store that is away at the start is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Opens the store, waiting for one that does not answer yet.
pub async fn open_store(url: &DatabaseUrl) -> anyhow::Result<SharedStore> {
    let opened = if url.is_sqlite() {
        store::open(url.expose()).await
    } else {
        once_it_answers(|| store::open(url.expose())).await
    };
    opened.context("cannot open the store ([store] url)")
}

/// Asks the store until it answers. Otherwise a host that is frozen for a
/// moment while it starts would end.
pub async fn once_it_answers<T, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_transient() => {
                if let Some(unsaid) = said::again(&format!("waiting for the store {error}")) {
                    tracing::warn!(%error, unsaid, "waiting for the store ([store] url)");
                }
                tokio::time::sleep(STORE_RETRY).await;
            }
            answer => return answer,
        }
    }
}
