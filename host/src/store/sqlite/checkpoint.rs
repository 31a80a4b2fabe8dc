//! Copies the log into the file beside the commits, so that no commit has to.
//!
//! A commit that finds a full log copies it by itself, and everybody who
//! settles waits for that. So a connection of its own copies every now and then
//! what is in the log by then, in the mode that waits for nobody and that nobody
//! waits for (`PASSIVE`, <https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>).
//! While there are always new commits it never comes to the end of the log; the
//! commit that finds it full has little left to copy then, and the log begins
//! anew.

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

/// Copies as long as it lives.
pub struct Checkpoints {
    written: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Checkpoints {
    /// Begins, on a pool of one connection, which the first copy opens.
    pub fn start(pool: SqlitePool) -> Self {
        let written = Arc::new(AtomicBool::new(false));
        let task = supervise::spawn(Task::Checkpoints, copy(pool, Arc::clone(&written)));
        Self { written, task }
    }

    /// Says that something is being written.
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
            // Commits copy by themselves when the log is full.
            if let Some(unsaid) = said::again("checkpoint") {
                tracing::warn!(error = %fault(error), unsaid, "cannot copy the log of the store's file into it");
            }
        }
    }
}
