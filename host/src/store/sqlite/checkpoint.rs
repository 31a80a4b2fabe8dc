//! Checkpoints, which copy the log into the file beside the commits.
//!
//! A commit that finds a full log copies it itself, and every settle waits for that. So a
//! connection of its own copies the log at intervals, in the mode in which it waits for no
//! one and no one for it (`PASSIVE`,
//! <https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>). Under steady commits it never
//! reaches the end of the log, but the commit that finds the log full has little left to
//! copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqlitePool;
use tokio::task::JoinHandle;

use super::error::fault;
use crate::said;
use crate::supervise::{self, Task};

/// Time between two copies while there are commits.
const INTERVAL: Duration = Duration::from_millis(250);

/// The task that copies the log, which ends when this is dropped.
pub struct Checkpoints {
    written: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Checkpoints {
    /// Starts the task on a pool of one connection, which the first copy opens.
    pub fn start(pool: SqlitePool) -> Self {
        let written = Arc::new(AtomicBool::new(false));
        let task = supervise::spawn(Task::Checkpoints, copy(pool, Arc::clone(&written)));
        Self { written, task }
    }

    /// Notes that something is being written.
    pub fn written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(pool: SqlitePool, written: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if written.swap(false, Ordering::Relaxed)
            && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&pool).await
        {
            // A failure is harmless, since a commit copies the log when it is full.
            if let Some(unsaid) = said::again("checkpoint") {
                tracing::warn!(error = %fault(error), unsaid, "cannot copy the log of the store's file into it");
            }
        }
    }
}
