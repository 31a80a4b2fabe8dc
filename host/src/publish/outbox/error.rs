//! Why an outbox stands still: a code for programs, a sentence for people.
//!
//! An error of a driver becomes a sentence that says what to do. The text and
//! code of the database are kept where they add something.

use thiserror::Error;

use crate::causes::Cause;

/// Why an outbox cannot be relayed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{sentence}")]
pub struct SourceError {
    /// What is the matter, as programs tell it apart: `outbox_column`, say.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub sentence: String,
    /// What the sentence names: the column, the topic.
    pub fields: Vec<(&'static str, String)>,
}

impl SourceError {
    /// An error with this code and sentence.
    pub(super) fn new(code: &'static str, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into(), fields: Vec::new() }
    }

    /// The same with one of the things that it names.
    #[must_use]
    pub(super) fn with(mut self, field: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((field, value.into()));
        self
    }

    /// The same for the board of causes.
    pub(super) fn cause(&self) -> Cause {
        let cause = Cause::new(self.code, self.sentence.clone());
        self.fields.iter().fold(cause, |cause, (field, value)| cause.with(field, value))
    }
}

impl From<sqlx::Error> for SourceError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                let said = database.message();
                if code.len() == SQLSTATE_LENGTH { of_postgres(&code, said) } else { of_sqlite(&code, said) }
            }
            sqlx::Error::Io(error) => Self::new("outbox_unreachable", unreachable(&plain(&error))),
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                Self::new("outbox_unreachable", unreachable("it gave no connection in time"))
            }
            sqlx::Error::Tls(error) => {
                Self::new("outbox_unreachable", unreachable(&format!("TLS with it failed: {error}")))
            }
            sqlx::Error::Configuration(error) => {
                Self::new("outbox_url", format!("the `url` of the outbox is not usable: {error}"))
            }
            other => Self::new("outbox_unreachable", unreachable(&format!("the connection broke: {other}"))),
        }
    }
}

/// PostgreSQL's codes have five characters, SQLite's numbers have fewer.
const SQLSTATE_LENGTH: usize = 5;

fn unreachable(why: &str) -> String {
    format!("the database cannot be reached: {why}; courier tries again by itself")
}

/// The error of a socket without the number that the system library adds.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

fn of_postgres(sqlstate: &str, said: &str) -> SourceError {
    let error = |code, sentence: String| SourceError::new(code, sentence).with("sqlstate", sqlstate);
    match sqlstate {
        "28P01" | "28000" => error(
            "outbox_login",
            format!("the database refuses the login ({said}): correct the user and the password in the outbox's `url`"),
        ),
        "3D000" => error(
            "outbox_database_missing",
            format!("the server has no such database ({said}): correct the outbox's `url`, or create the database"),
        ),
        "42501" => error(
            "outbox_permission",
            format!("the user of the outbox's `url` may not do this ({said}): grant it SELECT and DELETE on the table"),
        ),
        "25006" => error("outbox_read_only", READ_ONLY.to_owned()),
        "53300" => error("outbox_unreachable", unreachable("it has no connection left for courier")),
        "57014" => error(
            "outbox_slow",
            "the database stopped a statement that took longer than 15 s: look for what keeps it busy, and whether \
             the table has an index on `seq`"
                .to_owned(),
        ),
        "55P03" => error(
            "outbox_locked",
            "the table is locked by another session for longer than 5 s: look for a transaction that holds it"
                .to_owned(),
        ),
        "26000" | "42P05" => error(
            "outbox_pooler",
            format!(
                "a pooler before the database hands statements to other sessions ({said}): set pool_mode = session in \
                 PgBouncer for courier, or name the database itself in the outbox's `url`"
            ),
        ),
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "08" | "57" | "58" => error("outbox_unreachable", unreachable(said)),
            "42" => error(
                "outbox_table",
                format!("the table is not as it has to be ({said}): see `courier outbox schema --for postgres`"),
            ),
            _ => error("outbox_database", format!("the database answered with an error: {said} (SQLSTATE {sqlstate})")),
        },
    }
}

/// The sentence for a server that takes no writes.
pub(super) const READ_ONLY: &str = "the database is read-only, so rows that were sent cannot be deleted: it may be a \
     standby or the old primary of a fail-over; courier connects anew until it finds one that takes writes";

fn of_sqlite(code: &str, said: &str) -> SourceError {
    let error = |name, sentence: String| SourceError::new(name, sentence).with("sqlite", code);
    // The low byte of an extended code is the code itself.
    match code.parse::<i32>().unwrap_or_default() & 0xff {
        SQLITE_BUSY | SQLITE_LOCKED => error(
            "outbox_locked",
            "the file is locked for longer than 5 s: look for a transaction of the service that stays open".to_owned(),
        ),
        SQLITE_READONLY => error(
            "outbox_read_only",
            "the file is read-only, so rows that were sent cannot be deleted: let courier's user write the file and \
             its directory"
                .to_owned(),
        ),
        SQLITE_CANTOPEN => error(
            "outbox_unreachable",
            "the file cannot be opened: it has to exist, and courier's user has to be able to read and write it"
                .to_owned(),
        ),
        SQLITE_CORRUPT | SQLITE_NOTADB => {
            error("outbox_unreachable", format!("the file is damaged or no SQLite database ({said})"))
        }
        SQLITE_FULL | SQLITE_IOERR => error("outbox_unreachable", format!("the disk of the file fails ({said})")),
        _ => error("outbox_database", format!("SQLite answered with an error: {said} (code {code})")),
    }
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_databases_are_sentences_that_say_what_to_do() {
        for (error, code, said) in [
            (of_postgres("28P01", "password authentication failed for user \"x\""), "outbox_login", "correct the user"),
            (of_postgres("25006", "cannot execute DELETE in a read-only transaction"), "outbox_read_only", "fail-over"),
            (of_postgres("57014", "canceling statement"), "outbox_slow", "index on `seq`"),
            (of_postgres("26000", "prepared statement \"s_1\" does not exist"), "outbox_pooler", "pool_mode"),
            (of_postgres("42703", "column \"x\" does not exist"), "outbox_table", "courier outbox schema"),
            (of_postgres("57P01", "terminating connection"), "outbox_unreachable", "tries again by itself"),
            (of_postgres("XX000", "odd"), "outbox_database", "odd (SQLSTATE XX000)"),
            (of_sqlite("14", "unable to open database file"), "outbox_unreachable", "cannot be opened"),
            (of_sqlite("517", "database is locked"), "outbox_locked", "stays open"),
            (of_sqlite("8", "attempt to write a readonly database"), "outbox_read_only", "its directory"),
        ] {
            assert_eq!(error.code, code, "{error}");
            assert!(error.sentence.contains(said), "{error}");
        }
        let refused = std::io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let error = SourceError::from(sqlx::Error::Io(refused));
        assert!(error.sentence.starts_with("the database cannot be reached: connection refused;"), "{error}");
    }
}
