//! People with a browser: sessions, the overview, and the audit log.

use std::time::Duration;

use courier_core::message::Timestamp;
use courier_core::status::State;
use serde_json::{Value, json};

use super::auth::{Role, TokenSpec};
use super::testing::{Host, World, answer, delivery};
use super::tests::{guarded, guarded_with, open, world};
use crate::clock::machine_now;
use crate::store::audits::LINKS_STEP;
use crate::store::{AuditEntry, DeliveryRow, HalfMessage, HalfRow, HalfState, OutboxNote, UnheardRow};

async fn me(host: &Host, cookie: &str) -> (u16, Value) {
    answer(host.request("GET", "/v1/me", None).header("cookie", cookie)).await
}

#[tokio::test]
async fn a_session_reads_and_changes_only_with_its_csrf_header() {
    let host = guarded().await;
    let cookie = host.sign_in("ops").await.unwrap();
    let (status, shown) = me(&host, &cookie).await;
    assert_eq!(
        (status, &shown["name"], &shown["role"], &shown["auth"]),
        (200, &json!("ops"), &json!("operator"), &json!(true))
    );
    let pause = |csrf: Option<&str>| {
        let request = host.request("POST", "/v1/groups/stock/pause", None).header("cookie", &cookie);
        answer(csrf.into_iter().fold(request, |request, csrf| request.header("x-courier-csrf", csrf)))
    };
    let csrf = shown["csrf"].as_str().unwrap();
    assert_eq!(pause(None).await.0, 403);
    assert_eq!(pause(Some("guessed")).await.0, 403);
    assert_eq!(pause(Some(csrf)).await.0, 200);
    assert!(host.audited().await.contains(&"ops sign in ops 127.0.0.1".to_owned()));
    // A second session has another one.
    let other = host.sign_in("ops").await.unwrap();
    assert_ne!(me(&host, &other).await.1["csrf"], csrf);
    // Signed out, it is over; the other one is not.
    let leave = host.request("DELETE", "/v1/session", None).header("cookie", &cookie);
    assert_eq!(answer(leave.header("x-courier-csrf", csrf)).await.0, 204);
    assert_eq!(me(&host, &cookie).await.0, 401);
    assert_eq!(me(&host, &other).await.0, 200);
}

/// Issue 17: a token with the cookie of another one ended that one's session, and the
/// entry in the audit log named the wrong one.
#[tokio::test]
async fn a_request_with_a_token_ends_no_session() {
    let host = guarded().await;
    let cookie = host.sign_in("ops").await.unwrap();
    let with_token = host.request("DELETE", "/v1/session", Some("viewer")).header("cookie", &cookie);
    let response = with_token.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("set-cookie")), (204, None));
    let (status, shown) = me(&host, &cookie).await;
    assert_eq!(status, 200, "the session goes on: {shown}");
    assert_eq!(host.audited().await, ["ops sign in ops 127.0.0.1"]);
    let csrf = shown["csrf"].as_str().unwrap();
    let leave = host.request("DELETE", "/v1/session", None).header("cookie", &cookie).header("x-courier-csrf", csrf);
    assert_eq!(answer(leave).await.0, 204);
    assert_eq!(host.audited().await.last().unwrap(), "ops sign out ops ");
    assert_eq!(me(&host, &cookie).await.0, 401);
}

/// Where the tokens have left the configuration the caller is `local`; the session was
/// somebody's all the same.
#[tokio::test]
async fn signing_out_names_who_held_the_session() {
    let host = guarded().await;
    let cookie = host.sign_in("ops").await.unwrap();
    host.auth.replace(Vec::new());
    assert_eq!(answer(host.request("DELETE", "/v1/session", None).header("cookie", &cookie)).await.0, 204);
    assert_eq!(host.audited().await.last().unwrap(), "local sign out ops ");
}

#[tokio::test]
async fn a_session_ends_when_its_token_leaves_or_changes() {
    let host = guarded().await;
    let cookie = host.sign_in("ops").await.unwrap();
    let token = |secret: &str| TokenSpec {
        name: "ops".into(),
        role: Role::Viewer,
        secret: secret.into(),
        topics: None,
        groups: None,
        sources: None,
    };
    host.auth.replace(vec![token("ops-secret")]);
    assert_eq!(me(&host, &cookie).await.1["role"], "viewer", "the role is that of the configuration in force");
    host.auth.replace(vec![token("another")]);
    assert_eq!(me(&host, &cookie).await.0, 401);
    host.auth.replace(vec![TokenSpec { name: "others".into(), ..token("ops-secret") }]);
    assert_eq!(me(&host, &cookie).await.0, 401);
}

/// Item 11: an open stream of events outlived its token or session.
#[tokio::test]
async fn a_stream_of_events_ends_with_what_it_was_opened_by() {
    let host = guarded().await;
    let cookie = host.sign_in("ops").await.unwrap();
    let csrf = me(&host, &cookie).await.1["csrf"].as_str().unwrap().to_owned();
    let listen = |request: reqwest::RequestBuilder| request.timeout(Duration::from_secs(20)).send();
    let mut by_session = listen(host.request("GET", "/v1/events", None).header("cookie", &cookie)).await.unwrap();
    let by_token = listen(host.request("GET", "/v1/events", Some("viewer"))).await.unwrap();
    let stays = listen(host.request("GET", "/v1/events", Some("root"))).await.unwrap();
    assert_eq!([&by_session, &by_token, &stays].map(|answer| answer.status().as_u16()), [200; 3]);

    // It has begun, however busy the machine is.
    let mut heard = String::new();
    while !heard.contains("event: counters") {
        heard.push_str(std::str::from_utf8(&by_session.chunk().await.unwrap().unwrap()).unwrap());
    }
    let leave = host.request("DELETE", "/v1/session", None).header("cookie", &cookie);
    assert_eq!(answer(leave.header("x-courier-csrf", csrf)).await.0, 204);
    assert!(by_session.text().await.is_ok(), "it ends");
    let root = TokenSpec {
        name: "root".into(),
        role: Role::Viewer,
        secret: "root-secret".into(),
        topics: None,
        groups: Some(vec!["stock".into()]),
        sources: None,
    };
    host.auth.replace(vec![root]);
    assert!(by_token.text().await.is_ok());
    // A listener gets only what the configuration in force allows.
    let mut stays = stays;
    let mut heard = String::new();
    while !heard.ends_with("\n\n") || heard.rsplit("event: counters").next().unwrap().contains("\"other\"") {
        heard.push_str(std::str::from_utf8(&stays.chunk().await.unwrap().unwrap()).unwrap());
    }
    host.auth.replace(vec![TokenSpec {
        name: "new".into(),
        role: Role::Admin,
        secret: "new-secret".into(),
        topics: None,
        groups: None,
        sources: None,
    }]);
    while stays.chunk().await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_wrong_token_signs_nobody_in_and_guessing_is_slow() {
    let host = guarded().await;
    assert_eq!(host.sign_in("nobody").await, None);
    let mut statuses = Vec::new();
    for _ in 0..25 {
        let request = host.request("POST", "/v1/session", None).header("content-type", "application/json");
        statuses.push(answer(request.body(r#"{"token":"guess"}"#)).await.0);
    }
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    let refused = "(nobody) sign in refused 127.0.0.1 a token that nobody has";
    let entries = host.audited().await;
    // Two when the minute ended meanwhile.
    assert!(entries.iter().all(|entry| entry == refused) && (1..=2).contains(&entries.len()), "{entries:?}");
    let (status, shown) = answer(host.request("GET", "/v1/me", Some("ops"))).await;
    assert_eq!((status, &shown["csrf"]), (200, &Value::Null), "tokens of programs are not held up");
    let open = open().await;
    let request = open.request("POST", "/v1/session", None).header("content-type", "application/json");
    assert_eq!(answer(request.body(r#"{"token":"x"}"#)).await.0, 409);
    assert_eq!(open.ask("GET", "/v1/me", None).await.1["auth"], false);
}

#[tokio::test]
async fn the_overview_says_what_is_and_what_needs_a_person() {
    let host = open().await;
    let (status, shown) = host.ask("GET", "/v1/overview", None).await;
    assert_eq!(status, 200);
    let minutes = shown["minutes"].as_array().unwrap();
    let busy = |minutes: &[Value]| minutes.iter().find(|minute| minute["handled"] != 0).unwrap().clone();
    assert_eq!((minutes.len(), &busy(minutes)["published"], &busy(minutes)["handled"]), (60, &json!(7), &json!(4)));
    assert_eq!((&minutes[59]["published"], &minutes[59]["failed"]), (&json!(0), &json!(0)));
    assert_eq!(shown["nodes"][0]["name"], "host-1", "live ones first");
    let stock = shown["groups"].as_array().unwrap().iter().find(|group| group["group"] == "stock").unwrap();
    assert_eq!((&stock["lag"], &stock["handled"], &stock["p50_ms"]), (&json!(13), &json!(5), &json!(1.02)));
    assert_eq!(shown["lag"], Value::Null, "the end of a topic is not known");
    let kinds: Vec<_> =
        shown["attention"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert!(
        kinds.contains(&"parked_full") && kinds.contains(&"degraded") && kinds.contains(&"lost_range"),
        "{kinds:?}"
    );
    // Each with its own reason, whatever else is the matter with the host.
    let details = shown["attention"].to_string();
    for (subject, why) in [("kafka", "no broker answers"), ("secret", "it does not exist")] {
        let one = shown["attention"].as_array().unwrap().iter().find(|one| one["subject"] == subject);
        assert_eq!(one.unwrap_or(&Value::Null)["detail"], why, "{details}");
    }
    let guarded = guarded().await;
    let (_, scoped) = answer(guarded.request("GET", "/v1/overview", Some("shop"))).await;
    let minute = busy(scoped["minutes"].as_array().unwrap());
    assert_eq!((&minute["published"], &minute["handled"]), (&Value::Null, &json!(2)));
    assert!(!scoped.to_string().contains("secret") && !scoped.to_string().contains("other"), "{scoped}");
}

#[tokio::test]
async fn what_nobody_relays_ended_or_heard_needs_a_person() {
    let mut world = super::tests::world();
    world.outboxes = vec![OutboxNote {
        name: "shop".into(),
        node: "host-1".into(),
        why: Some("no such table".into()),
        pending: Some(2),
        oldest_at: Some(Timestamp(1)),
        cause: None,
    }];
    let ago = |micros: i64| Timestamp(machine_now().0 - micros);
    let unheard =
        |id: &str, topic: &str, at: i64| UnheardRow { id: id.into(), topic: topic.into(), created_at: ago(at) };
    world.unheard = vec![unheard("b-3", "order", 10), unheard("b-2", "secret", 20), unheard("b-1", "order", 30)];
    for (id, topic, created_at) in [("t-1", "order", Timestamp(2)), ("t-2", "secret", Timestamp(1))] {
        let message = HalfMessage { id: "m".into(), topic: topic.into(), type_name: "T".into(), key: None };
        world.halves.push(HalfRow {
            id: id.into(),
            state: HalfState::Abandoned,
            messages: vec![message],
            check_url: None,
            timeout: Duration::from_secs(30),
            created_at,
            deadline: Timestamp(3),
            checks: 3,
            unreachable_since: None,
            next_check_at: None,
            last_answer: None,
            reason: Some("nobody answered".into()),
            ended_at: Some(ago(5)),
            sender: None,
        });
    }
    let scope: &[&str] = &["order", "stock"];
    let host = Host::start(world, &[("ops", Role::Operator, None), ("shop", Role::Viewer, Some(scope))]).await;
    let told = async |token: &'static str| {
        let (_, shown) = answer(host.request("GET", "/v1/overview", Some(token))).await;
        let all = shown["attention"].as_array().unwrap().clone();
        let of = |kind: &str| all.iter().filter(|one| one["kind"] == kind).cloned().collect::<Vec<_>>();
        (of("outbox_failing"), of("transaction_abandoned"), of("broadcast_unheard"))
    };
    let (outboxes, transactions, broadcasts) = told("ops").await;
    assert_eq!((&outboxes[0]["subject"], &outboxes[0]["path"]), (&json!("shop"), &json!("/v1/outboxes")));
    assert!(outboxes[0]["detail"].as_str().unwrap().ends_with("no such table"), "{outboxes:?}");
    assert_eq!((transactions.len(), &transactions[0]["path"]), (2, &json!("/v1/transactions/t-1")));
    assert_eq!(transactions[0]["detail"], "its 1 message was not sent: nobody answered");
    assert_eq!((broadcasts.len(), &broadcasts[0]["subject"]), (2, &json!("order")), "one for each topic");
    assert_eq!(broadcasts[0]["path"], "/v1/messages/b-3", "the newest");
    assert!(broadcasts[0]["detail"].as_str().unwrap().starts_with("2 broadcasts were heard by no node"));
    let (_, transactions, broadcasts) = told("shop").await;
    assert_eq!((transactions.len(), broadcasts.len()), (1, 1), "what is out of scope is not told");
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_and_right_ones_go_through() {
    let host = guarded().await;
    let mut refused = None;
    for _ in 0..150 {
        let response = host.request("GET", "/v1/me", Some("nobody")).send().await.unwrap();
        if response.status() != 401 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("there is an end to it");
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(answer(host.request("GET", "/v1/me", Some("viewer"))).await.0, 200);
    assert_eq!(host.ask("GET", "/v1/me", None).await.0, 401);
}

#[tokio::test]
async fn lists_of_trouble_show_what_is_in_scope() {
    let failed = |group: &str, topic: &str| DeliveryRow { state: State::HandleFail, ..delivery(group, topic, 8) };
    let in_trouble = |group: &str, topic: &str| [failed(group, topic), parked(delivery(group, topic, 5))];
    let world = World {
        deliveries: [in_trouble("stock", "order"), in_trouble("other", "secret")].concat(),
        dead_letters: vec![failed("stock", "order"), failed("other", "secret")],
        ..world()
    };
    let host = guarded_with(world).await;
    for path in ["/v1/failures", "/v1/dead-letters", "/v1/lost-ranges", "/v1/groups/stock/parked"] {
        let (status, all) = answer(host.request("GET", path, Some("ops"))).await;
        assert_eq!(status, 200, "{path}: {all}");
        let (status, scoped) = answer(host.request("GET", path, Some("shop"))).await;
        assert_eq!((status, scoped["items"].as_array().unwrap().len()), (200, 1), "{path}: {scoped}");
        assert!(!scoped.to_string().contains("secret"), "{path}: {scoped}");
    }
    let (_, lanes) = answer(host.request("GET", "/v1/groups/stock/parked", Some("shop"))).await;
    assert_eq!((&lanes["items"][0]["head"], &lanes["items"][0]["key"]), (&json!("1-5"), &json!("k")));
    for named in ["/v1/failures?group=other", "/v1/dead-letters?group=other", "/v1/groups/other/parked", "/v1/audit"] {
        assert_eq!(answer(host.request("GET", named, Some("shop"))).await.0, 403, "{named}");
    }
}

/// A delivery that failed and waits for a person.
fn parked(row: DeliveryRow) -> DeliveryRow {
    DeliveryRow { state: State::HandleFail, settled_at: None, ..row }
}

/// Issue 17: a page was cut before the rows of other topics were taken out, so that its
/// `next` told a token without groups whether another tenant had the key.
#[tokio::test]
async fn the_end_of_a_page_tells_nothing_of_what_is_out_of_scope() {
    let row = |topic: &str, offset: i64, key: &'static str| DeliveryRow {
        record_key: Some(key.into()),
        ..parked(delivery("stock", topic, offset))
    };
    let deliveries =
        vec![row("secret", 9, "theirs"), row("order", 8, "ours"), row("secret", 7, "theirs"), row("secret", 6, "ours")];
    let host = guarded_with(World { dead_letters: deliveries.clone(), deliveries, ..world() }).await;
    host.limit_to_topics(Role::Viewer, &["order"]);
    for (path, wanted) in [
        ("/v1/deliveries?limit=1", 1),
        ("/v1/deliveries?limit=1&key=ours", 1),
        ("/v1/deliveries?limit=1&key=theirs", 0),
        ("/v1/deliveries?limit=1&message_id=m-9", 0),
        ("/v1/deliveries?limit=1&group=stock&type=OrderCreated", 1),
        ("/v1/dead-letters?limit=1", 1),
        ("/v1/dead-letters?limit=1&topic=dlq.secret.stock", 0),
        ("/v1/groups/stock/parked?limit=1", 1),
    ] {
        let (status, page) = answer(host.request("GET", path, Some("tenant"))).await;
        let items = page["items"].as_array().unwrap();
        assert_eq!((status, items.len(), &page["next"]), (200, wanted, &Value::Null), "{path}: {page}");
        assert!(items.iter().all(|item| item["topic"] == "order"), "{path}: {page}");
    }
}

#[tokio::test]
async fn an_audit_log_that_was_touched_is_found_out() {
    // With the seven below they are more than one step of the walk reads.
    let entry = AuditEntry { by: "ops".into(), action: "resume".into(), ..AuditEntry::default() };
    let audited = vec![entry; LINKS_STEP as usize - 4];
    let host = Host::start(World { audited, ..world() }, &[]).await;
    for at in 0..7 {
        host.ask("POST", "/v1/groups/stock/pause", Some(&format!(r#"{{"why":"{at}"}}"#))).await;
    }
    let (_, list) = host.ask("GET", "/v1/audit?limit=2", None).await;
    assert_eq!((&list["items"][0]["detail"], &list["items"][0]["by"]), (&json!("6"), &json!("local")));
    assert_eq!(list["items"][0]["previous"], list["items"][1]["hash"]);
    let verify = async || host.ask("GET", "/v1/audit/verify", None).await.1;
    let whole = verify().await;
    assert_eq!((&whole["ok"], &whole["checked"], &whole["broken_at"]), (&json!(true), &json!(1_003), &Value::Null));
    // Altered, taken out of the middle, and cut off at the end.
    host.execute("CREATE TABLE kept AS SELECT * FROM audit; UPDATE audit SET detail = 'never' WHERE id = 1001").await;
    assert_eq!(verify().await["broken_at"], 1_001);
    let restore = "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept;";
    host.execute(restore).await;
    host.execute("DELETE FROM audit WHERE id = 1000").await;
    assert_eq!(verify().await["broken_at"], 1_001);
    host.execute(restore).await;
    host.execute("DELETE FROM audit WHERE id = 1003").await;
    assert_eq!(
        verify().await,
        json!({
            "ok": false, "checked": 1_002, "broken_at": 1_003, "head": whole["head"], "truncated": false,
        })
    );
}

#[tokio::test]
async fn pages_are_reloadable_and_programs_get_problems() {
    let host = open().await;
    let get = |path: &'static str| host.request("GET", path, None).send();
    let home = get("/").await.unwrap();
    assert_eq!(home.status(), 200);
    let policy = home.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for name in ["x-content-type-options", "x-frame-options", "referrer-policy", "permissions-policy"] {
        assert!(home.headers().contains_key(name), "{name}");
    }
    for of_programs in ["/v1", "/v1/", "/v1/nothing", "/metrics/x", "/openapi.json/x", "/assets/gone.js"] {
        let answer = get(of_programs).await.unwrap();
        assert_eq!(answer.status(), 404, "{of_programs}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{of_programs}");
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    }
    assert_eq!(host.request("POST", "/messages/x", None).send().await.unwrap().status(), 405);
}
