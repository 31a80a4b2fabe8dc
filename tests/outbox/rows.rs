//! Single rows of outboxes: bad ones, large ones, and tables whose columns differ
//! from the proposed ones.

use std::time::Duration;

use courier_tests::kafka_client::{create_named_topic, create_topic, read_topic};
use courier_tests::{Host, Store, kafka, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgPool;

use super::{SOON, emptied, ids_in, outbox, sender, state, status};

/// A sender's table that differs from the printed schema.
async fn altered(host: &Host, statements: &str) -> (String, PgPool) {
    let (url, pool) = sender(host, &["postgres"]).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&pool).await.unwrap();
    (url, pool)
}

/// The undelivered rows of an outbox, oldest first.
pub(super) async fn undelivered(host: &Host, outbox: &str) -> Vec<Value> {
    let (_, page) = host.request(Method::GET, &format!("/v1/undelivered?outbox={outbox}"), None).await;
    let mut items = page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
    items.reverse();
    items
}

/// A row that cannot be sent stopped the outbox without a name, was passed over
/// for ever, or lost a header silently.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_undelivered_with_its_column_named_and_the_next_goes_on() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox-bad", 1).await;
    let prepared = Host::builder("tool").prepare();
    let nullable = "ALTER TABLE courier_outbox ALTER body DROP NOT NULL, ALTER topic DROP NOT NULL,
        ALTER type DROP NOT NULL, ALTER id DROP NOT NULL, DROP CONSTRAINT courier_outbox_headers_check,
        DROP CONSTRAINT courier_outbox_kind_check";
    let (url, pool) = altered(&prepared, nullable).await;
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    let far = "timestamptz '294276-12-31 23:59:59+00'";
    let rows = [
        ("body", "id, topic, type, body", "'no-body', $1, 'T', NULL"),
        ("topic", "id, topic, type, body", "'no-topic', nullif($1, $1), 'T', '{}'"),
        ("type", "id, topic, type, body", "'no-type', $1, NULL, '{}'"),
        ("id", "id, topic, type, body", "NULL, $1, 'T', '{}'"),
        ("kind", "id, topic, type, body, kind", "'odd-kind', $1, 'T', '{}', 'news'"),
        ("created_at", "id, topic, type, body, created_at", &format!("'far', $1, 'T', '{{}}', {far}")),
        ("deliver_at", "id, topic, type, body, deliver_at", &format!("'late', $1, 'T', '{{}}', {far}")),
        ("headers", "id, topic, type, body, headers", "'reserved', $1, 'T', '{}', '{\"ce_time\": \"x\"}'"),
        ("headers", "id, topic, type, body, headers", "'kindly', $1, 'T', '{}', '{\"courier_kind\": \"broadcast\"}'"),
        (
            "headers",
            "id, topic, type, body, headers",
            "'twice', $1, 'T', '{}', '{\"content-type\": [\"a/a\", \"b/b\"]}'",
        ),
        ("headers", "id, topic, type, body, headers", "'array', $1, 'T', 'kept', '[1]'"),
    ];
    let mut sent = Vec::new();
    for (number, (_, columns, values)) in rows.iter().enumerate() {
        let bad = format!("INSERT INTO courier_outbox ({columns}, key) VALUES ({values}, 'k')");
        sqlx::query(sqlx::AssertSqlSafe(bad)).bind(&topic).execute(&pool).await.unwrap();
        let next = format!("next-{number}");
        sqlx::query("INSERT INTO courier_outbox (id, topic, type, key, body) VALUES ($1, $2, 'T', 'k', '{}')")
            .bind(&next)
            .bind(&topic)
            .execute(&pool)
            .await
            .unwrap();
        sent.push(next);
    }
    emptied(&pool, SOON).await;
    assert_eq!(ids_in(&topic).await, sent, "each next row goes on, and nothing else does");
    let kept = undelivered(&host, "shop").await;
    assert_eq!(kept.len(), rows.len(), "{kept:?}");
    for (column, _, values) in rows {
        let of_row = |entry: &&Value| {
            let why = entry["why"].as_str().unwrap_or_default();
            let id = values.split('\'').nth(1).filter(|_| column != "id").unwrap_or("outbox:shop:");
            entry["message_id"].as_str().is_some_and(|known| known.starts_with(id))
                && why.contains("of outbox shop")
                && why.contains(&format!("column {column}: "))
        };
        assert_eq!(kept.iter().filter(of_row).count(), 1, "{column} of {values}: {kept:?}");
    }
    let array = kept.iter().find(|entry| entry["message_id"] == "array").unwrap();
    let whole: Value = host.get(&format!("/v1/undelivered/{}", array["id"].as_str().unwrap())).await;
    assert_eq!(whole["headers"]["courier_outbox_headers"], "[1]", "{whole}");
    assert_eq!((&whole["key"], &whole["outbox"]), (&json!("k"), &json!("shop")), "{whole}");
    let seen = wait_until("all are counted", SOON, async || {
        let seen = status(&host, "shop").await;
        // The number of rows left in the table is updated a moment after the counts.
        let counted = seen["refused"] == rows_of(&sent) && seen["relayed"] == rows_of(&sent);
        if counted && seen["pending"] == 0 { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    assert_eq!(seen["state"], "running", "{seen}");
}

fn rows_of(sent: &[String]) -> Value {
    json!(sent.len())
}

/// A row that is too large to be read stays in its table; its entry says so, and
/// it is sent once it is smaller.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_above_the_bound_stays_at_its_source_and_the_entry_points_to_it() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox-large", 1).await;
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let insert = "INSERT INTO courier_outbox (id, topic, type, key, body) VALUES ($1, $2, 'T', 'k', repeat('x', $3))";
    for (id, length) in [("large", 3 << 20), ("small", 10)] {
        sqlx::query(insert).bind(id).bind(&topic).bind(length).execute(&pool).await.unwrap();
    }
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    let left = async || {
        let left: Vec<String> = sqlx::query_scalar("SELECT id FROM courier_outbox").fetch_all(&pool).await.unwrap();
        left
    };
    wait_until("the row behind it is sent", SOON, async || {
        let left = left().await;
        if left == ["large"] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(ids_in(&topic).await, ["small"]);
    let kept = undelivered(&host, "shop").await;
    let [entry] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(entry["code"], "outbox_row_too_large", "{entry}");
    let why = entry["why"].as_str().unwrap_or_default();
    assert!(why.contains("column body: it has 3145728 bytes") && why.ends_with("still in the table"), "{entry}");
    // The next holder reads it anew and makes no second entry.
    host.kill9();
    host.start_again().await;
    state(&host, "shop", "running", "").await;
    assert_eq!(undelivered(&host, "shop").await.len(), 1);
    sqlx::query("UPDATE courier_outbox SET body = '{}'").execute(&pool).await.unwrap();
    host.kill9();
    host.start_again().await;
    emptied(&pool, SOON).await;
    assert_eq!(ids_in(&topic).await, ["small", "large"]);
}

/// A NULL hid the row from every query: it was never sent, and later rows of its
/// key were.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_headers_is_sent_before_what_comes_later_of_its_key() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox-null", 1).await;
    let prepared = Host::builder("tool").prepare();
    let nullable = "ALTER TABLE courier_outbox ALTER headers DROP NOT NULL, ALTER kind DROP NOT NULL,
        ALTER created_at DROP NOT NULL";
    let (url, pool) = altered(&prepared, nullable).await;
    for (id, headers) in [("first", None), ("second", Some("{}")), ("third", None)] {
        let insert = "INSERT INTO courier_outbox (id, topic, type, key, kind, body, headers, created_at)
            VALUES ($1, $2, 'T', 'k', NULL, '{}', $3::text::jsonb, NULL)";
        sqlx::query(insert).bind(id).bind(&topic).bind(headers).execute(&pool).await.unwrap();
    }
    let _host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    emptied(&pool, SOON).await;
    assert_eq!(ids_in(&topic).await, ["first", "second", "third"]);
}

/// Ids were compared as text when rows were deleted, so that rows with ids of
/// another type stayed; bytes of a key became their hexadecimal digits as text.
#[tokio::test(flavor = "multi_thread")]
async fn ids_may_be_uuids_and_keys_and_bodies_bytes() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "outbox-types", 1).await;
    let prepared = Host::builder("tool").prepare();
    let types = "ALTER TABLE courier_outbox DROP CONSTRAINT courier_outbox_id_check, ALTER id DROP DEFAULT,
            ALTER id TYPE uuid USING id::uuid, ALTER key TYPE bytea USING key::bytea,
            ALTER body TYPE bytea USING body::bytea, ADD COLUMN note text";
    let (url, pool) = altered(&prepared, types).await;
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    let ids = ["00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000001"];
    for id in ids {
        let insert = "INSERT INTO courier_outbox (id, topic, type, source, key, body)
            VALUES ($1::text::uuid, $2, 'T', 'billing', '\\x6b31ff00', '\\x00ff')";
        sqlx::query(insert).bind(id).bind(&topic).execute(&pool).await.unwrap();
    }
    emptied(&pool, SOON).await;
    assert_eq!(ids_in(&topic).await, ids, "in the order of their numbers");
    for record in read_topic(kafka().bootstrap(), &topic).await {
        assert_eq!((record.key.as_deref(), record.payload.as_deref()), (Some(&b"k1\xff\0"[..]), Some(&b"\0\xff"[..])));
        assert_eq!(record.header("ce_source").as_deref(), Some("billing"));
    }
    let (status, shown, _) = host.cli(&["check", "--connect", "--config", &host.config().display().to_string()]);
    assert!(status.success() && shown.contains("can be relayed"), "{shown}");
}

/// `check` accepted a table that cannot be relayed.
#[tokio::test(flavor = "multi_thread")]
async fn check_names_each_column_that_is_missing_of_a_wrong_type_or_may_be_null() {
    let _turn = turn::shared().await;
    let prepared = Host::builder("tool").prepare();
    let wrong = "ALTER TABLE courier_outbox DROP CONSTRAINT courier_outbox_id_check, ALTER id DROP DEFAULT,
        ALTER id TYPE bytea USING id::bytea, DROP COLUMN kind, ALTER created_at DROP DEFAULT,
        ALTER created_at TYPE bigint USING 0";
    let (wrong, pool) = altered(&prepared, wrong).await;
    let (nullable, _) = altered(&prepared, "ALTER TABLE courier_outbox ALTER body DROP NOT NULL").await;
    let host = Host::builder("host-1")
        .store(Store::Postgres)
        .table(&outbox("wrong", &wrong))
        .table(&outbox("nullable", &nullable))
        .start()
        .await;
    let (status, shown, _) = host.cli(&["check", "--connect", "--config", &host.config().display().to_string()]);
    assert!(!status.success(), "{shown}");
    for said in [
        "no column kind",
        "column id is bytea, and has to be text, varchar, uuid, bigint or integer",
        "column created_at is bigint, and has to be timestamptz or timestamp",
        "column body may be NULL: a row without a value there is kept as undelivered",
        "ALTER TABLE courier_outbox ALTER COLUMN body SET NOT NULL",
    ] {
        assert!(shown.contains(said), "{said} in\n{shown}");
    }
    let insert = "INSERT INTO courier_outbox (id, topic, type, body, created_at) VALUES ('a', 't', 'T', '{}', 0)";
    sqlx::query(insert).execute(&pool).await.unwrap();
    let seen = state(&host, "wrong", "failing", "no column kind").await;
    assert_eq!(seen["cause"]["fields"]["columns"], "id, kind, created_at", "{seen}");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courier_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 1, "nothing is relayed and nothing is lost");
    // The table is mended, and the outbox goes on by itself.
    let topic = create_topic(kafka().bootstrap(), "outbox-types", 1).await;
    let right = "ALTER TABLE courier_outbox ALTER id TYPE text USING convert_from(id, 'UTF8'),
        ADD COLUMN kind text, ALTER created_at TYPE timestamptz USING now()";
    sqlx::raw_sql(right).execute(&pool).await.unwrap();
    sqlx::query("UPDATE courier_outbox SET topic = $1").bind(&topic).execute(&pool).await.unwrap();
    emptied(&pool, SOON).await;
    assert_eq!(ids_in(&topic).await, ["a"]);
}

/// Rows for one topic filled all places in memory, and rows for other topics
/// waited behind them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_for_a_topic_that_kafka_does_not_take_hold_up_no_other_topic() {
    let _turn = turn::shared().await;
    // Kafka takes nothing for a topic that does not exist yet.
    let (stuck, healthy) = (unique("outbox-stuck"), create_topic(kafka().bootstrap(), "outbox-healthy", 1).await);
    let prepared = Host::builder("tool").prepare();
    let (url, pool) = sender(&prepared, &["postgres"]).await;
    let fill = "INSERT INTO courier_outbox (id, topic, type, key, body)
        SELECT 'stuck-' || n, $1, 'T', 'k' || n % 50, '{}' FROM generate_series(1, 4100) n";
    sqlx::query(fill).bind(&stuck).execute(&pool).await.unwrap();
    let host = Host::builder("host-1").store(Store::Postgres).table(&outbox("shop", &url)).start().await;
    wait_until("the rows for the topic are in hand", SOON, async || {
        let seen = status(&host, "shop").await;
        if seen["pending"].as_i64() >= Some(4_100) { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    sqlx::query("INSERT INTO courier_outbox (id, topic, type, body) VALUES ('healthy', $1, 'T', '{}')")
        .bind(&healthy)
        .execute(&pool)
        .await
        .unwrap();
    wait_until("the row for the other topic is sent", SOON, async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courier_outbox WHERE topic = $1")
            .bind(&healthy)
            .fetch_one(&pool)
            .await
            .unwrap();
        if left == 0 { Ok(()) } else { Err(status(&host, "shop").await.to_string()) }
    })
    .await;
    assert_eq!(ids_in(&healthy).await, ["healthy"]);
    let seen = state(&host, "shop", "failing", &format!("rows for topic {stuck}")).await;
    assert_eq!(
        (&seen["cause"]["code"], &seen["cause"]["fields"]["topic"]),
        (&json!("outbox_topic_waits"), &json!(stuck))
    );
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courier_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 4_100, "what kafka does not take stays");
    create_named_topic(kafka().bootstrap(), &stuck, 2, &[]).await;
    emptied(&pool, Duration::from_secs(60)).await;
    assert_eq!(read_topic(kafka().bootstrap(), &stuck).await.len(), 4_100, "and is sent when kafka takes it");
}
