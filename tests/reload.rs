//! A reload that is under way when the host is told to stop.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Store, guest, kafka, scripted, scripted_binding, turn, unique, wait_until};
use serde_json::Value;

/// How long a host may take to drain, with what it may still answer.
const DRAINED: Duration = Duration::from_secs(17);
const SOON: Duration = Duration::from_secs(60);

/// A reload drains the groups that changed, which takes as long as their
/// attempts; a stop must neither wait for the groups to come back nor lose what
/// they were at.
async fn stopped_in_a_reload(store: Store) {
    let _turn = turn::shared().await;
    let (topic, quiet) =
        (create_topic(kafka().bootstrap(), "reload", 2).await, create_topic(kafka().bootstrap(), "quiet", 1).await);
    let (changed, unchanged) = (unique("changed"), unique("unchanged"));
    let host = Host::builder("host-1")
        .store(store)
        .binding(&scripted_binding(&changed, &topic, "concurrency = 8\ntimeout = \"30s\""))
        .binding(&scripted_binding(&unchanged, &quiet, ""));
    let host = host.start().await;
    host.upload("scripted", guest("scripted")).await;
    // Longer than a group may drain, so that the reload is surely not over.
    let long = |number: usize| scripted(&topic, &format!("k{number}"), &["sleep:20s+ok", "ok"]);
    let short = |number: usize| scripted(&topic, &format!("k{number}"), &["sleep:50ms+ok"]);
    let messages: Vec<Value> = (0..4).map(long).chain((4..200).map(short)).collect();
    host.publish_all(messages).await;
    wait_until("some are handled", SOON, async || {
        let handled = host.group(&changed).await.handled;
        if handled >= 20 { Ok(()) } else { Err(format!("{handled}")) }
    })
    .await;
    host.write_config(&host.toml().replace("concurrency = 8", "concurrency = 9"));
    host.sighup();
    wait_until("the reload is under way", SOON, async || {
        if host.log().contains("drains") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    let status = host.sigterm(DRAINED).await;
    assert!(status.success(), "a stop is no failure: {status}");
    let log = host.log();
    assert!(!log.contains("configuration reloaded"), "the reload was over before the stop:\n{log}");
    assert!(log.contains("stopped") && !log.contains("did not drain within"), "it did not drain:\n{log}");

    // With short attempts, which the same bodies have not: the long ones were
    // dropped, and begin again.
    host.write_config(&host.toml());
    host.start_again().await;
    host.publish(scripted(&quiet, "k", &["ok"])).await;
    host.settled(&unchanged, 1, SOON).await;
    host.settled(&changed, 200, SOON).await;
    for delivery in host.deliveries(&format!("group={changed}")).await {
        assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
        assert_eq!(delivery.attempts.len(), 1, "a stop counts no attempt: {}", delivery.brief());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_reload_drains_and_loses_nothing_with_sqlite() {
    stopped_in_a_reload(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_reload_drains_and_loses_nothing_with_postgresql() {
    stopped_in_a_reload(Store::Postgres).await;
}
