//! Broadcasts: each node of each bound group handles them and has its own status.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{config, create_topic, delete_topic, produce, producer, read_topic};
use courier_tests::{Delivery, Host, Message, Store, guest, kafka, postgres, scripted, turn, unique, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const CACHE: &str = "[binding.grant]\ncache = true";

/// A broadcast for the scripted guest, with a key of its own.
fn broadcast(topic: &str, script: &[&str]) -> Value {
    let mut message = scripted(topic, &unique("key"), script);
    message["kind"] = json!("broadcast");
    message
}

/// Waits until the deliveries of a message are these, by node.
async fn deliveries_are(host: &Host, id: &str, expected: &[(&str, State)]) -> Message {
    wait_until(&format!("the deliveries of {id} are {expected:?}"), SOON, async || {
        let message: Message =
            host.try_get(&format!("/v1/messages/{id}")).await.map_err(|error| format!("{error:#}"))?;
        let found: Vec<(&str, State)> = message
            .deliveries
            .iter()
            .filter(|one| one.state == State::Committed || one.is_final())
            .map(|one| (one.node.as_deref().unwrap_or("nobody"), one.state))
            .collect();
        if found == expected { Ok(message.clone()) } else { Err(format!("{message:?}")) }
    })
    .await
}

/// The nodes that a group's broadcasts are for, each with whether it is forgotten.
async fn listeners(host: &Host, group: &str) -> Vec<(String, bool)> {
    let group: Value = host.get(&format!("/v1/groups/{group}")).await;
    let listed = group["broadcast"].as_array().expect("a group lists who hears its broadcasts").iter();
    listed.map(|one| (one["node"].as_str().unwrap().to_owned(), one["forgotten"].as_bool().unwrap())).collect()
}

fn of<'m>(message: &'m Message, node: &str) -> &'m Delivery {
    let found = message.deliveries.iter().find(|one| one.node.as_deref() == Some(node));
    found.unwrap_or_else(|| panic!("{node} has a delivery of {message:?}"))
}

/// One node is killed, one joins late, one fails its handler: each has the
/// status of that.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_nodes_has_a_status_of_its_own() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "spread", 2).await;
    let (group, store) = (unique("spread"), postgres().create_database().expect("a database for the hosts"));
    let binding = scripted_binding(&group, &topic, CACHE);
    let join = async |node: &str| Host::builder(node).store_url(&store).create_topics().binding(&binding).start().await;
    let one = join("host-1").await;
    one.upload("scripted", guest("scripted")).await;
    let two = join("host-2").await;

    let set = one.publish(broadcast(&topic, &["cache:mode=on+ok"])).await;
    let both = [("host-1", State::Handled), ("host-2", State::Handled)];
    let message = deliveries_are(&two, set.id(), &both).await;
    assert_eq!((message.kind.as_str(), message.topic.as_str()), ("broadcast", topic.as_str()));
    assert_eq!(message.body, Some(json!({ "do": ["cache:mode=on+ok"] })));
    assert!(message.deliveries.iter().all(|one| one.topic == topic && one.attempts.len() == 1));
    assert!(read_topic(kafka().bootstrap(), &topic).await.is_empty(), "the topic of events has none of it");

    two.kill9();
    let three = join("host-3").await;
    let need = three.publish(broadcast(&topic, &["need:mode=on+log:10B"])).await;
    let apart = [("host-1", State::Handled), ("host-2", State::Committed), ("host-3", State::HandleFail)];
    let message = deliveries_are(&one, need.id(), &apart).await;
    assert_eq!(of(&message, "host-3").reason.as_deref(), Some("scripted: need:mode=on"));
    let before = one.message(set.id()).await;
    assert_eq!(before.deliveries.len(), 2, "what was said before it joined is not for host-3: {before:?}");

    // It comes back and goes on at its position; its cache is empty.
    two.start_again().await;
    let failed = [("host-1", State::Handled), ("host-2", State::HandleFail), ("host-3", State::HandleFail)];
    let message = deliveries_are(&one, need.id(), &failed).await;

    // A retry that is requested of any node runs on the node that failed.
    let again = one.publish(broadcast(&topic, &["cache:mode=on+ok"])).await;
    let all = [("host-1", State::Handled), ("host-2", State::Handled), ("host-3", State::Handled)];
    deliveries_are(&one, again.id(), &all).await;
    one.post(&format!("/v1/deliveries/{}/retry", of(&message, "host-3").id), json!(null), 202).await;
    let retried = [("host-1", State::Handled), ("host-2", State::HandleFail), ("host-3", State::Handled)];
    let message = deliveries_are(&one, need.id(), &retried).await;
    let numbers: Vec<&str> =
        of(&message, "host-3").attempts.iter().filter_map(|attempt| attempt.node.as_deref()).collect();
    assert_eq!(numbers, ["host-3", "host-3"]);

    // The handler of an event finds a value that a broadcast put into the cache.
    let event = one.publish(scripted(&topic, "k", &["need:mode=on+ok"])).await;
    let message = one.finished(event.id(), 1).await;
    assert_eq!(message.deliveries[0].state, State::Handled, "{message:?}");
    let nodes = ["host-1", "host-2", "host-3"].map(|node| (node.to_owned(), false));
    assert_eq!(listeners(&one, &group).await, nodes);
}

/// A node that is away for too long is no longer expected: deliveries that wait
/// for it end, and it learns which broadcasts it missed.
async fn forgotten(catch_up: bool) {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "forget", 1).await;
    let (group, store) = (unique("forget"), postgres().create_database().expect("a database for the hosts"));
    // Longer than another host needs to take over the relay of a killed one, so
    // that a broadcast relayed after the kill is received before.
    let policy = format!(
        "broadcast_forget = \"30s\"\nbroadcast_catch_up = {catch_up}\n[binding.retry]\ninitial = \"60s\"\nmax = \"60s\""
    );
    let binding = scripted_binding(&group, &topic, &policy);
    let join = async |node: &str| Host::builder(node).store_url(&store).create_topics().binding(&binding).start().await;
    let one = join("host-1").await;
    one.upload("scripted", guest("scripted")).await;
    let two = join("host-2").await;
    let waits = one.publish(broadcast(&topic, &["error", "ok"])).await;
    wait_until("both wait for a retry", SOON, async || {
        let open = one.group(&group).await.open;
        if open.retrying == 2 { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    two.kill9();
    let missed = one.publish(broadcast(&topic, &["ok"])).await;
    let expected = [("host-1", State::Handled), ("host-2", State::Committed)];
    deliveries_are(&one, missed.id(), &expected).await;
    wait_until("host-2 is forgotten", SOON * 2, async || {
        let found = listeners(&one, &group).await;
        if found.contains(&("host-2".to_owned(), true)) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let message = one.message(waits.id()).await;
    let ended = of(&message, "host-2");
    assert!(ended.is_final() && ended.reason.as_deref().unwrap().contains("broadcast_forget"), "{ended:?}");
    deliveries_are(&one, missed.id(), &[("host-1", State::Handled)]).await;
    let refused = one.post(&format!("/v1/deliveries/{}/retry", ended.id), json!(null), 409).await;
    assert!(refused["detail"].as_str().unwrap().contains("no longer listens"), "{refused}");

    two.start_again().await;
    assert!(listeners(&one, &group).await.contains(&("host-2".to_owned(), false)));
    let next = one.publish(broadcast(&topic, &["ok"])).await;
    let both = [("host-1", State::Handled), ("host-2", State::Handled)];
    deliveries_are(&one, next.id(), &both).await;
    if catch_up {
        deliveries_are(&one, missed.id(), &both).await;
    } else {
        deliveries_are(&one, missed.id(), &both[..1]).await;
        assert!(two.log().contains("these broadcasts passed it by"), "the node is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_away_for_too_long_is_told_what_it_missed() {
    forgotten(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_away_for_too_long_catches_up_if_its_binding_wants_it() {
    forgotten(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_no_node_was_there_for_says_so() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "unheard", 1).await;
    let host = Host::builder("host-1").create_topics().start().await;
    let sent = host.publish(broadcast(&topic, &["ok"])).await;
    let message = wait_until("the broadcast is judged", SOON, async || {
        let message = host.message(sent.id()).await;
        // Until it is sent, the reason says what it waits for.
        let is_judged = message.state == State::Committed && message.reason.is_some();
        if is_judged { Ok(message) } else { Err(format!("{message:?}")) }
    })
    .await;
    assert_eq!(message.reason.as_deref(), Some("no node was there to hear this broadcast"));
    assert_eq!((message.state, message.deliveries.len()), (State::Committed, 0));
    assert!((host.metric("courier_broadcast_unheard_total", &[]).await - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_that_is_missing_is_named() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "alone", 1).await;
    let host = Host::builder("host-1").binding(&scripted_binding(&unique("alone"), &topic, "")).start().await;
    let companion = format!("{topic}.broadcast");
    let refused = host.post("/v1/messages", broadcast(&topic, &["ok"]), 422).await;
    assert!(refused["detail"].as_str().unwrap().contains(&companion), "{refused}");
    wait_until("/readyz names the companion", SOON, async || {
        let ready: Value = host.get("/readyz").await;
        let named = ready["reasons"].to_string().contains(&companion);
        if named && ready["degraded"] == json!([]) { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
}

/// Only a broadcast that came created the companion of its topic: one that went to the
/// relay, and found no companion there, waited for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_companion_that_broadcasts_wait_for_is_created() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "vanished", 1).await;
    let companion = format!("{topic}.broadcast");
    let host = Host::builder("host-1").create_topics().start().await;
    let mut message = broadcast(&topic, &["ok"]);
    message["delay"] = json!("10s");
    let sent = host.publish(message).await;
    delete_topic(kafka().bootstrap(), &companion).await;
    wait_until("the broadcast went out", SOON, async || {
        let message = host.message(sent.id()).await;
        if message.partition.is_some() { Ok(()) } else { Err(format!("{message:?}")) }
    })
    .await;
    assert_eq!(read_topic(kafka().bootstrap(), &companion).await.len(), 1);
}

/// One node with SQLite, several bindings in its group: by CLI and CloudEvents,
/// from a foreign producer, and over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_hears_every_sender() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "hears", 1).await;
    let other = create_topic(kafka().bootstrap(), "hears-too", 1).await;
    let group = unique("hears");
    let host = Host::builder("host-1").store(Store::Sqlite).create_topics();
    let host = host.binding(&scripted_binding(&group, &topic, "")).binding(&scripted_binding(&group, &other, ""));
    let host = host.start().await;
    host.upload("scripted", guest("scripted")).await;
    let mut ids = Vec::new();
    for topic in [&topic, &other] {
        ids.push(host.publish(broadcast(topic, &["ok"])).await.id().to_owned());
    }
    let arguments = ["publish", &topic, "--type", "T", "--broadcast", "--body", "{}", "--id", "by-cli"];
    let (status, _, error) = host.cli(&arguments);
    assert!(status.success(), "{error}");
    let event = json!({
        "specversion": "1.0", "id": "by-event", "source": "/tests", "type": "T", "topic": topic, "kind": "broadcast",
        "data": {},
    });
    let headers = [("content-type", "application/cloudevents+json")];
    let (status, answer) = host.send(reqwest::Method::POST, "/v1/messages", &headers, event.to_string().into()).await;
    assert_eq!(status.as_u16(), 202, "{answer}");
    let foreign = producer(&config(kafka().bootstrap()));
    let companion = format!("{topic}.broadcast");
    let (partition, offset) = produce(&foreign, &companion, None, &[], b"{}").await;
    ids.extend(["by-cli".to_owned(), "by-event".to_owned(), format!("{companion}:{partition}:{offset}")]);
    for id in &ids {
        let message = deliveries_are(&host, &courier_tests::encode(id), &[("host-1", State::Handled)]).await;
        assert_eq!(message.kind, "broadcast", "{message:?}");
    }
    // Over a restart nothing is handled twice, and nothing is missed.
    host.kill9();
    produce(&foreign, &companion, None, &[("ce_id", "while-away")], b"{}").await;
    host.start_again().await;
    deliveries_are(&host, "while-away", &[("host-1", State::Handled)]).await;
    let group = host.settled(&group, ids.len() + 1, SOON).await;
    assert_eq!((group.handled, group.failed), (ids.len() as u64 + 1, 0));
}

/// Two nodes of a group on one database.
async fn pair(group: &str, binding: &str) -> [Host; 2] {
    let store = postgres().create_database().expect("a database for the hosts");
    let join = async |node: &str| Host::builder(node).store_url(&store).create_topics().binding(binding).start().await;
    let hosts = [join("host-1").await, join("host-2").await];
    hosts[0].upload("scripted", guest("scripted")).await;
    wait_until("both nodes hear broadcasts", SOON, async || {
        let found = listeners(&hosts[0], group).await;
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    hosts
}

const BOTH: [(&str, State); 2] = [("host-1", State::Handled), ("host-2", State::Handled)];

/// A paused group runs nothing on any node, and everything once afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_wait_for_a_paused_group() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "rest", 1).await;
    let group = unique("rest");
    let hosts = pair(&group, &scripted_binding(&group, &topic, "")).await;
    let before = hosts[0].publish(broadcast(&topic, &["ok"])).await;
    deliveries_are(&hosts[0], before.id(), &BOTH).await;
    hosts[0].post(&format!("/v1/groups/{group}/pause"), json!({}), 200).await;
    // Each node learns of the pause within a moment.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(hosts[number % 2].publish(broadcast(&topic, &["ok"])).await.id().to_owned());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let waiting = [("host-1", State::Committed), ("host-2", State::Committed)];
    for id in &ids {
        let message = deliveries_are(&hosts[1], id, &waiting).await;
        assert!(message.deliveries.iter().all(|one| one.attempts.is_empty()), "nothing ran: {message:?}");
    }
    hosts[1].post(&format!("/v1/groups/{group}/resume"), json!({}), 200).await;
    for id in &ids {
        let message = deliveries_are(&hosts[0], id, &BOTH).await;
        assert!(message.deliveries.iter().all(|one| one.attempts.len() == 1), "each ran once: {message:?}");
    }
}

/// A reload that adds a topic starts its broadcasts and loses none of the other
/// topic; one that removes a topic ends only that topic's broadcasts.
#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_survive_a_reload() {
    let _turn = turn::shared().await;
    let (old, new) =
        (create_topic(kafka().bootstrap(), "stays", 1).await, create_topic(kafka().bootstrap(), "comes", 1).await);
    let group = unique("reload");
    let hosts = pair(&group, &scripted_binding(&group, &old, "")).await;
    let mut ids = Vec::new();
    let both = format!("topics = [\"{old}\", \"{new}\"]");
    for number in 0..30 {
        if number == 10 {
            for host in &hosts {
                host.write_config(&host.toml().replace(&format!("topics = [\"{old}\"]"), &both));
                host.sighup();
            }
        }
        ids.push(hosts[number % 2].publish(broadcast(&old, &["ok"])).await.id().to_owned());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_until("both nodes hear the new topic", SOON, async || {
        let seen: Value = hosts[0].get(&format!("/v1/groups/{group}")).await;
        let listening =
            seen["broadcast"].as_array().expect("who hears").iter().filter(|one| one["topic"] == new).count();
        if listening == 2 { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    let fresh = hosts[1].publish(broadcast(&new, &["ok"])).await.id().to_owned();
    ids.push(fresh);
    for id in &ids {
        let message = deliveries_are(&hosts[0], id, &BOTH).await;
        assert!(message.deliveries.iter().all(|one| one.attempts.len() == 1), "each ran once: {message:?}");
    }
    for host in &hosts {
        host.write_config(&host.toml());
        host.sighup();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last = hosts[0].publish(broadcast(&old, &["ok"])).await;
    deliveries_are(&hosts[1], last.id(), &BOTH).await;
}
