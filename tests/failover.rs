//! A store that fails over, refuses, or has another clock than its hosts.

use std::time::Duration;

use courier_tests::proxy::Proxy;
use courier_tests::servers::Postgres;
use courier_tests::{Host, guest, kafka_client::create_topic, scripted, scripted_binding, turn, unique, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// How soon a host must work again once its store's address leads to the new
/// primary.
const BACK: Duration = Duration::from_secs(30);

async fn ready(host: &Host) -> (StatusCode, Value) {
    host.request(Method::GET, "/readyz", None).await
}

/// Waits for this status of `/readyz`, and returns the body.
async fn answers(host: &Host, wanted: StatusCode, within: Duration) -> Value {
    wait_until(&format!("/readyz answers {wanted}"), within, async || {
        let (status, body) = ready(host).await;
        if status == wanted { Ok(body) } else { Err(format!("{status}: {body}")) }
    })
    .await
}

/// PostgreSQL fails over behind its address, and the old primary turns read-only:
/// the host drops the sessions that lead there.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_fails_over_behind_its_address() {
    let _turn = turn::heavy().await;
    let primary = Postgres::start("fails-over-from").unwrap();
    let standby = primary.start_standby("fails-over-to").unwrap();
    let proxy = Proxy::start(primary.port().unwrap()).await;
    let url = primary.create_database().unwrap();
    let database = url.rsplit('/').next().unwrap();
    let group = unique("failover");
    let topic = create_topic(courier_tests::kafka().bootstrap(), "failover", 4).await;
    let host = Host::builder("host-1")
        .store_url(&format!("postgres://postgres@127.0.0.1:{}/{database}", proxy.port))
        .binding(&scripted_binding(&group, &topic, ""))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let keys = || (0..20).map(|number| format!("k{number}"));
    host.publish_all(keys().map(|key| scripted(&topic, &key, &["ok"])).collect()).await;
    host.settled(&group, 20, SOON).await;

    primary.psql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    primary.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    let told = answers(&host, StatusCode::SERVICE_UNAVAILABLE, SOON).await;
    assert_eq!(told["accepting"], false, "{told}");
    // A message with an id has its row first, so that nothing of it is sent.
    let mut named = scripted(&topic, "k", &["ok"]);
    named["id"] = Value::from(unique("meanwhile"));
    let (status, body) = host.request(Method::POST, "/v1/messages", Some(named)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");

    let written = primary.psql("postgres", "SELECT pg_current_wal_lsn()").unwrap();
    let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", written.trim());
    wait_until("the standby has all of it", SOON, async || {
        let answer = standby.psql("postgres", &caught_up).map_err(|error| format!("{error:#}"))?;
        if answer.trim() == "t" { Ok(()) } else { Err(answer) }
    })
    .await;
    standby.psql("postgres", "SELECT pg_promote()").unwrap();
    // The old primary lives on and answers; only new sessions reach the new one.
    proxy.lead_to(standby.port().unwrap());
    answers(&host, StatusCode::OK, BACK).await;
    host.publish_all(keys().map(|key| scripted(&topic, &key, &["ok"])).collect()).await;
    host.settled(&group, 40, BACK).await;
    let there = standby.psql(database, "SELECT count(*) FROM delivery").unwrap();
    assert_eq!(there.trim(), "40", "what was handled before and after is with the new primary");
    assert!(host.exited().is_none());
}

/// The store refuses one row for a cause other than its content: the handler runs
/// once, and its outcome waits until a person mends the store.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_for_a_lasting_cause_is_not_run_again() {
    let _turn = turn::heavy().await;
    let server = Postgres::start("refuses").unwrap();
    let url = server.create_database().unwrap();
    let database = url.rsplit('/').next().unwrap();
    server.psql(database, "CREATE ROLE app LOGIN").unwrap();
    server.psql(database, &format!("ALTER DATABASE {database} OWNER TO app")).unwrap();
    let (group, other) = (unique("refused"), unique("other"));
    let bootstrap = courier_tests::kafka().bootstrap();
    let (topic, quiet) = (create_topic(bootstrap, "refused", 1).await, create_topic(bootstrap, "quiet", 1).await);
    let host = Host::builder("host-1")
        .store_url(&url.replace("postgres@", "app@"))
        .binding(&scripted_binding(&group, &topic, ""))
        .binding(&scripted_binding(&other, &quiet, ""))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;

    server.psql(database, "REVOKE INSERT ON attempt FROM app").unwrap();
    let refused = host.publish(scripted(&topic, "k", &["error"])).await;
    let behind = host.publish(scripted(&topic, "other key", &["error"])).await;
    wait_until("the store refuses the outcome three times", SOON, async || {
        let count = host.metric("courier_refused_settles_total", &[("group", &group)]).await;
        if count >= 3.0 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    let (status, told) = ready(&host).await;
    let reasons = told["reasons"].to_string();
    assert!(status == StatusCode::OK && reasons.contains("the store refuses the outcomes of a partition"), "{told}");
    assert!(reasons.contains("permission denied for table attempt"), "{told}");
    let attempts = host.metric("courier_attempt_seconds_count", &[("group", &group)]).await;
    assert!(attempts <= 3.0, "the handler ran {attempts} times: once for each message that it had by then");
    // Other deliveries go on meanwhile.
    host.finished(host.publish(scripted(&quiet, "k", &["ok"])).await.id(), 1).await;

    server.psql(database, "GRANT INSERT ON attempt TO app").unwrap();
    wait_until("/readyz names no cause", SOON, async || {
        let (_, told) = ready(&host).await;
        if told["degraded"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    host.finished(refused.id(), 1).await;
    host.finished(behind.id(), 1).await;
    for delivery in host.deliveries(&format!("group={group}")).await {
        assert_eq!(delivery.attempts.len(), 1, "{}", delivery.brief());
    }
    let attempts = host.metric("courier_attempt_seconds_count", &[("group", &group)]).await;
    assert_eq!(attempts, 3.0, "each handler ran once");
}

/// All times are the store's: a host whose clock is an hour behind decides nothing
/// an hour early.
#[tokio::test(flavor = "multi_thread")]
async fn due_times_and_retention_go_by_one_clock() {
    let _turn = turn::shared().await;
    let server = courier_tests::postgres();
    let url = server.create_database().unwrap();
    let database = url.rsplit('/').next().unwrap();
    let group = unique("clock");
    let topic = create_topic(courier_tests::kafka().bootstrap(), "clock", 1).await;
    let host = Host::builder("host-1").store_url(&url).binding(&scripted_binding(&group, &topic, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    host.sigterm(SOON).await;
    // Kafka refuses a record that is an hour ahead.
    let ahead = "CREATE OR REPLACE FUNCTION courier_now() RETURNS bigint LANGUAGE sql VOLATILE AS
         $$ SELECT (extract(epoch FROM clock_timestamp() + interval '30 minutes') * 1000000)::bigint $$";
    server.psql(database, ahead).unwrap();
    host.start_again().await;
    let sent = host.publish(scripted(&topic, "k", &["retry:600s", "ok"])).await;
    let waiting = wait_until("it waits for its retry", SOON, async || {
        let deliveries = host.try_deliveries(&format!("group={group}")).await.map_err(|error| format!("{error:#}"))?;
        let found = deliveries.into_iter().find(|one| one.message_id == sent.id() && one.next_attempt_at.is_some());
        found.ok_or_else(|| "there is none".to_owned())
    })
    .await;
    let ahead = waiting.next_attempt_at.unwrap().duration_since(jiff::Timestamp::now());
    let minutes = ahead.as_secs() / 60;
    assert!((30..=40).contains(&minutes), "forty minutes from now by this clock, not {minutes} minutes");
}

/// A fail-over to a standby that lagged behind takes back stored outcomes. The
/// host's memory is wrong then, and it starts anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_store_lost_what_it_had_starts_anew() {
    let _turn = turn::shared().await;
    let server = courier_tests::postgres();
    let url = server.create_database().unwrap();
    let database = url.rsplit('/').next().unwrap();
    let group = unique("lost");
    let topic = create_topic(courier_tests::kafka().bootstrap(), "lost", 1).await;
    let host = Host::builder("host-1").store_url(&url).binding(&scripted_binding(&group, &topic, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;
    // The settle of that message never reached the new primary.
    let forgotten = "UPDATE writer SET sequence = 0; UPDATE position SET next = 0; DELETE FROM delivery";
    server.psql(database, forgotten).unwrap();
    host.publish(scripted(&topic, "k", &["ok"])).await;
    let status = wait_until("the host has ended", SOON, async || host.exited().ok_or_else(|| host.log_tail())).await;
    assert!(!status.success() && host.log().contains("the store has lost what it had stored"), "{}", host.log_tail());
    host.start_again().await;
    host.settled(&group, 2, SOON).await;
}
