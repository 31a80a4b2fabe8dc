//! Errors of SQLite, by what the caller does next.

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

// Primary result codes of SQLite; extended codes have them in the low byte.
const PRIMARY: i32 = 0xff;
const ERROR: i32 = 1;
const NO_PERMISSION: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NO_MEMORY: i32 = 7;
const READ_ONLY: i32 = 8;
const INTERRUPTED: i32 = 9;
const IO_ERROR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NO_DATABASE: i32 = 26;

/// Extended codes of a primary key, unique column or rowid that exists already. Such a row is
/// a fault of this program and not of the data.
const TAKEN: [i32; 3] = [1555, 2067, 2579];

/// The error of any statement but a `COMMIT`.
pub fn fault(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => {
            let code = code(&error);
            match code & PRIMARY {
                BUSY | LOCKED | NO_MEMORY | INTERRUPTED | IO_ERROR | CANNOT_OPEN | PROTOCOL => {
                    StoreError::Unavailable(error.to_string())
                }
                // A table that somebody removed: SQLite has no code of its own for it.
                ERROR if database.message().starts_with("no such ") => StoreError::Refused(error.to_string()),
                FULL => StoreError::Refused(full(&error)),
                // A person has to mend the file.
                READ_ONLY | NO_PERMISSION | CORRUPT | NO_DATABASE => StoreError::Refused(error.to_string()),
                CONSTRAINT if TAKEN.contains(&code) => StoreError::Bug(error.to_string()),
                TOO_BIG | CONSTRAINT | MISMATCH => StoreError::Data(error.to_string()),
                _ => StoreError::Bug(error.to_string()),
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Bug(error.to_string()),
    }
}

/// The error of a `COMMIT`. Its outcome is unknown, since an I/O error may come after the log
/// was written.
pub fn commit_fault(error: sqlx::Error) -> StoreError {
    // SQLite rolls a transaction back that its log has no room for.
    if code(&error) & PRIMARY == FULL {
        return StoreError::Refused(full(&error));
    }
    StoreError::CommitUnknown(error.to_string())
}

/// The extended result code; 0 for an error that is not SQLite's.
fn code(error: &sqlx::Error) -> i32 {
    let database = error.as_database_error();
    database.and_then(|database| database.code()?.parse().ok()).unwrap_or(0)
}

/// The error of the migrations.
pub fn migration_fault(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fault(error),
        other => StoreError::Bug(format!("the store was not made by this version: {other}")),
    }
}

/// The sentence for a disk that is full.
fn full(error: &sqlx::Error) -> String {
    format!("the disk with the store's SQLite file is full ({error}): make room on it")
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions as _;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    /// An error that SQLite gives where it cannot make its file larger.
    async fn without_room() -> sqlx::Error {
        let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (bytes BLOB); PRAGMA max_page_count = 4").execute(&mut connection).await.unwrap();
        let filled = sqlx::query("INSERT INTO t VALUES (zeroblob(1000000))").execute(&mut connection).await;
        filled.unwrap_err()
    }

    /// Issue 16: a full disk read "the answer to a commit was lost".
    #[tokio::test]
    async fn a_full_disk_is_called_so_at_a_commit_too() {
        for error in [fault(without_room().await), commit_fault(without_room().await)] {
            assert!(error.may_pass() && !error.is_transient(), "somebody has to make room: {error:?}");
            let said = error.to_string();
            assert!(said.contains("the disk") && said.contains("is full") && said.contains("make room"), "{said}");
        }
        let other = commit_fault(sqlx::Error::WorkerCrashed);
        assert!(matches!(other, StoreError::CommitUnknown(_)), "nobody knows what became of it: {other:?}");
    }
}
