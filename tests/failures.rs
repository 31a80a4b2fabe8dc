//! Deliveries whose handlers do not succeed, and that they stop no others.

use std::time::{Duration, Instant};

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{create_named_topic, create_topic, delete_topic, read_topic};
use courier_tests::{Delivery, Host, Store, guest, kafka, scripted, turn, unique, wait_until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// A host whose binding has this policy, its topic and its group.
async fn bound(store: Store, prefix: &str, policy: &str) -> (Host, String, String) {
    let topic = create_topic(kafka().bootstrap(), prefix, 1).await;
    let group = unique(prefix);
    let host = Host::scripted("host-1", store, &group, &topic, policy).await;
    (host, topic, group)
}

async fn finished(host: &Host, topic: &str, key: &str, script: &[&str]) -> Delivery {
    let id = host.publish(scripted(topic, key, script)).await.id().to_owned();
    host.finished(&id, 1).await.deliveries.remove(0)
}

fn verdicts(delivery: &Delivery) -> Vec<&str> {
    delivery.attempts.iter().map(|attempt| attempt.verdict.as_str()).collect()
}

async fn retries(store: Store) {
    let _turn = turn::shared().await;
    let policy = "[binding.retry]\nmax_attempts = 3\ninitial = \"100ms\"\nmultiplier = 1.0\njitter = 0.0";
    let (host, topic, _) = bound(store, "retries", policy).await;
    let healed = finished(&host, &topic, "a", &["retry", "trap", "ok"]).await;
    assert_eq!(healed.state, State::Handled, "{}", healed.brief());
    let numbers: Vec<(u32, bool)> = healed.attempts.iter().map(|attempt| (attempt.number, attempt.counted)).collect();
    assert_eq!(numbers, [(1, true), (2, true), (3, true)]);
    assert_eq!(healed.attempts[0].reason.as_deref(), Some("scripted: retry"));
    for pair in healed.attempts.windows(2) {
        let pause = pair[1].started_at.duration_since(pair[0].finished_at).as_millis();
        assert!((100..5_000).contains(&pause), "waited {pause} ms instead of 100: {pair:?}");
    }
    let given_up = finished(&host, &topic, "a", &["retry"]).await;
    assert_eq!((given_up.state, given_up.attempts.len()), (State::HandleFail, 3), "{}", given_up.brief());
    assert!(given_up.fingerprint.is_some() && given_up.next_attempt_at.is_none());
    let rejected = finished(&host, &topic, "a", &["reject"]).await;
    assert_eq!((rejected.state, rejected.attempts.len()), (State::HandleFail, 1), "{}", rejected.brief());
    assert_eq!(rejected.reason.as_deref(), Some("scripted: reject"));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_follow_the_schedule() {
    retries(Store::of_this_pass()).await;
}

/// Without a policy there is one attempt, and the lane goes on.
#[tokio::test(flavor = "multi_thread")]
async fn retries_are_off_unless_asked_for() {
    let _turn = turn::shared().await;
    let (host, topic, group) = bound(Store::Sqlite, "once", "").await;
    let failed = finished(&host, &topic, "a", &["error", "ok"]).await;
    assert_eq!((failed.state, verdicts(&failed)), (State::HandleFail, vec!["error"]), "{}", failed.brief());
    assert_eq!(finished(&host, &topic, "a", &["ok"]).await.state, State::Handled);
    assert_eq!(host.settled(&group, 2, SOON).await.failed, 1);
}

/// A parked lane waits in order; every other lane goes on.
async fn parking(store: Store) {
    let _turn = turn::shared().await;
    let policy = "concurrency = 8\n[binding.retry]\nmax_attempts = 5";
    let (host, topic, group) = bound(store, "parked", policy).await;
    let mut messages = vec![scripted(&topic, "sick", &["retry:15s", "ok"])];
    for number in 0..300 {
        messages.push(scripted(&topic, "sick", &["ok"]));
        messages.push(scripted(&topic, &format!("healthy-{}", number % 10), &["ok"]));
    }
    host.publish_all(messages).await;
    wait_until("the healthy keys are done while the sick one waits", Duration::from_secs(12), async || {
        let done = host.group(&group).await.handled;
        if done >= 300 { Ok(()) } else { Err(format!("{done} handled")) }
    })
    .await;
    let open = host.group(&group).await.open;
    assert_eq!((open.retrying, open.waiting), (1, 300), "{open:?}");
    let head = host.deliveries(&format!("group={group}&state=HANDLE_FAIL")).await;
    assert!(head.len() == 1 && head[0].next_attempt_at.is_some(), "{head:?}");

    host.settled(&group, 601, SOON).await;
    let mut lane = host.deliveries(&format!("group={group}&key=sick")).await;
    lane.sort_by_key(|delivery| delivery.offset);
    assert_eq!(lane.len(), 301);
    for pair in lane.windows(2) {
        let (before, after) = (pair[0].attempts.last().unwrap(), &pair[1].attempts[0]);
        assert!(before.finished_at <= after.started_at, "offset {} overtook {}", pair[1].offset, pair[0].offset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_lane_holds_nobody_else_up() {
    parking(Store::of_this_pass()).await;
}

/// Parked deliveries are in the store: a host that was killed while they waited
/// drains them in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_lane_survives_kill_9() {
    let _turn = turn::shared().await;
    let (host, topic, group) = bound(Store::Sqlite, "parked", "[binding.retry]\nmax_attempts = 5").await;
    let mut messages = vec![scripted(&topic, "sick", &["retry:3s", "ok"])];
    messages.extend((0..50).map(|_| scripted(&topic, "sick", &["ok"])));
    host.publish_all(messages).await;
    wait_until("the lane is parked", SOON, async || {
        let open = host.group(&group).await.open;
        if open.retrying == 1 && open.waiting == 50 { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    host.kill9();
    host.start_again().await;
    host.settled(&group, 51, SOON).await;
    let lane = host.deliveries(&format!("group={group}")).await;
    assert!(lane.iter().all(|delivery| delivery.state == State::Handled));
    let head = lane.iter().min_by_key(|delivery| delivery.offset).unwrap();
    assert_eq!(verdicts(head), ["retry", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_carry_the_raw_message_and_the_reason() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "dead", 1).await;
    let group = unique("dead");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "dead_letter = true").await;
    let failed = finished(&host, &topic, "k", &["reject"]).await;
    assert_eq!(failed.state, State::HandleFail);
    let letters = format!("dlq.{topic}.{group}");
    let letter = wait_until("the dead letter is on its topic", SOON, async || {
        read_topic(kafka().bootstrap(), &letters).await.pop().ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!(letter.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(letter.json(), json!({ "do": ["reject"] }));
    let errors: Vec<&String> =
        letter.headers.iter().map(|(name, _)| name).filter(|name| name.starts_with("__dlq.errors.")).collect();
    assert!(errors.len() >= 3, "topic, partition and offset at least: {errors:?}");
    assert!(
        letter.headers.iter().any(|(_, value)| String::from_utf8_lossy(value).contains("scripted: reject")),
        "no reason: {letter:?}"
    );
}

/// A topic of dead letters that was deleted to empty it was not created again before a
/// restart, and what was owed to it waited.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_of_dead_letters_is_created_again() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "emptied", 1).await;
    let group = unique("emptied");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "dead_letter = true").await;
    let letters = format!("dlq.{topic}.{group}");
    let keys = async || {
        let records = read_topic(kafka().bootstrap(), &letters).await;
        records.into_iter().filter_map(|letter| letter.key).collect::<Vec<_>>()
    };
    for key in ["before", "after"] {
        finished(&host, &topic, key, &["reject"]).await;
        wait_until("its dead letter alone is on the topic", SOON, async || {
            let keys = keys().await;
            if keys == [key.as_bytes()] { Ok(()) } else { Err(format!("{keys:?}")) }
        })
        .await;
        if key == "before" {
            delete_topic(kafka().bootstrap(), &letters).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lane_waits_for_a_person() {
    let _turn = turn::shared().await;
    let (host, topic, group) = bound(Store::Sqlite, "held", "dead_letter = \"hold\"").await;
    host.publish_all(vec![scripted(&topic, "k", &["reject", "ok"]), scripted(&topic, "k", &["ok"])]).await;
    let other = finished(&host, &topic, "other", &["ok"]).await;
    assert_eq!(other.state, State::Handled);
    let open = wait_until("the lane is held", SOON, async || {
        let open = host.group(&group).await.open;
        if open.held >= 1 { Ok(open) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert_eq!(open.held + open.waiting, 2, "{open:?}");
    let held = host.deliveries(&format!("group={group}&state=HANDLE_FAIL")).await;
    let (status, answer) =
        host.request(reqwest::Method::POST, &format!("/v1/deliveries/{}/retry", held[0].id), None).await;
    assert!(status.is_success(), "{answer}");
    assert_eq!(host.settled(&group, 3, SOON).await.handled, 3);
}

/// "A message that can never succeed blocks its key for ever": when it is given up
/// it ends without another attempt, with a dead letter if that is requested, and
/// its key goes on, even while the group is paused.
async fn giving_up(store: Store) {
    let _turn = turn::shared().await;
    let (host, topic, group) = bound(store, "givenup", "dead_letter = \"hold\"").await;
    let letters = format!("dlq.{topic}.{group}");
    create_named_topic(kafka().bootstrap(), &letters, 1, &[]).await;
    host.publish_all(vec![
        scripted(&topic, "k", &["reject"]),
        scripted(&topic, "k", &["ok"]),
        scripted(&topic, "k", &["ok"]),
    ])
    .await;
    wait_until("the lane is held", SOON, async || {
        let open = host.group(&group).await.open;
        if open.held == 1 && open.waiting == 2 { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    let mut lane = host.deliveries(&format!("group={group}")).await;
    lane.sort_by_key(|delivery| delivery.offset);
    let path = |delivery: &Delivery| format!("/v1/deliveries/{}/give-up", delivery.id);
    let body = json!({ "reason": "the order was entered by hand", "dead_letter": true });
    // The second one waits behind its head, and is given up in its turn.
    host.post(&path(&lane[1]), json!({ "reason": "a double" }), 202).await;
    host.post(&format!("/v1/groups/{group}/pause"), json!({ "why": "night" }), 200).await;
    host.post(&path(&lane[0]), body.clone(), 202).await;
    wait_until("both are given up while the group is paused", SOON, async || {
        let failed = host.group(&group).await.failed;
        if failed == 2 { Ok(()) } else { Err(format!("{failed} failed")) }
    })
    .await;
    host.post(&format!("/v1/groups/{group}/resume"), json!({}), 200).await;
    let settled = host.settled(&group, 3, SOON).await;
    assert_eq!((settled.handled, settled.failed), (1, 2), "{settled:?}");

    let mut lane = host.deliveries(&format!("group={group}")).await;
    lane.sort_by_key(|delivery| delivery.offset);
    let told: Vec<_> = lane.iter().map(|one| (one.state, one.verdict.as_deref(), one.attempts.len())).collect();
    assert_eq!(
        told,
        [
            (State::HandleFail, Some("given_up"), 1),
            (State::HandleFail, Some("given_up"), 0),
            (State::Handled, Some("success"), 1),
        ]
    );
    assert_eq!(lane[0].reason.as_deref(), Some("the order was entered by hand"));
    assert_eq!(verdicts(&lane[0]), ["reject"], "no attempt was made for it");
    let letter = wait_until("the letter is on its topic", SOON, async || {
        let mut read = read_topic(kafka().bootstrap(), &letters).await;
        if read.len() == 1 { Ok(read.remove(0)) } else { Err(format!("{} letters", read.len())) }
    })
    .await;
    assert_eq!(letter.key.as_deref(), Some(b"k".as_slice()));
    let (status, problem) = host.request(reqwest::Method::POST, &path(&lane[0]), Some(body)).await;
    assert_eq!(status.as_u16(), 409, "a final one: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_key_goes_on_after_its_head_is_given_up() {
    giving_up(Store::of_this_pass()).await;
}

/// `unavailable` means that no message can be handled now.
#[tokio::test(flavor = "multi_thread")]
async fn unavailable_burns_no_attempt_and_heals_by_itself() {
    let _turn = turn::shared().await;
    let policy = "[binding.retry]\nmax_attempts = 2";
    let (host, topic, _) = bound(Store::Sqlite, "away", policy).await;
    let script = ["unavailable", "unavailable", "unavailable", "retry", "ok"];
    let id = host.publish(scripted(&topic, "k", &script)).await.id().to_owned();
    wait_until("it shows as PUSH_FAIL", SOON, async || {
        let message = host.message(&id).await;
        let state = message.deliveries.first().map(|delivery| delivery.state);
        if state == Some(State::PushFail) { Ok(()) } else { Err(format!("{message:?}")) }
    })
    .await;
    // The binding probes until it works.
    let delivery = host.finished_after(&id, 5, Duration::from_secs(120)).await;
    assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
    let counted: Vec<bool> = delivery.attempts.iter().map(|attempt| attempt.counted).collect();
    assert_eq!(counted, [false, false, false, true, true]);
}

/// A plugin that is uploaded later gets the waiting messages, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_without_a_plugin_waits_for_it() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "early", 1).await;
    let group = unique("early");
    let host = Host::builder("host-1").binding(&scripted_binding(&group, &topic, "")).start().await;
    let id = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    wait_until("the group says that its plugin is missing", SOON, async || {
        let seen = host.group(&group).await;
        let why = seen.why.clone().unwrap_or_default();
        if why.contains("scripted") { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    host.upload("scripted", guest("scripted")).await;
    let message = host.finished(&id, 1).await;
    assert_eq!(message.deliveries[0].state, State::Handled);
}

/// Each hostile guest ends with a reason that a developer understands.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_handlers_end_with_a_reason() {
    let _turn = turn::shared().await;
    let policy = "cpu = \"200ms\"\ntimeout = \"1s\"\nmemory = \"16MiB\"";
    let (host, topic, group) = bound(Store::Sqlite, "hostile", policy).await;
    for (script, words) in [
        ("spin", &["cpu", "200ms"][..]),
        ("sleep:5s", &["time", "1s"]),
        ("alloc", &["memory", "16MiB"]),
        ("stack", &["stack"]),
        ("trap", &["scripted: trap"]),
    ] {
        let failed = finished(&host, &topic, script, &[script]).await;
        assert_eq!((failed.state, failed.attempts.len()), (State::HandleFail, 1), "{}", failed.brief());
        let attempt = &failed.attempts[0];
        let told = format!("{} {}", failed.reason.as_deref().unwrap_or(""), attempt.log.as_deref().unwrap_or(""));
        for word in words {
            assert!(told.to_lowercase().contains(&word.to_lowercase()), "{script}: {word:?} is not in {told:?}");
        }
        let took = attempt.finished_at.duration_since(attempt.started_at).as_millis();
        assert!(took < 2_500, "{script} ran for {took} ms");
    }
    let flood = finished(&host, &topic, "flood", &["log:1MiB+error"]).await;
    let log = flood.attempts[0].log.clone().unwrap_or_default();
    assert!((1_000..=70_000).contains(&log.len()), "the log was not cut: {} bytes", log.len());
    assert!(flood.reason.as_deref() == Some("scripted: error"), "a long log is no failure: {}", flood.brief());
    assert_eq!(finished(&host, &topic, "flood", &["log:1MiB+ok"]).await.state, State::Handled);
    assert!(host.exited().is_none(), "a guest ended the host");
    assert_eq!(host.group(&group).await.open.total(), 0);
}

/// A failed attempt publishes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_attempt_published_is_never_seen() {
    let _turn = turn::shared().await;
    let out = create_topic(kafka().bootstrap(), "emitted", 1).await;
    let topic = create_topic(kafka().bootstrap(), "emits", 1).await;
    create_named_topic(kafka().bootstrap(), &format!("{out}-denied"), 1, &[]).await;
    let group = unique("emits");
    let policy = format!("[binding.retry]\nmax_attempts = 2\n[binding.grant]\npublish = [\"{out}\"]");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, &policy).await;
    let publish = |word: &str| format!("publish:{out}+{word}");
    for word in ["reject", "trap", "error"] {
        finished(&host, &topic, word, &[&publish(word)]).await;
    }
    let handled = finished(&host, &topic, "good", &[&publish("retry"), &publish("ok")]).await;
    assert_eq!(handled.state, State::Handled, "{}", handled.brief());
    let denied = finished(&host, &topic, "denied", &[&format!("publish:{out}-denied+ok")]).await;
    assert_eq!(denied.state, State::HandleFail, "{}", denied.brief());
    let seen = wait_until("the emission is on its topic", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &out).await;
        if records.is_empty() { Err("nothing yet".to_owned()) } else { Ok(records) }
    })
    .await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].key.as_deref(), Some(&b"good"[..]));
    assert!(read_topic(kafka().bootstrap(), &format!("{out}-denied")).await.is_empty());
}

/// The circuit opens after consecutive failures and closes by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_pauses_the_binding_and_closes_again() {
    let _turn = turn::shared().await;
    let policy = "concurrency = 1\ncircuit = { failures = 3, open = \"2s\" }";
    let (host, topic, group) = bound(Store::Sqlite, "circuit", policy).await;
    let messages = (0..3).map(|number| scripted(&topic, &format!("bad-{number}"), &["error"])).collect();
    host.publish_all(messages).await;
    wait_until("the circuit is open and the group says so", SOON, async || {
        let seen = host.group(&group).await;
        let why = seen.why.clone().unwrap_or_default();
        if why.contains("circuit") { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let healed = finished(&host, &topic, "good", &["ok"]).await;
    assert_eq!(healed.state, State::Handled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_kept() {
    let _turn = turn::shared().await;
    let (host, topic, group) = bound(Store::Sqlite, "rate", "rate_limit = 20").await;
    let begin = Instant::now();
    let messages = (0..100).map(|number| scripted(&topic, &format!("k{number}"), &["ok"])).collect();
    host.publish_all(messages).await;
    host.settled(&group, 100, SOON).await;
    // A second's worth may come at once: 80 remain at 20 a second.
    assert!(begin.elapsed() >= Duration::from_secs(3), "100 messages took {:?} at 20 a second", begin.elapsed());
}
