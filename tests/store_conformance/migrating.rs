//! Opening a store that an older version wrote.

use std::time::Duration;

use courier::store::{Accepted, HalfState, LeftOut, NewMessage, RelayResult, Relayed, SHARDS};
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr as _};

use super::Database;
use super::owner::{LEASE, join};
use super::sending::{identity, message};

macro_rules! migrations {
    ($dialect:literal: $($number:literal $name:literal)+) => {
        [$(($number, include_str!(concat!("../../host/src/store/", $dialect, "/migrations/", $name)))),+]
    };
}

/// The schema of the version before topic, source and id identified a message.
const SQLITE: [(i64, &str); 8] = migrations!("sqlite":
    1 "0001_first.sql" 2 "0002_delayed.sql" 3 "0003_half_messages.sql" 4 "0004_outbox.sql" 5 "0005_redrive.sql"
    7 "0007_broadcast.sql" 9 "0009_centre.sql" 10 "0010_unheard.sql");
const POSTGRES: [(i64, &str); 8] = migrations!("postgres":
    1 "0001_tables.sql" 2 "0002_delayed.sql" 3 "0003_half_messages.sql" 4 "0004_outbox.sql" 5 "0005_redrive.sql"
    7 "0007_broadcast.sql" 9 "0009_centre.sql" 10 "0010_unheard.sql");
/// The names of those migrations in the database.
const NAMES: [&str; 8] = ["first", "delayed", "half messages", "outbox", "redrive", "broadcast", "centre", "unheard"];

/// A node that lives for a hundred years.
const LIVE_NODE: &str = "INSERT INTO node (name, writer_id, incarnation, boot, pid, started, joined_at, lease_until)
    VALUES ('old-host', NULL, 'x', 'b', 1, 1, 1, 9000000000000000)";

impl Database {
    /// Makes the schema of the older version.
    async fn make_old(&self) {
        let run = |of: [(i64, &'static str); 8]| {
            let migrations = of.into_iter().zip(NAMES).map(|((version, sql), name)| {
                Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
            });
            Migrator::with_migrations(migrations.collect())
        };
        if self.url.starts_with("sqlite:") {
            let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse().unwrap();
            let options = options.create_if_missing(true).journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
            let mut file = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
            run(SQLITE).run(&mut file).await.unwrap();
        } else {
            let mut server = sqlx::PgConnection::connect(&self.url).await.unwrap();
            run(POSTGRES).run(&mut server).await.unwrap();
        }
    }

    /// Runs a statement in either dialect; `{true}`, `{false}` and `{bytes}` stand for
    /// what the dialects spell differently.
    async fn insert(&self, statement: &str) {
        let ones = "01".repeat(32);
        if self.url.starts_with("sqlite:") {
            let statement =
                statement.replace("{true}", "1").replace("{false}", "0").replace("{bytes}", &format!("x'{ones}'"));
            let mut file = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut file).await.unwrap();
        } else {
            let bytes = format!("decode('{ones}', 'hex')");
            let statement = statement.replace("{true}", "true").replace("{false}", "false").replace("{bytes}", &bytes);
            let mut server = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.unwrap();
        }
    }
}

pub async fn an_exclusive_migration_waits_for_hosts_of_an_older_version(database: Database) {
    database.make_old().await;
    let writer = match database.url.starts_with("sqlite:") {
        true => "INSERT INTO writer (id, node, joined_at) VALUES (1, 'old-host', 1)",
        false => {
            "INSERT INTO word (word) VALUES ('old-host'); INSERT INTO writer (node, node_id, created_at) VALUES ('old-host', 1, 1)"
        }
    };
    database.insert(writer).await;
    database.insert(&LIVE_NODE.replace("NULL", "1")).await;
    let opening = database.open();
    tokio::pin!(opening);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut opening).await;
    assert!(early.is_err(), "an older host lives, and would write by a key that is no longer there");
    // The older host writes as before meanwhile, and leaves.
    database.insert("UPDATE node SET joined_at = joined_at + 1").await;
    database.insert("UPDATE node SET lease_until = 1").await;
    let store = opening.await;
    join(&store, "new-host").await;
    // A database that has the migration waits for nobody.
    database.open().await;
}

pub async fn what_an_older_version_kept_is_found_and_sent(database: Database) {
    database.make_old().await;
    // A node that left holds up nothing.
    database.insert(LIVE_NODE).await;
    for (id, kind, state, retrying) in [
        ("owed", "event", 1, "{true}"),
        ("cast", "broadcast", 1, "{true}"),
        ("later", "event", 2, "{false}"),
        ("sent", "event", 2, "{false}"),
    ] {
        database
            .insert(&format!(
                "INSERT INTO message (id, digest, source, topic, type_name, kind, time, created_at, state, retrying)
                 VALUES ('{id}', {{bytes}}, 'shop', 'order', 'OrderCreated', '{kind}', 5, 6, {state}, {retrying})"
            ))
            .await;
    }
    let sqlite = database.url.starts_with("sqlite:");
    for (id, topic) in [("owed", "order"), ("cast", "order.broadcast")] {
        let (sender, one) = if sqlite { ("held_until, sender, ", "0, 1, ") } else { ("", "") };
        database
            .insert(&format!(
                "INSERT INTO outbound (shard, message_id, topic, type_name, source, {sender}listed, created_at, record)
                 VALUES (7, '{id}', '{topic}', 'OrderCreated', 'shop', {one}{{true}}, 6, {{bytes}})"
            ))
            .await;
    }
    database
        .insert(
            "INSERT INTO delayed (shard, due, message_id, topic, type_name, source, record)
             VALUES (7, 1, 'later', 'order', 'OrderCreated', 'shop', {bytes})",
        )
        .await;
    for (half, created_at) in [("t-2", 2), ("t-1", 1)] {
        database
            .insert(&format!(
                "INSERT INTO half_message (id, state, timeout, created_at, deadline, next_check_at)
                 VALUES ('{half}', 1, 1, {created_at}, 9000000000000000, 9000000000000000);
                 INSERT INTO half_item (half_id, place, message_id, digest, source, topic, goes_to, type_name, kind,
                     time, shard, record)
                 VALUES ('{half}', 0, 'half', {{bytes}}, 'shop', 'order', 'order', 'OrderCreated', 'event', 5, 7,
                     {{bytes}})"
            ))
            .await;
    }
    let store = database.open().await;
    let writer = join(&store, "new-host").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.identity(), row.topic.as_str())).collect();
    assert_eq!(told, [(identity("owed"), "order"), (identity("cast"), "order.broadcast")]);
    let taken = |id, offset| {
        let result = RelayResult::Taken { partition: 0, offset: Offset(offset) };
        Relayed { id, shard: 7, result }
    };
    store.relayed(&shards, &[taken(rows[0].id, 1), taken(rows[1].id, 2)]).await.unwrap();
    for (id, offset) in [("owed", 1), ("cast", 2)] {
        let found = store.messages_with_id(id, None).await.unwrap();
        let [row] = &found[..] else { panic!("{found:?}") };
        assert_eq!((row.state, row.place), (State::Committed, Some((0, Offset(offset)))), "{id}");
    }
    assert_eq!(store.move_due(&shards, None).await.unwrap().rows, 1);
    assert_eq!(store.outbound(&shards, 10, &LeftOut::default()).await.unwrap()[0].identity(), identity("later"));
    // A sent message is found, also by another source's message of its id.
    let again = message("sent", None, None);
    let other = NewMessage { source: "other".to_owned(), ..again.clone() };
    let answers = store.accept(&[again, other]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::Same(_), Accepted::New]), "{answers:?}");
    // Of two prepared transactions with the same message the older one holds it.
    let answers = store.accept(&[message("half", None, None)]).await.unwrap();
    assert!(matches!(&answers[..], [Accepted::Reserved { transaction }] if transaction == "t-1"), "{answers:?}");
    assert_eq!(store.commit_half("t-1", "x").await.unwrap().row.state, HalfState::Committed);
    assert_eq!(store.commit_half("t-2", "x").await.unwrap().row.state, HalfState::Committed, "it is the same message");
}
