//! Topics that form a loop, by dead letters or by publications of handlers.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{create_topic, read_topic};
use courier_tests::{Host, guest, kafka, scripted, scripted_binding, turn, unique, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// Two topics that are each other's dead letter topics made 13,000 letters of one
/// message in 2.5 minutes.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_go_round_end_at_max_hops() {
    let _turn = turn::shared().await;
    let [one, other] =
        [create_topic(kafka().bootstrap(), "round", 1).await, create_topic(kafka().bootstrap(), "round", 1).await];
    let (first, second) = (unique("first"), unique("second"));
    let policy = |to: &str| format!("max_hops = 3\ndead_letter = \"{to}\"");
    let host = Host::builder("host-1")
        .binding(&scripted_binding(&first, &one, &policy(&other)))
        .binding(&scripted_binding(&second, &other, &policy(&one)));
    let host = host.start().await;
    assert!(host.log().contains("topics lead into one another"), "the log warns at the start:\n{}", host.log());
    host.upload("scripted", guest("scripted")).await;
    let body = scripted(&one, "k", &["reject"]);
    host.publish(body).await;
    let ended = wait_until("the last letter ends the chain", SOON, async || {
        let failed = host.deliveries(&format!("group={second}")).await;
        let last = failed.into_iter().find(|one| one.reason.as_deref().unwrap_or_default().contains("no dead letter"));
        last.ok_or_else(|| host.log_tail())
    })
    .await;
    assert!(ended.is_final() && ended.state == State::HandleFail, "{}", ended.brief());
    let reason = ended.reason.unwrap();
    assert!(
        reason.starts_with("scripted: reject; no dead letter was written: topics lead into one another"),
        "{reason}"
    );
    assert!(
        reason.contains(&format!("{other} -> group {second} -> {one}")) && reason.contains("max_hops is 3"),
        "{reason}"
    );
    let hops = async |topic: &str| -> Vec<Option<String>> {
        read_topic(kafka().bootstrap(), topic).await.iter().map(|record| record.header("courier_hops")).collect()
    };
    assert_eq!(hops(&one).await, [None, Some("2".to_owned())]);
    assert_eq!(hops(&other).await, [Some("1".to_owned()), Some("3".to_owned())]);
}

/// A handler that publishes on the topic that it reads, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn publications_that_go_round_end_at_max_hops_and_no_handler_sees_the_count() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "echo", 1).await;
    let group = unique("echo");
    let policy = format!("max_hops = 3\n[binding.grant]\npublish = [\"{topic}\"]");
    let host = Host::builder("host-1").binding(&scripted_binding(&group, &topic, &policy)).start().await;
    host.upload("scripted", guest("scripted")).await;
    host.publish(scripted(&topic, "k", &[&format!("publish:{topic}+ok")])).await;
    let all = wait_until("the chain ends", SOON, async || {
        let all = host.deliveries(&format!("group={group}")).await;
        if all.iter().any(|one| one.state == State::HandleFail) { Ok(all) } else { Err(format!("{}", all.len())) }
    })
    .await;
    let (failed, handled): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.state == State::HandleFail);
    assert_eq!((failed.len(), handled.len()), (1, 3));
    let reason = failed[0].reason.clone().unwrap_or_default();
    assert!(failed[0].is_final() && reason.contains("would be hop 4") && reason.contains(&group), "{reason}");
    let last = host.message(&failed[0].message_id).await;
    assert!(last.headers.get("courier_hops").is_none(), "the count is no header of the message: {}", last.headers);
}
