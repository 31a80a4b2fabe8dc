//! Redrives, replays, seeks, and open rows without an owner.

mod seeks;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::seeks::by_offset;
use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Store, encode, guest, kafka, postgres, scale, scripted, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// The API's view of a redrive.
async fn redrive(host: &Host, id: &str) -> Value {
    host.get(&format!("/v1/redrives/{id}")).await
}

fn count(redrive: &Value, what: &str) -> u64 {
    redrive[what].as_u64().unwrap_or_else(|| panic!("no {what} in {redrive}"))
}

async fn plan(host: &Host, filter: Value, rate: u32) -> Value {
    host.post("/v1/redrives", json!({ "filter": filter, "rate": rate }), 201).await
}

async fn items(host: &Host, id: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page: Value = host.get(&format!("/v1/redrives/{id}/items?limit=1000{cursor}")).await;
        all.append(page["items"].as_array_mut().expect("a list has items"));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encode(next)),
            None => return all,
        }
    }
}

fn by_state(items: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item["state"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    counts
}

/// Waits until a redrive is in a state.
async fn reaches(host: &Host, id: &str, state: &str, limit: Duration) -> Value {
    wait_until(&format!("redrive {id} is {state}"), limit, async || {
        let path = format!("/v1/redrives/{id}");
        let seen: Value = host.try_get(&path).await.map_err(|error| format!("{error:#}"))?;
        if seen["state"] == state && count(&seen, "running") == 0 { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await
}

async fn done_at_least(host: &Host, id: &str, least: u64) {
    wait_until(&format!("redrive {id} has done {least}"), SOON, async || {
        let seen = redrive(host, id).await;
        if count(&seen, "done") >= least { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

/// Publishes a message every ten milliseconds for `span`; returns the messages with
/// the times at which they were published.
async fn traffic(host: &Host, topic: &str, span: Duration) -> Vec<(String, jiff::Timestamp)> {
    let (mut sent, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < span {
        let at = jiff::Timestamp::now();
        let message = scripted(topic, &format!("k{}", sent.len() % 50), &["ok"]);
        sent.push((host.publish(message).await.id().to_owned(), at));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sent
}

/// The 99th percentile, in milliseconds, of the time from publishing a message to
/// the end of its attempt.
async fn p99(host: &Host, sent: Vec<(String, jiff::Timestamp)>) -> i64 {
    let mut waits = Vec::with_capacity(sent.len());
    for (id, at) in sent {
        let message = host.finished(&id, 1).await;
        waits.push(message.deliveries[0].attempts[0].finished_at.duration_since(at).as_millis() as i64);
    }
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// Failures, a fixed plugin, a plan, a run that is cancelled, another one that is
/// paused and resumed, and each delivery's result.
async fn failures_run_again(store: Store) {
    let _turn = turn::heavy().await;
    let failures: usize = scale(400, 10_000);
    let topic = create_topic(kafka().bootstrap(), "redrive", 4).await;
    let (group, other, other_topic) =
        (unique("redrive"), unique("other"), create_topic(kafka().bootstrap(), "other", 2).await);
    let other_binding = format!("group = \"{other}\"\ntopics = [\"{other_topic}\"]\nplugin = \"other\"\n");
    let host =
        Host::builder("host-1").store(store).binding(&scripted_binding(&group, &topic, "")).binding(&other_binding);
    let host = host.start().await;
    host.upload("scripted", guest("scripted")).await;
    host.upload("other", guest("scripted")).await;
    let messages: Vec<Value> = (0..failures)
        .map(|number| scripted(&topic, &format!("k{}", number % 97), &["error"]))
        .chain((0..20).map(|number| scripted(&topic, &format!("fine-{number}"), &["ok"])))
        .collect();
    for chunk in messages.chunks(500) {
        host.publish_all(chunk.to_vec()).await;
    }
    assert_eq!(host.settled(&group, failures + 20, SOON).await.failed as usize, failures);

    // Only the group's own failures are taken, and only possible states.
    let wrong = json!({ "filter": { "state": "HANDLE_FAIL" } });
    assert_eq!(host.request(Method::POST, "/v1/redrives", Some(wrong)).await.0, 400);
    let nobody = json!({ "filter": { "group": "nobody" } });
    assert_eq!(host.request(Method::POST, "/v1/redrives", Some(nobody)).await.0, 404);

    host.upload("scripted", guest("noop")).await;
    let rate: u32 = scale(60, 500);
    let filter = json!({ "group": group, "state": "HANDLE_FAIL", "topic": topic });
    let first = plan(&host, filter.clone(), rate).await;
    let id = first["id"].as_str().expect("an id").to_owned();
    assert_eq!((first["state"].as_str(), count(&first, "matched") as usize), (Some("PLANNED"), failures));
    let sample = first["sample"].as_array().expect("a sample");
    assert!(!sample.is_empty() && sample.iter().all(|one| one["state"] == "HANDLE_FAIL"), "{first}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(host.group(&group).await.failed as usize, failures, "nothing runs before it is told to");

    let span = scale(Duration::from_millis(800), Duration::from_secs(8));
    let calm = p99(&host, traffic(&host, &other_topic, span).await).await;
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    let busy = traffic(&host, &other_topic, span).await;
    done_at_least(&host, &id, 50).await;
    let (status, cancelled) = host.request(Method::DELETE, &format!("/v1/redrives/{id}"), None).await;
    assert_eq!((status.as_u16(), cancelled["state"].as_str()), (200, Some("CANCELLED")), "{cancelled}");
    let ended = reaches(&host, &id, "CANCELLED", SOON).await;
    let busy = p99(&host, busy).await;
    println!("p99 of other traffic: {calm} ms without, {busy} ms with a redrive of {failures} at {rate} a second");
    let results = by_state(&items(&host, &id).await);
    let handled = results.get("HANDLED").copied().unwrap_or(0);
    assert_eq!(handled as u64, count(&ended, "handled"));
    assert_eq!(handled + results.get("SKIPPED").copied().unwrap_or(0), failures, "{results:?}");
    assert!(handled >= 50 && handled < failures, "it was cancelled in its middle: {results:?}");
    let (status, refused) = host.request(Method::POST, &format!("/v1/redrives/{id}/run"), None).await;
    assert_eq!(status, 409, "{refused}");

    let second = plan(&host, filter, rate).await;
    let id = second["id"].as_str().expect("an id").to_owned();
    assert_eq!(count(&second, "matched") as usize, failures - handled, "what ran is not failed any more");
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    done_at_least(&host, &id, 20).await;
    host.post(&format!("/v1/redrives/{id}/pause"), json!({}), 200).await;
    let paused = reaches(&host, &id, "PAUSED", SOON).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(redrive(&host, &id).await["done"], paused["done"], "a paused one stands still");
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    let done = reaches(&host, &id, "DONE", SOON * 2).await;
    assert_eq!((count(&done, "handled") as usize, count(&done, "failed")), (failures - handled, 0), "{done}");

    let group_now = host.settled(&group, failures + 20, SOON).await;
    assert_eq!((group_now.handled as usize, group_now.failed), (failures + 20, 0));
    for delivery in host.deliveries(&format!("group={group}&key=k1")).await {
        let numbers: Vec<u32> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!((delivery.state, numbers), (State::Handled, vec![1, 2]), "{}", delivery.brief());
    }
    let listed: Value = host.get("/v1/redrives").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    let (status, text, _) = host.cli(&["redrive", "show", &id, "--output", "json"]);
    assert!(status.success() && text.contains("\"DONE\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_run_again_after_a_fix() {
    failures_run_again(Store::of_this_pass()).await;
}

/// The host that works on a redrive is killed: another one goes on, and no
/// delivery runs twice or never.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_survives_the_host_that_runs_it() {
    let _turn = turn::heavy().await;
    let failures: usize = scale(400, 5_000);
    let topic = create_topic(kafka().bootstrap(), "heir", 4).await;
    let group = unique("heir");
    let url = postgres().create_database().expect("a database");
    let binding = scripted_binding(&group, &topic, "");
    let one = Host::builder("host-1").store_url(&url).binding(&binding).start().await;
    let two = Host::builder("host-2").store_url(&url).binding(&binding).start().await;
    one.upload("scripted", guest("scripted")).await;
    let messages = (0..failures).map(|number| scripted(&topic, &format!("k{}", number % 97), &["error"])).collect();
    one.publish_all(messages).await;
    one.settled(&group, failures, SOON).await;
    one.upload("scripted", guest("noop")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let planned = plan(&one, json!({ "group": group }), scale(60, 500)).await;
    let id = planned["id"].as_str().expect("an id").to_owned();
    one.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    done_at_least(&one, &id, 60).await;
    let runner = redrive(&one, &id).await["node"].as_str().expect("a node works on it").to_owned();
    let (dead, heir) = if runner == "host-1" { (&one, &two) } else { (&two, &one) };
    dead.kill9();
    let done = reaches(heir, &id, "DONE", SOON * 2).await;
    assert_eq!((count(&done, "handled") as usize, count(&done, "skipped")), (failures, 0), "{done}");
    assert_ne!(done["node"], Value::from(runner));
    for delivery in heir.deliveries(&format!("group={group}")).await {
        let numbers: Vec<u32> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!((delivery.state, numbers), (State::Handled, vec![1, 2]), "{}", delivery.brief());
    }
}

/// A requested rerun gives a delivery all its attempts and its whole budget.
async fn has_a_fresh_schedule(store: Store) {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "fresh", 1).await;
    let group = unique("fresh");
    // The budget has room for the first wait, also on a busy machine, and none for the
    // second.
    let retry = "[binding.retry]\nmax_attempts = 3\ninitial = \"1s\"\nmultiplier = 100\nmax = \"100s\"\njitter = 0\nbudget = \"60s\"";
    let host = Host::scripted("host-1", store, &group, &topic, retry).await;
    let script = ["error", "error", "error", "error", "error", "ok"];
    let id = host.publish(scripted(&topic, "k", &script)).await.id().to_owned();
    let failed = host.finished_after(&id, 2, SOON).await;
    assert_eq!((failed.state, failed.attempts.len()), (State::HandleFail, 2), "the budget ends it: {failed:?}");
    host.post(&format!("/v1/deliveries/{}/retry", failed.id), json!({}), 202).await;
    let failed = host.finished_after(&id, 4, SOON).await;
    assert_eq!((failed.state, failed.attempts.len()), (State::HandleFail, 4), "it has another one: {failed:?}");
    let planned = plan(&host, json!({ "group": group }), 100).await;
    host.post(&format!("/v1/redrives/{}/run", planned["id"].as_str().expect("an id")), json!({}), 200).await;
    let handled = host.finished_after(&id, 6, SOON).await;
    assert_eq!((handled.state, handled.attempts.len()), (State::Handled, 6), "{handled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_has_a_fresh_schedule() {
    has_a_fresh_schedule(Store::of_this_pass()).await;
}

/// Design, section 2: what people see of a delivery whose rerun was requested.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_shows_its_last_outcome_until_the_next() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "asked", 1).await;
    let group = unique("asked");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let failed = host.publish(scripted(&topic, "a", &["error", "ok"])).await.id().to_owned();
    let handled = host.publish(scripted(&topic, "b", &["ok"])).await.id().to_owned();
    let deliveries = [host.finished(&failed, 1).await, host.finished(&handled, 1).await];
    host.post(&format!("/v1/groups/{group}/pause"), json!({}), 200).await;
    for (message, expected) in deliveries.iter().zip(["HANDLE_FAIL", "COMMITTED"]) {
        let id = &message.deliveries[0].id;
        let shown = host.post(&format!("/v1/deliveries/{id}/retry"), json!({}), 202).await;
        assert_eq!(shown["state"], expected, "{shown}");
        assert!(shown["next_attempt_at"].is_string() && shown["settled_at"].is_null(), "{shown}");
    }
    host.post(&format!("/v1/groups/{group}/resume"), json!({}), 200).await;
    let group = host.settled(&group, 2, SOON).await;
    assert_eq!((group.handled, group.failed), (2, 0));
    for id in [failed, handled] {
        let attempts = host.finished(&id, 1).await.deliveries.remove(0).attempts;
        assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    }
}

/// The SQLite database of a host.
async fn database(host: &Host) -> sqlx::SqlitePool {
    let path = host.store_url();
    let options = path.parse::<sqlx::sqlite::SqliteConnectOptions>().expect("the host's url is one");
    let options = options.busy_timeout(Duration::from_secs(10));
    sqlx::SqlitePool::connect_with(options).await.expect("the host's file can be opened")
}

/// A replay includes deliveries that retention removed, passes over holes, and
/// leaves the position alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reads_what_the_store_forgot() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "replay", 1).await;
    let group = unique("replay");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    produce_with_a_hole(&topic).await;
    host.settled(&group, 20, SOON).await;
    let position = host.group(&group).await.partitions[0].position.expect("a position");
    let database = database(&host).await;
    for table in ["delivery", "attempt"] {
        // SQL safety: the only variable is one of the two names above.
        let forget = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE offset < 8"));
        sqlx::query(forget).execute(&database).await.expect("rows can be deleted");
    }
    assert_eq!(host.deliveries(&format!("group={group}")).await.len(), 12);
    let far = json!({ "filter": { "group": group, "topic": topic, "replay": true, "to_offset": 10_000 } });
    let (status, refused) = host.request(Method::POST, "/v1/redrives", Some(far)).await;
    assert!(status == 422 && refused["detail"].as_str().is_some_and(|why| why.contains("it may be")), "{refused}");

    let filter = json!({ "group": group, "topic": topic, "replay": true, "from_offset": 2, "to_offset": 14 });
    let planned = plan(&host, filter, 500).await;
    assert_eq!(count(&planned, "matched"), 12, "{planned}");
    let id = planned["id"].as_str().expect("an id").to_owned();
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    let done = reaches(&host, &id, "DONE", SOON).await;
    let items = items(&host, &id).await;
    assert_eq!((count(&done, "handled"), count(&done, "skipped")), (11, 1), "{items:?}");
    let hole: Vec<&Value> = items.iter().filter(|item| item["state"] == "SKIPPED").collect();
    assert!(
        hole[0]["offset"] == 10 && hole[0]["reason"].as_str().is_some_and(|why| why.contains("no record")),
        "{hole:?}"
    );
    assert!(items.iter().all(|item| item["offset"] == 10 || item["message_id"].is_string()), "{items:?}");
    let seen = by_offset(&host, &group).await;
    let attempts: Vec<(i64, usize)> = seen.values().map(|one| (one.offset, one.attempts.len())).collect();
    let forgotten = (2..8).map(|offset| (offset, 1));
    let kept = (8..21).filter(|offset| *offset != 10).map(|offset| (offset, if offset < 14 { 2 } else { 1 }));
    assert_eq!(attempts, forgotten.chain(kept).collect::<Vec<_>>());
    assert_eq!(host.group(&group).await.partitions[0].position, Some(position));
}

/// Produces ten records in a transaction, whose end takes offset 10, and ten more.
async fn produce_with_a_hole(topic: &str) {
    use rdkafka::producer::Producer as _;
    let mut config = courier_tests::kafka_client::config(kafka().bootstrap());
    config.set("transactional.id", unique("hole"));
    let producer = courier_tests::kafka_client::producer(&config);
    let wait = Duration::from_secs(30);
    producer.init_transactions(wait).expect("transactions begin");
    producer.begin_transaction().expect("a transaction begins");
    for number in 0..10 {
        let key = format!("k{number}");
        courier_tests::kafka_client::produce(&producer, topic, Some(key.as_bytes()), &[], b"{}").await;
    }
    producer.commit_transaction(wait).expect("a transaction commits");
    let plain = courier_tests::kafka_client::producer(&courier_tests::kafka_client::config(kafka().bootstrap()));
    for number in 10..20 {
        let key = format!("k{number}");
        courier_tests::kafka_client::produce(&plain, topic, Some(key.as_bytes()), &[], b"{}").await;
    }
}

/// An open row that no owner knows is found, run, counted and reported.
#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_runs_what_nobody_works_on() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "swept", 1).await;
    let group = unique("swept");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let ids: Vec<String> = host
        .publish_all((0..3).map(|_| scripted(&topic, "k", &["ok"])).collect())
        .await
        .iter()
        .map(|accepted| accepted.id().to_owned())
        .collect();
    host.settled(&group, 3, SOON).await;
    let database = database(&host).await;
    // As if an owner had lost it: an open row that is in no lane.
    let mut tx = database.begin_with("BEGIN IMMEDIATE").await.expect("the file can be written");
    sqlx::query(
        "INSERT INTO open_delivery (position, offset, group_id, state, held, record_time, received_at, number, counted,
             node, message_id, key, type_name)
         SELECT position, offset, group_id, 2, 0, record_time, received_at, 0, 0, node, message_id, key, type_name
         FROM delivery WHERE message_id = ?",
    )
    .bind(&ids[1])
    .execute(&mut *tx)
    .await
    .expect("a row can be put there");
    sqlx::query("DELETE FROM delivery WHERE message_id = ?").bind(&ids[1]).execute(&mut *tx).await.expect("it goes");
    tx.commit().await.expect("it commits");
    let shown = host.message(&ids[1]).await;
    assert_eq!(shown.deliveries[0].state, State::Committed);
    let swept = host.finished(&ids[1], 1).await.deliveries.remove(0);
    assert_eq!(swept.state, State::Handled, "{}", swept.brief());
    let log = swept.attempts[0].log.clone().unwrap_or_default();
    assert!(log.contains("nobody worked on this delivery since") && log.contains("sweeper"), "{log}");
    assert_eq!(host.metric("courier_swept_total", &[("group", &group)]).await as u64, 1);
}

/// The most reruns that were requested within one second.
fn most_in_a_second(items: &[Value]) -> usize {
    let mut asked: Vec<jiff::Timestamp> =
        items.iter().filter_map(|item| item["asked_at"].as_str()?.parse().ok()).collect();
    asked.sort_unstable();
    let within = |from: &jiff::Timestamp| {
        asked.iter().filter(|at| *at >= from && at.duration_since(*from) < jiff::SignedDuration::from_secs(1)).count()
    };
    asked.iter().map(within).max().unwrap_or_default()
}

/// "binding removed under a redrive -> RUNNING for ever, and when it is back
/// everything runs at once, not at its rate"; "retry of a delivery whose group has
/// no binding -> HANDLED becomes COMMITTED for ever".
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_whose_binding_is_removed_says_so_and_goes_on_at_its_rate() {
    const FAILED: usize = 40;
    const RATE: u32 = 5;
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "unbound", 1).await;
    let (group, other) = (unique("unbound"), unique("other"));
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let mut messages: Vec<Value> =
        (0..FAILED).map(|number| scripted(&topic, &format!("k{number}"), &["reject", "ok"])).collect();
    messages.push(scripted(&topic, "fine", &["ok"]));
    host.publish_all(messages).await;
    host.settled(&group, FAILED + 1, SOON).await;
    let planned = plan(&host, json!({ "group": group, "state": "HANDLE_FAIL" }), RATE).await;
    let id = planned["id"].as_str().expect("a redrive has an id").to_owned();
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    done_at_least(&host, &id, 2).await;

    host.write_config(&host.toml().replace(&group, &other));
    host.sighup();
    let standing = wait_until("the redrive says why it waits", SOON, async || {
        let seen = redrive(&host, &id).await;
        if seen["cause"]["code"] == "no_binding" { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    assert_eq!(standing["state"], "RUNNING");
    assert!(standing["why"].as_str().is_some_and(|why| why.contains(&group)), "{standing}");
    assert!(count(&standing, "done") < FAILED as u64, "{standing}");
    let overview: Value = host.get("/v1/overview").await;
    let told = overview["attention"].as_array().into_iter().flatten();
    assert!(told.clone().any(|one| one["cause"]["code"] == "no_binding"), "{overview}");
    let unbound: Value = host.get(&format!("/v1/groups/{group}")).await;
    assert_eq!(unbound["state"], "not_bound", "{unbound}");

    let handled = host.deliveries(&format!("group={group}&state=HANDLED&key=fine")).await.remove(0);
    for path in [
        format!("/v1/deliveries/{}/retry", handled.id),
        format!("/v1/deliveries/{}/give-up", handled.id),
        format!("/v1/redrives/{id}/run"),
    ] {
        let body = path.ends_with("give-up").then(|| json!({ "reason": "x" }));
        let (status, problem) = host.request(Method::POST, &path, body).await;
        assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("no_binding")), "{path}: {problem}");
    }
    let still = host.deliveries(&format!("group={group}&key=fine")).await.remove(0);
    assert_eq!(still.state, State::Handled, "{}", still.brief());

    host.write_config(&host.toml());
    host.sighup();
    let done = reaches(&host, &id, "DONE", SOON).await;
    assert_eq!((count(&done, "handled"), &done["cause"]), (FAILED as u64, &Value::Null), "{done}");
    let most = most_in_a_second(&items(&host, &id).await);
    assert!(most <= 2 * RATE as usize, "{most} items were asked for within a second");
}

/// "a replay runs types that `types` passes over".
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_skips_types_that_the_binding_passes_over() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "types", 1).await;
    let group = unique("types");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "types = [\"Scripted\"]").await;
    let mut odd = scripted(&topic, "b", &["ok"]);
    odd["type"] = json!("Other");
    host.publish_all(vec![scripted(&topic, "a", &["ok"]), odd, scripted(&topic, "c", &["ok"])]).await;
    host.settled(&group, 2, SOON).await;
    wait_until("the position has passed all three", SOON, async || {
        let seen: Value = host.get(&format!("/v1/groups/{group}")).await;
        if seen["partitions"][0]["position"] == 3 { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    let planned = plan(&host, json!({ "group": group, "topic": topic, "replay": true }), 500).await;
    let id = planned["id"].as_str().expect("a redrive has an id").to_owned();
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    reaches(&host, &id, "DONE", SOON).await;
    let items = items(&host, &id).await;
    assert_eq!(by_state(&items), BTreeMap::from([("HANDLED".to_owned(), 2), ("SKIPPED".to_owned(), 1)]));
    let skipped = items.iter().find(|item| item["state"] == "SKIPPED").expect("one is skipped");
    assert!(skipped["reason"].as_str().is_some_and(|why| why.contains("`types`")), "{skipped}");
}
