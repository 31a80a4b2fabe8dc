//! The one connection that writes, and its transactions.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::fault::fault;
use super::script::{Answer, Script};
use crate::store::StoreError;

/// How long a transaction waits for those before it until the store counts as
/// away.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the connection is when nobody writes.
pub struct Writer(Arc<Mutex<Place>>);

struct Place {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    /// Whether a transaction was begun and neither committed nor rolled back.
    is_open: bool,
}

impl Place {
    /// Ends what was left behind. A connection that cannot is replaced.
    async fn tidy(&mut self) -> Result<(), StoreError> {
        if !self.is_open {
            return Ok(());
        }
        match sqlx::query("ROLLBACK").execute(&mut self.connection).await {
            // SQLite refuses when it rolled back by itself.
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(_) => self.connection = self.options.connect().await.map_err(fault)?,
        }
        self.is_open = false;
        Ok(())
    }
}

impl Writer {
    /// On a connection that was opened with `options`.
    pub fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self(Arc::new(Mutex::new(Place { connection, options, is_open: false })))
    }

    /// Begins a transaction once the one before it has ended, and runs
    /// `statements` in it, in the same trip.
    pub async fn begin(&self, statements: Script) -> Result<(Writing, Vec<Answer>), StoreError> {
        let turn = Arc::clone(&self.0).lock_owned();
        let mut place = tokio::time::timeout(TURN_TIMEOUT, turn)
            .await
            .map_err(|_| StoreError::Unavailable(format!("other transactions did not end within {TURN_TIMEOUT:?}")))?;
        place.tidy().await?;
        place.is_open = true;
        let mut writing = Writing { place, writer: Arc::clone(&self.0) };
        let mut answers = statements.in_transaction().run(&mut writing).await?;
        // What the beginning itself answers is nothing.
        answers.remove(0);
        Ok((writing, answers))
    }
}

/// A transaction; dropped, it rolls back.
pub struct Writing {
    place: OwnedMutexGuard<Place>,
    writer: Arc<Mutex<Place>>,
}

impl Writing {
    /// Commits it.
    ///
    /// # Errors
    /// Of the database. What became of the transaction is not known then.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("COMMIT").execute(&mut self.place.connection).await?;
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
        // Whoever has the next turn rolls it back: the next transaction, or
        // this task when there is none, since other processes wait for the file.
        let writer = Arc::clone(&self.writer);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.lock().await.tidy().await {
                    tracing::warn!(%error, "a transaction could not be rolled back");
                }
            });
        }
    }
}
