//! Turns what the driver says into what the caller does next.
//!
//! Two questions decide: could the same call succeed later, and could the
//! transaction have committed although no answer came. The second one is asked
//! of a `COMMIT` only ([`at_commit`]): whatever fails before it is undone by
//! the server when the session ends.

use sqlx::Error;
use sqlx::migrate::MigrateError;

use crate::store::StoreError;

/// The error of any statement but a `COMMIT`.
pub(super) fn at_statement(error: Error) -> StoreError {
    match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            by_sqlstate(&code, format!("{} ({code})", database.message()))
        }
        Error::Encode(_) => StoreError::Data(error.to_string()),
        _ if is_connection(&error) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Bug(error.to_string()),
    }
}

/// The error of a `COMMIT`. When the server answered, it was rolled back;
/// without an answer nobody knows, unless the answer was that the server ends
/// the session, which may come while the commit waits for its replicas.
pub(super) fn at_commit(error: Error) -> StoreError {
    match &error {
        Error::Database(database)
            if !database.code().is_some_and(|code| code.starts_with("57") || code.starts_with("08")) =>
        {
            at_statement(error)
        }
        _ => StoreError::CommitUnknown(error.to_string()),
    }
}

/// The error of the migrations.
pub(super) fn at_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            StoreError::Conflict(format!("the store was migrated by a newer version of courier (migration {version})"))
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => at_statement(error),
        other => StoreError::Bug(other.to_string()),
    }
}

fn is_connection(error: &Error) -> bool {
    // A protocol error is what is left of an answer that was cut off.
    matches!(
        error,
        Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::PoolTimedOut
            | Error::PoolClosed
            | Error::WorkerCrashed
            | Error::BeginFailed
    )
}

fn by_sqlstate(code: &str, text: String) -> StoreError {
    match code {
        // Idle in transaction for too long, a lock that is not to be had, and
        // a table that another host is just dropping or attaching.
        "25P02" | "25P03" | "55P03" | "55006" => StoreError::Unavailable(text),
        // A row that is there already is a fault of this program's bookkeeping:
        // no other value of the same outcome would be accepted either.
        "23505" => StoreError::Bug(text),
        _ => match code.get(..2).unwrap_or_default() {
            // Connection, transaction rollback (serialisation, deadlock),
            // resources, operator intervention, system error.
            "08" | "40" | "53" | "57" | "58" => StoreError::Unavailable(text),
            // Data, integrity, and limits such as the size of an index row.
            "22" | "23" | "54" => StoreError::Data(text),
            // A password that is just being changed, a database being restored:
            // the caller waits; it is told at start in the same words.
            "28" | "3D" => StoreError::Unavailable(text),
            // A read-only server: a standby that is about to be promoted.
            "25" => StoreError::Unavailable(text),
            _ => StoreError::Bug(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_says_what_to_do_next() {
        let check = |code: &str, transient: bool, data: bool| {
            let error = by_sqlstate(code, "x".to_owned());
            assert_eq!(error.is_transient(), transient, "{code}");
            assert_eq!(matches!(error, StoreError::Data(_)), data, "{code}");
        };
        for code in ["08006", "57P01", "57014", "40P01", "40001", "55P03", "53300", "25P03", "25006"] {
            check(code, true, false);
        }
        for code in ["22021", "23514", "54000"] {
            check(code, false, true);
        }
        for code in ["42P01", "42703", "23505", "XX000"] {
            check(code, false, false);
        }
    }

    #[test]
    fn a_lost_answer_to_a_commit_is_unknown() {
        let lost = || Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(at_commit(lost()), StoreError::CommitUnknown(_)));
        assert!(matches!(at_statement(lost()), StoreError::Unavailable(_)));
    }
}
