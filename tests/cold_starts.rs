//! A broker that just started forgets producers, elects leaders and learns of
//! fresh topics while the first messages come. By each way of sending, every
//! message lies in its topic at a real offset and in the order of its key.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use courier_tests::kafka_client::{create_named_topic, read_topic};
use courier_tests::servers::Kafka;
use courier_tests::{Host, Store, guest, scale, scripted_binding, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// Messages of each way of sending after each start.
const MESSAGES: usize = 20;
/// The number of their keys.
const KEYS: usize = 5;
/// The bound of waits: a broker's start and a group's joining take some seconds.
const SOON: Duration = Duration::from_secs(90);

/// The ways of sending.
const WAYS: [&str; 7] = ["direct", "named", "delayed", "transaction", "outbox", "emission", "letter"];

#[tokio::test(flavor = "multi_thread")]
async fn the_first_messages_after_a_start_of_the_broker_are_not_lost_by_any_way_out() {
    let _turn = turn::shared().await;
    let kafka = Kafka::start("cold").unwrap();
    for _ in 0..scale(1, 20) {
        starts(&kafka, scale(2, 10)).await;
    }
}

/// Restarts the broker this often under one host.
async fn starts(kafka: &Kafka, rounds: usize) {
    let run = unique("cold");
    let topic = |round: usize, way: &str| format!("{run}-{round}-{way}");
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("shop.db").display());
    let mut host = Host::builder("host-1")
        .kafka(kafka.bootstrap())
        .store(Store::Sqlite)
        .table(&format!("[[outbox]]\nname = \"shop\"\nurl = \"{url}\"\n"));
    // Each round has its own topics, so it has its own group for emissions and
    // letters, all of one source.
    for round in 0..rounds {
        let group = |way: &str| format!("{run}-{round}-{way}-group");
        let source = format!("{run}-{round}-source");
        let emit = format!("[binding.grant]\npublish = [\"{}\"]", topic(round, "emission"));
        let letter = format!("types = [\"Reject\"]\ndead_letter = \"{}\"", topic(round, "letter"));
        let emit = scripted_binding(&group("emission"), &source, &format!("types = [\"Emit\"]\n{emit}"));
        host = host.binding(&emit).binding(&scripted_binding(&group("letter"), &source, &letter));
    }
    let host = host.prepare();
    let options = SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    let shop = SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(host.outbox_schema(&["sqlite"]))).execute(&shop).await.unwrap();
    for round in 0..rounds {
        create_named_topic(kafka.bootstrap(), &format!("{run}-{round}-source"), 1, &[]).await;
    }
    host.start_again().await;
    host.upload("scripted", guest("scripted")).await;
    for round in 0..rounds {
        kafka.stop().unwrap();
        kafka.start_again().unwrap();
        for way in WAYS {
            create_named_topic(kafka.bootstrap(), &topic(round, way), 2, &[]).await;
        }
        send(&host, &shop, &format!("{run}-{round}-source"), &|way| topic(round, way)).await;
        for way in WAYS {
            arrived(&host, kafka, &topic(round, way), way).await;
        }
    }
}

fn key(number: usize) -> String {
    format!("k{}", number % KEYS)
}

/// Sends the messages of one round in every way at once.
async fn send(host: &Host, shop: &SqlitePool, source: &str, topic: &impl Fn(&str) -> String) {
    let message = |topic: String, number: usize, more: Value| {
        let mut message = json!({
            "topic": topic, "type": "First", "key": key(number), "source": "tests", "body": { "number": number },
        });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    let all = |way: &str, more: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..MESSAGES).map(|number| message(topic(way), number, more(number))).collect()
    };
    let plain = |_: usize| json!({});
    let named = all("named", &|number| json!({ "id": format!("{}-{number}", topic("named")) }));
    let scripted = |type_name: &str, entry: String| -> Vec<Value> {
        let body = |number: usize| json!({ "do": [entry], "number": number });
        (0..MESSAGES)
            .map(|number| message(source.to_owned(), number, json!({ "type": type_name, "body": body(number) })))
            .collect()
    };
    let emissions = scripted("Emit", format!("publish:{}", topic("emission")));
    let letters = scripted("Reject", "reject".to_owned());
    let transaction = async {
        let prepared = host.post("/v1/transactions", json!({ "messages": all("transaction", &plain) }), 201).await;
        let id = prepared["id"].as_str().unwrap();
        host.post(&format!("/v1/transactions/{id}/commit"), json!({}), 200).await;
    };
    let rows = async {
        let mut tx = shop.begin().await.unwrap();
        for number in 0..MESSAGES {
            sqlx::query("INSERT INTO courier_outbox (topic, type, key, body) VALUES (?, 'First', ?, ?)")
                .bind(topic("outbox"))
                .bind(key(number))
                .bind(json!({ "number": number }).to_string())
                .execute(&mut *tx)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
    };
    tokio::join!(
        async { drop(host.publish_all(all("direct", &plain)).await) },
        async { drop(host.publish_all(named).await) },
        async { drop(host.publish_all(all("delayed", &|_| json!({ "delay": "1s" }))).await) },
        async { drop(host.publish_all(emissions).await) },
        async { drop(host.publish_all(letters).await) },
        transaction,
        rows,
    );
}

/// Waits until all messages of a way lie in its topic in the order of their keys,
/// and checks that the host has their offsets.
async fn arrived(host: &Host, kafka: &Kafka, topic: &str, way: &str) {
    let records = wait_until(&format!("all of {topic} arrived"), SOON, async || {
        let records = read_topic(kafka.bootstrap(), topic).await;
        if records.len() >= MESSAGES { Ok(records) } else { Err(format!("{} records", records.len())) }
    })
    .await;
    let mut numbers: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    for record in &records {
        let of_key = numbers.entry(record.key.clone().unwrap()).or_default();
        let number = record.json()["number"].as_u64().unwrap();
        // A message may lie there twice, in the same place of its key's order, when
        // its acknowledgement was lost with the broker.
        if of_key.last() != Some(&number) {
            of_key.push(number);
        }
    }
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), MESSAGES, "{topic}: {numbers:?}");
    assert!(numbers.values().all(|numbers| numbers.is_sorted()), "{topic}: {numbers:?}");
    if way == "letter" {
        return;
    }
    wait_until(&format!("the host knows where all of {topic} lie"), SOON, async || {
        let (_, page) = host.request(Method::GET, &format!("/v1/messages?topic={topic}&limit=1000"), None).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let known = |item: &&Value| item["state"] == "COMMITTED" && item["offset"].as_i64().is_some_and(|at| at >= 0);
        match items.iter().filter(known).count() {
            MESSAGES if items.len() == MESSAGES => Ok(()),
            count => Err(format!("{count} of {}: {:?}", items.len(), items.iter().find(|item| !known(item)))),
        }
    })
    .await;
}
