//! The one connection that writes, and the transactions on it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::fault;
use super::script::{Answer, Script};
use crate::said;
use crate::store::StoreError;

/// How long a transaction waits for those before it before the store counts as away.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// The writing connection, which one transaction at a time locks.
pub struct Writer(Arc<Mutex<WriterConnection>>);

struct WriterConnection {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    /// Whether a transaction has begun and was neither committed nor rolled back.
    is_open: bool,
}

impl WriterConnection {
    /// Rolls back a transaction that was dropped. A connection that cannot do so is replaced.
    async fn tidy(&mut self) -> Result<(), StoreError> {
        if !self.is_open {
            return Ok(());
        }
        match sqlx::query("ROLLBACK").execute(&mut self.connection).await {
            // SQLite refuses when it has rolled back by itself.
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(_) => self.connection = self.options.connect().await.map_err(fault)?,
        }
        self.is_open = false;
        Ok(())
    }
}

impl Writer {
    /// A writer on a connection that was opened with `options`.
    pub fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self(Arc::new(Mutex::new(WriterConnection { connection, options, is_open: false })))
    }

    /// Begins a transaction once the one before it has ended, and runs `statements` in it, in the
    /// same round trip.
    pub async fn begin(&self, statements: Script) -> Result<(Writing, Vec<Answer>), StoreError> {
        let turn = Arc::clone(&self.0).lock_owned();
        let mut place = tokio::time::timeout(TURN_TIMEOUT, turn)
            .await
            .map_err(|_| StoreError::Unavailable(format!("other transactions did not end within {TURN_TIMEOUT:?}")))?;
        place.tidy().await?;
        place.is_open = true;
        let mut writing = Writing { place, writer: Arc::clone(&self.0) };
        let mut answers = statements.in_transaction().run(&mut writing).await?;
        // The first answer is that of BEGIN.
        answers.remove(0);
        Ok((writing, answers))
    }
}

impl Writer {
    /// Checks that a transaction could begin now. A transaction that is under way proves it, and
    /// the check does not wait for it.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let Ok(mut place) = self.0.try_lock() else { return Ok(()) };
        place.tidy().await?;
        place.is_open = true;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut place.connection).await.map_err(fault)?;
        place.tidy().await
    }
}

/// A transaction that writes. It rolls back when it is dropped.
pub struct Writing {
    place: OwnedMutexGuard<WriterConnection>,
    writer: Arc<Mutex<WriterConnection>>,
}

impl Writing {
    /// Commits the transaction.
    ///
    /// # Errors
    /// Those of the database. The outcome of the transaction is unknown then.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let answer = self.place.connection.fetch_many(sqlx::query("COMMIT")).try_next().await?;
        // A connection whose thread ended returns no answer and no error.
        answer.ok_or(sqlx::Error::WorkerCrashed)?;
        self.place.is_open = false;
        Ok(())
    }
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.place.connection
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.place.connection
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.place.is_open {
            return;
        }
        // The next transaction rolls it back, or this task if there is none, since other processes
        // wait for the file.
        let writer = Arc::clone(&self.writer);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.lock().await.tidy().await
                    && let Some(unsaid) = said::again("no rollback")
                {
                    tracing::warn!(%error, unsaid, "a transaction could not be rolled back");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    /// A file with an empty table, and whoever writes to it.
    async fn writer(folder: &tempfile::TempDir) -> Writer {
        let file = folder.path().join("store.db");
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let writer = Writer::new(options.connect().await.unwrap(), options);
        let (writing, _) = writer.begin(script(&["CREATE TABLE ids (id INTEGER PRIMARY KEY)"])).await.unwrap();
        writing.commit().await.unwrap();
        writer
    }

    fn script(statements: &[&str]) -> Script {
        let mut script = Script::default();
        statements.iter().for_each(|statement| script.push(statement));
        script
    }

    /// How many rows the next transaction sees.
    async fn rows(writer: &Writer) -> usize {
        let (writing, answers) = writer.begin(script(&["SELECT id FROM ids"])).await.unwrap();
        writing.commit().await.unwrap();
        answers[0].rows.len()
    }

    #[tokio::test]
    async fn one_that_is_dropped_leaves_nothing_and_lets_others_write() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let (writing, _) = writer.begin(script(&["INSERT INTO ids VALUES (1)"])).await.unwrap();
        drop(writing);
        assert_eq!(rows(&writer).await, 0, "the next transaction finds it undone");
        let (writing, _) = writer.begin(script(&["INSERT INTO ids VALUES (1)"])).await.unwrap();
        drop(writing);
        // Nobody begins another here, and another process waits for the file.
        let other = another_process(&folder).await;
        let (writing, _) = other.begin(script(&["INSERT INTO ids VALUES (1)"])).await.unwrap();
        writing.commit().await.unwrap();
        assert_eq!(rows(&writer).await, 1);
    }

    async fn another_process(folder: &tempfile::TempDir) -> Writer {
        let options = SqliteConnectOptions::new().filename(folder.path().join("store.db"));
        Writer::new(options.connect().await.unwrap(), options)
    }

    #[tokio::test]
    async fn one_with_a_statement_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let twice = script(&["INSERT INTO ids VALUES (1)", "INSERT INTO ids VALUES (1)"]);
        assert!(writer.begin(twice).await.is_err());
        assert_eq!(rows(&writer).await, 0);
    }

    /// The caller goes while it waits to begin: the file is another's, so that it
    /// cannot have begun when it does.
    #[tokio::test]
    async fn one_whose_caller_goes_before_its_commit_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let other = another_process(&folder).await;
        let (holding, _) = other.begin(script(&["INSERT INTO ids VALUES (1)"])).await.unwrap();
        let begun = Box::pin(writer.begin(script(&["INSERT INTO ids VALUES (2)"])));
        assert!(polled(begun, 1).await.is_none());
        holding.commit().await.unwrap();
        assert_eq!(rows(&writer).await, 1, "what the other wrote is there, and nothing else");
    }

    /// A caller may go at any await, while the commit runs too. How far its
    /// thread has come by then is not ours to say: what it began is whole or
    /// not there, and the next one works.
    #[tokio::test]
    async fn one_whose_caller_goes_away_is_whole_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        for polls in 0.. {
            let before = rows(&writer).await;
            let two = script(&["INSERT INTO ids DEFAULT VALUES", "INSERT INTO ids DEFAULT VALUES"]);
            let whole = Box::pin(async {
                let (writing, _) = writer.begin(two).await.unwrap();
                writing.commit().await.unwrap();
            });
            let stayed = polled(whole, polls).await.is_some();
            let rows = rows(&writer).await - before;
            assert!(rows == 2 || rows == 0 && !stayed, "{rows} of 2 rows after {polls} polls");
            if stayed {
                break;
            }
        }
    }

    /// Polls a future so often, each time when it can go on, and drops it at
    /// once. Answers what it ended with, if it did.
    async fn polled<F: Future + Unpin>(mut future: F, mut polls: usize) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            if polls == 0 {
                return Poll::Ready(None);
            }
            polls -= 1;
            match Pin::new(&mut future).poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if polls == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}
