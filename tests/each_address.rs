//! `each = true`: every address of a service gets every broadcast.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use courier_tests::kafka_client::create_topic;
use courier_tests::servers::process::{free_port, run_directory};
use courier_tests::{Host, kafka, postgres, turn, unique, wait_until};
use serde_json::{Value, json};

use crate::push::Service;

const SOON: Duration = Duration::from_secs(120);
/// Addresses of this machine that stand for two instances of a service.
const INSTANCES: [&str; 2] = ["127.0.0.2", "127.0.0.3"];

/// Sets the addresses of the service's name for the hosts.
fn name_has(file: &Path, addresses: &[&str]) {
    let lines: String = addresses.iter().map(|address| format!("stock.localhost {address}\n")).collect();
    let whole = file.with_extension("new");
    std::fs::write(&whole, lines).unwrap();
    std::fs::rename(whole, file).unwrap();
}

/// The listeners of a group's broadcasts, from its list.
async fn listeners(host: &Host, group: &str) -> Vec<Value> {
    let group: Value = host.get(&format!("/v1/groups/{group}")).await;
    group["broadcast"].as_array().expect("a group lists who hears its broadcasts").clone()
}

/// The node that pushes to each address, for addresses with a node.
fn holders(listeners: &[Value]) -> BTreeMap<String, String> {
    let live = listeners.iter().filter(|one| one["live"] == true);
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_else(|| panic!("{key} of {one}")).to_owned();
    live.map(|one| (text(one, "address"), text(one, "node"))).collect()
}

/// The requests that an instance got: the delivery of each, by message.
fn pushed(service: &Service) -> BTreeMap<String, Vec<String>> {
    let mut pushed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in service.requests() {
        let header = |name: &str| {
            let line = request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("{name} is in {request}")).to_owned()
        };
        pushed.entry(header("ce-id")).or_default().push(header("courier-delivery"));
    }
    pushed
}

async fn each_has(host: &Host, id: &str, addresses: &[String]) {
    wait_until(&format!("message {id} is handled at {addresses:?}"), SOON, async || {
        let message: Value = host.try_get(&format!("/v1/messages/{id}")).await.map_err(|error| format!("{error:#}"))?;
        let deliveries = message["deliveries"].as_array().cloned().unwrap_or_default();
        let handled = deliveries.iter().filter(|one| one["state"] == "HANDLED");
        let handled: Vec<&str> = handled.filter_map(|one| one["address"].as_str()).collect();
        if handled == addresses && deliveries.len() == addresses.len() { Ok(()) } else { Err(message.to_string()) }
    })
    .await;
}

/// Two instances and two hosts: the host of one instance is killed during
/// broadcasts, and in the end that instance goes away too.
#[tokio::test(flavor = "multi_thread")]
async fn every_address_has_every_broadcast_though_a_host_is_killed() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "each", 2).await;
    let (group, store, port) = (unique("each"), postgres().create_database().unwrap(), free_port().unwrap());
    let names = run_directory().unwrap().join(unique("names"));
    name_has(&names, &INSTANCES);
    let services: Vec<Service> = INSTANCES.iter().map(|_| Service::default()).collect();
    for (service, address) in services.iter().zip(INSTANCES) {
        service.start_at(address, port).await;
    }
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"http-push\"\neach = true\nbroadcast_forget = \"40s\"\n\
         [binding.retry]\nmax_attempts = 20\ninitial = \"200ms\"\n\
         [binding.config]\nurl = \"http://stock.localhost:{port}/courier\"\n"
    );
    let join = async |node: &str| {
        let host = Host::builder(node).store_url(&store).create_topics().binding(&binding);
        host.env("COURIER_TEST_NAMES", &names.to_string_lossy()).start().await
    };
    let hosts = [join("host-1").await, join("host-2").await];
    let addresses = INSTANCES.map(|address| format!("{address}:{port}"));
    let held = wait_until("each host pushes to one address", SOON, async || {
        let found = holders(&listeners(&hosts[0], &group).await);
        let nodes: BTreeSet<&String> = found.values().collect();
        if found.keys().eq(&addresses) && nodes.len() == 2 { Ok(found.clone()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let message = |number: usize| json!({ "topic": topic, "type": "PriceChanged", "kind": "broadcast", "key": format!("k-{}", number % 7), "body": { "number": number } });
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(hosts[number % 2].publish(message(number)).await.id().to_owned());
    }
    let (dead, alive) = if held[&addresses[1]] == "host-1" { (&hosts[0], &hosts[1]) } else { (&hosts[1], &hosts[0]) };
    dead.kill9();
    for number in 20..40 {
        ids.push(alive.publish(message(number)).await.id().to_owned());
    }
    for id in &ids {
        each_has(alive, id, &addresses).await;
    }
    let found = holders(&listeners(alive, &group).await);
    assert_eq!(found.values().collect::<BTreeSet<_>>().len(), 1, "the other host has taken over: {found:?}");
    for (service, address) in services.iter().zip(INSTANCES) {
        let pushed = pushed(service);
        assert_eq!(
            pushed.keys().collect::<BTreeSet<_>>(),
            ids.iter().collect::<BTreeSet<_>>(),
            "{address} has each and no other"
        );
        for (id, deliveries) in pushed {
            let distinct: BTreeSet<&String> = deliveries.iter().collect();
            assert_eq!(distinct.len(), 1, "{id} came to {address} again, and not as the same delivery: {deliveries:?}");
        }
    }

    // An instance that is gone is no longer expected, like a node.
    name_has(&names, &INSTANCES[..1]);
    wait_until("the address is forgotten", SOON, async || {
        let found = listeners(alive, &group).await;
        let gone = found.iter().find(|one| one["address"] == addresses[1].as_str());
        let is_forgotten = gone.is_some_and(|one| {
            one["forgotten"] == true && one["why"].as_str().is_some_and(|why| why.contains("broadcast_forget"))
        });
        if is_forgotten { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let last = alive.publish(message(40)).await;
    each_has(alive, last.id(), &addresses[..1]).await;
}
