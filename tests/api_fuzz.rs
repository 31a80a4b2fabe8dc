//! Fuzzing of the HTTP API: schemathesis makes requests up from the OpenAPI
//! document and sends them with the token of each role.
//!
//! No request makes the host fail (no 5xx), a viewer changes nothing, and a
//! scoped token sees no topics and groups outside of its scope.

use std::path::{Path, PathBuf};
use std::process::Command;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::servers::process::run_directory;
use courier_tests::servers::setup;
use courier_tests::{Host, Store, guest, kafka, scale, scripted, turn, unique};
use serde_json::Value;

/// The version of schemathesis; another version makes up other requests.
const SCHEMATHESIS: &str = "schemathesis==4.32.0";
/// The roles; each may do everything that the earlier ones may.
const ROLES: [&str; 4] = ["viewer", "publisher", "operator", "admin"];
/// The beginning of names that a scoped token must never see.
const HIDDEN: &str = "hidden-";

/// Installs schemathesis into its own environment, once.
fn schemathesis() -> PathBuf {
    let venv = setup::target_directory().join("schemathesis/venv");
    let program = venv.join("bin/schemathesis");
    if !program.is_file() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command:?} failed (Debian: apt-get install python3-venv):\n{said}");
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS]));
    }
    program
}

/// Fuzzes with one token and returns the requests and answers, as HAR.
fn fuzz(host: &Host, token: &str, directory: &Path) -> Value {
    let report = directory.join(format!("{token}.har"));
    let output = Command::new(schemathesis())
        .current_dir(directory)
        .arg("run")
        .arg(format!("{}/openapi.json", host.address()))
        .args(["--header", &format!("Authorization:Bearer {token}-secret")])
        .args(["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--no-color"])
        // The event stream and uploads have tests of their own.
        .args(["--exclude-operation-id", "get_events", "--exclude-operation-id", "put_plugins_name"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .args(["--continue-on-failure", "--request-timeout", "40", "--workers", "2"])
        .args(scale(&["--seed", "7"][..], &[]))
        .args(["--max-examples", scale("3", "60"), "--max-time", scale("15", "40")])
        .args(["--report", "har", "--report-har-path"])
        .arg(&report)
        .output()
        .unwrap_or_else(|error| panic!("schemathesis does not run: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // The exit code is not checked: it also fails for requests that schemathesis
    // could not make up. The report has the requests and answers.
    assert!(!said.contains(" FAILURES "), "as {token}:\n{said}");
    let har = std::fs::read(&report).unwrap_or_else(|error| panic!("no report of {token}: {error}\n{said}"));
    serde_json::from_slice(&har).unwrap_or_else(|error| panic!("the report of {token} is no JSON: {error}"))
}

/// The least role that a change requires; `None` when every role may do it.
fn least_role(method: &str, path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    match (method, parts[0]) {
        ("GET" | "HEAD" | "OPTIONS" | "TRACE", _) | (_, "session" | "me") => None,
        (_, "plugins") => Some("admin"),
        (_, "groups" | "redrives" | "deliveries") => Some("operator"),
        _ => Some("publisher"),
    }
}

/// Checks one answer to one token. `scoped_operator` is an operator with a scope,
/// and `stranger` is an unknown token.
fn judge(token: &str, entry: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (method, url) = (text(&entry["request"]["method"]), text(&entry["request"]["url"]));
    let url = reqwest::Url::parse(&url).unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = entry["response"]["status"].as_u64().unwrap_or_default();
    let what = format!("{method} {url} as {token}");
    assert!(status < 500, "{what}: {status}");
    let role = token.trim_start_matches("scoped_");
    let rank = |role: &str| ROLES.iter().position(|known| *known == role);
    if let Some(least) = least_role(&method, url.path())
        && rank(role) < rank(least)
    {
        assert!(status >= 400, "{what} needs the role {least}: {status}");
    }
    let is_open = ["/readyz", "/healthz", "/openapi.json"].contains(&url.path()) || url.path().contains("/v1/session");
    if rank(role).is_none() && url.path().starts_with("/v1/") && !is_open {
        assert!(status >= 400, "{what}: a stranger was answered {status}");
    }
    if token.starts_with("scoped") {
        let (asked, answer) = (entry["request"].to_string(), entry["response"].to_string());
        assert!(asked.contains(HIDDEN) || !answer.contains(HIDDEN), "{what}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_requests_find_no_fault_and_tell_nothing_out_of_scope() {
    let _turn = turn::shared().await;
    for store in scale(&[Store::Sqlite][..], &[Store::Sqlite, Store::Postgres]) {
        fuzz_every_role(*store).await;
    }
}

async fn fuzz_every_role(store: Store) {
    let topic = create_topic(kafka().bootstrap(), "seen", 1).await;
    let hidden = create_topic(kafka().bootstrap(), HIDDEN, 1).await;
    let (group, hidden_group) = (unique("seen"), unique(HIDDEN));
    let scope = format!("topics = [\"{topic}\"], groups = [\"{group}\"]");
    let tokens: Vec<String> = ROLES
        .iter()
        .flat_map(|role| {
            let line = |name: &str, more: &str| {
                format!("  {{ name = \"{name}\", role = \"{role}\", env = \"{}\"{more} }},\n", name.to_uppercase())
            };
            [line(role, ""), line(&format!("scoped_{role}"), &format!(", {scope}"))]
        })
        .collect();
    let mut host = Host::builder("fuzz")
        .store(store)
        .table(&format!("[auth]\ntokens = [\n{}]\n", tokens.concat()))
        .binding(&scripted_binding(&group, &topic, ""))
        .binding(&scripted_binding(&hidden_group, &hidden, ""));
    for role in ROLES {
        host = host.env(&role.to_uppercase(), &format!("{role}-secret"));
        host = host.env(&format!("SCOPED_{}", role.to_uppercase()), &format!("scoped_{role}-secret"));
    }
    let host = host.start().await;
    let json = [("authorization", "Bearer admin-secret"), ("content-type", "application/json")];
    let wasm = [("authorization", "Bearer admin-secret"), ("content-type", "application/wasm")];
    let (status, said) =
        host.send(reqwest::Method::PUT, "/v1/plugins/scripted?activate=true", &wasm, guest("scripted")).await;
    assert!(status.is_success(), "{said}");
    for topic in [&topic, &hidden] {
        for script in ["ok", "reject"] {
            let body = scripted(topic, "k", &[script]).to_string().into_bytes();
            let (status, said) = host.send(reqwest::Method::POST, "/v1/messages", &json, body).await;
            assert!(status.is_success(), "{said}");
        }
    }
    let directory = run_directory().expect("a directory for reports").join(unique("schemathesis"));
    std::fs::create_dir_all(&directory).expect("a directory for reports");
    // The tokens with a scope come first: one without may give up a delivery of theirs with
    // a reason that it read elsewhere, and people's words are shown as they are.
    let tokens: &[&str] = scale(
        &["viewer", "scoped_operator", "admin"],
        &[
            "scoped_viewer",
            "scoped_publisher",
            "scoped_operator",
            "scoped_admin",
            "stranger",
            "viewer",
            "publisher",
            "operator",
            "admin",
        ],
    );
    for token in tokens {
        let har = tokio::task::block_in_place(|| fuzz(&host, token, &directory));
        let entries = har["log"]["entries"].as_array().expect("a HAR has entries");
        assert!(entries.len() > 50, "only {} requests were made as {token}", entries.len());
        println!("{store:?}, {token}: {} requests", entries.len());
        for entry in entries {
            judge(token, entry);
        }
    }
    assert!(host.exited().is_none(), "the host runs:\n{}", host.log_tail());
}
