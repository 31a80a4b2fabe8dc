//! Outboxes: rows that senders write in their own transactions reach Kafka,
//! committed ones once and in the order of their keys, rolled-back ones never.

mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use self::rows::undelivered;
use courier_core::status::State;
use courier_tests::kafka_client::{Record, create_named_topic, create_topic, read_topic};
use courier_tests::{Host, Store, guest, kafka, postgres, scale, scripted_binding, turn, unique, wait_until};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::SqlitePool;

const SOON: Duration = Duration::from_secs(60);

fn outbox(name: &str, url: &str) -> String {
    format!("[[outbox]]\nname = \"{name}\"\nurl = \"{url}\"\n")
}

/// A sender's database with the table in it.
async fn sender(host: &Host, arguments: &[&str]) -> (String, PgPool) {
    let url = postgres().create_database().unwrap();
    let pool = PgPoolOptions::new().max_connections(40).connect(&url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(host.outbox_schema(arguments))).execute(&pool).await.unwrap();
    (url, pool)
}

async fn status(host: &Host, name: &str) -> Value {
    let (_, page) = host.request(Method::GET, "/v1/outboxes", None).await;
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name} in {page}")).clone()
}

async fn state(host: &Host, name: &str, wanted: &str, why: &str) -> Value {
    wait_until(&format!("outbox {name} is {wanted} ({why})"), SOON, async || {
        let seen = status(host, name).await;
        let told = seen["why"].as_str().unwrap_or_default().contains(why);
        if seen["state"] == wanted && told { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await
}

async fn emptied(pool: &PgPool, limit: Duration) {
    wait_until("the outbox is empty", limit, async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courier_outbox").fetch_one(pool).await.unwrap();
        if left == 0 { Ok(()) } else { Err(format!("{left} rows are left")) }
    })
    .await;
}

/// The number of records of each id.
fn by_id(records: &[Record]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for record in records {
        *ids.entry(record.header("ce_id").expect("every record has an id")).or_default() += 1;
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_becomes_the_message_that_it_says() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox", 2).await;
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO courier_outbox (topic, type, body) VALUES ($1, 'OrderDropped', '{}')")
        .bind(&topic)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    let headers = json!({ "tenant": "eu", "count": 2, "content-type": "application/vnd.order+json" });
    sqlx::query(
        "INSERT INTO courier_outbox (id, topic, type, key, body, headers)
         VALUES ('o-1-created', $1, 'OrderCreated', 'o-1', '{\"n\":  1.0}', $2::text::jsonb)",
    )
    .bind(&topic)
    .bind(headers.to_string())
    .execute(&pool)
    .await
    .unwrap();
    emptied(&pool, SOON).await;
    let message = host.message("o-1-created").await;
    assert_eq!((message.state, message.source.as_deref()), (State::Committed, Some("shop")));
    let records = read_topic(kafka().bootstrap(), &topic).await;
    assert_eq!(records.len(), 1, "the row that was rolled back never was");
    let record = &records[0];
    assert_eq!(record.payload.as_deref(), Some(&b"{\"n\":  1.0}"[..]), "the body goes out letter for letter");
    assert_eq!(record.key.as_deref(), Some(&b"o-1"[..]));
    let header = |name: &str| record.header(name).unwrap_or_default();
    assert_eq!(
        (header("ce_type"), header("tenant"), header("count")),
        ("OrderCreated".into(), "eu".into(), "2".into())
    );
    assert_eq!(header("content-type"), "application/vnd.order+json");
    // The same id with the same content is the same message; with other content it
    // is refused, and listed as undelivered.
    for body in ["{\"n\":  1.0}", "{}"] {
        sqlx::query(
            "INSERT INTO courier_outbox (id, topic, type, key, body, headers)
             VALUES ('o-1-created', $1, 'OrderCreated', 'o-1', $3, $2::text::jsonb)",
        )
        .bind(&topic)
        .bind(headers.to_string())
        .bind(body)
        .execute(&pool)
        .await
        .unwrap();
        emptied(&pool, SOON).await;
    }
    sqlx::query("INSERT INTO courier_outbox (id, topic, type, body) VALUES ('odd', 'no topic', 'T', '{}')")
        .execute(&pool)
        .await
        .unwrap();
    emptied(&pool, SOON).await;
    // A row that is due later leaves the outbox at once and is sent in its time.
    sqlx::query(
        "INSERT INTO courier_outbox (id, topic, type, body, deliver_at)
         VALUES ('later', $1, 'T', '{}', now() + interval '700 milliseconds')",
    )
    .bind(&topic)
    .execute(&pool)
    .await
    .unwrap();
    emptied(&pool, SOON).await;
    let later = host.message("later").await;
    assert_eq!(later.state, State::Committed);
    assert!(later.deliver_at.is_some(), "{later:?}");
    wait_until("the delayed message is in kafka", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &topic).await;
        let found = records.iter().find(|record| record.header("ce_id").as_deref() == Some("later")).cloned();
        let record = found.ok_or_else(|| format!("{} records", records.len()))?;
        let due = later.deliver_at.expect("it has a time").as_millisecond();
        let now = jiff::Timestamp::now().as_millisecond();
        assert!(now >= due, "{record:?} is early by {} ms", due - now);
        Ok(())
    })
    .await;
    let kept = undelivered(&host, "shop").await;
    let [repeated, odd] = &kept[..] else { panic!("{kept:?}") };
    let why = |entry: &Value| entry["why"].as_str().unwrap_or_default().to_owned();
    assert!(why(odd).contains("column topic: topic \"no topic\" is not valid"), "{odd}");
    assert!(why(repeated).contains("column id") && repeated["message_id"] == "o-1-created", "{repeated}");
    assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 2, "one id is one message");
}

/// Rows of many writers whose transactions end in any order, some by a rollback,
/// while hosts are killed.
async fn many(store: Store, notify: bool) {
    let _turn = turn::heavy().await;
    let (writers, rows, kills) = (scale(8, 32), scale(2_000, 100_000), scale(3, 20));
    // At full size there is time between two kills to find the median.
    let (longest_commit, kill_after) = (scale(10_000, 100_000), scale(100..1_500, 3_000..12_000));
    let topic = unique("outbox");
    create_named_topic(kafka().bootstrap(), &topic, 4, &[("message.timestamp.type", "LogAppendTime")]).await;
    let group = unique("once");
    let binding = scripted_binding(&group, &topic, "dedupe = \"1h\"");
    let prepared = Host::builder("tool").prepare();
    let arguments: &[&str] = if notify { &["postgres", "--notify"] } else { &["postgres"] };
    let (url, pool) = sender(&prepared, arguments).await;
    let host = |name: &str| Host::builder(name).table(&outbox("shop", &url)).binding(&binding);
    let mut hosts = vec![host("host-1").store(store).start().await];
    if store == Store::Postgres {
        hosts.push(host("host-2").store_url(&hosts[0].store_url()).start().await);
    }
    hosts[0].upload("scripted", guest("noop")).await;
    let writing = (0..writers).map(|writer| {
        let (pool, topic) = (pool.clone(), topic.clone());
        tokio::spawn(async move {
            let mut committed = BTreeMap::new();
            let mut chance = StdRng::seed_from_u64(writer);
            for number in 0..rows / writers {
                // Each writer has its own keys: within a key, a row is written after the one
                // before it was committed.
                let key = format!("{writer}-{}", chance.random_range(0..5));
                let gone = chance.random_bool(0.2);
                let mut tx = pool.begin().await.unwrap();
                let id = if gone { format!("gone-{writer}-{number}") } else { format!("kept-{writer}-{number}") };
                sqlx::query("INSERT INTO courier_outbox (id, topic, type, key, body) VALUES ($1, $2, 'T', $3, $4)")
                    .bind(&id)
                    .bind(&topic)
                    .bind(&key)
                    .bind(number.to_string())
                    .execute(&mut *tx)
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_micros(chance.random_range(0..longest_commit))).await;
                if gone {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                    committed.insert(id, jiff::Timestamp::now().as_millisecond());
                }
            }
            committed
        })
    });
    let writing = join_all(writing);
    let killing = async {
        let mut chance = StdRng::seed_from_u64(97);
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(chance.random_range(kill_after.clone()))).await;
            let host = &hosts[chance.random_range(0..hosts.len())];
            host.kill9();
            host.start_again().await;
        }
    };
    let (written, ()) = tokio::join!(writing, killing);
    let committed: BTreeMap<String, i64> = written.into_iter().flat_map(|one| one.expect("a writer ends")).collect();
    let limit = scale(Duration::from_secs(60), Duration::from_secs(600));
    emptied(&pool, limit).await;
    let records = read_topic(kafka().bootstrap(), &topic).await;
    let ids = by_id(&records);
    assert!(ids.keys().eq(committed.keys()), "what was committed is there, and nothing that was rolled back");
    let doubled: usize = ids.values().map(|times| times - 1).sum();
    // A record that a crash repeats has its id: a binding with `dedupe` drops it.
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    for record in records.iter().filter(|record| seen.insert(record.header("ce_id"))) {
        let number: u64 = std::str::from_utf8(record.payload.as_deref().unwrap()).unwrap().parse().unwrap();
        let before = last.insert(record.key.clone().unwrap(), number);
        assert!(before.is_none_or(|before| before < number), "{:?}: {number} after {before:?}", record.key);
    }
    hosts[0].settled(&group, records.len(), limit).await;
    let effects = hosts[0].effects(&group).await;
    assert!(effects.keys().eq(committed.keys()), "each of them was handled");
    let doubled_effects: Vec<_> = effects.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled_effects.is_empty(), "handled once where doubles are dropped: {doubled_effects:?}");
    let mut first: BTreeMap<String, i64> = BTreeMap::new();
    for record in &records {
        let (id, at) = (record.header("ce_id").unwrap_or_default(), record.timestamp_ms.unwrap_or_default());
        first.entry(id).and_modify(|first| *first = at.min(*first)).or_insert(at);
    }
    let mut took: Vec<i64> = committed.iter().map(|(id, committed)| first[id] - committed).collect();
    took.sort_unstable();
    let (median, late) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!(
        "{writers} writers, {} rows committed, {kills} kills: none lost, none out of order, {doubled} twice in Kafka \
         with one id, 0 handled twice; from commit to kafka: median {median} ms, p99 {late} ms",
        ids.len(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_relay_what_was_committed_in_order_while_they_are_killed() {
    many(Store::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_relays_with_notifications_while_it_is_killed() {
    many(Store::Sqlite, true).await;
}

/// The time from the commit to Kafka under load, by the broker's clock, which the
/// writers share, since all run on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_row_is_in_kafka_within_a_moment() {
    let _turn = turn::alone().await;
    let topic = unique("outbox-timed");
    create_named_topic(kafka().bootstrap(), &topic, 4, &[("message.timestamp.type", "LogAppendTime")]).await;
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    state(&host, "shop", "running", "").await;
    let writing = (0..4_u64).map(|writer| {
        let (pool, topic) = (pool.clone(), topic.clone());
        tokio::spawn(async move {
            let mut chance = StdRng::seed_from_u64(writer);
            let mut committed = Vec::new();
            for number in 0..scale(100, 2_000) {
                let id = format!("{writer}-{number}");
                sqlx::query("INSERT INTO courier_outbox (id, topic, type, key, body) VALUES ($1, $2, 'T', $1, '{}')")
                    .bind(&id)
                    .bind(&topic)
                    .execute(&pool)
                    .await
                    .unwrap();
                committed.push((id, jiff::Timestamp::now().as_millisecond()));
                tokio::time::sleep(Duration::from_millis(chance.random_range(5..50))).await;
            }
            committed
        })
    });
    let committed: Vec<(String, i64)> = join_all(writing).await.into_iter().flat_map(|one| one.unwrap()).collect();
    emptied(&pool, SOON).await;
    let records = read_topic(kafka().bootstrap(), &topic).await;
    let at: BTreeMap<String, i64> =
        records.iter().filter_map(|record| Some((record.header("ce_id")?, record.timestamp_ms?))).collect();
    let mut took: Vec<i64> = committed.iter().map(|(id, committed)| at[id] - committed).collect();
    took.sort_unstable();
    let (median, late) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{} rows, from commit to kafka: median {median} ms, p99 {late} ms", took.len());
    // A busy machine takes longer; the promised figure is measured alone.
    assert!(median < scale(500, 50), "the median is {median} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_is_shared_with_the_service_that_writes_it() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox", 2).await;
    let prepared = Host::builder("tool").prepare();
    let directory = tempfile::tempdir().unwrap();
    for mode in ["wal", "delete"] {
        let url = format!("sqlite://{}", directory.path().join(format!("{mode}.db")).display());
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
        let pool =
            SqlitePool::connect_with(options.create_if_missing(true).pragma("journal_mode", mode)).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepared.outbox_schema(&["sqlite"]))).execute(&pool).await.unwrap();
        let host = Host::builder(mode).table(&outbox("shop", &url)).start().await;
        for number in 0..100 {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let id = if number % 5 == 0 { format!("gone-{mode}-{number}") } else { format!("kept-{mode}-{number}") };
            sqlx::query("INSERT INTO courier_outbox (id, topic, type, key, body) VALUES (?, ?, 'T', ?, ?)")
                .bind(id)
                .bind(&topic)
                .bind(mode)
                .bind(number.to_string())
                .execute(&mut *tx)
                .await
                .unwrap();
            if number % 5 == 0 {
                tx.rollback().await.unwrap();
            } else {
                tx.commit().await.unwrap();
            }
        }
        wait_until("the outbox is empty", SOON, async || {
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courier_outbox").fetch_one(&pool).await.unwrap();
            if left == 0 { Ok(()) } else { Err(format!("{left} rows are left")) }
        })
        .await;
        let records = read_topic(kafka().bootstrap(), &topic).await;
        let own: Vec<u32> = records
            .iter()
            .filter(|record| record.key.as_deref() == Some(mode.as_bytes()))
            .map(|record| String::from_utf8(record.payload.clone().unwrap()).unwrap().parse().unwrap())
            .collect();
        let expected: Vec<u32> = (0..100).filter(|number| number % 5 != 0).collect();
        assert_eq!(own, expected, "with journal_mode {mode}");
        let seen = wait_until("all are counted", SOON, async || {
            let seen = status(&host, "shop").await;
            if seen["relayed"] == 80 && seen["pending"] == 0 { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await;
        assert_eq!((&seen["state"], &seen["node"]), (&json!("running"), &json!(mode)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_cannot_be_relayed_says_why_and_holds_up_no_other() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox", 1).await;
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let empty = postgres().create_database().unwrap();
    let host = Host::builder("host-1")
        .store(Store::Postgres)
        .table(&outbox("good", &url))
        .table(&outbox("bare", &empty))
        .table(&outbox("away", "postgres://nobody:hunter2@127.0.0.1:1/none?password=hunter2&sslmode=disable"))
        .table(&outbox("file", "sqlite:///nowhere/at/all.db"))
        .start()
        .await;
    let bare = state(&host, "bare", "failing", "courier outbox schema --for postgres").await;
    assert!(bare["why"].as_str().unwrap_or_default().contains("no table courier_outbox"), "{bare}");
    assert_eq!(bare["cause"]["code"], "outbox_table_missing", "{bare}");
    assert!(bare["cause"]["since"].is_string() && bare["cause"]["fields"]["table"] == "courier_outbox", "{bare}");
    let away = state(&host, "away", "failing", "the database cannot be reached: connection refused").await;
    assert_eq!(away["cause"]["code"], "outbox_unreachable", "{away}");
    assert!(!away.to_string().contains("hunter2") && away["url"] == "postgres://nobody@127.0.0.1:1/none", "{away}");
    state(&host, "file", "failing", "cannot be opened").await;
    let insert = "INSERT INTO courier_outbox (topic, type, body) VALUES ($1, 'T', '{}')";
    sqlx::query(insert).bind(&topic).execute(&pool).await.unwrap();
    emptied(&pool, SOON).await;
    state(&host, "good", "running", "").await;
    // The table is mended, and the outbox goes on by itself.
    let table = PgPool::connect(&empty).await.unwrap();
    sqlx::raw_sql("CREATE TABLE courier_outbox (seq bigint, id text, topic text)").execute(&table).await.unwrap();
    let lacking = state(&host, "bare", "failing", "no column type, key, kind, body").await;
    assert_eq!(lacking["cause"]["code"], "outbox_column", "{lacking}");
    sqlx::raw_sql("DROP TABLE courier_outbox").execute(&table).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(host.outbox_schema(&["postgres"]))).execute(&table).await.unwrap();
    sqlx::query(insert).bind(&topic).execute(&table).await.unwrap();
    emptied(&table, SOON).await;
    assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 2);
    let file = host.config().display().to_string();
    let (status, shown, _) = host.cli(&["check", "--connect", "--config", &file]);
    assert!(!status.success() && shown.contains("is valid") && !shown.contains("hunter2"), "{shown}");
    for (name, said) in [("good", "can be relayed"), ("file", "cannot be opened"), ("bare", "can be relayed")] {
        let line = shown.lines().find(|line| line.contains(&format!("outbox {name}: "))).unwrap_or_default();
        assert!(line.contains(said), "{name}: {shown}");
    }
    let (status, _, _) = host.cli(&["check", "--config", &file]);
    assert!(status.success(), "the file itself is right");
    let (_, shown, _) = host.cli(&["outboxes", "list"]);
    assert!(shown.contains("good") && shown.contains("failing: "), "{shown}");
    // A reload ends the removed outbox and starts the new one.
    let other = unique("other");
    let toml = host.toml().replace("name = \"good\"", &format!("name = \"{other}\""));
    host.write_config(&toml);
    host.sighup();
    state_of_new(&host, &other).await;
    sqlx::query(insert).bind(&topic).execute(&pool).await.unwrap();
    emptied(&pool, SOON).await;
}

/// The companion of a topic is created for broadcasts of an outbox as it is for
/// those of any other sender.
#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_of_an_outbox_finds_its_companion() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox-said", 1).await;
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let host = Host::builder("host-1").create_topics().table(&outbox("shop", &url)).start().await;
    let insert = "INSERT INTO courier_outbox (id, topic, type, kind, body) VALUES ($1, $2, 'T', 'broadcast', '{}')";
    for id in ["first", "second"] {
        sqlx::query(insert).bind(id).bind(&topic).execute(&pool).await.unwrap();
    }
    emptied(&pool, SOON).await;
    for id in ["first", "second"] {
        let message = host.message(id).await;
        assert_eq!((message.state, message.kind.as_str()), (State::Committed, "broadcast"), "{message:?}");
    }
    assert_eq!(read_topic(kafka().bootstrap(), &format!("{topic}.broadcast")).await.len(), 2);
}

/// The ids of a topic's records, in their order.
async fn ids_in(topic: &str) -> Vec<String> {
    let records = read_topic(kafka().bootstrap(), topic).await;
    records.iter().map(|record| record.header("ce_id").expect("every record has an id")).collect()
}

/// Rows that were on Kafka counted as 0 when they could not be deleted, and counts
/// that were not yet stored were lost at a kill.
#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_an_outbox_are_right_after_kills_and_without_the_right_to_delete() {
    let _turn = turn::heavy().await;
    let topic = create_topic(kafka().bootstrap(), "outbox-counts", 2).await;
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    let insert = "INSERT INTO courier_outbox (topic, type, key, body)
        SELECT $1, 'T', 'k' || n % 20, '{}' FROM generate_series(1, 100) n";
    let mut chance = StdRng::seed_from_u64(7);
    for _ in 0..6 {
        sqlx::query(insert).bind(&topic).execute(&pool).await.unwrap();
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..400))).await;
        host.kill9();
        host.start_again().await;
    }
    emptied(&pool, SOON).await;
    let relayed = async |count: i64| {
        wait_until(&format!("{count} rows are counted"), SOON, async || {
            let seen = status(&host, "shop").await;
            if seen["relayed"] == count { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await
    };
    relayed(600).await;
    // A trigger refuses the deletion as a revoked right would.
    let refuse = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'not you' USING ERRCODE = '42501'; END $$;
        CREATE TRIGGER no BEFORE DELETE ON courier_outbox FOR EACH ROW EXECUTE FUNCTION no()";
    sqlx::raw_sql(refuse).execute(&pool).await.unwrap();
    sqlx::query(insert).bind(&topic).execute(&pool).await.unwrap();
    let seen = relayed(700).await;
    assert_eq!(seen["refused"], 0, "{seen}");
    let seen = state(&host, "shop", "failing", "grant it SELECT and DELETE on the table").await;
    assert_eq!(seen["cause"]["code"], "outbox_permission", "{seen}");
    sqlx::raw_sql("DROP TRIGGER no ON courier_outbox").execute(&pool).await.unwrap();
    emptied(&pool, SOON).await;
    let seen = state(&host, "shop", "running", "").await;
    assert_eq!((&seen["relayed"], &seen["cause"]), (&json!(700), &Value::Null), "nothing is counted twice");
}

async fn state_of_new(host: &Host, name: &str) {
    wait_until("the new outbox runs", SOON, async || {
        let (_, page) = host.request(Method::GET, "/v1/outboxes", None).await;
        let found = page["items"].as_array().is_some_and(|items| {
            items.iter().any(|item| item["name"] == name && item["state"] == "running")
                && !items.iter().any(|item| item["name"] == "good")
        });
        if found { Ok(()) } else { Err(page.to_string()) }
    })
    .await;
}
