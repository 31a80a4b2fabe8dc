//! The settings of each session with PostgreSQL, and databases that are refused.

use std::time::{Duration, Instant};

use courier::store::StoreError;
use courier_tests::servers::{Pooler, Postgres};
use sqlx::{Connection, PgConnection};

use super::owner::join;
use super::{Database, Dialect};

const SOON: Duration = Duration::from_secs(60);

/// The name of a database in its URL.
fn name(database: &Database) -> &str {
    database.url.rsplit('/').next().expect("a url names a database")
}

async fn values(database: &Database, query: &'static str) -> Vec<String> {
    let mut connection = PgConnection::connect(&database.url).await.expect("the server is there");
    sqlx::query_scalar(query).fetch_all(&mut connection).await.expect(query)
}

/// A database lost 1 of 40 acknowledged messages in a crash, and refused a third of
/// the sends: each session sets the settings that the guarantees rest on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_settings_of_its_own_keeps_no_guarantee_from_holding() {
    let database = Database::create(Dialect::Postgres).await;
    let settings = [
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
        "search_path = later, public",
        "statement_timeout = '1h'",
        "idle_session_timeout = '1h'",
    ];
    for setting in settings {
        database.execute(&format!("ALTER DATABASE {} SET {setting}", name(&database))).await;
    }
    // Written from within a session of the store, which nobody else sees.
    database.open().await;
    let watch = "CREATE SCHEMA later;
         CREATE TABLE public.seen (setting text);
         CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen SELECT name || ' = ' || current_setting(name) FROM unnest(ARRAY[
                 'synchronous_commit', 'transaction_isolation', 'search_path', 'statement_timeout',
                 'idle_session_timeout']) AS name;
             RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER INSERT ON public.node EXECUTE FUNCTION public.see()";
    database.execute(watch).await;
    // The store finds its tables, although another schema comes first now.
    let store = database.open().await;
    join(&store, "host-1").await;
    let reset = format!("ALTER DATABASE {} RESET ALL", name(&database));
    database.execute(&reset).await;
    let seen = values(&database, "SELECT setting FROM public.seen").await;
    assert_eq!(
        seen,
        [
            "synchronous_commit = on",
            "transaction_isolation = read committed",
            "search_path = public, pg_temp",
            "statement_timeout = 20s",
            "idle_session_timeout = 0",
        ]
    );
}

/// A server that takes no writes counts as away, even while it answers; its sessions
/// are dropped, so that the new primary is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_away_until_it_takes_them() {
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let owner = super::owner::Owner::new(&store).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    database
        .execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = on; {cut}", name(&database)))
        .await;
    let begun = Instant::now();
    loop {
        let error = store.ping().await.expect_err("no session takes writes");
        assert!(error.is_transient(), "{error:?}");
        if error.to_string().contains("takes no writes") {
            break;
        }
        assert!(begun.elapsed() < SOON, "{error}");
    }
    let refused = store.settle(owner.writer, 1, &[owner.part(1, Vec::new())]).await;
    assert!(matches!(refused, Err(StoreError::StaleSession(_))), "{refused:?}");
    let opened = courier::store::open(&database.url).await.err().expect("a standby cannot be migrated");
    assert!(opened.is_transient(), "a host that starts meanwhile waits: {opened}");
    let writes = format!("ALTER DATABASE {} RESET ALL", name(&database));
    courier_tests::postgres().psql("postgres", &writes).unwrap();
    while let Err(error) = store.ping().await {
        assert!(begun.elapsed() < SOON, "the sessions that take no writes are still there: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Another session may still lead to a server without writes: it is replaced
    // by the first statement that it refuses.
    while let Err(error) = store.settle(owner.writer, 1, &[owner.part(1, Vec::new())]).await {
        assert!(error.is_transient() && begun.elapsed() < SOON, "it takes writes: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A pooler that shares sessions is refused with the setting to change; a pooler
/// that gives each client its own session is as good as the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_named_and_one_that_does_not_is_supported() {
    let server = Postgres::start("pooled").unwrap();
    let url = server.create_database().unwrap();
    let database = url.rsplit('/').next().unwrap();
    let shares = Pooler::start(&server, "transaction").unwrap();
    let refused = courier::store::open(&shares.url(database)).await.err().expect("it is refused").to_string();
    assert!(refused.contains("PgBouncer") && refused.contains("pool_mode = session"), "{refused}");
    let gives = Pooler::start(&server, "session").unwrap();
    let store = courier::store::open(&gives.url(database)).await.expect("sessions of one's own are enough");
    let owner = super::owner::Owner::new(&store).await;
    store.settle(owner.writer, 1, &[owner.part(1, vec![super::owner::handled(0)])]).await.unwrap();
    assert!(owner.delivery(0).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_fsync_is_a_weakness_with_what_to_set() {
    let server = Postgres::start("unsynced").unwrap();
    let store = courier::store::open(&server.create_database().unwrap()).await.unwrap();
    assert_eq!(store.weaknesses().await.unwrap(), []);
    server.psql("postgres", "ALTER SYSTEM SET fsync = off").unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    let begun = Instant::now();
    let found = loop {
        let found = store.weaknesses().await.unwrap();
        if !found.is_empty() {
            break found;
        }
        assert!(begun.elapsed() < SOON, "the server runs without fsync, and nobody says so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(found[0].code == "store_fsync_off" && found[0].sentence.contains("set fsync = on"), "{found:?}");
}
