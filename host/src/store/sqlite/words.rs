//! Words, which are texts that rows hold as numbers: nodes and plugin versions.
//!
//! A version's digest has 71 characters. As a number it makes a final row a third smaller, and
//! the rate of settles is mostly bounded by the bytes that are synced.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::connect::Connections;
use super::error::fault;
use crate::store::StoreError;
use crate::store::shared::text::clean;

/// The cached numbers of words. They never change, and there are no more than nodes and versions,
/// so that none is ever dropped.
#[derive(Default)]
pub struct SqliteWords(Mutex<HashMap<String, i64>>);

impl SqliteWords {
    /// The number of `text`, if it is cached.
    pub fn known(&self, text: &str) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }

    /// Caches the numbers of `texts`, and stores the words that the table does not have.
    ///
    /// A new word is committed on its own before it is cached: after a rollback of the caller's
    /// transaction its number would be cached and the row missing.
    pub async fn learn<'t>(
        &self,
        connections: &Connections,
        texts: impl Iterator<Item = &'t str> + Send,
    ) -> Result<(), StoreError> {
        let mut unknown: Vec<&str> = texts.filter(|text| self.known(text).is_none()).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut learnt = Vec::with_capacity(unknown.len());
        let mut tx = connections.write().await?;
        for text in unknown {
            // The update changes nothing. Without it RETURNING would have no row for a word
            // that exists.
            let id: i64 = sqlx::query_scalar(
                "INSERT INTO word (text) VALUES (?) ON CONFLICT (text) DO UPDATE SET text = excluded.text RETURNING id",
            )
            .bind(clean(text))
            .fetch_one(&mut *tx)
            .await
            .map_err(fault)?;
            learnt.push((text.to_owned(), id));
        }
        tx.commit().await.map_err(fault)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(learnt);
        Ok(())
    }

    /// Returns the number of a word that was cached before, see [`learn`](Self::learn).
    pub fn number(&self, text: &str) -> Result<i64, sqlx::error::BoxDynError> {
        self.known(text).ok_or_else(|| format!("the word {text:?} was not learnt").into())
    }
}
