//! Untrusted clients: hosts that would be open to others, tokens beyond their
//! scope, idle connections and bodies, and a command line with a wrong address.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use courier_tests::kafka_client::{config, create_topic, produce_to, producer, read_topic};
use courier_tests::servers::process::{free_port, run_directory};
use courier_tests::{Host, courier, guest, kafka, scripted_binding, turn, unique, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// An address on the command line obeys the rules of one in the file.
#[test]
fn a_host_for_development_listens_to_others_only_with_tokens() {
    let folder = run_directory().unwrap().join(unique("open-dev"));
    std::fs::create_dir_all(&folder).unwrap();
    let listen = format!("0.0.0.0:{}", free_port().unwrap());
    let output = Command::new(courier()).current_dir(&folder).args(["dev", "--listen", &listen]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("can be reached from other machines") && said.contains("[auth]"), "{said}");
}

/// The address of a new file takes effect at the next start, its tokens at once:
/// together they would open a host to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_never_takes_the_tokens_of_a_host_that_others_reach() {
    let _turn = turn::shared().await;
    let auth = "[auth]\ntokens = [{ name = \"root\", role = \"admin\", env = \"ROOT\" }]";
    let host = Host::builder("open").table(auth).env("ROOT", "root-secret").token("root-secret").prepare();
    let (closed, open) = (host.toml(), host.toml().replace(auth, ""));
    host.write_config(&closed.replace("listen = \"127.0.0.1:", "listen = \"0.0.0.0:"));
    host.start_again().await;
    host.write_config(&open);
    wait_until("the host says why the file changes nothing", SOON, async || {
        if host.log().contains("keep some until it is started anew") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    let without = reqwest::get(format!("{}/v1/groups", host.address())).await.unwrap();
    assert_eq!(without.status(), 401);
}

/// A token scoped to topics sees no group that it cannot list, in sums or changes,
/// and a refusal names nothing that it cannot see.
#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_token_hears_only_of_what_it_sees() {
    let _turn = turn::shared().await;
    let seen = create_topic(kafka().bootstrap(), "seen", 1).await;
    let hidden = create_topic(kafka().bootstrap(), "hidden", 1).await;
    let (mine, theirs) = (unique("mine"), unique("theirs"));
    let auth = format!(
        "[auth]\ntokens = [{{ name = \"root\", role = \"admin\", env = \"ROOT\" }},\n\
         {{ name = \"some\", role = \"operator\", env = \"SOME\", topics = [\"{seen}\"] }}]"
    );
    let host = Host::builder("scoped")
        .table(&auth)
        .env("ROOT", "root-secret")
        .env("SOME", "some-secret")
        .token("root-secret")
        .binding(&scripted_binding(&mine, &seen, ""))
        .binding(&scripted_binding(&theirs, &hidden, ""))
        .start()
        .await;
    let client = reqwest::Client::new();
    let ask = |method: reqwest::Method, path: &str, token: &'static str| {
        client.request(method, format!("{}{path}", host.address())).bearer_auth(token)
    };
    let mut events = ask(reqwest::Method::GET, "/v1/events", "some-secret").send().await.unwrap();
    let mut heard = String::new();
    for group in [&theirs, &mine] {
        let paused = ask(reqwest::Method::POST, &format!("/v1/groups/{group}/pause"), "root-secret").send().await;
        assert_eq!(paused.unwrap().status(), 200);
    }
    while !(heard.contains("event: change") && heard.contains("event: counters")) {
        let chunk = tokio::time::timeout(SOON, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(heard.contains(&format!("/v1/groups/{mine}")) && !heard.contains(&theirs), "{heard}");
    let refused =
        ask(reqwest::Method::POST, &format!("/v1/groups/{theirs}/resume"), "some-secret").send().await.unwrap();
    let status = refused.status();
    let said = refused.text().await.unwrap();
    assert!(matches!(status.as_u16(), 403 | 404) && !said.contains(&hidden), "{status}: {said}");
}

/// Mistakes are reported by item and member, and a seek shows the right request.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_words_for_people() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "words", 1).await;
    let group = unique("words");
    let host = Host::builder("words").binding(&scripted_binding(&group, &topic, "")).start().await;
    let client = reqwest::Client::new();
    let send = async |path: &str, content_type: &str, body: String| -> (u16, Value) {
        let request = client.post(format!("{}{path}", host.address())).header("content-type", content_type).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let items = json!([7, { "topic": topic, "type": "T", "body": 1, "key": 5 }, { "topic": topic, "typ": "T" }]);
    let (status, problem) = send("/v1/messages", "application/json", items.to_string()).await;
    assert_eq!(status, 400, "{problem}");
    for (at, words) in [
        (0, "items[0]: it is the number 7; write an object"),
        (1, "items[1]: `key` is the number 5; write text in double quotes"),
        (2, "items[2]: `typ` is unknown; write one of `topic`, `type`"),
    ] {
        let detail = problem["items"][at]["problem"]["detail"].as_str().unwrap();
        assert!(detail.starts_with(words), "{detail}");
    }
    assert!(!problem.to_string().contains("struct") && !problem.to_string().contains(" at line "), "{problem}");
    let seek = json!({ "topic": topic, "to": "earliest" }).to_string();
    let (status, problem) = send(&format!("/v1/groups/{group}/seek"), "application/json", seek).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 400 && detail.contains("`confirm`") && detail.contains(&group), "{problem}");
    let twice = r#"{"specversion":"1.0","id":"a","id":"b","source":"/s","type":"T"}"#.to_owned();
    let (status, problem) = send(&format!("/v1/messages?topic={topic}"), "application/cloudevents+json", twice).await;
    assert!(status == 400 && problem["detail"].as_str().unwrap().contains("`id` is given twice"), "{problem}");
}

/// A client that sends half a request uses a connection for a while, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stands_still_is_the_clients_fault() {
    use std::io::{Read as _, Write as _};
    let _turn = turn::shared().await;
    let host = Host::builder("half").start().await;
    let address = host.address().trim_start_matches("http://").to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut half = TcpStream::connect(address).unwrap();
        half.set_read_timeout(Some(SOON)).unwrap();
        let head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 500\r\n";
        write!(half, "{head}\r\n{{").unwrap();
        let mut answer = vec![0; 4096];
        let read = half.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("application/problem+json"), "{answer}");
}

/// The command line prints answers and errors apart.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_no_page_for_an_answer() {
    let _turn = turn::shared().await;
    let host = Host::builder("wrong-address").start().await;
    let ask = |server: &str, token: &str, arguments: &[&str]| {
        let mut command = Command::new(courier());
        command.env_remove("COURIER_TOKEN").env("COURIER_SERVER", server).env("COURIER_TOKEN", token);
        let output = command.args(arguments).args(["--output", "json"]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for (server, token, words) in [
        (format!("{}/console", host.address()), "", "not as Courier's API"),
        (host.address().to_owned(), "a\nb", "COURIER_TOKEN"),
        ("http://127.0.0.1:1".to_owned(), "", "is `courier serve` or `courier dev` running there?"),
    ] {
        let (code, out, said) = ask(&server, token, &["groups", "list"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.starts_with("error: ") && said.contains(words), "{said}");
    }
    let (code, out, said) = ask(host.address(), "", &["outbox", "schema", "--for", "sqlite"]);
    assert_eq!(code, Some(0), "{said}");
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(schema["for"] == "sqlite" && schema["schema"].as_str().unwrap().contains("courier_outbox"), "{schema}");
}

/// Messages that an entrance wrongly accepted or refused: names of Kafka's and of
/// companions, charsets, quoted values, tombstones.
#[tokio::test(flavor = "multi_thread")]
async fn every_door_holds_a_message_to_the_same_rules() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "doors", 1).await;
    let group = unique("doors");
    let host = Host::builder("doors").binding(&scripted_binding(&group, &topic, "")).start().await;
    let post = async |headers: &[(&str, &str)], body: Value| -> (u16, Value) {
        let body = body.to_string().into_bytes();
        let (status, answer) = host.send(reqwest::Method::POST, "/v1/messages", headers, body).await;
        (status.as_u16(), answer)
    };
    let json = [("content-type", "application/json; charset=utf8")];
    for (body, says) in [
        (json!({ "topic": "__consumer_offsets", "type": "T", "body": 1 }), "one of Kafka's own"),
        (json!({ "topic": format!("{topic}.broadcast"), "type": "T", "body": 1 }), "carries the broadcasts of"),
        (json!({ "topic": topic, "type": "T", "body": 1, "headers": { "courier_hops": "3" } }), "belongs to Courier"),
        (json!({ "topic": topic, "type": "T", "body": 1, "tombstone": true }), "a tombstone has none"),
    ] {
        let (status, problem) = post(&json, body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(says), "{status}: {problem}");
    }
    let (status, answer) = post(&json, json!({ "topic": topic, "type": "Gone", "key": "k", "tombstone": true })).await;
    assert_eq!(status, 202, "{answer}");
    let tombstone: Value = host.get(&format!("/v1/messages/{}", answer["id"].as_str().unwrap())).await;
    assert_eq!((&tombstone["body"], &tombstone["tombstone"]), (&Value::Null, &json!(true)), "{tombstone}");
    let (_, answer) = post(&json, json!({ "topic": topic, "type": "Null", "key": "k", "body": null })).await;
    let null: Value = host.get(&format!("/v1/messages/{}", answer["id"].as_str().unwrap())).await;
    assert!(null["tombstone"].is_null() && null["body_base64"].is_null(), "{null}");
    let quoted = [
        ("ce-specversion", "1.0"),
        ("ce-id", "\"q-1\""),
        ("ce-source", "\"/shop\""),
        ("ce-type", "\"a \\\"b\\\"\""),
        ("ce-topic", topic.as_str()),
        ("content-type", "application/json"),
    ];
    let (status, answer) = post(&quoted, json!({})).await;
    assert_eq!((status, &answer["id"]), (202, &json!("q-1")), "{answer}");
    let records = read_topic(kafka().bootstrap(), &topic).await;
    let bodies: Vec<Option<Vec<u8>>> = records.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(bodies, [None, Some(b"null".to_vec()), Some(b"{}".to_vec())]);
    assert_eq!(records[2].header("ce_type").as_deref(), Some("a \"b\""));
}

/// A record without a key whose event has a `partitionkey` was shown with that
/// key, and did not wait for the one before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_key_orders_as_a_key_does() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "partition-key", 1).await;
    let group = unique("partition-key");
    let host = Host::builder("partition-key").binding(&scripted_binding(&group, &topic, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let sender = producer(&config(kafka().bootstrap()));
    let send = async |key: &str, script: &str| {
        let body = json!({ "do": script.split(' ').collect::<Vec<_>>() }).to_string();
        produce_to(&sender, &topic, 0, &[("ce_partitionkey", key)], body.as_bytes()).await
    };
    send("a", "retry:500ms ok").await;
    send("a", "ok").await;
    send("b", "ok").await;
    host.settled(&group, 3, SOON).await;
    let keyed = host.deliveries(&format!("group={group}&key=a")).await;
    let [second, first] = keyed.as_slice() else { panic!("two of the key: {keyed:?}") };
    assert_eq!((first.offset, second.offset), (0, 1));
    let ended = first.attempts.last().unwrap().finished_at;
    assert!(second.attempts[0].started_at >= ended, "{first:?} {second:?}");
    assert_eq!(host.deliveries(&format!("group={group}&key=b")).await.len(), 1);
}
