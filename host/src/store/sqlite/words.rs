//! Names of nodes and versions, which stand in many rows as numbers.
//!
//! A version's digest has 71 characters; as a number it makes a final row a
//! third smaller, and rows a second are mostly bytes synced a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::connect::Connections;
use super::error::fault;
use crate::store::StoreError;
use crate::store::shared::text::clean;

/// The numbers of the words that were needed so far. They never change, and
/// there are as many as nodes and versions, so that nothing is ever dropped.
#[derive(Default)]
pub struct SqliteWords(Mutex<HashMap<String, i64>>);

impl SqliteWords {
    /// The number of `text`, if it is known already.
    pub fn known(&self, text: &str) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }

    /// Makes all of `texts` known.
    ///
    /// A new word is committed on its own before it is remembered: learnt in
    /// the caller's transaction, it would be known here and missing there
    /// after a rollback.
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
            // The update changes nothing; it is there for RETURNING to answer
            // for a word that exists.
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

    /// The number of a word that was [learnt](Self::learn).
    pub fn number(&self, text: &str) -> Result<i64, sqlx::error::BoxDynError> {
        self.known(text).ok_or_else(|| format!("the word {text:?} was not learnt").into())
    }
}
