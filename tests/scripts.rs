//! Handlers in JavaScript and TypeScript as their authors meet them: built by
//! the host's program alone, and built again at each save.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::servers::process::{Process, free_port, run_directory};
use courier_tests::{Host, Random, courier, guest, scale, turn, unique, wait_until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The embedded broker's first join takes three seconds.
const SOON: Duration = Duration::from_secs(60);
/// What an upload of a handler may have.
const MAX_UPLOAD_BYTES: u64 = 2 * 1024 * 1024;

const GREETER: &str = "import { handler } from \"courier-sdk\";
import { greeting } from \"./words.js\";

interface Order {
  name: string;
}

export default handler<Order>({ topics: [\"order\"] }, async (order, ctx) => {
  await new Promise((resolve) => setTimeout(resolve, 1));
  ctx.log(`${greeting} ${order.name}`);
});
";

/// A folder of its own with a handler in it.
fn folder(name: &str) -> PathBuf {
    let folder = run_directory().unwrap().join(unique(name));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("handler.ts"), GREETER).unwrap();
    std::fs::write(folder.join("words.ts"), "export const greeting: string = \"hello\";\n").unwrap();
    folder
}

/// The program in a folder, with nothing of this machine's to be found.
fn alone(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(courier().canonicalize().unwrap());
    command.env_clear().env("PATH", "/nowhere").current_dir(folder).args(arguments);
    command
}

fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} failed: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Issue 20: "on a machine that has neither Rust nor Node".
#[tokio::test(flavor = "multi_thread")]
async fn a_push_needs_nothing_but_the_program() {
    let _turn = turn::shared().await;
    let (group, topic) = (unique("alone"), unique("order"));
    let binding = format!("group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"{group}\"\n");
    let host = Host::builder("alone").dev().kafka("127.0.0.1:1").binding(&binding).start().await;
    let folder = folder("alone");
    let arguments = [
        "--output",
        "json",
        "--server",
        host.address(),
        "plugin",
        "push",
        "handler.ts",
        "--activate",
        "--name",
        &group,
    ];
    let answer: Value = serde_json::from_str(&succeed(alone(&folder, &arguments))).unwrap();
    assert_eq!(answer["active"], true, "{answer}");
    let built = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .find(|file| file.path().extension().is_some_and(|ending| ending == "wasm"));
    let size = built.expect("the component lies beside the handler").metadata().unwrap().len();
    assert!(size <= MAX_UPLOAD_BYTES, "{size} bytes");
    let id = host
        .publish(json!({ "topic": topic, "type": "OrderCreated", "key": "k", "body": { "name": "tea" } }))
        .await
        .id()
        .to_owned();
    let delivery = host.finished(&id, 1).await.deliveries.remove(0);
    assert_eq!(delivery.state, State::Handled, "{delivery:?}");
    assert!(delivery.attempts[0].log.as_deref().unwrap_or_default().contains("hello tea"), "{delivery:?}");
}

/// The sample of the demonstration, from its source.
#[tokio::test(flavor = "multi_thread")]
async fn the_sample_ships_orders() {
    let _turn = turn::shared().await;
    let (group, topic) = (unique("shipping"), unique("order"));
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"{group}\"\n[binding.grant]\npublish = [\"shipment\"]\n"
    );
    let host = Host::builder("shipping").dev().kafka("127.0.0.1:1").binding(&binding).start().await;
    let folder = folder("shipping");
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugins/order-shipper/handler.ts");
    std::fs::copy(sample, folder.join("handler.ts")).unwrap();
    let pushed = ["--server", host.address(), "plugin", "push", "handler.ts", "--activate", "--name", &group];
    succeed(alone(&folder, &pushed));
    for (quantity, state, words) in
        [(2, State::Handled, "goes as a parcel"), (3, State::Handled, "goes as a pallet"), (0, State::HandleFail, "")]
    {
        let body = json!({ "order_id": "o-1", "order_name": "tea", "quantity": quantity });
        let id = host
            .publish(json!({ "topic": topic, "type": "OrderCreated", "key": "k", "body": body }))
            .await
            .id()
            .to_owned();
        let delivery = host.finished(&id, 1).await.deliveries.remove(0);
        assert_eq!(delivery.state, state, "{delivery:?}");
        let log = delivery.attempts[0].log.as_deref().unwrap_or_default();
        assert!(log.contains(words), "{delivery:?}");
    }
}

/// A service that answers each request with its path, the later ones first.
async fn echo(requests: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut waiting = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut got = vec![0; 4_096];
            let size = stream.read(&mut got).await.unwrap_or(0);
            let path = String::from_utf8_lossy(&got[..size]).split(' ').nth(1).unwrap_or("").to_owned();
            waiting.push((stream, path));
            // All of them are under way at once, or none is ever answered.
            if waiting.len() < requests {
                continue;
            }
            for (mut stream, path) in waiting.drain(..).rev() {
                let body = json!({ "path": path }).to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        }
    });
    port
}

/// A synchronous export awaits requests, several at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_awaits_several_requests_at_once() {
    let _turn = turn::shared().await;
    let (group, topic) = (unique("fetch"), unique("order"));
    let port = echo(2).await;
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"{group}\"\n[binding.http]\nallow = [\"127.0.0.1:{port}\"]\n"
    );
    let host = Host::builder("fetch").dev().kafka("127.0.0.1:1").binding(&binding).start().await;
    let scenarios = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests/languages/typescript");
    let pushed = ["--server", host.address(), "plugin", "push", "handler.ts", "--activate", "--name", &group];
    let copy = run_directory().unwrap().join(unique("scenarios"));
    std::fs::create_dir_all(&copy).unwrap();
    for file in ["handler.ts", "explode.ts"] {
        std::fs::copy(scenarios.join(file), copy.join(file)).unwrap();
    }
    succeed(alone(&copy, &pushed));
    let body = json!({ "do": "fetch", "topic": format!("http://127.0.0.1:{port}") });
    let id =
        host.publish(json!({ "topic": topic, "type": "OrderCreated", "key": "k", "body": body })).await.id().to_owned();
    let delivery = host.finished(&id, 1).await.deliveries.remove(0);
    let log = delivery.attempts[0].log.as_deref().unwrap_or_default();
    assert!(log.contains("fetched [{\"path\":\"/a\"},{\"path\":\"/b\"}]"), "{delivery:?}");
}

/// Without a token the command waited in silence for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_the_host_refuses_ends_and_says_why() {
    let _turn = turn::shared().await;
    let folder = folder("refused");
    let auth = "[auth]\ntokens = [{ name = \"ops\", role = \"admin\", file = \"ops.token\" }]\n";
    std::fs::write(folder.join("courier.toml"), auth).unwrap();
    std::fs::write(folder.join("ops.token"), "a-token-of-thirty-two-characters-or-more").unwrap();
    let (address, log) = (format!("127.0.0.1:{}", free_port().unwrap()), folder.join("dev.log"));
    let dev = alone(&folder, &["dev", "--watch", "handler.ts", "--listen", &address]);
    let mut host = Process::start("courier dev --watch", dev, &log, libc::SIGKILL).unwrap();
    let ended = host.wait(SOON).unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!ended.success() && said.contains("the host takes no handler from this command"), "{ended}: {said}");
    assert!(said.contains("--token or COURIER_TOKEN"), "{said}");
}

/// Issue 20: "`courier dev --watch handler.ts`: saves are rebuilt, pushed,
/// activated, and the log of the next attempts is printed".
#[tokio::test(flavor = "multi_thread")]
async fn a_save_is_built_and_its_attempts_are_printed() {
    let _turn = turn::shared().await;
    let folder = folder("watch");
    let plugin = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let binding = format!("[[binding]]\ngroup = \"watch\"\ntopics = [\"order\"]\nplugin = \"{plugin}\"\n");
    std::fs::write(folder.join("courier.toml"), binding).unwrap();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let log = folder.join("dev.log");
    let dev = alone(&folder, &["dev", "--watch", "handler.ts", "--listen", &address]);
    let mut host = Process::start("courier dev --watch", dev, &log, libc::SIGKILL).unwrap();
    let printed = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    let seen = async |text: &str| {
        wait_until(&format!("{text:?} is printed"), SOON, async || {
            if printed(text) { Ok(()) } else { Err(std::fs::read_to_string(&log).unwrap_or_default()) }
        })
        .await;
    };
    let server = format!("http://{address}");
    let publish = || {
        succeed(alone(
            &folder,
            &[
                "--server",
                &server,
                "publish",
                "order",
                "--type",
                "OrderCreated",
                "--key",
                "k",
                "--body",
                "{\"name\": \"tea\"}",
            ],
        ))
    };
    seen("is active").await;
    publish();
    seen("INFO hello tea").await;
    std::fs::write(folder.join("words.ts"), "export const greeting = ;\n").unwrap();
    seen("words.ts:1:25: ").await;
    std::fs::write(folder.join("words.ts"), "export const greeting = \"good day\";\n").unwrap();
    wait_until("the second version is active", SOON, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.matches("is active").count() == 2 { Ok(()) } else { Err(text) }
    })
    .await;
    publish();
    seen("INFO good day tea").await;
    host.stop(libc::SIGTERM, SOON).unwrap();
}

/// Issue 20: "1,000 mutated and truncated outputs of each small tool, 100 of
/// componentize-py, at upload: refusals within bounds, no 5xx".
#[tokio::test(flavor = "multi_thread")]
async fn spoilt_components_are_refused_and_never_the_hosts_fault() {
    let _turn = turn::shared().await;
    let host = Host::builder("spoilt").start().await;
    let folder = folder("spoilt");
    succeed(alone(&folder, &["plugin", "build", "handler.ts"]));
    let files = std::fs::read_dir(&folder).unwrap().flatten().map(|file| file.path());
    let built = files.into_iter().find(|file| file.extension().is_some_and(|ending| ending == "wasm")).unwrap();
    let script = std::fs::read(built).unwrap();
    let python = guest("order-notifier");
    for (tool, component, rounds) in [
        ("the builder for scripts", script, scale(12, 1_000)),
        ("cargo", guest("noop"), scale(12, 1_000)),
        ("componentize-py", python, scale(2, 100)),
    ] {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for round in 0..rounds {
            let (status, answer) = host.try_upload("spoilt", spoilt(&component, round, &mut random), false).await;
            assert!(!status.is_server_error(), "round {round} of {tool} was answered {status}: {answer}");
            let is_told = answer["detail"].is_string() && answer["title"].is_string();
            assert!(status.is_success() || is_told, "round {round} of {tool} was answered {status}: {answer}");
        }
    }
    assert!(host.exited().is_none());
}

/// The component cut off, with some bits changed, or with a part copied over another.
fn spoilt(component: &[u8], round: usize, random: &mut Random) -> Vec<u8> {
    let mut spoilt = component.to_vec();
    match round % 3 {
        0 => spoilt.truncate(random.below(component.len())),
        1 => (0..=random.below(8)).for_each(|_| spoilt[random.below(component.len())] ^= 1 << random.below(8)),
        _ => {
            let (from, to) = (random.below(component.len()), random.below(component.len()));
            let part = &component[from..(from + random.below(4_096)).min(component.len())];
            let end = (to + part.len()).min(component.len());
            spoilt[to..end].copy_from_slice(&part[..end - to]);
        }
    }
    spoilt
}
