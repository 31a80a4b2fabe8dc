//! The console in a browser, on a real host with real traffic. The steps are in
//! `host/console/browser`; this test starts the host and the browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::servers::setup::{self, target_directory};
use courier_tests::{Host, guest, kafka, scale, scripted, turn, unique};

const ADMIN: &str = "admin-token-of-a-test";
const VIEWER: &str = "viewer-token-of-a-test";
const TOKENS: &str = "[auth]\ntokens = [\n\
    { name = \"root\", role = \"admin\", env = \"ROOT_TOKEN\" },\n\
    { name = \"eyes\", role = \"viewer\", env = \"EYES_TOKEN\" },\n]\n";
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn people_find_mend_and_run_again_what_failed() {
    let _turn = turn::heavy().await;
    setup::require(setup::BROWSER).unwrap_or_else(|error| panic!("{error:#}"));
    let topic = create_topic(kafka().bootstrap(), "console", 2).await;
    let group = unique("console");
    let host = Host::builder("host-1")
        .table(TOKENS)
        .env("ROOT_TOKEN", ADMIN)
        .env("EYES_TOKEN", VIEWER)
        .token(ADMIN)
        .create_topics()
        .table("[[outbox]]\nname = \"away\"\nurl = \"sqlite:///nowhere/shop.db\"\n")
        .binding(&scripted_binding(&group, &topic, ""))
        .binding(&scripted_binding(&format!("{group}-dead"), &topic, "types = [\"Doomed\"]\ndead_letter = true"))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let broken = (0..12).map(|number| scripted(&topic, &format!("broken-{number}"), &["reject"]));
    let fine = (0..40).map(|number| scripted(&topic, &format!("fine-{number}"), &["ok"]));
    host.publish_all(broken.chain(fine).collect()).await;
    host.settled(&group, 52, SOON).await;

    let console = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../host/console");
    let library = console.join("node_modules/playwright-core");
    assert!(library.is_dir(), "there is no {}: run `cargo xtask console`, then build the host", library.display());
    let mut node = Command::new("node");
    // One file after another, since they share the host's plugin and group.
    node.current_dir(&console).args([
        "--test",
        "--test-concurrency=1",
        "--test-force-exit",
        "--test-reporter=spec",
        "browser/",
    ]);
    node.env("COURIER_URL", host.address()).env("COURIER_ADMIN", ADMIN).env("COURIER_VIEWER", VIEWER);
    node.env("COURIER_GROUP", &group).env("COURIER_TOPIC", &topic).env("COURIER_PLUGIN", "scripted");
    node.env("COURIER_FIX", target_directory().join("guests/noop.wasm"));
    node.env("COURIER_HOSTILE", scale(200, 1_000).to_string());
    let output = tokio::task::spawn_blocking(move || node.output()).await.expect("waiting for node does not panic");
    let output = output.unwrap_or_else(|error| panic!("node does not run: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the browser tests failed:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}
