//! What SQLite's errors mean to the caller.

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

// Primary result codes of SQLite; extended codes have them in the low byte.
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

/// Extended codes of a primary key, unique or rowid that is taken. A row that
/// is there already is a fault in this program's bookkeeping, not in the data.
const TAKEN: [i32; 3] = [1555, 2067, 2579];

/// The same error, by what the caller does next.
pub fn fault(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
            match code & 0xff {
                BUSY | LOCKED | NO_MEMORY | INTERRUPTED | IO_ERROR | CANNOT_OPEN | PROTOCOL => {
                    StoreError::Unavailable(error.to_string())
                }
                // A table that somebody removed: SQLite has no code of its own for it.
                ERROR if database.message().starts_with("no such ") => StoreError::Refused(error.to_string()),
                // Somebody has to make room, or to give the file back.
                READ_ONLY | FULL | NO_PERMISSION | CORRUPT | NO_DATABASE => StoreError::Refused(error.to_string()),
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

/// What became of a commit that failed is not known for certain (an I/O error
/// may come after the log was written), so that the caller must look.
pub fn commit_fault(error: sqlx::Error) -> StoreError {
    StoreError::CommitUnknown(error.to_string())
}

/// Why the schema could not be brought up to date.
pub fn migration_fault(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fault(error),
        other => StoreError::Bug(format!("the store was not made by this version: {other}")),
    }
}
