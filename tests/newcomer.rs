//! From nothing to a first handler, by the README: the test runs what the README
//! tells a newcomer to type.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use courier_core::status::State;
use courier_tests::servers::process::{Process, free_port, run_directory};
use courier_tests::{Delivery, courier, turn, unique, wait_until};
use serde_json::Value;

const README: &str = include_str!("../README.md");
const SECTION: &str = "## Your first handler in ten minutes";
const CHINESE: &str = include_str!("../README.zh-CN.md");
const CHINESE_SECTION: &str = "## 十分钟写出第一个处理函数";
/// The bound of waits: the embedded broker's first join takes three seconds.
const SOON: Duration = Duration::from_secs(60);

/// What a section tells a newcomer to type or to copy.
#[derive(Debug, PartialEq, Eq)]
struct Steps<'a> {
    /// The commands: indented lines.
    commands: Vec<&'a str>,
    /// The contents of `courier.toml`.
    toml: &'a str,
    /// The code of the handler.
    rust: &'a str,
}

fn steps<'a>(page: &'a str, heading: &str) -> Steps<'a> {
    let (_, section) = page.split_once(heading).unwrap_or_else(|| panic!("the page has no {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let block = |language: &str| {
        let (_, block) = section.split_once(&format!("```{language}\n")).expect("the block is there");
        block.split("```").next().unwrap()
    };
    let text = section.split("```").step_by(2).flat_map(str::lines);
    let commands = text.filter_map(|line| line.strip_prefix("    ")).collect();
    Steps { commands, toml: block("toml"), rust: block("rust") }
}

/// A terminal: a folder, and the server that the newcomer talks to.
struct Terminal {
    folder: PathBuf,
    server: String,
}

impl Terminal {
    /// Runs a line as the shell would and returns its output; a `cd` in it applies to
    /// the next line too.
    fn run(&mut self, line: &str) -> String {
        let line = line.split("   #").next().unwrap();
        let bin = courier().parent().unwrap().canonicalize().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let ended_in = self.folder.join(unique(".folder"));
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(format!("{line}\npwd > '{}'", ended_in.display())).stdin(Stdio::null());
        shell.current_dir(&self.folder).env("PATH", path).env("COURIER_SERVER", &self.server);
        let output = shell.output().unwrap_or_else(|error| panic!("sh does not run: {error}"));
        let [printed, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "`{line}` ended with {}:\n{printed}{errors}", output.status);
        self.folder = std::fs::read_to_string(&ended_in).unwrap().trim().into();
        std::fs::remove_file(&ended_in).unwrap();
        printed
    }
}

/// The template's code without its comments and tests.
fn plain(code: &str) -> String {
    let code = code.split("#[cfg(test)]").next().unwrap();
    let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n").trim().to_owned()
}

#[test]
fn the_pages_in_both_languages_have_the_same_steps() {
    let (english, chinese) = (steps(README, SECTION), steps(CHINESE, CHINESE_SECTION));
    let typed = |steps: &Steps| -> Vec<String> {
        steps.commands.iter().map(|line| line.split("   #").next().unwrap().to_owned()).collect()
    };
    assert_eq!(typed(&english), typed(&chinese));
    assert_eq!((english.toml, english.rust), (chinese.toml, chinese.rust));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_a_handler_of_their_own_to_work_by_the_readme() {
    let _turn = turn::shared().await;
    let Steps { commands, toml, rust } = steps(README, SECTION);
    let [build, path, new, test, component, dev, push, publish, show, list] = commands[..] else {
        panic!("the section has other steps than this test knows: {commands:#?}");
    };
    // The first two made the program that is tested here.
    assert!(build.starts_with("cargo build") && path.starts_with("export PATH="), "{commands:#?}");

    let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let work = checkout.join("target").join(unique("newcomer"));
    std::fs::create_dir_all(&work).unwrap();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let mut terminal = Terminal { folder: work.clone(), server: format!("http://{address}") };
    terminal.run(new);
    terminal.run(test);
    assert_eq!(plain(&std::fs::read_to_string(terminal.folder.join("src/lib.rs")).unwrap()), rust.trim());
    terminal.run(component);

    // The only difference from a newcomer's steps: other tests use the usual port.
    let elsewhere = run_directory().unwrap().join(unique("anywhere"));
    std::fs::create_dir_all(&elsewhere).unwrap();
    let log = elsewhere.join("dev.log");
    let mut host = Command::new(courier().canonicalize().unwrap());
    host.current_dir(&elsewhere).args(dev.split(' ').skip(1)).args(["--listen", &address]);
    let mut host = Process::start("courier dev", host, &log, libc::SIGKILL).unwrap();
    let logged = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    host.wait_ready(SOON, || logged("ready: ")).unwrap();

    let pushed = terminal.run(push);
    let (_, binding) = pushed.split_once("[[binding]]").unwrap_or_else(|| panic!("no binding in:\n{pushed}"));
    let binding = format!("[[binding]]{binding}");
    assert_eq!(binding.trim(), toml.trim());
    std::fs::write(elsewhere.join("courier.toml"), &binding).unwrap();
    host.wait_ready(SOON, || logged("configuration reloaded")).unwrap();

    let id = terminal.run(publish).split_whitespace().next().expect("publish prints the id").to_owned();
    let show = show.replace("ID", &id);
    let shown = wait_until("the message is handled", SOON, async || {
        let shown = terminal.run(&show);
        if shown.contains("HANDLED") { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert!(shown.contains("order o-1 is tea"), "the handler's log is not shown:\n{shown}");
    let listed = terminal.run(list);
    assert!(listed.contains("HANDLED") && listed.contains("o-1"), "{listed}");
    let listed: Value = serde_json::from_str(&terminal.run(&format!("{list} --output json"))).unwrap();
    let delivery: Delivery = serde_json::from_value(listed["items"][0].clone()).unwrap();
    assert_eq!((delivery.state, delivery.group.as_str()), (State::Handled, "greeter"));
    assert!(delivery.node.is_some() && delivery.settled_at.is_some(), "{delivery:?}");
    assert!(host.exited().unwrap().is_none(), "the host was not started again");
    host.stop(libc::SIGTERM, SOON).unwrap();
    std::fs::remove_dir_all(&work).unwrap();
}
