//! Handlers of both versions of the contract, side by side on one host.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{Record, config, create_topic, produce_tombstone, producer, read_topic};
use courier_tests::{Delivery, Host, Message, guest, kafka, scripted, turn, unique, wait_until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// One topic, a group for a handler of each version, and a topic for each one's
/// publications.
struct Pair {
    host: Host,
    topic: String,
    first: Side,
    second: Side,
}

/// One handler of the pair.
struct Side {
    group: String,
    out: String,
}

impl Pair {
    async fn start() -> Self {
        let bootstrap = kafka().bootstrap();
        let topic = create_topic(bootstrap, "contract", 1).await;
        let side = async |name: &str| Side { group: unique(name), out: create_topic(bootstrap, name, 1).await };
        let (first, second) = (side("first").await, side("second").await);
        let binding = |side: &Side, plugin: &str, more: &str| {
            format!(
                "group = \"{}\"\ntopics = [\"{topic}\"]\nplugin = \"{plugin}\"\n[binding.grant]\npublish = [\"{}\"]\n{more}",
                side.group, side.out
            )
        };
        let to = format!("[binding.config]\nto = \"{}\"", first.out);
        let host = Host::builder("host-1")
            .binding(&binding(&first, "first-version", &to))
            .binding(&binding(&second, "scripted", ""))
            .start()
            .await;
        for plugin in ["first-version", "scripted"] {
            host.upload(plugin, guest(plugin)).await;
        }
        Self { host, topic, first, second }
    }

    async fn one_record(side: &Side) -> Record {
        wait_until(&format!("one message is in {}", side.out), SOON, async || {
            let mut records = read_topic(kafka().bootstrap(), &side.out).await;
            match records.pop() {
                Some(record) if records.is_empty() => Ok(record),
                _ => Err(format!("there are {} beside it", records.len())),
            }
        })
        .await
    }
}

fn of<'m>(message: &'m Message, side: &Side) -> &'m Delivery {
    let found = message.deliveries.iter().find(|delivery| delivery.group == side.group);
    found.unwrap_or_else(|| panic!("{} has no delivery in {}", message.id, side.group))
}

/// Absent and empty could not be distinguished, and a handler could not publish a
/// tombstone. A handler of version 1 sees what it always saw.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_both_versions_run_side_by_side() {
    let _turn = turn::shared().await;
    let pair = Pair::start().await;
    let id = unique("tombstone");
    let script = format!("[\"copy:{}\"]", pair.second.out);
    let headers = [
        ("ce_id", Some(id.as_str())),
        ("ce_type", Some("Gone")),
        ("do", Some(script.as_str())),
        ("bare", None),
        ("empty", Some("")),
    ];
    produce_tombstone(&producer(&config(kafka().bootstrap())), &pair.topic, b"k", &headers).await;

    let message = pair.host.finished(&id, 2).await;

    for side in [&pair.first, &pair.second] {
        let delivery = of(&message, side);
        assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
        let copy = Pair::one_record(side).await;
        assert_eq!(copy.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(copy.header("empty").as_deref(), Some(""), "{copy:?}");
    }
    let log = of(&message, &pair.first).attempts[0].log.as_deref();
    assert!(log.is_some_and(|log| log.contains("attempt 1 of version 1")), "{log:?}");
    let (first, second) = (Pair::one_record(&pair.first).await, Pair::one_record(&pair.second).await);
    assert_eq!((first.payload.as_deref(), first.bare_headers.len()), (Some(&b""[..]), 0));
    assert_eq!((second.payload, second.bare_headers), (None, vec!["bare".to_owned()]));
}

/// One call emitted 9,902 messages.
#[tokio::test(flavor = "multi_thread")]
async fn the_messages_that_one_call_publishes_are_bounded() {
    let _turn = turn::shared().await;
    let pair = Pair::start().await;
    let flood = scripted(&pair.topic, "k", &[&format!("flood:{}=1001", pair.second.out)]);
    let id = pair.host.publish(flood).await.id().to_owned();
    let message = pair.host.finished(&id, 2).await;
    let delivery = of(&message, &pair.second);
    assert_eq!((delivery.state, delivery.verdict.as_deref()), (State::HandleFail, Some("error")));
    let reason = delivery.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("one call may publish 1000 messages"), "{reason}");
    assert_eq!(read_topic(kafka().bootstrap(), &pair.second.out).await.len(), 0, "a failed attempt publishes nothing");
}

/// A handler of version 2 says how long its service is down, and the binding
/// pauses at least that long; version 1 leaves it to the host.
#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_may_say_for_how_long() {
    let _turn = turn::shared().await;
    let pair = Pair::start().await;
    let wait = Duration::from_secs(4);
    let body = json!({ "do": ["unavailable:4s", "ok"] });
    let down = json!({ "topic": pair.topic, "type": "Down", "key": "k", "body": body });
    let id = pair.host.publish(down).await.id().to_owned();
    let delivery = wait_until("the second version's handler ran again", SOON, async || {
        let message = pair.host.message(&id).await;
        let found = message.deliveries.into_iter().find(|delivery| delivery.group == pair.second.group);
        match found {
            Some(delivery) if delivery.state == State::Handled => Ok(delivery),
            Some(delivery) => Err(delivery.brief()),
            None => Err("it has no delivery".to_owned()),
        }
    })
    .await;
    let [asked, handled] = &delivery.attempts[..] else { panic!("{}", delivery.brief()) };
    assert_eq!((asked.verdict.as_str(), asked.counted), ("unavailable", false));
    let paused = handled.started_at.duration_since(asked.finished_at);
    assert!(paused.as_millis() >= wait.as_millis().try_into().unwrap(), "it paused for {paused:?}");

    let message = pair.host.message(&id).await;
    let first = of(&message, &pair.first);
    assert_eq!((first.state, first.verdict.as_deref()), (State::PushFail, Some("unavailable")));
    assert_eq!(first.reason.as_deref(), Some("first-version: down"));
}
