//! The errors that a wrong configuration shows, and that a wrong reload changes
//! nothing.

use std::process::Command;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::servers::process::run_directory;
use courier_tests::{Host, courier, guest, kafka, scripted, turn, unique, wait_until};

const SOON: Duration = Duration::from_secs(60);

const BINDING: &str = "[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"order-handler\"\n";

/// Runs `courier check` on this text; returns its success and its output.
fn check(toml: &str) -> (bool, String) {
    let file = run_directory().unwrap().join(unique("courier")).with_extension("toml");
    std::fs::write(&file, toml).unwrap();
    let output = Command::new(courier()).arg("check").arg("--config").arg(&file).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said.replace(&file.display().to_string(), "courier.toml"))
}

/// Wrong texts, each with the line and column and a part of the remedy.
const WRONG: &[(&str, &str, &str)] = &[
    ("[server\n", "1:", "correct"),
    ("[server]\nnode = host-1\n", "2:8", "quotes"),
    ("[sever]\n", "1:2", "server"),
    ("[server]\nlisten-on = 1\n", "2:1", "listen"),
    ("[server]\nlisten = \"7070\"\n", "2:10", "127.0.0.1:7070"),
    ("[server]\nlisten = \"0.0.0.0:7070\"\n", "2:10", "[auth]"),
    ("[store]\nurl = \"mysql://db\"\n", "2:7", "sqlite://"),
    ("[store]\nretention = \"7 days\"\n", "2:13", "d"),
    ("[store]\nretention = 7\n", "2:13", "\""),
    ("[kafka]\nbootstrap_servers = \"a:9092\"\n", "2:21", "["),
    ("[kafka]\nbootstrap_servers = []\n", "2:21", "localhost:9092"),
    ("[kafka.properties]\n\"group.id\" = \"a\"\n", "2:1", "[[binding]]"),
    ("[kafka.properties]\n\"sasl.mechansim\" = \"PLAIN\"\n", "2:1", "librdkafka"),
    ("[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n", "2:", "env"),
    ("[kafka.properties]\n\"sasl.password\" = { env = \"NOT_SET_ANYWHERE\" }\n", "2:", "NOT_SET_ANYWHERE"),
    ("[auth]\ntokens = [{ name = \"a\", role = \"root\", env = \"PATH\" }]\n", "2:", "viewer"),
    ("[binding]\ngroup = \"a\"\n", "1:", "[[binding]]"),
    ("[[binding]]\ntopics = [\"a\"]\nplugin = \"p\"\n", "1:1", "group"),
];

/// Wrong lines below a valid binding, which has four lines.
const WRONG_BINDINGS: &[(&str, &str, &str)] = &[
    ("tiemout = \"5s\"", "5:1", "timeout"),
    ("max_attempts = 3", "5:1", "[binding.retry]"),
    ("ordering = \"keys\"", "5:12", "\"key\""),
    ("concurrency = 0", "5:15", "1"),
    ("timeout = 5", "5:11", "\"5s\""),
    ("memory = \"64 MB\"", "5:10", "MiB"),
    ("start = \"soon\"", "5:9", "earliest"),
    ("isolation = \"none\"", "5:13", "message"),
    ("dead_letter = \"order\"", "5:15", "topic"),
    ("dead_letter = \"__consumer_offsets\"", "5:15", "a topic of yours"),
    ("[binding.grant]\npublish = [\"__transaction_state\"]", "6:12", "a topic of yours"),
    ("[binding.retry]\nmax_attempts = 0", "6:16", "1"),
    ("[binding.retry]\nmultiplier = 0.5", "6:14", "1"),
    ("[binding.http]\nallow = [\"https://api.example.com/v1\"]", "6:10", "api.example.com:443"),
    ("[binding.secrets]\nkey = \"hunter2\"", "6:7", "env"),
];

#[test]
fn wrong_toml_is_told_where_it_is_wrong_and_what_would_be_right() {
    let in_bindings =
        WRONG_BINDINGS.iter().map(|(lines, place, remedy)| (format!("{BINDING}{lines}\n"), place, remedy));
    let all = WRONG.iter().map(|(text, place, remedy)| ((*text).to_owned(), place, remedy)).chain(in_bindings);
    let mut unclear = Vec::new();
    for (text, place, remedy) in all {
        let (accepted, said) = check(&text);
        if accepted || !said.contains(&format!("courier.toml:{place}")) || !said.contains(remedy) {
            unclear
                .push(format!("{text}-- should name {place} and {remedy:?}, and said (accepted: {accepted}):\n{said}"));
        }
        assert!(!said.contains("hunter2"), "a secret is shown:\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(unclear.is_empty(), "{} errors are unclear:\n\n{}", unclear.len(), unclear.join("\n"));
    assert!(WRONG.len() + WRONG_BINDINGS.len() >= 20);
}

#[test]
fn right_toml_passes_and_a_missing_file_is_named() {
    let (accepted, said) = check(BINDING);
    assert!(accepted, "{said}");
    let output = Command::new(courier()).args(["check", "--config", "/no/such.toml"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such.toml"));
}

/// A file that was valid stays valid with a warning; `--strict` makes it an error.
#[test]
fn what_will_not_go_well_is_a_warning_and_with_strict_an_error() {
    let file = run_directory().unwrap().join(unique("courier")).with_extension("toml");
    std::fs::write(&file, format!("{BINDING}[binding.grant]\npublish = [\"order.broadcast\"]\n")).unwrap();
    let check = |more: &[&str]| {
        let mut command = Command::new(courier());
        let output = command.arg("check").arg("--config").arg(&file).args(more).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(":6:12: the topic \"order.broadcast\" carries the broadcasts of \"order\""), "{said}");
    assert_eq!(check(&["--strict"]).0, Some(1));
    let (code, said) = check(&["--strict", "--output", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["valid"], &said["warned"][0]["line"]), (Some(1), &false.into(), &6.into()), "{said}");
}

/// `--version` in a subcommand printed the program's version and exited 0.
#[test]
fn a_version_is_asked_for_at_the_top_only() {
    let run = |line: &[&str]| Command::new(courier()).args(line).output().unwrap();
    let refused = run(&["plugin", "activate", "stock", "--version", "sha256:ab"]);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(2), &b""[..]));
    assert!(String::from_utf8_lossy(&run(&["--version"]).stdout).starts_with("courier "));
}

#[test]
fn the_last_word_of_a_host_is_in_the_form_of_its_log() {
    let serve = |format: &str| {
        let mut command = Command::new(courier());
        let output =
            command.args(["--log-format", format, "serve", "--config", "/nowhere/courier.toml"]).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = serve("json");
    let last: serde_json::Value = serde_json::from_str(said.lines().next_back().unwrap()).expect(&said);
    assert_eq!(last["level"], "ERROR");
    assert!(last["fields"]["error"].as_str().unwrap().contains("/nowhere/courier.toml"), "{said}");
    assert!(serve("text").starts_with("error: "));
}

/// A wrong file changes nothing and is reported; a right one takes effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_reload_leaves_the_old_configuration_running() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "reload", 1).await;
    let later = create_topic(kafka().bootstrap(), "reload-later", 1).await;
    let (group, added) = (unique("reload"), unique("reload-added"));
    let host = Host::builder("host-1").binding(&scripted_binding(&group, &topic, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let good = host.toml();
    host.write_config(&format!("{good}\n[[binding]]\ngroup = \"x\"\ntiemout = 3\n"));
    host.sighup();
    wait_until("the log names what is wrong", SOON, async || {
        if host.log().contains("tiemout") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    let id = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled);

    // Without a signal: the host notices a changed file.
    host.write_config(&format!("{good}\n[[binding]]\n{}\n", scripted_binding(&added, &later, "")));
    wait_until("the new group is there", SOON, async || {
        let groups = host.groups().await;
        if groups.iter().any(|seen| seen.group == added) { Ok(()) } else { Err(format!("{groups:?}")) }
    })
    .await;
    let id = host.publish(scripted(&later, "k", &["ok"])).await.id().to_owned();
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled);
    let id = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled, "the old binding still works");
}
