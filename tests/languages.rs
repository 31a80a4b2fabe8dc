//! Handlers in other languages than Rust: one table of scenarios for each
//! language.
//!
//! A language has a handler in `guests/languages/` that carries out the `do` of
//! its message. `courier plugin build` builds it, so the tools of its language
//! must be installed; the expectations are the same for all languages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::servers::process::free_port;
use courier_tests::{Delivery, Host, Message, turn, unique, wait_until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

/// The bound of waits: the embedded broker's first join takes three seconds.
const SOON: Duration = Duration::from_secs(60);

/// The handler of a language, and what differs from other languages.
struct Language {
    name: &'static str,
    /// The argument of `courier plugin build`, below `guests/languages/`.
    source: &'static str,
    /// The place of the handler's exception.
    exception_at: &'static str,
    /// Further lines of its binding.
    policy: &'static str,
    /// Scenarios of this language only.
    more: &'static [Scenario],
}

/// One message and its expected result.
struct Scenario {
    /// The `do` of the message.
    what: &'static str,
    state: State,
    verdict: &'static str,
    /// The verdicts of all attempts, if there are several.
    attempts: &'static [&'static str],
    /// Part of the reason.
    reason: &'static str,
    /// Parts of the last attempt's log.
    log: &'static [&'static str],
}

const fn handled(what: &'static str, log: &'static [&'static str]) -> Scenario {
    Scenario { what, state: State::Handled, verdict: "success", attempts: &["success"], reason: "", log }
}

const fn failed(what: &'static str, verdict: &'static str, reason: &'static str) -> Scenario {
    Scenario { what, state: State::HandleFail, verdict, attempts: &[], reason, log: &[] }
}

const fn later(what: &'static str, attempts: &'static [&'static str]) -> Scenario {
    Scenario { attempts, ..handled(what, &[]) }
}

/// The scenarios of every language.
const SCENARIOS: [Scenario; 22] = [
    handled("success", &[]),
    failed("error", "error", "it went wrong"),
    later("retry", &["retry", "success"]),
    later("retry-after", &["retry", "success"]),
    failed("reject", "reject", "never"),
    later("unavailable", &["unavailable", "success"]),
    // The place differs from language to language.
    failed("exception", "error", ""),
    failed("memory", "", ""),
    failed("recursion", "", ""),
    failed("endless", "cpu_limit", "CPU"),
    failed("sleep", "timeout", ""),
    handled("log", &["quietly", "printed", "mind 42"]),
    handled("publish", &["published "]),
    failed("publish-and-fail", "reject", "nothing goes out"),
    failed("publish-elsewhere", "error", "not-granted"),
    handled("state", &["state 1 1"]),
    handled("cache", &["cache ", "cached"]),
    handled("config", &["region eu"]),
    handled("secret", &["secret of 7 characters"]),
    handled("message", &["Scenario key k-message true yes"]),
    handled("big", &["number 9223372036854775807"]),
    failed("no-such-scenario", "reject", "no scenario"),
];

const TYPESCRIPT: Language = Language {
    name: "typescript",
    source: "typescript",
    exception_at: "no place for exception at explode.ts:3:",
    policy: "",
    more: &[
        handled("wait", &["waited true 1,2"]),
        failed("never", "error", "waits for a promise that nothing will settle"),
        handled("web", &["https://h/b?x=1 订单é 1970-01-01T00:00:00.000Z tea true"]),
    ],
};

const JAVASCRIPT: Language = Language {
    name: "javascript",
    source: "javascript",
    exception_at: "no place for exception at handler.js:10:",
    ..TYPESCRIPT
};

const PYTHON: Language = Language {
    name: "python",
    source: "python",
    exception_at: "LookupError: no place for exception (explode.py:5)",
    policy: "isolation = \"instance\"",
    more: &[
        failed("trap", "trap", "unreachable"),
        failed("exit", "error", "SystemExit: it leaves (handler.py:"),
        failed("recursion", "error", "RecursionError: maximum recursion depth exceeded (handler.py:"),
        failed("memory", "memory_limit", "needed more memory than 64MiB"),
    ],
};

/// A running handler, with its topics.
struct Running {
    language: Language,
    host: Host,
    group: String,
    topic: String,
    out: String,
}

impl Running {
    async fn start(language: Language, grants: &str) -> Self {
        let (group, topic, out) = (unique(language.name), unique("scenarios"), unique("scenarios-out"));
        let binding = format!(
            "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"{group}\"\ncpu = \"1s\"\ntimeout = \"10s\"\n{}\n{grants}\n[binding.config]\nregion = \"eu\"\n\
             [binding.secrets]\ntoken = {{ env = \"LANGUAGE_TOKEN\" }}\n",
            language.policy
        );
        let binding = binding.replace("OUT", &out);
        let host = Host::builder(language.name).dev().kafka("127.0.0.1:1").env("LANGUAGE_TOKEN", "hunter2");
        let host = host.binding(&binding).start().await;
        host.upload(&group, built(&host, language.source).await).await;
        Self { language, host, group, topic, out }
    }

    /// Publishes a scenario's message, and waits until it is finished.
    async fn run(&self, what: &str, more: Value) -> Delivery {
        let mut body = json!({ "do": what, "topic": self.out });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let message = json!({
            "topic": self.topic, "type": "Scenario", "key": format!("k-{what}"), "headers": { "kept": "yes" }, "body": body,
        });
        let id = self.host.publish(message).await.id().to_owned();
        self.finished(&id).await.deliveries.remove(0)
    }

    async fn finished(&self, id: &str) -> Message {
        wait_until("the scenario is finished", SOON, async || {
            let message = self.host.message(id).await;
            let is_final = message.deliveries.iter().any(Delivery::is_final);
            if is_final { Ok(message) } else { Err(format!("{message:?}")) }
        })
        .await
    }

    fn check(&self, scenario: &Scenario, delivery: &Delivery) {
        let what = format!("{} {}: {delivery:?}", self.language.name, scenario.what);
        assert_eq!(delivery.state, scenario.state, "{what}");
        if !scenario.verdict.is_empty() {
            assert_eq!(delivery.verdict.as_deref(), Some(scenario.verdict), "{what}");
        }
        let attempts: Vec<&str> = delivery.attempts.iter().map(|attempt| attempt.verdict.as_str()).collect();
        if !scenario.attempts.is_empty() {
            assert_eq!(attempts, scenario.attempts, "{what}");
        }
        assert!(delivery.reason.as_deref().unwrap_or_default().contains(scenario.reason), "{what}");
        let log = delivery.attempts.last().and_then(|attempt| attempt.log.as_deref()).unwrap_or_default();
        for part in scenario.log {
            assert!(log.contains(part), "{part:?} is not in the log of {what}");
        }
    }
}

/// The component of a source in `guests/languages/`, built once for all tests.
async fn built(host: &Host, source: &'static str) -> Vec<u8> {
    static BUILT: Mutex<BTreeMap<&str, Vec<u8>>> = Mutex::const_new(BTreeMap::new());
    BUILT.lock().await.entry(source).or_insert_with(|| build(host, source)).clone()
}

/// The component that the CLI builds from a source.
fn build(host: &Host, source: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests/languages").join(source);
    let (status, printed, errors) = host.cli(&["--output", "json", "plugin", "build", path.to_str().unwrap()]);
    assert!(status.success(), "{source} cannot be built: {errors}");
    let answer: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let built = answer["path"].as_str().unwrap_or_else(|| panic!("no path in {answer}"));
    std::fs::read(built).unwrap_or_else(|error| panic!("cannot read {built}: {error}"))
}

/// The grants of a handler of all scenarios.
const ALL_GRANTS: &str = "[binding.grant]\npublish = [\"OUT\"]\nstate = true\ncache = true";

async fn all_scenarios_end_as_the_table_says(language: Language) {
    let _turn = turn::shared().await;
    let running = Running::start(language, ALL_GRANTS).await;
    for scenario in SCENARIOS.iter().chain(running.language.more) {
        let more = match scenario.what {
            "big" => serde_json::from_str("{\"number\": 9223372036854775807}").unwrap(),
            _ => json!({}),
        };
        let delivery = running.run(scenario.what, more).await;
        running.check(scenario, &delivery);
        if scenario.what == "exception" {
            let reason = delivery.reason.as_deref().unwrap_or_default();
            assert!(reason.contains(running.language.exception_at), "{reason}");
        }
    }
    published_messages_are_right(&running).await;
}

/// Only successful attempts published, with the numbers unchanged.
async fn published_messages_are_right(running: &Running) {
    let path = format!("/v1/messages?topic={}", running.out);
    let page: courier_tests::shapes::Page<Message> = running.host.get(&path).await;
    let mut types: Vec<&str> = page.items.iter().filter_map(|message| message.kind_of_event.as_deref()).collect();
    types.sort_unstable();
    assert_eq!(types, ["Big", "Published"], "{page:?}");
    let big = page.items.iter().find(|message| message.kind_of_event.as_deref() == Some("Big")).unwrap();
    let big = running.host.message(&big.id).await;
    assert_eq!(big.body, Some(json!({ "number": 9_223_372_036_854_775_807_u64 })), "{big:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_does_what_every_language_does() {
    all_scenarios_end_as_the_table_says(TYPESCRIPT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_does_what_every_language_does() {
    all_scenarios_end_as_the_table_says(JAVASCRIPT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_does_what_every_language_does() {
    all_scenarios_end_as_the_table_says(PYTHON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_keeps_nothing_from_one_message_to_the_next() {
    nothing_is_left_for_the_next_message(TYPESCRIPT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_keeps_nothing_from_one_message_to_the_next() {
    nothing_is_left_for_the_next_message(Language { policy: "", ..PYTHON }).await;
}

/// Under `isolation = "message"` nothing of one message is left for the next, not
/// even the sequence of random numbers.
async fn nothing_is_left_for_the_next_message(language: Language) {
    let _turn = turn::shared().await;
    let running = Running::start(language, ALL_GRANTS).await;
    let mut drawn = Vec::new();
    for _ in 0..3 {
        let delivery = running.run("calls", json!({})).await;
        running.check(&handled("calls", &["call 1"]), &delivery);
        let delivery = running.run("random", json!({})).await;
        drawn.push(delivery.attempts[0].log.clone());
    }
    drawn.dedup();
    assert_eq!(drawn.len(), 3, "{drawn:?} in group {}", running.group);
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_is_refused_what_the_binding_does_not_grant() {
    what_is_not_granted_is_refused(TYPESCRIPT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_refused_what_the_binding_does_not_grant() {
    what_is_not_granted_is_refused(PYTHON).await;
}

/// A call that the binding does not grant is refused with the host's text.
async fn what_is_not_granted_is_refused(language: Language) {
    let _turn = turn::shared().await;
    let running = Running::start(language, "").await;
    for (what, word) in [("publish", "publish"), ("state", "state"), ("cache", "cache")] {
        let delivery = running.run(what, json!({})).await;
        running.check(&failed(what, "error", word), &delivery);
    }
}

/// Messages that one call gets end one by one; what the handler throws ends the call, and
/// each message runs alone.
async fn a_batch_handler_answers_for_each_message(name: &str, source: &'static str, exception_at: &str) {
    let _turn = turn::shared().await;
    let (group, topic, out) = (unique(name), unique("batches"), unique("batches-out"));
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"{group}\"\nbatch = 16\nconcurrency = 1\n\
         [binding.retry]\nmax_attempts = 2\n[binding.grant]\npublish = [\"{out}\"]\nstate = true\n"
    );
    let host = Host::builder(name).dev().kafka("127.0.0.1:1").binding(&binding).start().await;
    host.upload(&group, built(&host, source).await).await;
    // How many messages one call gets depends on how soon the host has read them.
    let mut calls = Vec::new();
    while !calls.iter().any(|log: &String| log.contains("one of 4")) {
        assert!(calls.len() < 40, "no call had all messages: {calls:?}");
        calls.extend(batch_round(&host, &group, &topic, &out, ["effects", "effects", "reject", "retry"], "").await);
    }
    batch_round(&host, &group, &topic, &out, ["effects", "reject", "throw", "retry"], exception_at).await;
    let published: courier_tests::shapes::Page<Message> = host.get(&format!("/v1/messages?topic={out}")).await;
    let types: BTreeSet<_> = published.items.iter().map(|message| message.kind_of_event.as_deref()).collect();
    assert_eq!(types, [Some("Batched")].into(), "a rejected item publishes nothing: {published:?}");
}

/// Sends messages to a group that is paused meanwhile, and checks the outcome of each.
/// Returns the logs of the messages that had effects.
async fn batch_round(
    host: &Host,
    group: &str,
    topic: &str,
    out: &str,
    scenarios: [&str; 4],
    exception_at: &str,
) -> Vec<String> {
    host.post(&format!("/v1/groups/{group}/pause"), json!({ "why": "a batch is filled" }), 200).await;
    let message = |what: &&str| {
        let body = json!({ "do": what, "topic": out });
        json!({ "topic": topic, "type": "Scenario", "key": unique("k"), "body": body })
    };
    let sent = host.publish_all(scenarios.iter().map(message).collect()).await;
    host.post(&format!("/v1/groups/{group}/resume"), json!({}), 200).await;
    let mut logs = Vec::new();
    for (accepted, what) in sent.iter().zip(scenarios) {
        let delivery = host.finished(accepted.id(), 1).await.deliveries.remove(0);
        let (state, reason) = (delivery.state, delivery.reason.clone().unwrap_or_default());
        let attempts: Vec<&str> = delivery.attempts.iter().map(|attempt| attempt.verdict.as_str()).collect();
        match what {
            "effects" => {
                assert_eq!((state, &attempts[..]), (State::Handled, &["success"][..]), "{delivery:?}");
                logs.push(delivery.attempts[0].log.clone().unwrap_or_default());
            }
            "retry" => assert_eq!((state, &attempts[..]), (State::Handled, &["retry", "success"][..]), "{delivery:?}"),
            "reject" => assert_eq!((state, reason.as_str()), (State::HandleFail, "never"), "{delivery:?}"),
            _ => {
                assert_eq!(attempts, ["error", "error"], "{delivery:?}");
                assert!(reason.contains(exception_at), "{reason}");
            }
        }
    }
    logs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_in_typescript_answers_for_each_message() {
    a_batch_handler_answers_for_each_message("ts-batch", "typescript-batch", "it spoils the batch at handler.ts:2")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_in_python_answers_for_each_message() {
    let exception_at = "RuntimeError: it spoils the batch (handler.py:3";
    a_batch_handler_answers_for_each_message("py-batch", "python-batch", exception_at).await;
}

/// A server of one answer to whatever it is sent, as bytes.
async fn server_of(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut got = [0; 4_096];
                if stream.read(&mut got).await.is_ok_and(|bytes| bytes > 0) {
                    stream.write_all(&answer).await.ok();
                    stream.shutdown().await.ok();
                    // What the client sends besides is read, so that closing resets nothing.
                    while stream.read(&mut got).await.is_ok_and(|bytes| bytes > 0) {}
                }
            });
        }
    });
    port
}

/// Every SDK maps the contract's error codes by a table of its own. A code that one of
/// them lacks would be an `error`, which is final, for a service that is only away.
async fn failed_requests_say_what_follows(language: Language) {
    let _turn = turn::shared().await;
    let headers = "x: y\r\n".repeat(20_000);
    // RFC 8446, section 6: a record of kind 21 with a fatal handshake_failure.
    let alert = vec![21, 3, 3, 0, 2, 2, 40];
    let servers = [
        ("https", alert, "unavailable: http tls: "),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "unavailable: http tls: "),
        ("http", b"220 mail ready\r\n".to_vec(), "retry: http answer is no HTTP/1.1"),
        ("http", format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes(), "retry: http answer has too many headers"),
        ("http", Vec::new(), "retry: http "),
    ];
    let mut urls = Vec::new();
    for (scheme, answer, _) in &servers {
        urls.push(format!("{scheme}://127.0.0.1:{}/", server_of(answer.clone()).await));
    }
    urls.push(format!("http://127.0.0.1:{}/", free_port().unwrap()));
    let allow: Vec<String> = urls.iter().map(|url| url.rsplit('/').nth(1).unwrap().to_owned()).collect();
    let running = Running::start(language, &format!("{ALL_GRANTS}\n[binding.http]\nallow = {allow:?}")).await;
    let delivery = running.run("fetch-failures", json!({ "topic": urls.join(",") })).await;
    assert_eq!(delivery.state, State::Handled, "{delivery:?}");
    let log = delivery.attempts[0].log.as_deref().unwrap_or_default();
    let expected = servers.iter().map(|server| server.2).chain(["unavailable: http connection refused"]);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(": http ")).collect();
    assert_eq!(lines.len(), urls.len(), "{log}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{expected:?} is not in {line:?} of {}: {log}", running.language.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_of_typescript_say_what_follows() {
    failed_requests_say_what_follows(TYPESCRIPT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_of_python_say_what_follows() {
    failed_requests_say_what_follows(PYTHON).await;
}
