//! A stop during a reload, and reloads of single settings.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Store, guest, kafka, scripted, scripted_binding, turn, unique, wait_until};
use serde_json::Value;

/// How long a host may take to drain, with the time for its last answers.
const DRAINED: Duration = Duration::from_secs(17);
const SOON: Duration = Duration::from_secs(60);

/// A reload drains the changed groups, which takes as long as their attempts; a
/// stop must neither wait for the groups to come back nor lose their deliveries.
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

    // The stop dropped the long attempts without counting them: they begin again.
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
async fn a_stop_during_a_reload_drains_and_loses_nothing() {
    stopped_in_a_reload(Store::of_this_pass()).await;
}

/// The degraded parts in `/readyz`.
async fn degraded(host: &Host) -> Vec<String> {
    let (_, ready) = host.request(reqwest::Method::GET, "/readyz", None).await;
    serde_json::from_value(ready["degraded"].clone()).unwrap_or_else(|error| panic!("{error}: {ready}"))
}

/// Waits until attention has an item of this kind with this text.
async fn attention(host: &Host, kind: &str, says: &str) {
    wait_until(&format!("attention has {kind}"), SOON, async || {
        let overview: Value = host.get("/v1/overview").await;
        let mut items = overview["attention"].as_array().into_iter().flatten();
        let found = items.any(|one| one["kind"] == kind && one["detail"].as_str().unwrap_or_default().contains(says));
        if found { Ok(()) } else { Err(overview["attention"].to_string()) }
    })
    .await;
}

/// After a reload, `[kafka.topics] create = true` was logged as "configuration
/// reloaded" and never took effect.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_from_the_moment_the_file_says_so() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "create", 1).await;
    let group = unique("create");
    let host = Host::builder("host-1").binding(&scripted_binding(&group, &topic, "dead_letter = true")).start().await;
    let missing = format!("topic dlq.{topic}.{group}");
    wait_until("the topic of dead letters is missed", SOON, async || {
        let degraded = degraded(&host).await;
        if degraded.contains(&missing) { Ok(()) } else { Err(format!("{degraded:?}")) }
    })
    .await;
    host.write_config(&format!("{}\n[kafka.topics]\ncreate = true\npartitions = 1\nreplication = 1\n", host.toml()));
    wait_until("it was created", SOON, async || {
        let degraded = degraded(&host).await;
        if degraded.contains(&missing) { Err(format!("{degraded:?}")) } else { Ok(()) }
    })
    .await;
}

/// An empty or half-written file dropped all bindings at once. The host reports
/// changes that need a restart, and mistakes with their place.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_taken_is_told_and_one_without_bindings_needs_a_signal() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "vanish", 1).await;
    let group = unique("vanish");
    let host = Host::builder("host-1").binding(&scripted_binding(&group, &topic, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let good = host.toml();

    host.write_config(&format!("nod = 1\n{good}"));
    wait_until("the wrong file is told", SOON, async || {
        let degraded = degraded(&host).await;
        if degraded == ["config"] { Ok(()) } else { Err(format!("{degraded:?}")) }
    })
    .await;
    attention(&host, "stopped", "courier.toml:1:1: unknown key `nod`").await;
    assert!(host.metric("courier_config_refused", &[("line", "1"), ("column", "1")]).await > 0.0);

    let unbound = good.split("[[binding]]").next().unwrap().to_owned();
    host.write_config(&unbound);
    attention(&host, "stopped", "no bindings any more").await;
    assert_eq!(degraded(&host).await, ["config"]);
    let id = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled, "the binding works on");

    host.sighup();
    wait_until("a signal takes it", SOON, async || {
        let bound = host.groups().await.iter().any(|seen| !seen.bindings.is_empty());
        if bound || !degraded(&host).await.is_empty() { Err(host.log_tail()) } else { Ok(()) }
    })
    .await;
    assert!(host.log().contains("binding removed"));

    host.write_config(&good.replace("url = \"sqlite", "retention = \"3d\"\nurl = \"sqlite"));
    attention(&host, "config_restart", "[store] changed").await;
    let (_, ready) = host.request(reqwest::Method::GET, "/readyz", None).await;
    assert!(ready["reasons"].to_string().contains("takes effect after a restart"), "{ready}");
    assert!(degraded(&host).await.is_empty(), "it is in force but for that");
}

/// A changed token file was not noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_token_file_takes_effect() {
    let _turn = turn::shared().await;
    let auth = "[auth]\ntokens = [{ name = \"root\", role = \"admin\", file = \"root.token\" }]";
    let host = Host::builder("token-file").table(auth).token("first-secret").prepare();
    let file = host.config().with_file_name("root.token");
    std::fs::write(&file, "first-secret").unwrap();
    host.start_again().await;
    let status = async |token: &str| {
        let request = reqwest::Client::new().get(format!("{}/v1/groups", host.address())).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("first-secret").await, status("second-secret").await), (200, 401));
    std::fs::write(&file, "second-secret").unwrap();
    wait_until("the new token is known", SOON, async || match status("second-secret").await {
        200 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    assert_eq!(status("first-secret").await, 401);
}

/// Waits until each group has handled as many deliveries of a topic.
async fn all_handled(host: &Host, groups: &[String], topic: &str, count: usize) {
    for group in groups {
        wait_until(&format!("{group} handled {count} of {topic}"), SOON, async || {
            let found = host.deliveries(&format!("group={group}&topic={topic}&state=HANDLED")).await.len();
            if found == count { Ok(()) } else { Err(format!("{found}: {}", host.log_tail())) }
        })
        .await;
    }
}

/// The consumer of an idle group ended without leaving the group. Kafka gave the next
/// consumer the partitions of the old topic, and no consumer read the new topic.
#[tokio::test(flavor = "multi_thread")]
async fn idle_groups_that_are_bound_to_another_topic_run_on_it() {
    let _turn = turn::shared().await;
    let (old, new) =
        (create_topic(kafka().bootstrap(), "old", 2).await, create_topic(kafka().bootstrap(), "new", 2).await);
    let groups: Vec<String> = (0..8).map(|number| unique(&format!("moved-{number}"))).collect();
    let bindings = groups.iter().map(|group| scripted_binding(group, &old, ""));
    let host = bindings.fold(Host::builder("host-1"), |host, binding| host.binding(&binding)).start().await;
    host.upload("scripted", guest("scripted")).await;
    host.publish(scripted(&old, "k", &["ok"])).await;
    all_handled(&host, &groups, &old, 1).await;
    host.write_config(&host.toml().replace(&format!("{old:?}"), &format!("{new:?}")));
    host.sighup();
    host.publish(scripted(&new, "k", &["ok"])).await;
    all_handled(&host, &groups, &new, 1).await;
}

/// A host that was killed starts under its old instance id, for which Kafka keeps the
/// partitions of the old subscription.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_reads_topics_that_were_bound_while_it_was_gone() {
    let _turn = turn::shared().await;
    let topics = [
        create_topic(kafka().bootstrap(), "first", 2).await,
        create_topic(kafka().bootstrap(), "second", 2).await,
        create_topic(kafka().bootstrap(), "third", 2).await,
    ];
    let groups = [unique("killed")];
    let host = Host::builder("host-1").binding(&scripted_binding(&groups[0], &topics[0], "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    host.publish(scripted(&topics[0], "k", &["ok"])).await;
    all_handled(&host, &groups, &topics[0], 1).await;
    let first = format!("{:?}", topics[0]);
    for bound in [format!("{first}, {:?}", topics[1]), format!("{:?}", topics[2])] {
        host.kill9();
        host.write_config(&host.toml().replace(&first, &bound));
        host.start_again().await;
        let added = topics.iter().rfind(|topic| bound.contains(topic.as_str())).unwrap();
        host.publish(scripted(added, "k", &["ok"])).await;
        all_handled(&host, &groups, added, 1).await;
    }
}
