//! Errors of the driver, by what the caller does next.
//!
//! Two questions decide: could the same call succeed later, and could the transaction have
//! committed without an answer. The second question concerns a `COMMIT` alone
//! ([`at_commit`]), since the server rolls back whatever failed before it.
//!
//! A third question is who mends it: the store replaces a session that leads to the wrong
//! server ([`StoreError::StaleSession`]), and waits for a person to mend a refusal
//! ([`StoreError::Refused`]).

use sqlx::Error;
use sqlx::migrate::MigrateError;

use super::stale;

use crate::store::StoreError;

/// The error of any statement but a `COMMIT`.
pub(super) fn at_statement(error: Error) -> StoreError {
    let error = of_statement(error);
    if matches!(error, StoreError::StaleSession(_)) {
        stale::mark();
    }
    error
}

fn of_statement(error: Error) -> StoreError {
    match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            by_sqlstate(&code, format!("{} ({code})", database.message()))
        }
        Error::Encode(_) => StoreError::Data(error.to_string()),
        Error::PoolTimedOut | Error::PoolClosed => StoreError::Unavailable(error.to_string()),
        _ if is_connection(&error) => StoreError::StaleSession(error.to_string()),
        _ => StoreError::Bug(error.to_string()),
    }
}

/// The error of a `COMMIT`. A server that answered has rolled back. Without an answer the
/// outcome is unknown, and so it is when the server ended the session, which it may do
/// while the commit waits for replicas.
pub(super) fn at_commit(error: Error) -> StoreError {
    match &error {
        Error::Database(database)
            if !database.code().is_some_and(|code| code.starts_with("57") || code.starts_with("08")) =>
        {
            at_statement(error)
        }
        _ => {
            stale::mark();
            StoreError::CommitUnknown(error.to_string())
        }
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
    // An answer that was cut off is a protocol error.
    matches!(error, Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed | Error::BeginFailed)
}

/// What to set where a pooler stands between host and server.
pub(super) const BEHIND_A_POOLER: &str = "a pooler such as PgBouncer seems to stand before the server: let it give a \
     session to each client for as long as the client stays (pool_mode = session, with server_reset_query = DISCARD \
     ALL), or name the server itself in [store] url";

fn by_sqlstate(code: &str, text: String) -> StoreError {
    match code {
        // A read-only server, which is a standby or a primary that became one, and a plan
        // from before a migration (0A000): a new session has neither.
        "25006" | "57P01" | "57P02" | "57P03" | "57P05" | "0A000" => StoreError::StaleSession(text),
        // A start-up parameter that a pooler does not know, and prepared statements of
        // another session.
        "08P01" | "26000" | "42P05" => StoreError::Refused(format!("{text}; {BEHIND_A_POOLER}")),
        // Idle in a transaction for too long, a lock that was not granted in time, and a
        // table that another host is dropping or attaching.
        "25P02" | "25P03" | "55P03" | "55006" => StoreError::Unavailable(text),
        // A row that exists already is a fault of this program: no other value of the same
        // outcome would be accepted either.
        "23505" => StoreError::Bug(text),
        // A full disk and a damaged file, which waiting does not mend.
        "53100" | "XX001" | "XX002" => StoreError::Refused(text),
        _ => match code.get(..2).unwrap_or_default() {
            "08" => StoreError::StaleSession(text),
            // Transaction rollback (serialisation, deadlock), resources,
            // operator intervention, system error.
            "40" | "53" | "57" | "58" => StoreError::Unavailable(text),
            // Data, integrity, and limits such as the size of an index row.
            "22" | "23" | "54" => StoreError::Data(text),
            // A password that is being changed, or a database that is being restored: the
            // caller waits.
            "28" | "3D" | "25" => StoreError::Unavailable(text),
            // A missing permission, or a table or column that is gone.
            "42" | "3F" => StoreError::Refused(text),
            _ => StoreError::Bug(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_says_what_to_do_next() {
        let of = |code: &str| by_sqlstate(code, "x".to_owned());
        for code in ["57014", "40P01", "40001", "55P03", "53300", "25P03", "58030"] {
            assert!(matches!(of(code), StoreError::Unavailable(_)), "{code}");
        }
        for code in ["25006", "57P01", "57P02", "57P03", "57P05", "08006", "08003", "0A000"] {
            assert!(matches!(of(code), StoreError::StaleSession(_)) && of(code).is_transient(), "{code}");
        }
        for code in ["42501", "42P01", "42703", "53100", "26000", "42P05", "08P01"] {
            assert!(matches!(of(code), StoreError::Refused(_)) && !of(code).is_transient(), "{code}");
        }
        for code in ["22021", "23514", "54000"] {
            assert!(matches!(of(code), StoreError::Data(_)), "{code}");
        }
        for code in ["23505", "XX000"] {
            assert!(matches!(of(code), StoreError::Bug(_)), "{code}");
        }
    }

    #[test]
    fn a_pooler_that_shares_sessions_is_named_with_what_to_set() {
        for code in ["08P01", "26000", "42P05"] {
            let told = by_sqlstate(code, "prepared statement does not exist".to_owned()).to_string();
            assert!(told.contains("PgBouncer") && told.contains("pool_mode = session"), "{told}");
        }
    }

    #[test]
    fn a_lost_answer_to_a_commit_is_unknown() {
        let lost = || Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(at_commit(lost()), StoreError::CommitUnknown(_)));
        assert!(matches!(at_statement(lost()), StoreError::StaleSession(_)));
    }
}
