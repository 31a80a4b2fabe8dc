//! Requests about groups, and about groups that no node runs.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::auth::Role;
use super::ports::BindingView;
use super::testing::{Host, World, answer, binding, delivery, message, message_row, position};
use crate::causes::{COPIED_FULL, Cause, HELD, NO_BINDING, PAUSED, RETENTION_NEAR, Subject, UNDELIVERED_FULL};
use crate::store::{DeliveryKey, NodeBinding, NodeBindingStore, PositionId, PositionRow};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

const REASON: &str = r#"{"reason":"entered by hand"}"#;

/// `stock` has a failed delivery at 5 and is bound; `mail` has one and is not.
fn world() -> World {
    let mut failed = delivery("stock", "order", 5);
    (failed.state, failed.settled_at) = (State::HandleFail, None);
    failed.next_attempt_at = Some(Timestamp(4_000_000));
    let mut of_mail = delivery("mail", "order", 7);
    of_mail.key.position = PositionId(2);
    World {
        deliveries: vec![failed, of_mail],
        positions: vec![position(1, "stock", "order", 0), position(2, "mail", "order", 0)],
        bindings: vec![binding("stock", &["order"])],
        ..World::default()
    }
}

fn elsewhere(group: &str, topic: &str) -> NodeBinding {
    NodeBinding { group: group.into(), topic: topic.into(), types: None }
}

#[tokio::test]
async fn a_delivery_is_given_up_with_a_reason_and_an_entry() {
    let host = Host::start(world(), &[]).await;
    let path = "/v1/deliveries/1-5/give-up";
    let marked = async || {
        let marks = sqlx::query_as("SELECT give_up_reason, give_up_letter FROM open_delivery WHERE offset = 5");
        let (reason, letter): (Option<String>, bool) = marks.fetch_one(&host.db).await.unwrap();
        (reason.unwrap_or_default(), letter)
    };
    assert_eq!(host.ask("POST", path, Some(REASON)).await.0, 202);
    assert_eq!(marked().await, ("entered by hand".to_owned(), false));
    assert_eq!(host.ask("POST", path, Some("{}")).await.0, 400);
    let with_letter = r#"{"reason":"a double","dead_letter":true}"#;
    assert_eq!(host.ask("POST", path, Some(with_letter)).await.0, 202);
    assert_eq!(marked().await, ("a double".to_owned(), true));
    let expected = [
        "local give up stock order:0:5 was HANDLE_FAIL: entered by hand",
        "local give up stock order:0:5 was HANDLE_FAIL, with a dead letter: a double",
    ];
    assert_eq!(host.audited().await, expected);
    assert_eq!(host.asked(), ["wake", "wake"], "the owner is told of each");
}

#[tokio::test]
async fn a_delivery_that_runs_is_not_given_up() {
    let running = vec![DeliveryKey { position: PositionId(1), offset: Offset(5) }];
    let host = Host::start(World { running, ..world() }, &[]).await;
    let (status, problem) = host.ask("POST", "/v1/deliveries/1-5/give-up", Some(REASON)).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("wait for its outcome"), "{problem}");
}

#[tokio::test]
async fn only_operators_give_up_and_only_in_their_scope() {
    let tokens = [
        ("ops", Role::Operator, Some(["stock", "order"].as_slice())),
        ("other", Role::Operator, Some(["mail", "order"].as_slice())),
        ("eyes", Role::Viewer, None),
    ];
    let host = Host::start(world(), &tokens).await;
    let give_up = async |token: &str| {
        let request = host.request("POST", "/v1/deliveries/1-5/give-up", Some(token));
        request.header("content-type", "application/json").body(REASON).send().await.unwrap().status().as_u16()
    };
    assert_eq!((give_up("ops").await, give_up("other").await, give_up("eyes").await), (202, 404, 403));
}

#[tokio::test]
async fn a_sender_hears_that_nobody_takes_its_message() {
    let mut priced = binding("pricing", &["price"]);
    priced.types = Some(vec!["OrderCreated".into(), "PriceChanged".into()]);
    let bindings = vec![binding("stock", &["order"]), priced];
    let host = Host::start(World { bindings, elsewhere: vec![elsewhere("mail", "refund")], ..world() }, &[]).await;
    let warning = async |topic: &str, type_name: &str| {
        let body = json!({ "topic": topic, "type": type_name, "body": {} }).to_string();
        let (status, receipt) = host.ask("POST", "/v1/messages", Some(&body)).await;
        assert_eq!(status, 202, "{receipt}");
        receipt["warning"].as_str().map(ToOwned::to_owned)
    };
    assert_eq!(warning("order", "OrderCreated").await, None);
    assert_eq!(warning("refund", "Refunded").await, None, "another node runs mail");
    assert_eq!(warning("price", "PriceChanged").await, None);
    assert_eq!(
        warning("price", "PriceRemoved").await.as_deref(),
        Some(
            "no group takes PriceRemoved of topic price: pricing is bound to price for OrderCreated, PriceChanged only"
        )
    );
    assert_eq!(
        warning("ordr", "OrderCreated").await.as_deref(),
        Some("no group is bound to topic ordr; did you mean order?")
    );
    assert_eq!(warning("invoice", "Sent").await.as_deref(), Some("no group is bound to topic invoice"));
}

/// "retry of a delivery whose group has no binding -> exit 0 "runs again",
/// HANDLED becomes COMMITTED for ever".
#[tokio::test]
async fn what_is_asked_of_a_group_that_nobody_runs_is_refused_before_anything_changes() {
    let host = Host::start(world(), &[]).await;
    let plan = r#"{"filter":{"group":"mail"}}"#;
    let seek = r#"{"topic":"order","to":"earliest","confirm":"mail"}"#;
    let asks = [
        ("/v1/deliveries/2-7/retry", None),
        ("/v1/deliveries/2-7/give-up", Some(REASON)),
        ("/v1/redrives", Some(plan)),
        ("/v1/groups/mail/seek", Some(seek)),
    ];
    for (path, body) in asks {
        let (status, problem) = host.ask("POST", path, body).await;
        assert_eq!((status, &problem["code"]), (409, &json!("no_binding")), "{path}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("nobody runs group mail"), "{path}: {detail}");
    }
    assert_eq!(host.asked(), [""; 0], "nobody was told");
    assert_eq!(host.audited().await, [""; 0], "nothing was changed");
    let (_, handled) = host.ask("GET", "/v1/deliveries/2-7", None).await;
    assert_eq!(handled["state"], "HANDLED");
}

#[tokio::test]
async fn a_group_that_another_node_runs_is_run() {
    let host = Host::start(World { elsewhere: vec![elsewhere("mail", "order")], ..world() }, &[]).await;
    assert_eq!(host.ask("POST", "/v1/deliveries/2-7/retry", None).await.0, 202);
    let seek = r#"{"topic":"order","to":"earliest","confirm":"mail"}"#;
    assert_eq!(host.ask("POST", "/v1/groups/mail/seek", Some(seek)).await.0, 200);
}

#[tokio::test]
async fn a_topic_that_a_group_no_longer_reads_is_not_run() {
    let host = Host::start(World { elsewhere: vec![elsewhere("mail", "refund")], ..world() }, &[]).await;
    let (status, problem) = host.ask("POST", "/v1/deliveries/2-7/retry", None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("no_binding")));
    let detail: &Value = &problem["detail"];
    assert!(detail.as_str().unwrap().contains("it reads `refund`"), "{detail}");
}

/// Issue 17: a token for one topic of a shared group paused the whole group through a
/// host that did not bind the other topic, and causes and refusals named that topic.
#[tokio::test]
async fn who_reaches_one_topic_of_a_group_neither_stops_it_nor_hears_of_the_others() {
    let world = World { elsewhere: vec![elsewhere("stock", "refund")], ..world() };
    let causes = world.causes.clone();
    let host = Host::start(world, &[]).await;
    host.limit_to_topics(Role::Operator, &["order", "mail"]);
    let ask = async |method: &str, path: &str, body: &'static str| {
        let request = host.request(method, path, Some("tenant")).header("content-type", "application/json");
        answer(request.body(body)).await
    };
    for change in ["pause", "resume"] {
        let (status, problem) = ask("POST", &format!("/v1/groups/stock/{change}"), "{}").await;
        assert_eq!(status, 403, "{problem}");
    }
    let (status, problem) = ask("POST", "/v1/redrives", r#"{"filter":{"group":"stock","topic":"mail"}}"#).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 400 && detail.ends_with("does not read `mail`; it reads `order`"), "{problem}");
    let cause = Cause::new(PAUSED, "looked into").awaits_person();
    causes.report(Subject::Group("stock".into()), cause.with("topics", "order, refund"));
    let of_refund = Subject::Partition { group: "stock".into(), topic: "refund".into(), partition: 0 };
    causes.report(of_refund, Cause::new(NO_BINDING, "nobody reads refund").at_once().with("topic", "refund"));
    for path in ["/v1/groups/stock", "/v1/overview"] {
        let (status, shown) = ask("GET", path, "").await;
        assert!(status == 200 && !shown.to_string().contains("refund"), "{path}: {shown}");
    }
    assert_eq!(ask("GET", "/v1/groups/stock", "").await.1["cause"]["fields"]["topics"], "order");
    host.store.keep_bindings("host-3", &[]).await.unwrap();
    assert_eq!(ask("POST", "/v1/groups/stock/pause", "{}").await.0, 200, "it reaches all topics of the group");
}

/// A token for the topic `order` heard in attention of groups that read other topics only,
/// and why they stand still.
#[tokio::test]
async fn attention_hides_groups_whose_topics_are_out_of_scope() {
    let ledger = BindingView { plugin: "ledger@sha256:aa".into(), ..binding("stock", &["payment"]) };
    let bindings = vec![binding("stock", &["order"]), ledger, binding("billing", &["payment"])];
    let world = World { bindings, ..world() };
    let causes = world.causes.clone();
    let of = |group: &str, plugin: &str| Subject::Binding { group: group.into(), plugin: plugin.into() };
    let full = || Cause::new(Verdict::NoRoom.as_str(), "there is no room").at_once();
    causes.report(Subject::Group("billing".into()), Cause::new(NO_BINDING, "nobody runs it").at_once());
    causes.report(of("billing", "order-handler"), full());
    causes.report(of("stock", "ledger"), full());
    causes.report(of("stock", "order-handler at 10.0.0.1:80"), full());
    causes.report(Subject::Group("stock".into()), Cause::new("no_owner", "nobody owns it").at_once());
    let host = Host::start(world, &[("ops", Role::Operator, None)]).await;
    let ops = answer(host.request("GET", "/v1/overview", Some("ops"))).await.1;
    host.limit_to_topics(Role::Viewer, &["order"]);
    let scoped = answer(host.request("GET", "/v1/overview", Some("tenant"))).await.1;
    let stopped = |overview: &Value| {
        let entries = overview["attention"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "stopped");
        let mut subjects: Vec<String> = entries.map(|entry| entry["subject"].as_str().unwrap().to_owned()).collect();
        subjects.sort();
        subjects
    };
    let of_stock = ["stock", "stock (order-handler at 10.0.0.1:80)"];
    assert_eq!(stopped(&scoped), of_stock, "{scoped}");
    let all = ["billing", "billing (order-handler)", of_stock[0], "stock (ledger)", of_stock[1]];
    assert_eq!(stopped(&ops), all, "{ops}");
}

/// On a host that binds one group, deliveries of the groups of other hosts were unknown
/// until their first outcome.
#[tokio::test]
async fn a_first_flight_of_a_group_of_another_node_is_committed() {
    let world = World {
        messages: vec![message_row("order", 20)],
        records: HashMap::from([(("order".to_owned(), 20), message("order", 20))]),
        elsewhere: vec![elsewhere("mail", "order")],
        deliveries: Vec::new(),
        ..world()
    };
    let host = Host::start(world, &[]).await;
    let (status, flies) = host.ask("GET", "/v1/deliveries/2-20", None).await;
    assert_eq!((status, &flies["group"], &flies["state"]), (200, &json!("mail"), &json!("COMMITTED")), "{flies}");
    let (_, shown) = host.ask("GET", "/v1/messages/m-20", None).await;
    let groups: Vec<&Value> = shown["deliveries"].as_array().unwrap().iter().map(|one| &one["group"]).collect();
    assert_eq!(groups, ["mail", "stock"], "{shown}");
    let (status, unbound) = {
        host.store.keep_bindings("host-3", &[]).await.unwrap();
        host.ask("GET", "/v1/deliveries/2-20", None).await
    };
    assert_eq!(status, 404, "no node runs it: {unbound}");
}

/// A group as it is listed, and its entries in attention.
async fn listed(world: World) -> (Value, Vec<Value>) {
    let host = Host::start(world, &[]).await;
    let (status, groups) = host.ask("GET", "/v1/groups", None).await;
    assert_eq!(status, 200, "{groups}");
    let (status, overview) = host.ask("GET", "/v1/overview", None).await;
    assert_eq!(status, 200, "{overview}");
    // The groups of this host have a full partition, whatever stands still.
    let is_meant = |item: &&Value| {
        item["kind"] != "parked_full" && item["subject"].as_str().is_some_and(|subject| subject.starts_with("stock"))
    };
    let told = overview["attention"].as_array().unwrap().iter().filter(is_meant).cloned().collect();
    let group = groups["items"].as_array().unwrap().iter().find(|group| group["group"] == "stock").unwrap();
    (group.clone(), told)
}

fn stopped(blocked: &str) -> World {
    let mut stopped = binding("stock", &["order"]);
    (stopped.paused, stopped.blocked, stopped.why) = (true, Some(blocked.into()), Some("for a reason".into()));
    World { bindings: vec![stopped], ..world() }
}

fn plugin() -> Subject {
    Subject::Binding { group: "stock".into(), plugin: "order-handler".into() }
}

#[tokio::test]
async fn a_pause_by_a_person_has_a_cause() {
    let world = stopped(PAUSED);
    world.causes.report(plugin(), Cause::new(PAUSED, "for a reason").awaits_person());
    let (group, told) = listed(world).await;
    assert_eq!((&group["state"], &group["cause"]["code"]), (&json!("paused"), &json!("paused")), "{group}");
    assert_eq!(group["bindings"][0]["cause"]["code"], "paused");
    assert_eq!((told.len(), &told[0]["kind"], &told[0]["cause"]["code"]), (1, &json!("paused"), &json!("paused")));
}

#[tokio::test]
async fn a_group_whose_topic_is_full_of_undelivered_cannot_run_and_is_not_paused() {
    let world = stopped(UNDELIVERED_FULL);
    world.causes.report(plugin(), Cause::new(UNDELIVERED_FULL, "for a reason").at_once());
    let (group, told) = listed(world).await;
    assert_eq!((&group["state"], &group["why"]), (&json!("cannot_run"), &json!("for a reason")), "{group}");
    assert_eq!(group["cause"]["code"], "undelivered_full");
    assert_eq!((told.len(), &told[0]["kind"]), (1, &json!("stopped")), "{told:?}");
    assert_eq!(told[0]["cause"]["code"], "undelivered_full");
}

#[tokio::test]
async fn held_lanes_are_a_cause_of_a_group_that_runs() {
    let world = world();
    let group = || Subject::Group("stock".into());
    world.causes.report(group(), Cause::new(HELD, "1 delivery waits for a person").awaits_person().with("held", 1));
    let (stock, told) = listed(world).await;
    assert_eq!((&stock["state"], &stock["why"]), (&json!("running"), &Value::Null), "{stock}");
    assert_eq!((&stock["cause"]["code"], &stock["cause"]["fields"]["held"]), (&json!("held"), &json!("1")));
    // Attention names it by the count of the list, which is none here.
    assert_eq!(told, [] as [Value; 0]);
}

#[tokio::test]
async fn records_that_retention_will_remove_are_listed_before_they_are_lost() {
    let world = world();
    let partition = || Subject::Partition { group: "stock".into(), topic: "order".into(), partition: 0 };
    world.causes.report(partition(), Cause::new(RETENTION_NEAR, "they are copied").foreseen().with("count", 27));
    let (group, told) = listed(World { causes: world.causes.clone(), ..self::world() }).await;
    assert_eq!((&group["state"], &group["cause"]["code"]), (&json!("running"), &json!("retention_near")), "{group}");
    assert_eq!((told.len(), &told[0]["kind"]), (1, &json!("retention_near")), "{told:?}");
    let first = &group["partitions"][0];
    assert_eq!(
        (&first["cause"]["code"], &first["why"]),
        (&json!("retention_near"), &json!("they are copied")),
        "{group}"
    );
    world.causes.report(partition(), Cause::new(COPIED_FULL, "they will be lost").at_once().with("count", 92));
    let (group, told) = listed(World { causes: world.causes, ..self::world() }).await;
    assert_eq!((&group["cause"]["code"], &group["cause"]["fields"]["count"]), (&json!("copied_full"), &json!("92")));
    assert!(told.iter().any(|told| told["kind"] == "stopped" && told["cause"]["code"] == "copied_full"), "{told:?}");
}

/// Issue 16: messages of a topic that was deleted stayed COMMITTED in the
/// answers for ever.
#[tokio::test]
async fn a_message_that_kafka_lost_is_not_shown_as_waiting() {
    let anew = PositionRow { next: Offset(0), incarnation: 1, ..position(9, "stock", "order", 0) };
    let world = || World {
        messages: vec![message_row("order", 5)],
        positions: vec![position(1, "stock", "order", 0), anew.clone()],
        lost: vec![PositionId(1)],
        bindings: vec![binding("stock", &["order"])],
        ..World::default()
    };
    let host = Host::start(world(), &[]).await;
    let (status, shown) = host.ask("GET", "/v1/messages/m-5", None).await;
    assert_eq!((status, shown["deliveries"].as_array().map(Vec::len)), (200, Some(1)), "{shown}");
    let delivery = &shown["deliveries"][0];
    assert_eq!(
        (&delivery["state"], &delivery["group"], &delivery["id"]),
        (&json!("HANDLE_FAIL"), &json!("stock"), &json!("1-5"))
    );
    assert_eq!(delivery["reason"], "it was not handled: retention");
    let (status, alone) = host.ask("GET", "/v1/deliveries/1-5", None).await;
    assert_eq!((status, &alone["state"], &alone["offset"]), (200, &json!("HANDLE_FAIL"), &json!(5)), "{alone}");
    // The record is there: its group has not come to it yet.
    let records = HashMap::from([(("order".to_owned(), 5), message("order", 5))]);
    let host = Host::start(World { records, ..world() }, &[]).await;
    let (_, shown) = host.ask("GET", "/v1/messages/m-5", None).await;
    assert_eq!(shown["deliveries"][0]["state"], "COMMITTED", "{shown}");
}
