//! Requirements on the server and on a session: a supported version, a session that no other
//! client shares, and the settings that the guarantees need.
//!
//! A database or a role may have settings of its own (`ALTER DATABASE .. SET`), so each
//! session sets those that the guarantees need. With `synchronous_commit = off` a message
//! that was acknowledged as COMMITTED could be lost in a crash, and with
//! `default_transaction_isolation = serializable` concurrent writes would fail. They are set
//! by a statement and not as start-up parameters, which poolers refuse.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::error::{BEHIND_A_POOLER, at_statement};
use crate::store::{StoreError, Weakness};

/// The oldest supported server, as in `server_version_num`: the first one with
/// `client_connection_check_interval`.
const MIN_VERSION: i32 = 140_000;

/// The settings that the guarantees need, whatever the database or the role sets.
/// `remote_write` and `remote_apply` stay, since an operator with synchronous standbys chose
/// them.
const GUARANTEES: &str = "
    set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
        ELSE current_setting('synchronous_commit') END, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('default_transaction_deferrable', 'off', false),
    set_config('idle_session_timeout', '0', false)";

/// The limits of a session. A host that freezes within a transaction holds its locks for
/// `idle_in_transaction_session_timeout` at most. A session that waits for a lock gives up
/// after `lock_timeout`, which is longer; otherwise a claim could fail once for nothing.
///
/// The last three concern query plans. A list reads a hundred rows by an index: compiling
/// its plan takes longer than running it, and with the price of a random page on a spinning
/// disk the server would rather fetch and sort every failure of a week than read the newest
/// by the index. A session keeps the plan that it made while a table was empty; without
/// `enable_seqscan = off` that plan reads the whole table, also once it has hundreds of
/// thousands of rows, and direct sends with ids became half as fast.
const LIMITS: [(&str, &str); 10] = [
    ("idle_in_transaction_session_timeout", "4s"),
    ("lock_timeout", "8s"),
    ("statement_timeout", "20s"),
    // A peer that has vanished is noticed within 5 + 3 * 5 seconds, and its statement is
    // cancelled.
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("client_connection_check_interval", "5s"),
    ("jit", "off"),
    ("random_page_cost", "1.1"),
    ("enable_seqscan", "off"),
];

/// The schema of the tables, quoted.
#[derive(Clone, Debug)]
pub(super) struct Schema(String);

/// Whether a session is for verbs, which have limits of time, or for migrations, which have
/// none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Limited {
    Yes,
    No,
}

/// Sets the guarantees, the limits and the schema of a session. Without the schema, a search
/// path that changes later or differs between roles would lead to other tables.
pub(super) async fn set_up(
    connection: &mut PgConnection,
    schema: &Schema,
    limited: Limited,
) -> Result<(), sqlx::Error> {
    let mut statement = format!("SELECT set_config('search_path', {}, false), {GUARANTEES}", schema.0);
    if limited == Limited::Yes {
        for (name, value) in LIMITS {
            statement.push_str(&format!(", set_config('{name}', '{value}', false)"));
        }
    }
    // Names and values are constants, and the server itself quoted the schema. A simple
    // statement takes one round trip.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(|_| ())
}

/// Refuses a server that is too old.
pub(super) async fn check_version(connection: &mut PgConnection) -> Result<(), StoreError> {
    let asked = sqlx::raw_sql("SELECT current_setting('server_version_num'), current_setting('server_version')");
    let row = asked.fetch_one(connection).await.map_err(at_statement)?;
    let column = |at: usize| row.try_get::<String, _>(at).map_err(at_statement);
    refuse_old(&column(0)?, &column(1)?)
}

fn refuse_old(number: &str, shown: &str) -> Result<(), StoreError> {
    match number.parse::<i32>() {
        Ok(number) if number >= MIN_VERSION => Ok(()),
        _ => Err(StoreError::Refused(format!(
            "the server is PostgreSQL {shown}; the oldest version that courier supports is {}: upgrade the server",
            MIN_VERSION / 10_000
        ))),
    }
}

/// Finds the schema of the tables: the one in the search path in which an earlier start
/// created them, or the path's first.
pub(super) async fn find_schema(connection: &mut PgConnection) -> Result<Schema, StoreError> {
    let asked = sqlx::raw_sql(
        "SELECT quote_literal(quote_ident(coalesce(
             (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.oid = to_regclass('_sqlx_migrations')), current_schema())) || ', pg_temp')",
    );
    let row = asked.fetch_one(connection).await.map_err(at_statement)?;
    match row.try_get::<Option<String>, _>(0).map_err(at_statement)? {
        Some(schema) => Ok(Schema(schema)),
        None => Err(StoreError::Refused(
            "no schema of the search path exists, so that there is no place for tables: create one, or set \
             search_path for the role or the database"
                .to_owned(),
        )),
    }
}

/// Refuses a pooler that shares sessions between clients, statement by statement: what a
/// session sets and prepares would be another client's a moment later.
///
/// The id of the session behind `connection` is read twice, while `other` is in a
/// transaction. Only where sessions are shared can the two ids differ.
pub(super) async fn refuse_shared_sessions(
    connection: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<(), StoreError> {
    let before = session_number(&mut *connection).await?;
    sqlx::raw_sql("BEGIN").execute(&mut *other).await.map_err(at_statement)?;
    session_number(&mut *other).await?;
    let after = session_number(connection).await?;
    sqlx::raw_sql("ROLLBACK").execute(&mut *other).await.map_err(at_statement)?;
    if before == after {
        return Ok(());
    }
    Err(StoreError::Refused(format!("sessions change between two statements: {BEHIND_A_POOLER}")))
}

async fn session_number(connection: &mut PgConnection) -> Result<String, StoreError> {
    let asked = sqlx::raw_sql("SELECT pg_backend_pid()::text");
    let row = asked.fetch_one(connection).await.map_err(at_statement)?;
    row.try_get(0).map_err(at_statement)
}

/// Settings of the whole server that a session cannot change.
pub(super) fn weaknesses(fsync: &str, full_page_writes: &str) -> Vec<Weakness> {
    let off = |value: &str| value == "off";
    let mut found = Vec::new();
    if off(fsync) {
        found.push(Weakness {
            code: "store_fsync_off",
            sentence: "the store's server runs with fsync = off: a crash of its machine may lose or damage what was \
                       answered as stored; set fsync = on and restart the server"
                .to_owned(),
        });
    }
    if off(full_page_writes) {
        found.push(Weakness {
            code: "store_full_page_writes_off",
            sentence: "the store's server runs with full_page_writes = off: a crash of its machine may damage pages \
                       that were being written; set full_page_writes = on and reload the server's configuration"
                .to_owned(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_14_is_refused_with_what_is_supported() {
        assert!(refuse_old("140000", "14.0").is_ok() && refuse_old("170002", "17.2").is_ok());
        let told = refuse_old("130011", "13.11 (Debian)").unwrap_err().to_string();
        assert!(told.contains("PostgreSQL 13.11 (Debian)") && told.contains("is 14"), "{told}");
        assert!(refuse_old("", "").is_err());
    }

    #[test]
    fn fsync_off_is_a_weakness_with_what_to_set() {
        assert!(weaknesses("on", "on").is_empty());
        let told = weaknesses("off", "off");
        assert_eq!(
            told.iter().map(|one| one.code).collect::<Vec<_>>(),
            ["store_fsync_off", "store_full_page_writes_off"]
        );
        assert!(told[0].sentence.contains("set fsync = on"));
    }
}
