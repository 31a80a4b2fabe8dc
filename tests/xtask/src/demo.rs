//! `cargo xtask demo`: from a fresh clone to orders being handled.
//!
//! Builds the host, its console and the sample plugins, starts `courier dev`
//! (embedded broker, SQLite), uploads the plugins, publishes a stream of
//! orders over HTTP and prints their states.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::servers::process::{Process, describe, run_directory};
use crate::servers::setup;
use crate::steps::HostBuild;
use crate::{console, guests, http, steps};

/// The address of the host in `plugins/demo.toml`.
const ADDRESS: &str = "127.0.0.1:7070";
const PLUGINS: &[&str] = &["order-validator", "order-handler", "stock-reserver"];
/// A plugin in TypeScript, which the courier binary builds from its source.
const TYPESCRIPT_SOURCE: &str = "plugins/order-shipper";
/// A plugin in Python, which is built only on machines with Python.
const PYTHON_PLUGIN: &str = "order-notifier";
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Size of a batch and pause between batches: 50 orders a second, which people can
/// follow.
const BATCH: u64 = 10;
const PAUSE: Duration = Duration::from_millis(200);
const REPORT: Duration = Duration::from_secs(3);
/// How long the last orders may take after the stream has ended.
const DRAIN: Duration = Duration::from_secs(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[derive(Args)]
pub struct Arguments {
    /// Stop after this duration, for example `30s` or `5m`; without it at Ctrl-C.
    #[arg(long = "for", value_parser = duration)]
    run_for: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write a number and `s` or `m`, for example `30s`");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(wrong()),
    }
}

/// Runs the demonstration to its end.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    setup::require(setup::HOST_BUILD)?;
    console::run_if_possible(root);
    steps::say("build the sample plugins");
    guests::run(root)?;
    must_be_free()?;
    HostBuild::Quick.build(root)?;
    end_on_signal();
    let mut host = start(root)?;
    for plugin in PLUGINS {
        upload(plugin)?;
    }
    push(root, TYPESCRIPT_SOURCE)?;
    if component(PYTHON_PLUGIN).is_file() {
        println!("the host compiles {PYTHON_PLUGIN}, which holds a Python runtime: this takes some 10 s");
        upload(PYTHON_PLUGIN)?;
    }
    println!("\nCourier runs: its console and API are at http://{ADDRESS}/\n");
    let published = stream(&mut host, arguments.run_for)?;
    let groups = drain(published);
    println!("\npublished {published} orders in all");
    if let Ok(groups) = &groups {
        report(groups);
    }
    let status = host.stop(libc::SIGTERM, Duration::from_secs(20))?;
    if !status.success() {
        bail!("the host did not end well ({}):\n{}", describe(status), host.log_tail(30));
    }
    let handled: u64 = groups?.iter().filter_map(|group| group["handled"].as_u64()).sum();
    if handled == 0 && published > 0 {
        bail!("no order was handled; the host's log ends with:\n{}", host.log_tail(30));
    }
    println!("the host has stopped cleanly");
    Ok(())
}

fn must_be_free() -> Result<()> {
    std::net::TcpListener::bind(ADDRESS).map(drop).with_context(|| {
        format!("{ADDRESS} is taken, perhaps by another Courier: stop that, or change `listen` in plugins/demo.toml")
    })
}

/// Ctrl-C and SIGTERM end the stream; the host is then stopped in order.
fn end_on_signal() {
    extern "C" fn interrupted(_signal: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, interrupted as extern "C" fn(i32) as libc::sighandler_t) };
    }
}

fn start(root: &Path) -> Result<Process> {
    let directory = run_directory()?;
    let log = directory.join("courier.log");
    steps::say(&format!("start courier dev (its log: {})", log.display()));
    let mut courier = Command::new(HostBuild::Quick.program());
    // Ctrl-C reaches the whole process group. The host gets a group of its
    // own, so that it lives until the stream has ended and was drained.
    std::os::unix::process::CommandExt::process_group(&mut courier, 0);
    courier.current_dir(&directory).arg("dev").arg("--config").arg(root.join("plugins/demo.toml"));
    let mut host = Process::start("courier dev", courier, &log, libc::SIGTERM)?;
    host.wait_ready(READY_LIMIT, || {
        matches!(http::request(ADDRESS, "GET", "/readyz", "text/plain", b""), Ok((200, _)))
    })?;
    Ok(host)
}

/// Builds a handler from its source and uploads it with `courier plugin push`.
fn push(root: &Path, source: &str) -> Result<()> {
    let mut courier = Command::new(HostBuild::Quick.program());
    courier.current_dir(root).args(["--server", &format!("http://{ADDRESS}"), "plugin", "push", source, "--activate"]);
    steps::must(&format!("build and upload {source}"), &mut courier)
}

fn component(plugin: &str) -> PathBuf {
    setup::target_directory().join(format!("guests/{plugin}.wasm"))
}

fn upload(plugin: &str) -> Result<()> {
    let file = component(plugin);
    let component = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let path = format!("/v1/plugins/{plugin}?activate=true");
    let (status, answer) = http::request(ADDRESS, "PUT", &path, "application/wasm", &component)?;
    let text = String::from_utf8_lossy(&answer);
    if status != 201 {
        bail!("the host refused plugin {plugin} with {status}: {text}");
    }
    let answer: Value = serde_json::from_slice(&answer).with_context(|| format!("no JSON from the upload: {text}"))?;
    println!("uploaded and activated {plugin} as {}", answer["version"].as_str().unwrap_or("?"));
    Ok(())
}

/// Publishes orders until the time is up or a signal comes.
fn stream(host: &mut Process, limit: Option<Duration>) -> Result<u64> {
    let begin = Instant::now();
    let mut next_report = begin + REPORT;
    let mut published = 0;
    while !INTERRUPTED.load(Ordering::Relaxed) && limit.is_none_or(|limit| begin.elapsed() < limit) {
        if let Some(status) = host.exited()? {
            bail!("the host ended by itself ({}):\n{}", describe(status), host.log_tail(30));
        }
        let orders: Vec<Value> = (published..published + BATCH).map(order).collect();
        http::json(ADDRESS, "POST", "/v1/messages", &Value::from(orders))?;
        published += BATCH;
        if Instant::now() >= next_report {
            next_report += REPORT;
            println!("{:>4} s: {published} orders published", begin.elapsed().as_secs());
            report(&groups()?);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(published)
}

/// One order; the validator rejects every fiftieth.
fn order(number: u64) -> Value {
    let things = ["lamp", "desk", "chair", "shelf", "clock"];
    let thing = things[usize::try_from(number).unwrap_or(0) % things.len()];
    let quantity = if number % 50 == 49 { 0 } else { 1 + number % 4 };
    json!({
        "topic": "order",
        "type": "OrderCreated",
        "key": format!("customer-{}", number % 100),
        "source": "demo-shop",
        "body": { "order_id": format!("order-{number}"), "order_name": thing, "quantity": quantity },
    })
}

fn groups() -> Result<Vec<Value>> {
    let list = http::json(ADDRESS, "GET", "/v1/groups", &Value::Null)?;
    list["items"].as_array().cloned().context("GET /v1/groups has no `items`")
}

fn report(groups: &[Value]) {
    for group in groups {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        println!(
            "        {:<16} {:>7} HANDLED {:>6} HANDLE_FAIL {:>5} waiting",
            group["group"].as_str().unwrap_or("?"),
            number(&group["handled"]),
            number(&group["failed"]),
            number(&group["open"]["waiting"])
                + number(&group["open"]["retrying"])
                + number(&group["open"]["push_fail"]),
        );
    }
}

/// Waits until every group has finished all orders, at most [`DRAIN`].
fn drain(published: u64) -> Result<Vec<Value>> {
    let deadline = Instant::now() + DRAIN;
    loop {
        let groups = groups()?;
        let settled = |group: &Value| group["handled"].as_u64().unwrap_or(0) + group["failed"].as_u64().unwrap_or(0);
        if Instant::now() >= deadline || groups.iter().all(|group| settled(group) >= published) {
            return Ok(groups);
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "30", "s", "1h", "-1s"] {
            assert!(duration(wrong).unwrap_err().contains("30s"), "{wrong}");
        }
    }
}
