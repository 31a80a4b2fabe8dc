//! `trace = "failures"`: a group that keeps no row of deliveries handled at the
//! first attempt. It still runs nothing settled again, and reports what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{create_topic, read_topic};
use courier_tests::{Host, Store, encode, guest, kafka, scale, scripted, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);

/// Kills a host while the first message of each partition still runs and messages
/// behind it are settled above the position.
async fn nothing_settled_runs_again(store: Store) {
    let _turn = turn::heavy().await;
    let (messages, kills): (usize, usize) = (scale(600, 20_000), scale(3, 20));
    let topic = create_topic(kafka().bootstrap(), "trace", 2).await;
    let out = create_topic(kafka().bootstrap(), "traced-out", 1).await;
    let group = unique("traced");
    let policy = format!(
        "trace = \"failures\"\nconcurrency = 16\n[binding.retry]\nmax_attempts = 2\ninitial = \"100ms\"\n\
         [binding.grant]\npublish = [\"{out}\"]"
    );
    let host = Host::builder("host-1").store(store).binding(&scripted_binding(&group, &topic, &policy)).start().await;
    host.upload("scripted", guest("scripted")).await;
    let publish = format!("publish:{out}+ok");
    let script = |number: usize| match number % 50 {
        0 => vec!["sleep:2s+ok"],
        1 => vec!["error"],
        2 => vec!["error", "ok"],
        _ => vec![publish.as_str()],
    };
    let (mut failing, mut retried, mut published, mut ids) = (0_u64, 0_usize, 0_usize, Vec::new());
    for number in 0..messages {
        failing += u64::from(number % 50 == 1);
        retried += usize::from(number % 50 == 2);
        published += usize::from(number % 50 > 2);
    }
    let all: Vec<Value> =
        (0..messages).map(|number| scripted(&topic, &format!("k{number}"), &script(number))).collect();
    for (round, chunk) in all.chunks(messages.div_ceil(kills + 1)).enumerate() {
        // Counted before the round is published: a fast host has handled most of
        // it when the receipts are here.
        let before = host.group(&group).await.handled;
        ids.extend(host.publish_all(chunk.to_vec()).await.iter().map(|one| one.id().to_owned()));
        if round == kills {
            break;
        }
        // Some of this round are settled, and the slow ones are not.
        wait_until("some are handled", SOON, async || {
            let seen = host.try_group(&group).await.map_err(|error| format!("{error:#}"))?;
            if seen.handled >= before + 20 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        host.kill9();
        host.start_again().await;
    }
    let seen = host.settled(&group, messages, SOON).await;
    // Each settle counts what it handles: a message run again would count twice.
    assert_eq!((seen.handled, seen.failed), (messages as u64 - failing, failing), "{kills} kills");

    // Each published message is there, from one settled attempt.
    let emitted = wait_until("all that was published is there", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &out).await;
        let mut ids: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
        for record in records {
            let id = record.header("ce_id").unwrap_or_default();
            ids.entry(record.key.clone().unwrap_or_default()).or_default().insert(id);
        }
        if ids.len() >= published { Ok(ids) } else { Err(format!("{} of {published}", ids.len())) }
    })
    .await;
    assert!(emitted.values().all(|ids| ids.len() == 1), "something settled ran again: {emitted:?}");
    assert_eq!(emitted.len(), published);

    // Only failed and retried deliveries have rows, and the list says so.
    let rows = host.deliveries(&format!("group={group}")).await;
    assert_eq!(rows.len(), failing as usize + retried);
    let list: Value = host.get(&format!("/v1/deliveries?group={group}&state=HANDLED&limit=1")).await;
    assert_eq!(list["not_recorded"]["groups"], json!([group]), "{list}");
    let list: Value = host.get(&format!("/v1/deliveries?group={group}&state=HANDLE_FAIL&limit=1")).await;
    assert_eq!(list.get("not_recorded"), None, "all that failed is listed");
    let (_, printed, _) = host.cli(&["deliveries", "list", "--group", &group]);
    assert!(printed.contains("not in this list") && printed.contains(&group), "{printed}");

    // By id for messages that Courier sent, and by place.
    let message: Value = host.get(&format!("/v1/messages/{}", encode(&ids[3]))).await;
    let delivery = &message["deliveries"][0];
    assert_eq!((&delivery["state"], &delivery["group"]), (&json!("HANDLED"), &json!(group)), "{message}");
    assert!(delivery["settled_within"]["from"].as_str() <= delivery["settled_within"]["to"].as_str());
    assert!(delivery["attempts"][0]["version"].as_str().is_some_and(|version| version.starts_with("sha256:")));
    let again: Value = host.get(&format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap())).await;
    assert_eq!(&again["message_id"], &json!(ids[3]), "{again}");
    let (partition, offset) = (message["partition"].as_i64().unwrap(), message["offset"].as_i64().unwrap());
    let place: Value = host.get(&format!("/v1/messages/{topic}:{partition}:{offset}")).await;
    assert_eq!(place["deliveries"][0]["state"], "HANDLED", "{place}");

    // The id of a foreign record is not recorded; the answer does not call it unknown.
    let (status, unknown) = host.request(Method::GET, "/v1/messages/nobody-knows", None).await;
    assert_eq!((status.as_u16(), &unknown["state"]), (200, &json!("NOT_RECORDED")), "{unknown}");
    assert_eq!(unknown["groups"], json!([group]));
    let retry = format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap());
    let (status, refused) = host.request(Method::POST, &retry, None).await;
    assert!(status.as_u16() == 409 && refused["detail"].as_str().unwrap().contains("replay"), "{refused}");

    // Redrives of handled deliveries: by offset, and by time.
    let filter = json!({ "group": group, "topic": topic, "replay": true, "partition": partition,
        "from_offset": offset, "to_offset": offset + 1 });
    assert_eq!(redriven(&host, filter).await, 1);
    let message: Value = host.get(&format!("/v1/messages/{}", encode(&ids[3]))).await;
    let numbers: Vec<_> =
        message["deliveries"][0]["attempts"].as_array().unwrap().iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [1, 2], "its attempts go on: {message}");
    let handled = host.group(&group).await.handled;
    assert_eq!(handled, messages as u64 - failing, "what ran again is counted once");
    let filter = json!({ "group": group, "state": "HANDLED", "from": "2020-01-01T00:00:00Z" });
    assert_eq!(redriven(&host, filter).await, handled);
    let rows = host.deliveries(&format!("group={group}")).await;
    assert_eq!(rows.len(), messages, "what ran again has a row");
}

/// Plans and runs a redrive to its end; returns how many were handled, which is
/// all of them.
async fn redriven(host: &Host, filter: Value) -> u64 {
    let plan = host.post("/v1/redrives", json!({ "filter": filter, "rate": 5_000 }), 201).await;
    let id = plan["id"].as_str().unwrap().to_owned();
    host.request(Method::POST, &format!("/v1/redrives/{id}/run"), None).await;
    let done: Value = wait_until("the redrive is done", SOON, async || {
        let seen: Value = host.try_get(&format!("/v1/redrives/{id}")).await.map_err(|error| format!("{error:#}"))?;
        if seen["state"] == "DONE" { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    assert_eq!((&done["matched"], &done["skipped"]), (&done["handled"], &json!(0)), "{done}");
    done["handled"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_settled_runs_again_after_kill_9_with_sqlite() {
    nothing_settled_runs_again(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_settled_runs_again_after_kill_9_with_postgresql() {
    nothing_settled_runs_again(Store::Postgres).await;
}
