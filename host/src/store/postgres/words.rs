//! Words, which are texts that rows hold as numbers: nodes, plugin versions and groups.
//!
//! Words are never removed from the database, so that a number which is cached here stays
//! true. They are stored by statements of their own before a transaction begins: two
//! hosts that stored the same words in their transactions would wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use sqlx::postgres::PgPool;

use super::columns::PgRowExt;
use super::error::at_statement;
use crate::store::StoreError;
use crate::store::shared::text::clean;

/// The cached numbers of one table of words.
pub(super) struct PostgresWords {
    insert: &'static str,
    select: &'static str,
    known: RwLock<WordNumbers>,
}

/// The cached numbers, locked for reading.
pub(super) type KnownWords<'a> = RwLockReadGuard<'a, WordNumbers>;

/// Numbers by word.
pub(super) type WordNumbers = HashMap<Arc<str>, i32>;

impl PostgresWords {
    /// The table of nodes and versions.
    pub(super) fn of_words() -> Self {
        Self {
            // Sorted, so that hosts which store the same words at the same time do not wait
            // for each other in a circle.
            insert: "INSERT INTO word (word) SELECT w FROM unnest($1::text[]) AS t (w) ORDER BY w ON CONFLICT DO NOTHING",
            select: "SELECT word, id FROM word WHERE word = ANY($1)",
            known: RwLock::default(),
        }
    }

    /// The table of groups.
    pub(super) fn of_groups() -> Self {
        Self {
            insert: "INSERT INTO consumer_group (name) SELECT w FROM unnest($1::text[]) AS t (w) ORDER BY w ON CONFLICT DO NOTHING",
            select: "SELECT name, id FROM consumer_group WHERE name = ANY($1)",
            known: RwLock::default(),
        }
    }

    /// Locks the cached numbers for reading. The lock must not be held over an await.
    pub(super) fn known(&self) -> KnownWords<'_> {
        // A poisoned lock is used on: the map is whole after each insertion.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Caches the numbers of `words`, and stores the words that the table does not have.
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

    /// Returns the number of one word, which is stored if the table does not have it.
    pub(super) async fn id(&self, pool: &PgPool, word: &str) -> Result<i32, StoreError> {
        self.learn(pool, std::iter::once(word)).await?;
        number(&self.known(), word)
    }

    /// Returns the number of a word if the table has it. Nothing is stored.
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

/// Returns the number of a word that was cached before.
pub(super) fn number(known: &WordNumbers, word: &str) -> Result<i32, StoreError> {
    known.get(word).copied().ok_or_else(|| StoreError::Bug(format!("the word {word:?} was not learned")))
}
