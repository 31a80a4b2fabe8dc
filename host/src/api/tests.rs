//! The API on a real socket: routing, roles, shapes, bounds.

mod transactions;

use courier_core::message::Timestamp;
use courier_core::status::State;
use serde_json::{Value, json};

use super::auth::{Role, TokenSpec};
use super::testing::{Host, World, answer, binding, delivery, message, message_row, plugin, position};
use crate::clock::machine_now;
use crate::store::{GroupTotals, MinuteRow, PaceRow, PositionId};

const ORDER: &str = r#"{"topic":"order","type":"OrderCreated","body":{"n": 1.10},"id":"o-1"}"#;

pub(super) fn world() -> World {
    let mut failed = message_row("order", 3);
    failed.state = State::SendFail;
    (failed.place, failed.record) = (None, Some("record:{\"kept\":1}".into()));
    let mut buckets = vec![0; 40];
    buckets[16] = 3;
    World {
        messages: vec![message_row("order", 20), message_row("secret", 21), failed],
        deliveries: vec![delivery("stock", "order", 5), delivery("other", "secret", 6)],
        positions: vec![position(1, "stock", "order", 0), position(2, "other", "secret", 0)],
        bindings: vec![binding("stock", &["order"]), binding("other", &["secret"])],
        records: [20, 5].map(|offset| (("order".to_owned(), offset), message("order", offset))).into(),
        lost: vec![PositionId(1), PositionId(2)],
        totals: vec![GroupTotals { group: "stock".into(), handled: 5, ..GroupTotals::default() }],
        minutes: ["", "other", "stock"].map(busy_minute).into(),
        paces: vec![PaceRow { group: "stock".into(), buckets }],
        plugins: ["order-handler", "ledger"].map(plugin).into(),
        ..World::default()
    }
}

/// What a group did in a minute half an hour ago.
fn busy_minute(group: &str) -> MinuteRow {
    const MINUTE: i64 = 60_000_000;
    MinuteRow {
        minute: Timestamp((machine_now().0 / MINUTE - 30) * MINUTE),
        group: group.into(),
        published: 7,
        handled: 2,
        ..MinuteRow::default()
    }
}

pub(super) async fn open() -> Host {
    Host::start(world(), &[]).await
}

pub(super) async fn guarded() -> Host {
    guarded_with(world()).await
}

pub(super) async fn guarded_with(world: World) -> Host {
    let scope: &[&str] = &["order", "stock"];
    let tokens = [
        ("viewer", Role::Viewer, None),
        ("shop", Role::Publisher, Some(scope)),
        ("ops", Role::Operator, None),
        ("root", Role::Admin, None),
        ("stockadmin", Role::Admin, Some(scope)),
    ];
    Host::start(world, &tokens).await
}

#[tokio::test]
async fn one_message_is_answered_by_its_receipt() {
    let host = open().await;
    assert_eq!(
        host.ask("POST", "/v1/messages", Some(ORDER)).await,
        (202, json!({ "id": "o-1", "state": "COMMITTED" }))
    );
    assert_eq!(host.ports.lock().sent[0].body, "{\"n\": 1.10}");
    let down = ORDER.replace("order", "down");
    let warning = "no group is bound to topic down";
    let receipt = json!({ "id": "o-1", "state": "SEND_FAIL", "retrying": true, "warning": warning });
    assert_eq!(host.ask("POST", "/v1/messages", Some(&down)).await, (202, receipt));
    let (status, problem) = host.ask("POST", "/v1/messages", Some(&ORDER.replace("\"order\"", "\"\""))).await;
    assert_eq!((status, &problem["id"], &problem["title"]), (400, &json!("o-1"), &json!("invalid message")));
    let (status, problem) = host.ask("POST", "/v1/messages", Some(&ORDER.replace("body", "bodi"))).await;
    assert_eq!((status, &problem["id"]), (400, &json!("o-1")));
    assert!(problem["detail"].as_str().unwrap().contains("`bodi` is unknown"));
}

#[tokio::test]
async fn an_array_is_answered_item_by_item_in_order() {
    let host = open().await;
    let wrong = r#"{"id":"x","topik":"order"}"#;
    let (status, answer) = host.ask("POST", "/v1/messages", Some(&format!("[{wrong},{ORDER},{wrong}]"))).await;
    assert_eq!(status, 202);
    assert_eq!(answer["items"][1], json!({ "id": "o-1", "state": "COMMITTED" }));
    assert_eq!(answer["items"][2]["id"], "x");
    assert_eq!(answer["items"][2]["problem"]["status"], 400);
    let (status, problem) = host.ask("POST", "/v1/messages", Some(&format!("[{wrong}]"))).await;
    assert_eq!((status, &problem["items"][0]["state"]), (400, &json!("SEND_FAIL")));
}

#[tokio::test]
async fn cloudevents_come_in_all_three_forms() {
    let host = open().await;
    let event = r#"{"specversion":"1.0","id":"e","source":"/s","type":"T","topic":"order","data":1}"#;
    let send = |content_type: &'static str, body: String| {
        answer(host.request("POST", "/v1/messages?topic=order", None).header("content-type", content_type).body(body))
    };
    assert_eq!(send("application/cloudevents+json", event.into()).await.0, 202);
    assert_eq!(send("application/cloudevents-batch+json", format!("[{event}]")).await.1["items"][0]["id"], "e");
    assert_eq!(send("application/cloudevents-batch+json", "[]".into()).await, (202, json!({ "items": [] })));
    let binary = host.request("POST", "/v1/messages?topic=order", None).header("ce-specversion", "1.0");
    let binary = binary.header("ce-id", "b").header("ce-source", "/s").header("ce-type", "T").body(vec![0xff]);
    assert_eq!(answer(binary).await, (202, json!({ "id": "b", "state": "COMMITTED" })));
    let (status, problem) = send("text/plain", event.into()).await;
    assert_eq!((status, &problem["title"]), (415, &json!("unsupported media type")));
}

#[tokio::test]
async fn a_message_is_shown_with_who_has_it() {
    let host = open().await;
    // Sent through Courier, on Kafka, not handled yet.
    let (status, shown) = host.ask("GET", "/v1/messages/m-20", None).await;
    assert_eq!((status, &shown["body"], &shown["offset"]), (200, &json!({ "n": 1 }), &json!(20)));
    let delivery = &shown["deliveries"][0];
    assert_eq!(
        (&delivery["id"], &delivery["state"], &delivery["group"]),
        (&json!("1-20"), &json!("COMMITTED"), &json!("stock"))
    );
    assert_eq!(host.ask("GET", "/v1/deliveries/1-20", None).await, (200, delivery.clone()));
    // From elsewhere, handled.
    let (_, shown) = host.ask("GET", "/v1/messages/m-5", None).await;
    assert_eq!((&shown["deliveries"][0]["state"], &shown["source"]), (&json!("HANDLED"), &json!("shop")));
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 1);
    // Not on Kafka.
    let (_, shown) = host.ask("GET", "/v1/messages/m-3", None).await;
    assert_eq!(
        (&shown["state"], &shown["body"], &shown["partition"]),
        (&json!("SEND_FAIL"), &json!({ "kept": 1 }), &Value::Null)
    );
    // A record without an id, by its place.
    let (_, shown) = host.ask("GET", "/v1/messages/order%3A0%3A20", None).await;
    assert_eq!(shown["id"], "m-20");
    for unknown in ["none", "order:0:21", "order:1:20", "secret:0:99", "order:0:-1", "%00"] {
        assert_eq!(host.ask("GET", &format!("/v1/messages/{unknown}"), None).await.0, 404, "{unknown}");
    }
}

#[tokio::test]
async fn an_id_that_repeats_shows_the_newest_and_names_the_others() {
    let mut world = world();
    for (offset, incarnation) in [(7, 0), (9, 0)] {
        let mut row = delivery("stock", "order", offset);
        (row.message_id, row.incarnation) = ("again".into(), incarnation);
        (row.state, row.record) = (State::HandleFail, Some("record:2".into()));
        world.deliveries.push(row);
    }
    let host = Host::start(world, &[]).await;
    let (_, shown) = host.ask("GET", "/v1/messages/again", None).await;
    assert_eq!((&shown["id"], &shown["offset"], &shown["body"]), (&json!("again"), &json!(9), &json!(2)));
    assert_eq!(
        shown["also"],
        json!([{
            "topic": "order", "source": null, "created_at": null, "time": null, "state": "COMMITTED", "partition": 0,
            "offset": 7
        }])
    );
}

#[tokio::test]
async fn changes_reach_the_store_and_the_audit_log() {
    let host = open().await;
    assert_eq!(host.ask("POST", "/v1/deliveries/1-5/retry", None).await.0, 202);
    assert_eq!(host.ask("POST", "/v1/messages/m-3/resend", None).await.1["retrying"], true);
    assert_eq!(host.ask("POST", "/v1/messages/m-20/resend", None).await.0, 409);
    let (_, group) = host.ask("POST", "/v1/groups/stock/pause", Some(r#"{"why":"night"}"#)).await;
    assert_eq!((&group["paused"], &group["why"]), (&json!(true), &json!("night")));
    assert_eq!(host.ask("POST", "/v1/groups/stock/resume", None).await.1["paused"], false);
    let seek = r#"{"topic":"order","to":"earliest","confirm":"stock"}"#;
    let (_, sought) = host.ask("POST", "/v1/groups/stock/seek", Some(seek)).await;
    assert_eq!(sought["partitions"], json!([{ "partition": 0, "from": 17, "to": 3 }]));
    assert_eq!(host.ask("POST", "/v1/groups/stock/seek", Some(&seek.replace("order", "secret"))).await.0, 400);
    assert_eq!(host.ask("POST", "/v1/groups/none/pause", None).await.0, 404);
    let (_, again) = host.ask("GET", "/v1/deliveries/1-5", None).await;
    assert_eq!((&again["state"], &again["settled_at"]), (&json!("COMMITTED"), &Value::Null), "it runs again");
    let sent_again: Vec<String> =
        sqlx::query_scalar("SELECT message_id FROM outbound").fetch_all(&host.db).await.unwrap();
    assert_eq!(sent_again, ["m-3"]);
    assert!(host.asked().contains(&"wake".to_owned()), "{:?}", host.asked());
    let expected = [
        "local retry stock order:0:5 HANDLED",
        "local resend m-3 ",
        "local pause stock night",
        "local resume stock ",
        "local seek stock all partitions of order, to the first record that Kafka still has",
    ];
    assert_eq!(host.audited().await, expected);
}

#[tokio::test]
async fn a_plugin_is_uploaded_and_activated() {
    let host = open().await;
    let put = |path: &str, body: &'static [u8]| {
        answer(host.request("PUT", path, None).header("content-type", "application/wasm").body(body))
    };
    let uploaded = json!({
        "name": "order-handler", "version": "sha256:bb", "active": false,
        "imports": ["log"], "exports": ["handle"], "wants": { "group": "stock" },
    });
    assert_eq!(put("/v1/plugins/order-handler", b"\0asm").await, (201, uploaded));
    assert_eq!(put("/v1/plugins/order-handler?activate=true", b"\0asm").await.1["active"], true);
    assert_eq!(put("/v1/plugins/order-handler", b"garbage").await.0, 422);
    assert_eq!(put("/v1/plugins/a%2Fb", b"\0asm").await.0, 400);
    assert_eq!(put("/v1/plugins/order-handler", b"").await.0, 400);
    let activate = |version: &str| format!("{{\"version\":\"{version}\"}}");
    let path = "/v1/plugins/order-handler/activate";
    let active = json!({ "name": "order-handler", "active": "sha256:aa" });
    assert_eq!(host.ask("POST", path, Some(&activate("sha256:aa"))).await, (200, active));
    assert_eq!(host.ask("POST", path, Some(&activate("sha256:cc"))).await.0, 404);
    assert_eq!(host.ask("POST", path, None).await.0, 400);
    assert_eq!(host.ask("GET", "/v1/plugins", None).await.1["items"][0]["versions"][0]["by"], "ci");
    let expected = [
        "local upload order-handler sha256:bb",
        "local upload order-handler sha256:bb",
        "local activate order-handler sha256:bb",
        "local activate order-handler sha256:aa",
    ];
    assert_eq!(host.audited().await, expected);
}

/// The client writes the whole body before it reads, and must still get the response.
#[tokio::test]
async fn an_upload_over_the_limit_is_answered_and_not_cut_off() {
    let host = open().await;
    let wasm = vec![0; 41 * 1024 * 1024];
    let request = host.request("PUT", "/v1/plugins/big", None).header("content-type", "application/wasm");
    let (status, problem) = answer(request.body(wasm.clone())).await;
    assert_eq!((status, &problem["detail"]), (413, &json!("a component may have 40 MiB at most, and this has more")));
    // The same without an announced length, and refused for another reason.
    let chunks = wasm.chunks(1 << 16).map(|chunk| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(chunk)));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks.collect::<Vec<_>>()));
    let request = host.request("PUT", "/v1/plugins/big", None).header("content-type", "application/wasm");
    assert_eq!(answer(request.body(body)).await.0, 413);
    assert_eq!(answer(host.request("PUT", "/v1/plugins/big?x=1", None).body(wasm)).await.0, 400);
}

#[tokio::test]
async fn a_scope_hides_what_is_outside_of_it() {
    let host = guarded().await;
    let ask = |path: &'static str| answer(host.request("GET", path, Some("shop")));
    let names = |list: &Value, member: &str| {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item[member].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&ask("/v1/messages").await.1, "topic"), ["order", "order"]);
    assert_eq!(names(&ask("/v1/deliveries").await.1, "topic"), ["order"]);
    assert_eq!(names(&ask("/v1/groups").await.1, "group"), ["stock"]);
    assert_eq!(names(&ask("/v1/plugins").await.1, "name"), ["order-handler"]);
    for hidden in [
        "/v1/plugins/ledger",
        "/v1/messages/m-21",
        "/v1/messages/m-6",
        "/v1/deliveries/2-20",
        "/v1/messages/secret:0:21",
    ] {
        assert_eq!(ask(hidden).await.0, 404, "{hidden}");
    }
    for named in
        ["/v1/messages?topic=secret", "/v1/deliveries?group=other", "/v1/groups/other", "/v1/outboxes", "/metrics"]
    {
        assert_eq!(ask(named).await.0, 403, "{named}");
    }
    let publish = |topic: &str| {
        let body = ORDER.replace("\"order\"", &format!("{topic:?}"));
        answer(host.request("POST", "/v1/messages", Some("shop")).header("content-type", "application/json").body(body))
    };
    assert_eq!(publish("order").await.0, 202);
    assert_eq!(host.ports.lock().sent[0].source, "shop");
    assert_eq!(publish("secret").await.0, 403);
    let upload = host.request("PUT", "/v1/plugins/x", Some("stockadmin")).header("content-type", "application/wasm");
    assert_eq!(answer(upload.body("\0asm")).await.0, 403);
}

#[tokio::test]
async fn what_is_unknown_is_refused_as_a_problem() {
    let host = open().await;
    let paths = [
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/groups", 405),
        ("GET", "/v1/messages?topik=a", 400),
        ("GET", "/v1/messages?limit=0", 400),
        ("GET", "/v1/messages?state=X", 400),
        ("GET", "/v1/deliveries?from=yesterday", 400),
        ("GET", "/v1/groups/stock?x=1", 400),
        ("GET", "/v1/deliveries/x", 404),
        ("GET", "/v1/messages/%ff", 400),
        ("POST", "/v1/deliveries/9-9/retry", 404),
    ];
    for (method, path, expected) in paths {
        let response = host.request(method, path, None).send().await.unwrap();
        assert_eq!(response.status(), expected, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
        assert!(response.headers().contains_key("x-request-id"));
        let problem: Value = response.json().await.unwrap();
        assert!(problem["type"].as_str().unwrap().starts_with("urn:courier:problem:"));
        assert_eq!(problem["status"], expected);
        assert!(!problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_host_goes_on() {
    let host = open().await;
    let (status, problem) = host.ask("POST", "/v1/messages", Some(&ORDER.replace("order", "panic"))).await;
    assert_eq!((status, &problem["title"]), (500, &json!("internal fault")));
    assert!(!problem["detail"].as_str().unwrap().contains("told to"));
    assert_eq!(host.ask("GET", "/healthz", None).await.0, 200);
}

#[tokio::test]
async fn readiness_tells_the_truth() {
    let host = open().await;
    let (status, ready) = host.ask("GET", "/readyz", None).await;
    assert_eq!(
        (status, &ready["degraded"][0], &ready["reasons"][1]),
        (200, &json!("kafka"), &json!("no broker answers"))
    );
    host.store.close_readers().await;
    let (status, ready) = host.ask("GET", "/readyz", None).await;
    assert_eq!((status, &ready["ready"], &ready["store"]), (503, &json!(false), &json!(false)));
    let response = host.request("GET", "/v1/messages", None).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(host.ask("GET", "/healthz", None).await.0, 200);
}

/// Item 16: `/readyz` named topics and causes to everybody who could reach it.
#[tokio::test]
async fn readiness_names_nothing_without_a_token_that_sees_everything() {
    let guarded = guarded().await;
    for token in [None, Some("nobody"), Some("shop")] {
        let (status, ready) = answer(guarded.request("GET", "/readyz", token)).await;
        assert_eq!(
            (status, &ready["ready"], &ready["degraded"], &ready["reasons"]),
            (200, &json!(true), &json!(["kafka", "partition_stalled", "topic_missing"]), &json!([])),
            "{token:?}"
        );
    }
    let (_, ready) = answer(guarded.request("GET", "/readyz", Some("viewer"))).await;
    assert_eq!((&ready["degraded"][1], ready["reasons"].as_array().unwrap().len()), (&json!("topic secret"), 4));
}

#[tokio::test]
async fn without_tokens_only_this_machine_is_answered() {
    let host = open().await;
    let named = |name: &'static str| answer(host.request("GET", "/v1/groups", None).header("host", name));
    assert_eq!(named("localhost:7070").await.0, 200);
    assert_eq!(named("evil.example").await.0, 403);
    let foreign = host.request("POST", "/v1/groups/stock/pause", None).header("sec-fetch-site", "cross-site");
    assert_eq!(answer(foreign).await.0, 403);
    let page = |origin: &str| answer(host.request("POST", "/v1/groups/stock/pause", None).header("origin", origin));
    for origin in ["http://evil.example", "http://localhost:3000", "null"] {
        assert_eq!(page(origin).await.0, 403, "{origin}");
    }
    assert_eq!(page(&format!("http://{}", host.address)).await.0, 200);
    let proxied = host.request("GET", "/metrics", None).header("x-forwarded-for", "10.0.0.1");
    assert_eq!(answer(proxied).await.0, 403);
    let guarded = guarded().await;
    let request = guarded.request("GET", "/v1/groups", Some("viewer")).header("host", "courier.example.com");
    let request = request.header("origin", "https://courier.example.com").header("x-forwarded-for", "10.0.0.1");
    assert_eq!(answer(request.header("via", "1.1 proxy")).await.0, 200);
}

#[tokio::test]
async fn answers_are_compressed_for_who_can_read_that() {
    let host = open().await;
    let get = |path: &str| host.request("GET", path, None);
    let packed = get("/openapi.json").header("accept-encoding", "gzip, br").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["vary"], "accept-encoding");
    let packed = packed.bytes().await.unwrap();
    let plain = get("/openapi.json").send().await.unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.bytes().await.unwrap();
    assert!(packed.starts_with(b"\x1f\x8b") && packed.len() * 3 < plain.len(), "{} of {}", packed.len(), plain.len());
    let events = get("/v1/events").header("accept-encoding", "gzip").send().await.unwrap();
    assert!(!events.headers().contains_key("content-encoding"), "an event must not wait for others");
}

#[tokio::test]
async fn events_bring_counters_and_changes() {
    let host = open().await;
    let mut events = host.request("GET", "/v1/events", None).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    while !seen.contains("counters") {
        seen.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(seen.contains(r#""handled":5"#), "{seen}");
    host.ask("POST", "/v1/groups/stock/pause", None).await;
    while !seen.contains("event: change") {
        seen.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(seen.contains("data: /v1/groups/stock"), "{seen}");
}

#[tokio::test]
async fn counters_are_those_of_the_overview_that_the_caller_sees() {
    let scope: &[&str] = &["secret"];
    let specs = [("ops", Role::Viewer, None), ("shop", Role::Viewer, Some(scope))].map(|(name, role, topics)| {
        let topics = topics.map(|topics: &[&str]| topics.iter().map(ToString::to_string).collect());
        TokenSpec {
            name: name.into(),
            role,
            secret: format!("{name}-secret").into(),
            topics,
            groups: None,
            sources: None,
        }
    });
    let host = guarded().await;
    host.auth.replace(specs.into());
    let counters = async |token: &'static str| {
        let mut events = host.request("GET", "/v1/events", Some(token)).send().await.unwrap();
        let mut seen = String::new();
        while !seen.contains("}\n\n") {
            seen.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
        }
        let data = seen.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str::<Value>(data).unwrap()
    };
    let all = counters("ops").await;
    let (_, overview) = answer(host.request("GET", "/v1/overview", Some("ops"))).await;
    let names = |counters: &Value| {
        let groups = counters["groups"].as_array().unwrap().iter();
        groups.map(|group| group["group"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((&all["open"], &all["handled"]), (&overview["open"], &json!(5)));
    assert_eq!((names(&all).join(" "), names(&overview).join(" ")), ("other stock".into(), "other stock".into()));
    // The topic of `stock` is out of scope, and so is the group.
    let scoped = counters("shop").await;
    assert_eq!((names(&scoped).as_slice(), &scoped["handled"]), (&["other".to_owned()][..], &json!(0)));
}

#[tokio::test]
async fn the_document_describes_every_operation() {
    let host = open().await;
    let (_, document) = host.ask("GET", "/openapi.json", None).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    let mut operations = 0;
    let mut ids = std::collections::HashSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let what = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
            assert!(!id.is_empty() && ids.insert(id.clone()), "{what}: {id:?} is no name of its own");
            assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{what}");
            for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let named = |parameter: &Value| parameter["name"] == name && parameter["in"] == "path";
                assert!(operation["parameters"].as_array().unwrap().iter().any(named), "{what}: {name}");
            }
            assert!(operation["summary"].as_str().or(operation["description"].as_str()).is_some(), "{what}");
            if !matches!(path.as_str(), "/healthz" | "/readyz") {
                let problem = &operation["responses"]["4XX"]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{what}");
            }
        }
    }
    assert!(operations >= 30, "{operations}");
    // Every schema that is named is there.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in document.to_string().split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
}
