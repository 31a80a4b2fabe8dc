//! A group that behaves badly costs the others no more than its share.
//!
//! These tests count: `cargo xtask bench fairness` measures how long messages
//! take beside a hostile group.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, guest, kafka, postgres, scale, scripted, turn, unique, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);
/// How long a group is throttled before it has to give partitions up.
const HELD: Duration = Duration::from_secs(3);

async fn publish(host: &Host, topic: &str, count: usize, word: impl Fn(usize) -> &'static str) {
    let messages: Vec<Value> =
        (0..count).map(|number| scripted(topic, &format!("k{number}"), &[word(number)])).collect();
    for batch in messages.chunks(500) {
        host.publish_all(batch.to_vec()).await;
    }
}

/// A group with ordinary messages beside one that spins, allocates and floods,
/// with more such messages than it can handle in the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_served_while_another_one_spins_allocates_and_floods() {
    let _turn = turn::alone().await;
    let good_topic = create_topic(kafka().bootstrap(), "good", 4).await;
    let bad_topic = create_topic(kafka().bootstrap(), "bad", 4).await;
    let (good, bad) = (unique("good"), unique("bad"));
    let host = Host::builder("host-1")
        .binding(&scripted_binding(&good, &good_topic, ""))
        .binding(&scripted_binding(&bad, &bad_topic, "cpu = \"500ms\"\nmemory = \"16MiB\""))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let (hostile, ordinary) = (2_000, scale(1_000, 20_000));
    publish(&host, &bad_topic, hostile, |number| ["spin", "alloc", "stack", "log:1MiB", "trap"][number % 5]).await;
    let at_work = wait_until("the hostile group is at work", SOON, async || {
        let seen = host.group(&bad).await;
        if seen.failed > 0 { Ok(seen.failed + seen.handled) } else { Err(format!("{seen:?}")) }
    })
    .await;
    publish(&host, &good_topic, ordinary, |_| "ok").await;
    host.settled(&good, ordinary, SOON).await;
    let seen = host.group(&bad).await;
    let ended = seen.failed + seen.handled;
    assert!(ended > at_work && ended < hostile as u64, "the hostile group did not work throughout: {seen:?}");
    let deliveries = host.deliveries(&format!("group={good}")).await;
    assert_eq!(deliveries.len(), ordinary);
    assert!(deliveries.iter().all(|one| one.state == State::Handled && one.attempts.len() == 1));
    assert!(host.exited().is_none(), "a guest ended the host");
}

/// Two groups that both need all CPUs get about half of them each.
#[tokio::test(flavor = "multi_thread")]
async fn saturated_groups_get_equal_shares() {
    let _turn = turn::alone().await;
    let mut host = Host::builder("host-1");
    let mut groups = Vec::new();
    // The same work, in units of different size and with different concurrency: a
    // share is one of CPU time, not of messages.
    for (name, cpu_ms, concurrency) in [("small", 20_u64, 8), ("large", 100, 32)] {
        let topic = create_topic(kafka().bootstrap(), name, 4).await;
        let group = unique(name);
        let policy = format!("concurrency = {concurrency}\ncpu = \"{cpu_ms}ms\"");
        host = host.binding(&scripted_binding(&group, &topic, &policy));
        groups.push((group, topic, cpu_ms));
    }
    let host = host.start().await;
    // The CPU time of both together until their shares are compared.
    let together_ms = scale(20_000_u64, 120_000);
    for (_, topic, cpu_ms) in &groups {
        // Neither can finish before the other had its share.
        publish(&host, topic, usize::try_from(together_ms / cpu_ms).unwrap(), |_| "spin").await;
    }
    // Both begin at once.
    host.upload("scripted", guest("scripted")).await;
    let used = wait_until("both have worked for a while", SOON + SOON, async || {
        let mut used = Vec::new();
        for (group, _, cpu_ms) in &groups {
            used.push(host.group(group).await.failed * cpu_ms);
        }
        if used.iter().sum::<u64>() >= together_ms { Ok(used) } else { Err(format!("{used:?} ms")) }
    })
    .await;
    println!("processor time in ms: {used:?}");
    let share = used.iter().sum::<u64>() as f64 / used.len() as f64;
    for (used, (group, ..)) in used.iter().zip(&groups) {
        assert!(*used as f64 >= 0.8 * share, "{group} got {used} ms of an equal share of {share:.0} ms");
    }
}

/// A throttled group ends its running attempts as soon as its partitions go to
/// another host: none is dropped and run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_held_back_gives_partitions_up_in_time() {
    let _turn = turn::alone().await;
    let store = postgres().create_database().expect("a database for the hosts");
    let good_topic = create_topic(kafka().bootstrap(), "good", 4).await;
    let bad_topic = create_topic(kafka().bootstrap(), "bad", 4).await;
    let (good, bad) = (unique("good"), unique("bad"));
    let join = async |node: &str| {
        Host::builder(node)
            .store_url(&store)
            .binding(&scripted_binding(&good, &good_topic, ""))
            .binding(&scripted_binding(&bad, &bad_topic, "concurrency = 4\ncpu = \"100ms\""))
            .start()
            .await
    };
    let one = join("host-1").await;
    one.upload("scripted", guest("scripted")).await;
    publish(&one, &bad_topic, 2_000, |_| "spin").await;
    let ordinary = async {
        loop {
            publish(&one, &good_topic, 10, |_| "ok").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let released = async {
        wait_until("the hostile group is held back", SOON, async || {
            let held = one.metric("courier_held_back", &[("group", &bad)]).await;
            if held > 0.0 { Ok(()) } else { Err("it is free".to_owned()) }
        })
        .await;
        tokio::time::sleep(HELD).await;
        let two = join("host-2").await;
        let released = wait_until("host-1 gave half of its partitions up", SOON, async || {
            let log = one.log();
            let of_it = |line: &&str| line.contains("partition released") && line.contains(&bad);
            let lines: Vec<String> = log.lines().filter(of_it).map(str::to_owned).collect();
            if lines.len() < 2 { Err(format!("{lines:?}")) } else { Ok(lines) }
        })
        .await;
        drop(two);
        released
    };
    let released = tokio::select! {
        released = released => released,
        () = ordinary => unreachable!("it goes on for ever"),
    };
    assert!(released.iter().all(|line| line.contains("why=Drained")), "{released:#?}");
}
