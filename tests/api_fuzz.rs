//! The HTTP API under requests that nobody thought of: schemathesis reads the
//! OpenAPI document and makes them up, with the token of each role.
//!
//! Whatever it sends, the host has no fault (no 5xx), a viewer changes nothing,
//! and a token that reaches some topics and groups hears of no others.

use std::path::{Path, PathBuf};
use std::process::Command;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::servers::process::run_directory;
use courier_tests::servers::setup;
use courier_tests::{Host, Store, guest, kafka, scale, scripted, turn, unique};
use serde_json::Value;

/// The version that is installed; another one makes up other requests.
const SCHEMATHESIS: &str = "schemathesis==4.32.0";
/// Names that a scoped token must never hear begin like this.
const HIDDEN: &str = "hidden-";

/// Installs schemathesis into an environment of its own, once.
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

/// Fuzzes with one token and returns what was asked and answered, as HAR.
fn fuzz(host: &Host, token: &str, directory: &Path) -> Value {
    let report = directory.join(format!("{token}.har"));
    let output = Command::new(schemathesis())
        .current_dir(directory)
        .arg("run")
        .arg(format!("{}/openapi.json", host.address()))
        .args(["--header", &format!("Authorization:Bearer {token}-secret")])
        .args(["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--no-color"])
        // A stream without end and uploads of bytes are tested elsewhere.
        .args(["--exclude-operation-id", "get_events", "--exclude-operation-id", "put_plugins_name"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .args(["--continue-on-failure", "--request-timeout", "40", "--workers", "2"])
        .args(["--max-examples", scale("3", "60"), "--max-time", scale("15", "180")])
        .args(["--report", "har", "--report-har-path"])
        .arg(&report)
        .output()
        .unwrap_or_else(|error| panic!("schemathesis does not run: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Its own exit code is not judged: it also fails for requests that it could
    // not make up. What it asked and was answered is in the report.
    assert!(!said.contains(" FAILURES "), "as {token}:\n{said}");
    let har = std::fs::read(&report).unwrap_or_else(|error| panic!("no report of {token}: {error}\n{said}"));
    serde_json::from_slice(&har).unwrap_or_else(|error| panic!("the report of {token} is no JSON: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_requests_find_no_fault_and_tell_nothing_out_of_scope() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "seen", 1).await;
    let hidden = create_topic(kafka().bootstrap(), HIDDEN, 1).await;
    let (group, hidden_group) = (unique("seen"), unique(HIDDEN));
    let scope = format!("topics = [\"{topic}\"], groups = [\"{group}\"]");
    let roles = ["viewer", "publisher", "operator", "admin"];
    let tokens: Vec<String> = roles
        .iter()
        .flat_map(|role| {
            let line = |name: &str, more: &str| {
                format!("  {{ name = \"{name}\", role = \"{role}\", env = \"{}\"{more} }},\n", name.to_uppercase())
            };
            [line(role, ""), line(&format!("scoped_{role}"), &format!(", {scope}"))]
        })
        .collect();
    let mut host = Host::builder("fuzz")
        .store(scale(Store::Sqlite, Store::Postgres))
        .table(&format!("[auth]\ntokens = [\n{}]\n", tokens.concat()))
        .binding(&scripted_binding(&group, &topic, ""))
        .binding(&scripted_binding(&hidden_group, &hidden, ""));
    for role in roles {
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
    let tokens: &[&str] = scale(
        &["viewer", "scoped_operator", "admin"],
        &[
            "viewer",
            "publisher",
            "operator",
            "admin",
            "scoped_viewer",
            "scoped_publisher",
            "scoped_operator",
            "scoped_admin",
        ],
    );
    for token in tokens {
        let har = tokio::task::block_in_place(|| fuzz(&host, token, &directory));
        let entries = har["log"]["entries"].as_array().expect("a HAR has entries");
        assert!(entries.len() > 50, "only {} requests were made as {token}", entries.len());
        for entry in entries {
            let (method, url) = (entry["request"]["method"].as_str(), entry["request"]["url"].as_str());
            let what = format!("{method:?} {url:?} as {token}");
            let status = entry["response"]["status"].as_u64().unwrap_or_default();
            assert!(status < 500, "{what}: {status}");
            let changes = method != Some("GET") && !url.is_some_and(|url| url.contains("/v1/session"));
            if token.ends_with("viewer") && changes {
                assert!(status >= 400, "{what}: {status}");
            }
            // `/readyz` needs no token and names the topics that are missing.
            let is_public = url.is_some_and(|url| url.ends_with("/readyz"));
            if token.starts_with("scoped") && !is_public {
                let answer = entry["response"].to_string();
                let asked = entry["request"].to_string();
                assert!(asked.contains(HIDDEN) || !answer.contains(HIDDEN), "{what}: {answer}");
            }
        }
    }
    assert!(host.exited().is_none(), "the host runs:\n{}", host.log_tail());
}
