//! Checks of PostgreSQL only: hosts that start at once, a host that freezes in a
//! transaction, a lost answer, and a table a day.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use courier::store::redrive::{MAX_PLAN_SCAN, NewRedrive};
use courier::store::seek::SeekMove;
use courier::store::{DeliveryFilter, OutcomeRow, StoreError};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use courier_tests::servers::postgres::WAITING_FOR_LOCKS;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::owner::{GROUP, Owner, failed, handled, join, request};
use super::{Database, Dialect};

const DAY: i64 = 86_400_000_000;
const SOON: Duration = Duration::from_secs(60);

async fn raw(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url).await.expect("the server is there")
}

async fn number(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.expect(query)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_start_together_migrate_once() {
    let database = Database::create(Dialect::Postgres).await;
    let stores = futures::future::join_all((0..6).map(|_| database.open())).await;
    for store in stores {
        assert!(store.ping().await.unwrap() > Timestamp(0));
    }
    assert_eq!(number(&mut raw(&database).await, "SELECT count(*) FROM relay_shard").await, 64);
}

/// A session keeps the plan that it made while no delivery was open. With a plan that joins
/// all open rows, each settle beside 20,000 parked ones would read all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_reads_no_open_rows_but_its_own() {
    const PARKED: i64 = 20_000;
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut watch = raw(&database).await;
    // Known to be empty, the table invites plans that read all of it. A later analysis
    // would have the statements planned anew.
    database.execute("ALTER TABLE open_delivery SET (autovacuum_enabled = off)").await;
    database.execute("VACUUM ANALYZE open_delivery").await;
    let mut offset = 0;
    let mut settle_one = async || {
        owner.settle(offset + 1, vec![handled(offset)]).await;
        offset += 1;
    };
    for _ in 0..100 {
        settle_one().await;
    }
    database
        .execute(
            "INSERT INTO open_delivery (position_id, record_offset, record_time, received_at, group_id, node_id, number,
                 counted, state, held, message_id, type_name)
             SELECT p.id, i, 0, 0, p.group_id, 1, 0, 0, 3, false, 'parked-' || i, ''
             FROM position p, generate_series(1000000, 1019999) AS i",
        )
        .await;
    let inserted = "SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'delivery%'";
    let begun = Instant::now();
    // A session tells its statistics once a second, at the end of a transaction.
    while number(&mut watch, inserted).await < 110 {
        assert!(begun.elapsed() < SOON, "the sessions do not tell their statistics");
        settle_one().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let read =
        "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relname = 'open_delivery'";
    assert!(number(&mut watch, read).await < PARKED, "a settle reads what is parked");
}

/// The frozen host holds the lock of its position and goes no further, as under
/// SIGSTOP: its future is kept and no longer polled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_frozen_in_a_settle_does_not_hold_back_a_claim() {
    let database = Database::create(Dialect::Postgres).await;
    let (frozen_host, other_host) = (database.open().await, database.open().await);
    let mut watch = raw(&database).await;
    let frozen = Owner::new(&frozen_host).await;
    let parts = [frozen.part(1, vec![handled(0)])];
    let mut settle = Box::pin(frozen_host.settle(frozen.writer, 1, &parts));
    // The settle cannot pass its last statement, so it does not matter how many steps
    // one poll makes.
    let mut barrier = raw(&database).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE counter IN EXCLUSIVE MODE").execute(&mut barrier).await.unwrap();
    let begun = Instant::now();
    while number(&mut watch, WAITING_FOR_LOCKS).await == 0 {
        assert!(begun.elapsed() < SOON, "the settle does not come to its last statement");
        let polled = futures::poll!(&mut settle);
        assert!(matches!(polled, Poll::Pending), "the settle ended before it was frozen: {polled:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut barrier).await.unwrap();
    let idle = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'idle in transaction'";
    while number(&mut watch, idle).await == 0 {
        assert!(begun.elapsed() < SOON, "the settle did not stop in its transaction");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let free = "SELECT count(*) FROM (SELECT id FROM position FOR UPDATE SKIP LOCKED) AS free";
    assert_eq!(number(&mut watch, free).await, 0, "it holds its position");
    let writer = join(&other_host, "host-2").await;
    let began = Instant::now();
    let claimed = other_host.claim(&request(writer, GROUP, 0)).await.expect("the claim gets through");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(claimed.epoch, frozen.claimed.epoch + 1);
    assert!(claimed.settled.is_empty());
    let thawed = settle.await;
    assert!(matches!(thawed, Err(StoreError::Unavailable(_))), "{thawed:?}");
    assert_eq!(frozen_host.sequence(frozen.writer).await.unwrap(), 0);
    let late = frozen_host.settle(frozen.writer, 1, &parts).await.unwrap();
    assert_eq!(late.stale, [0], "what it writes after it thawed is left out");
    assert!(frozen.delivery(0).await.is_none());
}

/// Passes bytes on until a client sends COMMIT while it is armed; then the server
/// gets the COMMIT and the client never gets the answer.
async fn losing_proxy(server: String, armed: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, armed) = (server.clone(), Arc::clone(&armed));
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.expect("the server is there");
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                    let lose = armed.load(Ordering::SeqCst) && bytes[..read].windows(6).any(|word| word == b"COMMIT");
                    if lose {
                        back.abort();
                    }
                    if to_server.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                    if lose {
                        armed.store(false, Ordering::SeqCst);
                        break;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_commit_is_said_to_be_unknown() {
    let database = Database::create(Dialect::Postgres).await;
    let armed = Arc::new(AtomicBool::new(false));
    let (credentials, rest) = database.url.rsplit_once('@').expect("the url names a user");
    let (address, path) = rest.split_once('/').expect("the url names a database");
    let port = losing_proxy(address.to_owned(), Arc::clone(&armed)).await;
    let store = courier::store::open(&format!("{credentials}@127.0.0.1:{port}/{path}")).await.unwrap();
    let owner = Owner::new(&store).await;
    let parts = [owner.part(2, vec![handled(0), failed(1)])];
    armed.store(true, Ordering::SeqCst);
    let lost = store.settle(owner.writer, 1, &parts).await;
    assert!(matches!(lost, Err(StoreError::CommitUnknown(_))), "{lost:?}");
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 1, "it had happened");
    assert!(owner.delivery(1).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_takes_its_rows_out_of_the_default_table() {
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut watch = raw(&database).await;
    let today = store.ping().await.unwrap();
    // As if the host had been away for longer than tables are created ahead.
    let drop = format!("DROP TABLE delivery_day_{}", today.day());
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut watch).await.unwrap();
    let mut outcomes = vec![handled(0), handled(1), failed(2)];
    for outcome in &mut outcomes[..2] {
        outcome.record_time = today;
    }
    owner.settle(3, outcomes).await;
    let in_default = "SELECT count(*) FROM delivery_other";
    assert_eq!(number(&mut watch, in_default).await, 3);
    store.prune(Duration::from_secs(100 * 365 * 86_400)).await.unwrap();
    assert_eq!(number(&mut watch, in_default).await, 1, "only the record of 2024 has no day");
    assert_eq!(owner.listed(&Default::default(), 10).await, [2, 1, 0]);
    owner.claim_again().await;
    assert_eq!(owner.claimed.next.0, 3);
}

/// A table for the records of some days ago, as the host had made it then, and a time in it.
async fn day_ago(watch: &mut PgConnection, now: Timestamp, days: i64) -> Timestamp {
    let then = Timestamp(now.0 - days * DAY);
    let day = then.day();
    let create =
        format!("CREATE TABLE delivery_day_{day} PARTITION OF delivery FOR VALUES FROM ({day}) TO ({})", day + 1);
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(watch).await.unwrap();
    then
}

/// A failure of a record of this time, which was settled at another.
fn failed_of(record_time: Timestamp, settled_at: Timestamp, offset: i64) -> OutcomeRow {
    let mut outcome = failed(offset);
    outcome.record_time = record_time;
    if let courier::store::Becomes::Final { settled_at: at, .. } = &mut outcome.to {
        *at = settled_at;
    }
    outcome
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const TABLES: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'delivery'::regclass";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_goes_when_all_of_it_is_old() {
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut watch = raw(&database).await;
    let now = store.ping().await.unwrap();
    // The last day that retention takes.
    let then = day_ago(&mut watch, now, 8).await;
    owner.settle(1, vec![failed_of(then, then, 0)]).await;
    owner.settle(2, vec![failed_of(then, now, 1)]).await;
    store.prune(WEEK).await.unwrap();
    assert_eq!(owner.listed(&Default::default(), 10).await, [1, 0], "one of the day is young: all of it stays");
    store.ask(&owner.key(1)).await.unwrap();
    store.prune(WEEK).await.unwrap();
    assert_eq!(owner.listed(&Default::default(), 10).await, [1], "the open one stays, the day is gone");
    assert_eq!(owner.totals().await.5, 0, "what is forgotten is not failed any more");
    assert_eq!(number(&mut watch, TABLES).await, 6, "the days around today and the default table");
}

/// The rows above the position of a group whose binding was removed kept the table of their
/// day for ever, with the rows of all other groups and their attempts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_of_an_old_day_keeps_only_itself() {
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut other = Owner::of(&store, join(&store, "host-2").await, "audit", 0).await;
    let mut watch = raw(&database).await;
    let of = |group: &str| DeliveryFilter { group: Some(group.to_owned()), ..DeliveryFilter::default() };
    let now = store.ping().await.unwrap();
    let then = day_ago(&mut watch, now, 10).await;
    // Offset 0 still ran when the binding was removed.
    owner.settle(0, vec![failed_of(then, then, 1), failed_of(then, then, 2)]).await;
    other.settle(2, vec![failed_of(then, then, 0), failed_of(then, now, 1)]).await;
    while store.prune(WEEK).await.unwrap() {}
    assert_eq!(owner.listed(&of(GROUP), 10).await, [2, 1], "a claim has to know them");
    assert_eq!(other.listed(&of("audit"), 10).await, [1], "the old one goes, the young one stays");
    assert!(other.attempts(0).await.is_empty() && !other.attempts(1).await.is_empty());
    assert_eq!((owner.totals().await.5, other.totals().await.5), (2, 1), "what is forgotten is not failed any more");
    // Its binding is back, and its position moves.
    owner.settle(3, vec![failed_of(then, now, 0)]).await;
    while store.prune(WEEK).await.unwrap() {}
    assert_eq!(owner.listed(&of(GROUP), 10).await, [0]);
}

/// Issue 17: a plan read the oldest 500,000 handled rows of all groups, and found none
/// of its own behind those of its neighbours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handled_deliveries_are_planned_behind_those_of_other_groups() {
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let mut other = Owner::of(&store, writer, "audit", 0).await;
    other.settle(1, vec![handled(0)]).await;
    let copies = format!(
        "INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, settled_at, day,
             group_id, node_id, version_id, number, counted, state, verdict, message_id, type_name)
         SELECT position_id, n, record_time, received_at, started_at, settled_at, day, group_id, node_id, version_id,
             number, counted, state, verdict, message_id, type_name
         FROM delivery, generate_series(1, {MAX_PLAN_SCAN}) AS n"
    );
    database.execute(&copies).await;
    let mut owner = Owner::of(&store, writer, GROUP, 0).await;
    owner.settle(8, vec![handled(5), failed(6), handled(7)]).await;
    let filter =
        DeliveryFilter { group: Some(GROUP.to_owned()), state: Some(State::Handled), ..DeliveryFilter::default() };
    let plan = NewRedrive { filter, ranges: None, asked_for: "{}".to_owned(), rate: 1, by: "ann".to_owned() };
    let row = store.plan_redrive(&plan).await.unwrap();
    assert_eq!((row.matched, row.truncated), (2, false));
}

/// Retention removed a delivery, but not yet its attempts, and a seek ran it anew: its first
/// attempt met the number of the old one, and the store refused the outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_retention_left_are_not_in_the_way_of_new_ones() {
    let database = Database::create(Dialect::Postgres).await;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![failed(0), failed(1)]).await;
    database.execute("DELETE FROM delivery WHERE record_offset = 0").await;
    assert_eq!(owner.attempts(0).await.len(), 1, "its attempt is left");
    let seek = [SeekMove { position: owner.claimed.position, to: Offset(0) }];
    store.seek(&seek, "a seek").await.unwrap();
    owner.claim_again().await;
    owner.settle(1, vec![failed(0)]).await;
    assert_eq!(owner.attempts(0).await.len(), 1);
    assert_eq!(owner.attempts(1).await.len(), 1, "a delivery that runs again keeps its attempts");
}
