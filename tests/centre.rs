//! The console's API on a real host: signing in, the overview, failures, and the
//! audit log with its command line.

use std::time::Duration;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Store, guest, kafka, scripted, turn, unique, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const TOKENS: &str = "[auth]\ntokens = [\n\
    { name = \"root\", role = \"admin\", env = \"ROOT_TOKEN\" },\n\
    { name = \"eyes\", role = \"viewer\", env = \"EYES_TOKEN\" },\n]\n";

/// Sends a request as a browser does, with a cookie.
async fn by_cookie(host: &Host, method: Method, path: &str, cookie: &str, csrf: Option<&str>) -> (StatusCode, Value) {
    let mut headers = vec![("cookie", cookie), ("content-type", "application/json")];
    headers.extend(csrf.map(|csrf| ("x-courier-csrf", csrf)));
    host.send(method, path, &headers, Vec::new()).await
}

/// Signs in with a client of its own, since cookies are in the headers.
async fn sign_in(host: &Host, token: &str) -> String {
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/session", host.address()))
        .json(&json!({ "token": token }))
        .send()
        .await
        .expect("the host answers");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let cookie = answer.headers()["set-cookie"].to_str().expect("a cookie is text").to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_and_changes_leave_a_chain() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let (group, topic) = (unique("centre"), create_topic(kafka().bootstrap(), "centre", 1).await);
        let host = Host::builder("centre")
            .store(store)
            .table(TOKENS)
            .env("ROOT_TOKEN", "root-secret")
            .env("EYES_TOKEN", "eyes-secret")
            .binding(&scripted_binding(&group, &topic, ""))
            .start()
            .await;
        let cookie = sign_in(&host, "root-secret").await;
        let (status, me) = by_cookie(&host, Method::GET, "/v1/me", &cookie, None).await;
        assert_eq!((status, &me["name"], &me["auth"]), (StatusCode::OK, &json!("root"), &json!(true)));
        let csrf = me["csrf"].as_str().expect("a session has its csrf").to_owned();
        let pause = format!("/v1/groups/{group}/pause");
        assert_eq!(by_cookie(&host, Method::POST, &pause, &cookie, None).await.0, StatusCode::FORBIDDEN);
        assert_eq!(by_cookie(&host, Method::POST, &pause, &cookie, Some(&csrf)).await.0, StatusCode::OK);
        wait_until("the overview shows that it is paused", Duration::from_secs(30), async || {
            let (status, overview) = by_cookie(&host, Method::GET, "/v1/overview", &cookie, None).await;
            assert_eq!(status, StatusCode::OK);
            let paused = |one: &Value| one["kind"] == "paused" && one["subject"] == group;
            let shown = overview["attention"].as_array().is_some_and(|all| all.iter().any(paused));
            if shown { Ok(()) } else { Err(overview.to_string()) }
        })
        .await;
        // The session is in the store, so it outlives the process.
        host.sigterm(Duration::from_secs(20)).await;
        host.spawn();
        wait_until("the host is back and knows the session", Duration::from_secs(30), async || {
            let client = reqwest::Client::new().get(format!("{}/v1/me", host.address())).header("cookie", &cookie);
            match client.send().await.map(|answer| answer.status()) {
                Ok(StatusCode::OK) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let (_, audit) = by_cookie(&host, Method::GET, "/v1/audit", &cookie, None).await;
        let actions: Vec<_> =
            audit["items"].as_array().into_iter().flatten().map(|one| one["action"].clone()).collect();
        assert_eq!(actions, ["pause", "sign in"]);
        let (status, out, err) = host.cli(&["--token", "eyes-secret", "audit", "verify"]);
        assert!(status.success() && out.starts_with("whole: 2 entries"), "{out}{err}");
        let (status, out, _) = host.cli(&["--token", "eyes-secret", "nodes"]);
        assert!(status.success() && out.contains("live"), "{out}");
        assert_eq!(
            by_cookie(&host, Method::DELETE, "/v1/session", &cookie, Some(&csrf)).await.0,
            StatusCode::NO_CONTENT
        );
        assert_eq!(by_cookie(&host, Method::GET, "/v1/me", &cookie, None).await.0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_and_the_failures_tell_what_happened() {
    let _turn = turn::shared().await;
    let (group, topic) = (unique("centre"), create_topic(kafka().bootstrap(), "centre", 1).await);
    let host = Host::builder("centre")
        .create_topics()
        .binding(&scripted_binding(&group, &topic, "dead_letter = true"))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    for at in 0..12 {
        let script: &[&str] = if at % 3 == 0 { &["reject"] } else { &["ok"] };
        let (status, answer) =
            host.request(Method::POST, "/v1/messages", Some(scripted(&topic, &format!("k{at}"), script))).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    wait_until("the overview shows it", Duration::from_secs(30), async || {
        let (_, shown) = host.request(Method::GET, "/v1/overview", None).await;
        let sum = |name: &str| {
            shown["minutes"].as_array().into_iter().flatten().filter_map(|one| one[name].as_u64()).sum::<u64>()
        };
        let group = &shown["groups"][0];
        let right = sum("handled") == 8 && sum("failed") == 4 && sum("published") >= 12 && group["p50_ms"].is_number();
        if right && group["lag"] == 0 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    let (_, failures) = host.request(Method::GET, &format!("/v1/failures?group={group}"), None).await;
    assert_eq!(failures["items"][0]["count"], 4, "{failures}");
    assert!(failures["items"][0]["reason"].as_str().is_some_and(|why| why.contains("reject")), "{failures}");
    let (_, letters) = host.request(Method::GET, &format!("/v1/dead-letters?group={group}"), None).await;
    assert_eq!(letters["items"].as_array().map(Vec::len), Some(4), "{letters}");
    assert_eq!(letters["items"][0]["dead_letter"], format!("dlq.{topic}.{group}"));
    let (status, out, _) = host.cli(&["failures", "--group", &group]);
    assert!(status.success() && out.contains("reject"), "{out}");
    let (status, out, _) = host.cli(&["openapi"]);
    let document: Value = serde_json::from_str(&out).expect("the document is JSON");
    assert!(status.success());
    assert_eq!(host.request(Method::GET, "/openapi.json", None).await.1, document);
}

/// A host that listens on more than this machine needs tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_listens_to_others_without_tokens_does_not_start() {
    let host = Host::builder("centre").prepare();
    host.write_config(&host.toml().replace("listen = \"127.0.0.1:", "listen = \"0.0.0.0:"));
    host.spawn();
    let status = wait_until("the host has given up", Duration::from_secs(60), async || {
        host.exited().ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert!(!status.success());
    assert!(host.log().contains("[auth]"), "{}", host.log());
}
