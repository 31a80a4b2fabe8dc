//! Tests of the servers that all other tests rely on.

use std::time::Duration;

use courier_tests::kafka_client::{self, create_topic, produce, producer, read_topic, read_topic_as, sasl_config};
use courier_tests::servers::{Kafka, Postgres};
use courier_tests::{kafka, postgres, wait_until};
use sqlx::Connection;

#[tokio::test]
async fn kafka_keeps_its_data_and_ports_over_a_stop_and_a_crash() {
    let kafka = Kafka::start("stops").unwrap();
    let topic = create_topic(kafka.bootstrap(), "kept", 2).await;
    let client = producer(&kafka_client::config(kafka.bootstrap()));
    produce(&client, &topic, Some(b"k"), &[("name", "value")], b"one").await;
    kafka.stop().unwrap();
    kafka.start_again().unwrap();
    produce(&client, &topic, Some(b"k"), &[], b"two").await;
    kafka.kill9().unwrap();
    kafka.start_again().unwrap();
    let records = read_topic(kafka.bootstrap(), &topic).await;
    let bodies: Vec<_> = records.iter().map(|record| record.payload.clone().unwrap()).collect();
    assert_eq!(bodies, [b"one", b"two"]);
    assert_eq!(records[0].header("name").as_deref(), Some("value"));
}

#[tokio::test]
async fn the_second_door_wants_tls_and_a_password() {
    let Some(sasl) = kafka().sasl() else { return };
    let topic = create_topic(kafka().bootstrap(), "secured", 1).await;
    produce(&producer(&sasl_config(sasl)), &topic, None, &[], b"signed").await;
    assert_eq!(read_topic_as(sasl_config(sasl), &topic).await.len(), 1);

    let mut stranger = sasl_config(sasl);
    stranger.set("sasl.password", "guessed").set("message.timeout.ms", "3000");
    let record = rdkafka::producer::FutureRecord::<str, str>::to(&topic).payload("forged");
    let refused = producer(&stranger).send(record, Duration::from_secs(5)).await;
    assert!(refused.is_err(), "a wrong password was let in");
}

#[tokio::test]
async fn kcat_is_a_foreign_producer() {
    let topic = create_topic(kafka().bootstrap(), "kcat", 1).await;
    kafka_client::kcat(kafka().bootstrap(), &topic, "key", "body");
    let records = read_topic(kafka().bootstrap(), &topic).await;
    assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(records[0].payload.as_deref(), Some(&b"body"[..]));
}

#[tokio::test]
async fn every_test_gets_a_database_of_its_own_with_fsync_on() {
    let (one, two) = (postgres().create_database().unwrap(), postgres().create_database().unwrap());
    assert_ne!(one, two);
    let mut connection = sqlx::PgConnection::connect(&one).await.unwrap();
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
    assert_eq!(fsync, "on");
}

#[tokio::test]
async fn postgres_keeps_its_data_and_port_over_a_stop_and_a_crash() {
    let server = Postgres::start("stops").unwrap();
    let url = server.create_database().unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE kept (n int)").execute(&mut connection).await.unwrap();
    sqlx::query("INSERT INTO kept VALUES (7)").execute(&mut connection).await.unwrap();
    for crash in [false, true] {
        if crash {
            server.crash().unwrap()
        } else {
            server.stop().unwrap()
        }
        assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err(), "the connection outlived the server");
        server.start_again().unwrap();
        connection = wait_until("the server takes connections", Duration::from_secs(10), async || {
            sqlx::PgConnection::connect(&url).await.map_err(|error| error.to_string())
        })
        .await;
        let kept: i32 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await.unwrap();
        assert_eq!(kept, 7);
    }
}
