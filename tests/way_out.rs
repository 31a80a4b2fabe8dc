//! Messages that the host owes to Kafka arrive, or are listed as undelivered,
//! whatever happens to the topics.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{create_named_topic, create_topic, delete_topic, read_topic};
use courier_tests::{Host, Store, guest, kafka, scale, scripted, scripted_binding, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

async fn items(host: &Host, path: &str) -> Vec<Value> {
    let (status, page) = host.request(Method::GET, path, None).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
}

async fn undelivered(host: &Host, topic: &str) -> Vec<Value> {
    items(host, &format!("/v1/undelivered?topic={topic}")).await
}

/// The dead letters of a group, counted by their fate.
async fn fates(host: &Host, group: &str) -> (usize, usize, usize) {
    let letters = items(host, &format!("/v1/dead-letters?group={group}&limit=1000")).await;
    let count = |fate: &str| letters.iter().filter(|letter| letter["fate"] == fate).count();
    (count("sent"), count("waiting"), count("undelivered"))
}

async fn attention(host: &Host, kind: &str, subject: &str) -> Option<Value> {
    let (_, overview) = host.request(Method::GET, "/v1/overview", None).await;
    let mut found = overview["attention"].as_array().into_iter().flatten();
    found.find(|one| one["subject"] == subject && one["kind"] == kind).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_for_a_topic_that_does_not_exist_yet_all_wait_and_arrive() {
    let _turn = turn::shared().await;
    let broker = kafka();
    let topic = create_topic(broker.bootstrap(), "letters", 2).await;
    let group = unique("letters");
    let host = Host::builder("host-1")
        .store(Store::Sqlite)
        .binding(&scripted_binding(&group, &topic, "dead_letter = true"))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let messages = (0..40).map(|number| scripted(&topic, &number.to_string(), &["reject"])).collect();
    host.publish_all(messages).await;
    host.settled(&group, 40, SOON).await;
    let letters = format!("dlq.{topic}.{group}");
    let told = wait_until("the missing topic is told", SOON, async || {
        attention(&host, "stopped", &letters).await.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!(told["cause"]["code"], "topic_missing", "{told}");
    assert_eq!(fates(&host, &group).await, (0, 40, 0));
    create_named_topic(broker.bootstrap(), &letters, 3, &[]).await;
    wait_until("all letters are sent", SOON, async || match fates(&host, &group).await {
        (40, 0, 0) => Ok(()),
        fates => Err(format!("{fates:?}")),
    })
    .await;
    assert_eq!(read_topic(broker.bootstrap(), &letters).await.len(), 40);
    wait_until("the cause is gone", SOON, async || match attention(&host, "stopped", &letters).await {
        None => Ok(()),
        Some(told) => Err(told.to_string()),
    })
    .await;
}

/// The client takes longer to report a missing topic than rows wait for it: each
/// request was given up, and the rows waited without a cause.
#[tokio::test(flavor = "multi_thread")]
async fn a_debt_for_a_deleted_topic_says_why_it_waits_also_after_a_restart() {
    let _turn = turn::shared().await;
    let broker = kafka();
    let read = create_topic(broker.bootstrap(), "read", 1).await;
    let gone = create_topic(broker.bootstrap(), "gone", 1).await;
    let host = Host::scripted("host-1", Store::Sqlite, &unique("read"), &read, "").await;
    let mut owed = scripted(&gone, "k", &["ok"]);
    owed["delay"] = json!("1s");
    let id = host.publish(owed).await.id().to_owned();
    delete_topic(broker.bootstrap(), &gone).await;
    for restarted in [false, true] {
        if restarted {
            host.kill9();
            host.start_again().await;
        }
        // Until the client asks for the topic anew, its partition is silent.
        wait_until("the missing topic is told", SOON, async || match attention(&host, "stopped", &gone).await {
            Some(told) if told["cause"]["code"] == "topic_missing" => Ok(()),
            told => Err(format!("{told:?}")),
        })
        .await;
        wait_until("the message says why it waits", SOON, async || {
            let reason = host.message(&id).await.reason.unwrap_or_default();
            if reason.contains("does not exist") { Ok(()) } else { Err(reason) }
        })
        .await;
    }
    create_named_topic(broker.bootstrap(), &gone, 1, &[]).await;
    wait_until("it arrives once its topic is there", SOON, async || {
        match read_topic(broker.bootstrap(), &gone).await.len() {
            1 => Ok(()),
            count => Err(format!("{count} records")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emission_that_is_too_large_for_its_topic_is_kept_and_sent_again_by_a_person() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "large", 1).await;
    let small = unique("small");
    create_named_topic(kafka().bootstrap(), &small, 1, &[("max.message.bytes", "2000")]).await;
    let group = unique("large");
    let grant = format!("[binding.grant]\npublish = [\"{small}\"]");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, &grant).await;
    let body = json!({ "do": [format!("publish:{small}+ok")], "filling": "x".repeat(5_000) });
    let large = json!({ "topic": topic, "type": "Scripted", "key": "k", "source": "tests", "body": body });
    host.publish(large).await;
    host.publish(scripted(&topic, "k", &[&format!("publish:{small}+ok")])).await;
    let kept = wait_until("the large one is undelivered", SOON, async || {
        undelivered(&host, &small).await.pop().ok_or_else(|| "nothing is".to_owned())
    })
    .await;
    assert_eq!((&kept["group"], &kept["key"]), (&json!(group), &json!("k")), "{kept}");
    // It holds back neither its key nor its topic.
    wait_until("the small one arrived", SOON, async || match read_topic(kafka().bootstrap(), &small).await.len() {
        1 => Ok(()),
        count => Err(format!("{count} records")),
    })
    .await;
    let id = kept["id"].as_str().unwrap();
    let (_, whole) = host.request(Method::GET, &format!("/v1/undelivered/{id}"), None).await;
    assert_eq!(whole["body"]["filling"].as_str().map(str::len), Some(5_000), "the whole content is kept");
    assert!(attention(&host, "undelivered", &small).await.is_some(), "attention names the topic");
    wait_until("the metric counts it", SOON, async || {
        match host.metric("courier_undelivered", &[("topic", &small)]).await {
            1.0 => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    // If it were accepted, the entry would wait where no list shows it.
    for (nowhere, refused) in [(unique("nowhere"), 422), (format!("{topic}.broadcast"), 400)] {
        host.post(&format!("/v1/undelivered/{id}/repair"), json!({ "topic": nowhere }), refused).await;
    }
    let repaired =
        host.post(&format!("/v1/undelivered/{id}/repair"), json!({ "body": { "filling": "short" } }), 202).await;
    assert_eq!(repaired["retrying"], true);
    wait_until("the repaired one arrived", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &small).await;
        let found = records.iter().any(|record| record.json() == json!({ "filling": "short" }));
        if found { Ok(()) } else { Err(format!("{} records", records.len())) }
    })
    .await;
    assert!(undelivered(&host, &small).await.is_empty());
    let (_, audit) = host.request(Method::GET, "/v1/audit", None).await;
    assert!(audit.to_string().contains("repair undelivered"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_for_a_topic_made_anew_with_fewer_partitions_choose_again() {
    let _turn = turn::shared().await;
    let broker = kafka();
    let source = create_topic(broker.bootstrap(), "source", 1).await;
    let (target, group) = (unique("target"), unique("anew"));
    create_named_topic(broker.bootstrap(), &target, 5, &[]).await;
    let host = Host::builder("host-1")
        .store(Store::Sqlite)
        .binding(&scripted_binding(&group, &source, &format!("[binding.grant]\npublish = [\"{target}\"]")))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let send = |from: usize| {
        let words = format!("publish:{target}+ok");
        (from..from + 10).map(|number| scripted(&source, &number.to_string(), &[&words])).collect()
    };
    host.publish_all(send(0)).await;
    wait_until("the first arrived", SOON, async || match read_topic(broker.bootstrap(), &target).await.len() {
        10 => Ok(()),
        count => Err(format!("{count} records")),
    })
    .await;
    delete_topic(broker.bootstrap(), &target).await;
    host.publish_all(send(10)).await;
    host.settled(&group, 20, SOON).await;
    create_named_topic(broker.bootstrap(), &target, 1, &[]).await;
    wait_until("the others arrived in the new topic", SOON, async || {
        match read_topic(broker.bootstrap(), &target).await.len() {
            count if count >= 10 => Ok(()),
            count => Err(format!("{count} records; undelivered {:?}", undelivered(&host, &target).await)),
        }
    })
    .await;
    assert!(undelivered(&host, &target).await.is_empty());
}

/// The first messages of a fresh topic were COMMITTED at offset -1001 and lay
/// nowhere in the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_messages_of_fresh_topics_are_all_there_and_in_order() {
    let _turn = turn::shared().await;
    let host = Host::builder("host-1").store(Store::Sqlite).start().await;
    for round in 0..scale(15, 200) {
        let topic = create_topic(kafka().bootstrap(), "fresh", 3).await;
        // Half of the rounds name ids: those messages have their rows first.
        let message = |number: usize| {
            let body = json!({ "number": number });
            let key = format!("k{}", number % 5);
            let mut message = json!({ "topic": topic, "type": "First", "key": key, "source": "tests", "body": body });
            if round % 2 == 1 {
                message["id"] = json!(format!("{topic}-{number}"));
            }
            message
        };
        let sent = host.publish_all((0..40).map(message).collect()).await;
        wait_until("all are on Kafka", SOON, async || {
            for one in &sent {
                let message = host.message(one.id()).await;
                if message.state != State::Committed {
                    return Err(format!("{message:?}"));
                }
                assert!(message.offset.is_some_and(|offset| offset >= 0), "{message:?}");
            }
            Ok(())
        })
        .await;
        let records = read_topic(kafka().bootstrap(), &topic).await;
        assert_eq!(records.len(), 40, "round {round} of {topic}");
        for key in 0..5 {
            let key = format!("k{key}");
            let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
            let numbers: Vec<u64> = of_key.filter_map(|record| record.json()["number"].as_u64()).collect();
            assert!(numbers.is_sorted(), "round {round}: key {key} lies as {numbers:?}");
        }
    }
}

/// A message with its sender's id that Kafka refuses was answered with a 4xx and
/// kept as undelivered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_refused_is_told_to_its_sender_and_kept_by_nobody() {
    let _turn = turn::shared().await;
    let small = unique("small");
    create_named_topic(kafka().bootstrap(), &small, 1, &[("max.message.bytes", "2000")]).await;
    let host = Host::builder("host-1").store(Store::Sqlite).start().await;
    let message = |body: Value| json!({ "topic": small, "type": "T", "key": "k", "id": "named", "body": body });
    let (status, problem) = host.request(Method::POST, "/v1/messages", Some(message(json!("x".repeat(5_000))))).await;
    assert_eq!(status, 422, "{problem}");
    let refused = host.message("named").await;
    assert_eq!((refused.state, refused.retrying), (State::SendFail, Some(false)), "{refused:?}");
    // A corrected message is accepted in its place, and nothing of the first is left.
    assert_eq!(host.publish(message(json!("short"))).await.state, State::Committed);
    assert!(undelivered(&host, &small).await.is_empty());
    assert_eq!(read_topic(kafka().bootstrap(), &small).await.len(), 1);
}

/// The client packs small messages into batches that are larger than the topic takes.
/// Each of them was refused for ever.
#[tokio::test(flavor = "multi_thread")]
async fn small_messages_arrive_in_a_topic_that_takes_small_batches_only() {
    let _turn = turn::shared().await;
    let small = unique("small");
    create_named_topic(kafka().bootstrap(), &small, 1, &[("max.message.bytes", "20000")]).await;
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("shop.db").display());
    let table = format!("[[outbox]]\nname = \"shop\"\nurl = \"{url}\"\n");
    let host = Host::builder("host-1").store(Store::Sqlite).table(&table).prepare();
    let options = sqlx::sqlite::SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    let shop = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(host.outbox_schema(&["sqlite"]))).execute(&shop).await.unwrap();
    host.start_again().await;
    let message = |number: usize, bytes: usize| {
        let body = json!({ "number": number, "filling": "x".repeat(bytes) });
        json!({ "topic": small, "type": "T", "key": format!("k{number}"), "body": body })
    };
    host.publish_all((0..300).map(|number| message(number, 1_000)).collect()).await;
    let mut rows = shop.begin().await.unwrap();
    for number in 300..600 {
        let body = json!({ "number": number, "filling": "x".repeat(1_000) }).to_string();
        sqlx::query("INSERT INTO courier_outbox (topic, type, body) VALUES (?, 'T', ?)")
            .bind(&small)
            .bind(body)
            .execute(&mut *rows)
            .await
            .unwrap();
    }
    sqlx::query("INSERT INTO courier_outbox (id, topic, type, body) VALUES ('large', ?, 'T', ?)")
        .bind(&small)
        .bind(json!("x".repeat(30_000)).to_string())
        .execute(&mut *rows)
        .await
        .unwrap();
    rows.commit().await.unwrap();
    wait_until("all are there", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &small).await;
        let numbers: BTreeSet<u64> = records.iter().filter_map(|record| record.json()["number"].as_u64()).collect();
        if numbers.len() == 600 { Ok(()) } else { Err(format!("{} messages", numbers.len())) }
    })
    .await;
    let kept = wait_until("only what is too large by itself is undelivered", SOON, async || {
        let mut kept = undelivered(&host, &small).await;
        if kept.len() == 1 { Ok(kept.remove(0)) } else { Err(format!("{kept:?}")) }
    })
    .await;
    assert!(kept["message_id"] == "large" && kept.to_string().contains("larger than topic"), "{kept}");
    let (status, problem) = host.request(Method::POST, "/v1/messages", Some(message(600, 30_000))).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem.to_string().contains("larger than topic"), "{problem}");
}

/// When a topic's undelivered messages reach their bound, their sources stop until
/// a person makes room.
#[tokio::test(flavor = "multi_thread")]
async fn past_its_bound_what_is_undelivered_stops_its_sources_until_there_is_room() {
    let _turn = turn::shared().await;
    let (source, small) = (create_topic(kafka().bootstrap(), "full", 1).await, unique("small"));
    create_named_topic(kafka().bootstrap(), &small, 1, &[("max.message.bytes", "2000")]).await;
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("shop.db").display());
    let group = unique("full");
    let host = Host::builder("host-1")
        .store(Store::Postgres)
        .binding(&scripted_binding(&group, &source, &format!("[binding.grant]\npublish = [\"{small}\"]")))
        .table(&format!("[[outbox]]\nname = \"shop\"\nurl = \"{url}\"\n"))
        .prepare();
    let options = sqlx::sqlite::SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    let shop = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(host.outbox_schema(&["sqlite"]))).execute(&shop).await.unwrap();
    host.start_again().await;
    host.upload("scripted", guest("scripted")).await;
    // As many undelivered messages as fill the topic's bound, written to the store.
    let store = sqlx::PgPool::connect(&host.store_url()).await.unwrap();
    sqlx::query(
        "INSERT INTO undelivered (shard, message_id, topic, type_name, source, record, listed, code, reason, tries,
             created_at, kept_at)
         SELECT 0, n::text, $1, 'T', 'tests', '\\x00', false, 'too_large', 'it is too large', 1, n, n
         FROM generate_series(1, 10000) AS n",
    )
    .bind(&small)
    .execute(&store)
    .await
    .unwrap();
    let message = json!({ "topic": small, "type": "T", "body": 1 });
    wait_until("nothing more is accepted for the topic", SOON, async || {
        let (status, problem) = host.request(Method::POST, "/v1/messages", Some(message.clone())).await;
        if status == 503 { Ok(()) } else { Err(format!("{status}: {problem}")) }
    })
    .await;
    sqlx::query("INSERT INTO courier_outbox (id, topic, type, body) VALUES ('waits', ?, 'T', '1')")
        .bind(&small)
        .execute(&shop)
        .await
        .unwrap();
    wait_until("the binding that publishes on it does not run", SOON, async || {
        let (_, seen) = host.request(Method::GET, &format!("/v1/groups/{group}"), None).await;
        if seen["cause"]["code"] == "undelivered_full" { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    assert!(attention(&host, "stopped", &small).await.is_some(), "attention names the topic");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courier_outbox").fetch_one(&shop).await.unwrap();
    assert_eq!(left, 1, "its row waits at its source");
    let one = undelivered(&host, &small).await.pop().expect("a row");
    let id = one["id"].as_str().unwrap();
    host.post(&format!("/v1/undelivered/{id}/give-up"), json!({ "reason": "makes room" }), 204).await;
    wait_until("the row of the outbox went out", SOON, async || {
        match read_topic(kafka().bootstrap(), &small).await.len() {
            0 => Err("nothing is there".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    host.publish(scripted(&source, "k", &[&format!("publish:{small}+ok")])).await;
    host.settled(&group, 1, SOON).await;
}
