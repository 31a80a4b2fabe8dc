//! Words that rows hold as numbers: nodes, plugin versions and groups.
//!
//! Words are never removed from the database, so what is remembered here stays
//! true. They are learned in statements of their own before a transaction
//! begins: two hosts that learn the same words in their transactions would
//! wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use sqlx::postgres::PgPool;

use super::columns::PgRowExt;
use super::error::at_statement;
use crate::store::StoreError;
use crate::store::shared::text::clean;

/// What one table of words is known to hold.
pub(super) struct PostgresWords {
    insert: &'static str,
    select: &'static str,
    known: RwLock<WordNumbers>,
}

/// The numbers by word.
pub(super) type KnownWords<'a> = RwLockReadGuard<'a, WordNumbers>;

/// A word's number in its table.
pub(super) type WordNumbers = HashMap<Arc<str>, i32>;

impl PostgresWords {
    /// Nodes and versions.
    pub(super) fn of_words() -> Self {
        Self {
            // Sorted, so that hosts which learn the same words at the same
            // time wait for each other in one direction only.
            insert: "INSERT INTO word (word) SELECT w FROM unnest($1::text[]) AS t (w) ORDER BY w ON CONFLICT DO NOTHING",
            select: "SELECT word, id FROM word WHERE word = ANY($1)",
            known: RwLock::default(),
        }
    }

    /// Groups.
    pub(super) fn of_groups() -> Self {
        Self {
            insert: "INSERT INTO consumer_group (name) SELECT w FROM unnest($1::text[]) AS t (w) ORDER BY w ON CONFLICT DO NOTHING",
            select: "SELECT name, id FROM consumer_group WHERE name = ANY($1)",
            known: RwLock::default(),
        }
    }

    /// What is known now; not to be held over an await.
    pub(super) fn known(&self) -> KnownWords<'_> {
        // Unwrap safety: nothing panics while it writes the map, and a map of
        // words is whole after each insertion anyway.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that all of `words` are known.
    pub(super) async fn learn<'a>(
        &self,
        pool: &PgPool,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<(), StoreError> {
        let mut missing: Vec<&str> = {
            let known = self.known();
            words.filter(|word| !known.contains_key(*word)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        let stored: Vec<_> = missing.iter().map(|word| clean(word)).collect();
        let found = self.find(pool, &stored).await?;
        let unknown: Vec<_> = stored.iter().filter(|word| !found.contains_key(&***word)).cloned().collect();
        let mut found = found;
        if !unknown.is_empty() {
            sqlx::query(self.insert).bind(&unknown).execute(pool).await.map_err(at_statement)?;
            found.extend(self.find(pool, &unknown).await?);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (word, stored) in missing.iter().zip(&stored) {
            let id =
                found.get(&**stored).ok_or_else(|| StoreError::Bug(format!("the word {stored:?} was not stored")))?;
            known.insert(Arc::from(*word), *id);
        }
        Ok(())
    }

    /// The number of one word, stored if it was not yet.
    pub(super) async fn id(&self, pool: &PgPool, word: &str) -> Result<i32, StoreError> {
        self.learn(pool, std::iter::once(word)).await?;
        number(&self.known(), word)
    }

    /// The number of a word if the database has it; nothing is stored.
    pub(super) async fn find_id(&self, pool: &PgPool, word: &str) -> Result<Option<i32>, StoreError> {
        if let Some(id) = self.known().get(word) {
            return Ok(Some(*id));
        }
        Ok(self.find(pool, &[clean(word)]).await?.into_values().next())
    }

    async fn find(
        &self,
        pool: &PgPool,
        words: &[std::borrow::Cow<'_, str>],
    ) -> Result<HashMap<String, i32>, StoreError> {
        let rows = sqlx::query(self.select).bind(words).fetch_all(pool).await.map_err(at_statement)?;
        rows.iter().map(|row| Ok((row.take(0)?, row.take(1)?))).collect()
    }
}

/// The number of a word that was learned before.
pub(super) fn number(known: &WordNumbers, word: &str) -> Result<i32, StoreError> {
    known.get(word).copied().ok_or_else(|| StoreError::Bug(format!("the word {word:?} was not learned")))
}
