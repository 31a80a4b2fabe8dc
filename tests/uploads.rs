//! Uploads that the host refuses as plugins, each with its reason.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use courier_core::status::State;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Store, courier, guest, kafka, scripted, turn, unique, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

/// How long a host may take to stop, and a state to show.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The bound of a refusal. A small component has 21 s of CPU time to be compiled,
/// which take longer when other programs use the processors. Beyond this the
/// compiler had no bound at all.
const REFUSED_WITHIN: Duration = Duration::from_secs(180);

/// Expects a 4xx whose problem details contain each of these words.
async fn refused(host: &Host, what: &str, bytes: Vec<u8>, words: &[&str]) -> StatusCode {
    let begin = Instant::now();
    let (status, answer) = host.try_upload("suspect", bytes, true).await;
    assert!(status.is_client_error(), "{what} was answered {status}: {answer}");
    let told = answer.to_string().to_lowercase();
    for word in words {
        assert!(told.contains(&word.to_lowercase()), "the answer to {what} does not say {word:?}: {answer}");
    }
    assert!(answer["title"].is_string() && answer["detail"].is_string(), "no problem details for {what}: {answer}");
    assert!(begin.elapsed() < REFUSED_WITHIN, "refusing {what} took {:?}", begin.elapsed());
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handler_is_refused_and_told_why() {
    let _turn = turn::shared().await;
    let host = Host::builder("host-1").start().await;
    refused(&host, "nothing", Vec::new(), &["component"]).await;
    refused(&host, "garbage", b"this is no wasm at all".to_vec(), &["component"]).await;
    // A core module: right magic number, version 1, layer 0.
    refused(&host, "a core module", b"\0asm\x01\0\0\0".to_vec(), &["core module", "component"]).await;
    // wasmtime's precompiled artefacts are ELF files.
    let mut precompiled = b"\x7fELF\x02\x01\x01".to_vec();
    precompiled.resize(4_096, 0);
    refused(&host, "a precompiled artefact", precompiled, &["precompiled"]).await;
    refused(&host, "a component of another world", guest("other-world"), &["handle"]).await;
    refused(&host, "an import nobody offers", guest("alien-import"), &["alien:thing/api"]).await;
    let mut cut = guest("scripted");
    cut.truncate(cut.len() / 2);
    refused(&host, "half a component", cut, &["component"]).await;
    let status = refused(&host, "41 MiB", vec![0; 41 << 20], &["40 MiB"]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, answer) = host.try_upload("Not_A_Name", guest("scripted"), false).await;
    assert!(status.is_client_error(), "a wrong name was answered {status}: {answer}");
    let (_, plugins) = host.request(Method::GET, "/v1/plugins", None).await;
    let own = |plugin: &Value| plugin["comes_with_host"] == json!(true);
    let kept = plugins["items"].as_array().expect("a list has items").iter().filter(|plugin| !own(plugin));
    assert_eq!(kept.count(), 0, "something refused was kept: {plugins}");
    assert!(host.exited().is_none());
}

/// Issue 17, item 8: when memory is short the kernel ends the compiler first; the
/// compiler's bound is CPU time and not wall time.
#[tokio::test(flavor = "multi_thread")]
async fn the_compiler_goes_before_the_host_and_is_bounded_by_cpu_time() {
    let _turn = turn::shared().await;
    let mut child = Command::new(courier()).args(["compile-component", "24"]).stdin(Stdio::piped()).spawn().unwrap();
    let of_child = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    wait_until("the compiler limits itself", STOP_LIMIT, async || {
        let (score, limits) = (of_child("oom_score_adj"), of_child("limits"));
        let cpu = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap_or_default();
        let bounded = cpu.split_whitespace().nth(3).is_some_and(|soft| soft == "24");
        if score.trim() == "1000" && bounded { Ok(()) } else { Err(format!("{score}{cpu}")) }
    })
    .await;
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success(), "nothing is no component");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_compiles_for_ever_is_stopped() {
    let _turn = turn::heavy().await;
    let host = Host::builder("host-1").start().await;
    refused(&host, "a compile bomb", compile_bomb(), &["compil"]).await;
    // The host goes on: it takes a valid component.
    host.upload("scripted", guest("scripted")).await;
}

/// Versions are kept; an earlier one can be activated again, and each attempt
/// names the version that it ran.
#[tokio::test(flavor = "multi_thread")]
async fn versions_are_kept_and_can_be_activated_again() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "versions", 1).await;
    let group = unique("versions");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let first = version_of(&host, &topic).await;
    // The same component with one more custom section is another version.
    let mut other = guest("scripted");
    other.extend(section(0, &[&[4], &b"note"[..], b"second"].concat()));
    let second = host.upload("scripted", other.clone()).await;
    assert_ne!(first, second);
    runs(&host, &topic, &second).await;
    host.activate("scripted", &first).await;
    runs(&host, &topic, &first).await;
    // The same bytes again are the same version.
    let (status, answer) = host.try_upload("scripted", other, false).await;
    assert!(status.is_success(), "{answer}");
    assert_eq!(answer["version"], json!(second));
    let (_, plugin) = host.request(Method::GET, "/v1/plugins/scripted", None).await;
    let text = plugin.to_string();
    assert!(text.contains(&first) && text.contains(&second), "{plugin}");
    let unknown = json!({ "version": format!("sha256:{}", "0".repeat(64)) });
    let (status, answer) = host.request(Method::POST, "/v1/plugins/scripted/activate", Some(unknown)).await;
    assert!(status.is_client_error(), "an unknown version was answered {status}: {answer}");
}

/// After a change in the database another component ran, and the log named the
/// pinned digest.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_altered_in_the_database_does_not_run() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "altered", 1).await;
    let group = unique("altered");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let version = version_of(&host, &topic).await;
    host.sigterm(STOP_LIMIT).await;
    let mut store = SqliteConnection::connect(&host.store_url()).await.expect("the store is a file");
    let altered = sqlx::query("UPDATE component SET wasm = ? WHERE digest = ?").bind(guest("noop")).bind(&version);
    assert_eq!(altered.execute(&mut store).await.expect("the store takes it").rows_affected(), 1);
    store.close().await.expect("the store closes");
    host.start_again().await;

    let id = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();

    // Nothing is fetched for a binding that cannot run; it shows the reason.
    wait_until("the binding says what is wrong", STOP_LIMIT, async || {
        let (_, group) = host.request(Method::GET, &format!("/v1/groups/{group}"), None).await;
        let why = group["bindings"][0]["why"].as_str().unwrap_or_default().to_owned();
        if why.contains("is not what the store returns for it") { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    // The right bytes mend it.
    host.upload("scripted", guest("scripted")).await;
    let healed = host.finished(&id, 1).await.deliveries.remove(0);
    assert_eq!(healed.state, State::Handled, "{}", healed.brief());
}

async fn version_of(host: &Host, topic: &str) -> String {
    let id = host.publish(scripted(topic, "k", &["ok"])).await.id().to_owned();
    let delivery = host.finished(&id, 1).await.deliveries.remove(0);
    assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
    delivery.attempts[0].version.clone().expect("an attempt names its version")
}

async fn runs(host: &Host, topic: &str, version: &str) {
    wait_until(&format!("{version} runs"), Duration::from_secs(60), async || {
        let seen = version_of(host, topic).await;
        if seen == version { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// The answer to an upload has the component's imports and exports.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_answered_with_what_it_found() {
    let _turn = turn::shared().await;
    let host = Host::builder("host-1").start().await;
    let (status, answer) = host.try_upload("scripted", guest("scripted"), false).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!((&answer["name"], &answer["active"]), (&json!("scripted"), &json!(false)));
    let names = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    assert!(names(&answer["exports"]).iter().any(|name| name.contains("handle")), "{answer}");
    assert!(names(&answer["imports"]).iter().any(|name| name.contains("courier:plugin")), "{answer}");
}

/// A valid handler with one more core module, which nothing uses and everything
/// compiles: functions of many variables that are all alive over many loops, the
/// slowest case of register allocation. One of them takes some 20 s of one
/// processor, and there are enough for any machine.
fn compile_bomb() -> Vec<u8> {
    let mut component = guest("scripted");
    component.extend(section(1, &heavy_module(32, 4_000, 16_000)));
    component
}

/// A core module of `functions` functions, each with `locals` variables and `loops`
/// loops.
fn heavy_module(functions: u32, locals: u32, loops: u32) -> Vec<u8> {
    const I32: u8 = 0x7f;
    let mut body = vec![1];
    body.extend(leb(locals));
    body.push(I32);
    for number in 0..loops {
        // loop; a = a + b; br_if 0 on c; end
        let local = |step: u32| leb((number * 7 + step * 13) % locals);
        body.extend([0x03, 0x40, 0x20]);
        body.extend(local(0));
        body.push(0x20);
        body.extend(local(1));
        body.extend([0x6a, 0x21]);
        body.extend(local(0));
        body.push(0x20);
        body.extend(local(2));
        body.extend([0x0d, 0x00, 0x0b]);
    }
    // Every variable is used at the very end.
    body.extend([0x41, 0x00]);
    for number in 0..locals {
        body.push(0x20);
        body.extend(leb(number));
        body.push(0x6a);
    }
    body.push(0x0b);
    let mut code = leb(functions);
    for _ in 0..functions {
        code.extend(leb(u32::try_from(body.len()).unwrap()));
        code.extend(&body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.extend(section(1, &[1, 0x60, 0, 1, I32]));
    let mut kinds = leb(functions);
    kinds.resize(kinds.len() + functions as usize, 0);
    module.extend(section(3, &kinds));
    module.extend(section(10, &code));
    module
}

/// A section of a module or component: its number, its length, its content.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    section.extend(leb(u32::try_from(content.len()).unwrap()));
    section.extend(content);
    section
}

/// An unsigned number as WebAssembly writes it.
fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
