//! Turns what the driver says into what the caller does next.
//!
//! Two questions decide: could the same call succeed later, and could the
//! transaction have committed although no answer came. The second one is asked
//! of a `COMMIT` only ([`at_commit`]): whatever fails before it is undone by
//! the server when the session ends.
//!
//! A third one is whose fault it is: a session that leads to the wrong server
//! is replaced ([`StoreError::StaleSession`]), and what a person has to mend is
//! waited for ([`StoreError::Refused`]).

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
    // A protocol error is what is left of an answer that was cut off.
    matches!(error, Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed | Error::BeginFailed)
}

/// What a person has to set where a pooler stands between host and server.
pub(super) const BEHIND_A_POOLER: &str = "a pooler such as PgBouncer seems to stand before the server: let it give a \
     session to each client for as long as the client stays (pool_mode = session, with server_reset_query = DISCARD \
     ALL), or name the server itself in [store] url";

fn by_sqlstate(code: &str, text: String) -> StoreError {
    match code {
        // A read-only server: a standby, or a primary that became one. A plan
        // of before a migration (0A000) is this session's as well.
        "25006" | "57P01" | "57P02" | "57P03" | "57P05" | "0A000" => StoreError::StaleSession(text),
        // A start-up parameter that a pooler does not know, and prepared
        // statements that are another session's.
        "08P01" | "26000" | "42P05" => StoreError::Refused(format!("{text}; {BEHIND_A_POOLER}")),
        // Idle in transaction for too long, a lock that is not to be had, and
        // a table that another host is just dropping or attaching.
        "25P02" | "25P03" | "55P03" | "55006" => StoreError::Unavailable(text),
        // A row that is there already is a fault of this program's bookkeeping:
        // no other value of the same outcome would be accepted either.
        "23505" => StoreError::Bug(text),
        // The disk is full, and a damaged file: waiting mends neither.
        "53100" | "XX001" | "XX002" => StoreError::Refused(text),
        _ => match code.get(..2).unwrap_or_default() {
            "08" => StoreError::StaleSession(text),
            // Transaction rollback (serialisation, deadlock), resources,
            // operator intervention, system error.
            "40" | "53" | "57" | "58" => StoreError::Unavailable(text),
            // Data, integrity, and limits such as the size of an index row.
            "22" | "23" | "54" => StoreError::Data(text),
            // A password that is just being changed, a database being restored:
            // the caller waits; it is told at start in the same words.
            "28" | "3D" | "25" => StoreError::Unavailable(text),
            // A permission that is missing, a table or column that is gone.
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
