//! `[[binding]]`: which handler gets which topics, under which policy.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use courier_core::message::Timestamp;
use courier_core::retry::RetryPolicy;
use courier_core::verdict::{DeadLetter, FailurePolicy};

use super::names::{name, names, plugin_name};
use super::reader::{Section, Value};
use super::report::ByteRange;
use super::settings::{STATE_BYTES_UNLESS_SAID, STATE_KEYS_UNLESS_SAID};
use super::{
    Binding, Circuit, Grant, GroupStart, HTTP_PUSH, Isolation, Ordering, PluginRef, Secret, http, secret, trace, units,
};

const KEYS: [&str; 30] = [
    "group",
    "topics",
    "plugin",
    "types",
    "start",
    "ordering",
    "concurrency",
    "timeout",
    "cpu",
    "memory",
    "log",
    "isolation",
    "batch",
    "rate_limit",
    "circuit",
    "dedupe",
    "trace",
    "broadcast_forget",
    "broadcast_catch_up",
    "each",
    "dead_letter",
    "max_gap",
    "max_hops",
    "max_copied_bytes",
    "paused",
    "retry",
    "grant",
    "http",
    "config",
    "secrets",
];
const RETRY_KEYS: [&str; 6] = ["max_attempts", "initial", "multiplier", "max", "jitter", "budget"];

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// The bounds of a binding's numbers.
const CONCURRENCY: RangeInclusive<i64> = 1..=5_000;
const BATCH: RangeInclusive<i64> = 1..=1024;
const MAX_GAP: RangeInclusive<i64> = 100..=10_000_000;
const MAX_HOPS: RangeInclusive<i64> = 0..=1_000_000;
const MAX_ATTEMPTS: RangeInclusive<i64> = 1..=1_000_000;
const MEMORY: RangeInclusive<u64> = MIB..=4 << 30;
const LOG: RangeInclusive<u64> = KIB..=16 * MIB;
const STATE_BYTES: RangeInclusive<u64> = MIB..=1 << 40;
const STATE_KEYS: RangeInclusive<i64> = 1..=1_000_000_000;
const COPIED_BYTES: RangeInclusive<u64> = KIB..=TIB;
/// Bytes of a partition's parked records that are copied before Kafka removes
/// them, by default.
pub const MAX_COPIED_BYTES: u64 = 256 * MIB;
/// Longest wait between two probes of a service that `http-push` cannot reach, so
/// that its binding goes on within 5 s after the service is back.
const PUSH_PROBE_WITHIN: Duration = Duration::from_secs(4);
const MOST_PER_SECOND: f64 = 1_000_000.0;
const MOST_GROWTH: f64 = 1_000.0;

/// `[[binding]]`, all of them.
pub(super) fn bindings(root: &Section<'_>, retention: Duration) -> Vec<Binding> {
    let mut taken: BTreeMap<(String, String), ByteRange> = BTreeMap::new();
    let mut bindings = Vec::new();
    for table in root.sections("binding", &KEYS) {
        let group = table.require("group", "name the consumer group: group = \"stock\"");
        let group = group.and_then(|value| name(&value, "stock"));
        let topics = topics(&table);
        if let Some(group) = &group {
            for (topic, span) in &topics {
                if let Some(first) = taken.get(&(group.clone(), topic.clone())) {
                    let message = format!("the topic {topic:?} is bound twice in the group {group:?}");
                    let remedy = "a group gives a topic to one handler: remove one, or bind it in a group of its own";
                    table.reader.clash(span, first, "first bound here", message, remedy);
                } else {
                    taken.insert((group.clone(), topic.clone()), span.clone());
                }
            }
        }
        let topics = topics.into_iter().map(|(topic, _)| topic).collect();
        bindings.push(binding(&table, group.unwrap_or_default(), topics, retention));
    }
    bindings
}

/// The topics, each with its place in the file.
fn topics(table: &Section<'_>) -> Vec<(String, ByteRange)> {
    let Some(value) = table.require("topics", "name what it consumes: topics = [\"order\"]") else {
        return Vec::new();
    };
    let topics = value.texts("order", |item, _| Some((name(item, "order")?, item.span.clone())));
    if value.is_empty_array() {
        value.wrong("`binding.topics` is empty", "name at least one topic: topics = [\"order\"]");
    }
    topics.unwrap_or_default()
}

fn binding(table: &Section<'_>, group: String, topics: Vec<String>, retention: Duration) -> Binding {
    let integer = |key, bounds| table.get(key).and_then(|value| value.integer(bounds));
    let duration = |key, bounds| table.get(key).and_then(|value| value.duration(bounds));
    let size = |key, bounds| table.get(key).and_then(|value| value.size(bounds));
    let plugin = table.require("plugin", "name what handles it: plugin = \"order-handler\"");
    let ordering = table.get("ordering").and_then(|value| {
        value.word(&[("key", Ordering::Key), ("partition", Ordering::Partition), ("none", Ordering::None)])
    });
    let ordering = ordering.unwrap_or(Ordering::Key);
    let batch = integer("batch", BATCH).unwrap_or(1) as usize;
    let http = http::http(table);
    let plugin = plugin.and_then(|value| plugin_ref(&value)).unwrap_or(PluginRef { name: String::new(), digest: None });
    if plugin.name == HTTP_PUSH {
        http::check_push(table);
    }
    let broadcast_forget = duration("broadcast_forget", Duration::from_secs(1)..=30 * DAY).unwrap_or(HOUR);
    let each = http::each(table, &plugin.name, &topics, broadcast_forget);
    let failure = FailurePolicy {
        retry: retry(table),
        dead_letter: dead_letter(table, &group, &topics, ordering),
        probe_within: (plugin.name == HTTP_PUSH).then_some(PUSH_PROBE_WITHIN),
        retry_timeouts: plugin.name == HTTP_PUSH,
    };
    Binding {
        plugin,
        types: table.get("types").and_then(|value| types(&value)),
        start: table.get("start").and_then(|value| start(&value)).unwrap_or(GroupStart::Earliest),
        ordering,
        concurrency: integer("concurrency", CONCURRENCY).unwrap_or(64) as usize,
        timeout: duration("timeout", MS..=HOUR).unwrap_or(Duration::from_secs(5)),
        cpu: duration("cpu", MS..=HOUR).unwrap_or(Duration::from_millis(500)),
        memory: size("memory", MEMORY).unwrap_or(64 * MIB),
        log: size("log", LOG).unwrap_or(64 * KIB),
        isolation: isolation(table, batch),
        batch,
        rate_limit: table.get("rate_limit").and_then(|value| {
            let remedy = "write how many attempts may begin in a second: above 0, at most 1000000";
            value.number(|rate| rate > 0.0 && rate <= MOST_PER_SECOND, remedy)
        }),
        circuit: table.get("circuit").and_then(|value| circuit(&value)),
        dedupe: dedupe(table, retention),
        trace: trace::trace(table),
        broadcast_forget,
        broadcast_catch_up: table.get("broadcast_catch_up").and_then(|value| value.flag()).unwrap_or(false),
        each,
        failure,
        max_gap: integer("max_gap", MAX_GAP).unwrap_or(50_000) as u32,
        // Longer than any intended chain, so that only a loop reaches it.
        max_hops: integer("max_hops", MAX_HOPS).unwrap_or(32) as u32,
        max_copied_bytes: size("max_copied_bytes", COPIED_BYTES).unwrap_or(MAX_COPIED_BYTES),
        paused: table.get("paused").and_then(|value| value.flag()).unwrap_or(false),
        grant: grant(table),
        http,
        config: config(table),
        secrets: secrets(table),
        group,
        topics,
    }
}

/// The window of `dedupe`. Duplicates are found by the rows of handled
/// deliveries, so it cannot be longer than the retention.
fn dedupe(table: &Section<'_>, retention: Duration) -> Option<Duration> {
    let value = table.get("dedupe")?;
    let window = value.duration(Duration::from_secs(1)..=30 * DAY)?;
    if window > retention {
        let (window, kept) = (units::show_duration(window), units::show_duration(retention));
        value.wrong(
            format!("`binding.dedupe` is {window}, and what was handled is forgotten after {kept}"),
            format!("write at most dedupe = \"{kept}\", or in [store] retention = \"{window}\""),
        );
    }
    Some(window)
}

fn plugin_ref(value: &Value<'_>) -> Option<PluginRef> {
    let text = value.text("order-handler")?;
    let Some((name, digest)) = text.split_once('@') else {
        return Some(PluginRef { name: plugin_name(value, "order-handler")?, digest: None });
    };
    if let Err(remedy) = units::plugin_name(name) {
        value.wrong(format!("`{}` names the plugin {name:?}", value.path), remedy);
        return None;
    }
    let hex = digest.strip_prefix("sha256:").unwrap_or("");
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Some(PluginRef { name: name.to_owned(), digest: Some(digest.to_owned()) });
    }
    let remedy = format!(
        "write \"{name}@sha256:\" and 64 hexadecimal digits in small letters, as `courier plugin list` shows them, \
         or {name:?} for the active version"
    );
    value.wrong(format!("`{}` names the version {digest:?}", value.path), remedy);
    None
}

fn types(value: &Value<'_>) -> Option<Vec<String>> {
    let types = value.texts("OrderCreated", |item, text| {
        if text.is_empty() || text.chars().any(char::is_control) {
            item.wrong(format!("{text:?} is no type"), "write the type as its sender does: \"OrderCreated\"");
            return None;
        }
        Some(text.to_owned())
    })?;
    if value.is_empty_array() {
        value.wrong("`binding.types` is empty", "name some types, or leave `types` out to get all");
    }
    Some(types)
}

fn start(value: &Value<'_>) -> Option<GroupStart> {
    let Some(text) = value.as_scalar() else {
        value.text("earliest")?;
        return None;
    };
    match text.as_str() {
        "earliest" => return Some(GroupStart::Earliest),
        "latest" => return Some(GroupStart::Latest),
        _ => {}
    }
    let time = text.parse::<jiff::Timestamp>().ok();
    if time.is_none() {
        let remedy = "it may be \"earliest\", \"latest\" or a time with its offset: 2026-01-31T08:00:00Z";
        value.wrong(format!("`{}` is {text:?}", value.path), remedy);
    }
    time.map(|time| GroupStart::Time(Timestamp(time.as_microsecond())))
}

fn isolation(table: &Section<'_>, batch: usize) -> Isolation {
    let Some(value) = table.get("isolation") else {
        // Deliveries that are handed over together share a sandbox.
        return if batch > 1 { Isolation::Batch } else { Isolation::Message };
    };
    let words = [("message", Isolation::Message), ("batch", Isolation::Batch), ("instance", Isolation::Instance)];
    let isolation = value.word(&words).unwrap_or(Isolation::Message);
    match (isolation, batch) {
        (Isolation::Batch, 1) => value.wrong(
            "`binding.isolation` is \"batch\", and `batch` is 1",
            "write how many deliveries a call gets, batch = 100, or isolation = \"message\"",
        ),
        (Isolation::Message, 2..) if value.as_text() == Some("message") => value.wrong(
            format!("`binding.isolation` is \"message\", and `batch` hands over {batch} messages at once"),
            "write isolation = \"batch\" or \"instance\", or remove `batch`",
        ),
        _ => {}
    }
    isolation
}

fn circuit(value: &Value<'_>) -> Option<Circuit> {
    let section = value.section(&["failures", "open"])?;
    let failures = section.require("failures", "write after how many failures in a row it opens: failures = 20");
    let open = section.require("open", "write how long it stays open: open = \"30s\"");
    let failures = failures.and_then(|value| value.integer(1..=1_000_000));
    let open = open.and_then(|value| value.duration(100 * MS..=DAY));
    Some(Circuit { failures: failures? as u32, open: open? })
}

fn retry(table: &Section<'_>) -> RetryPolicy {
    let section = table.section("retry", &RETRY_KEYS);
    if !section.is_present() {
        return RetryPolicy::default();
    }
    let duration = |key, bounds| section.get(key).and_then(|value| value.duration(bounds));
    let initial = duration("initial", MS..=30 * DAY).unwrap_or(Duration::from_secs(1));
    let max = duration("max", MS..=30 * DAY);
    if let (Some(value), Some(max)) = (section.get("max"), max.filter(|max| *max < initial)) {
        let (max, initial) = (units::show_duration(max), units::show_duration(initial));
        value.wrong(
            format!("`binding.retry.max` is {max}, and the first wait, `initial`, is {initial}"),
            format!("write at least max = \"{initial}\", or a smaller `initial`"),
        );
    }
    RetryPolicy {
        on_error: true,
        max_attempts: section.get("max_attempts").and_then(|value| value.integer(MAX_ATTEMPTS)).unwrap_or(5) as u32,
        initial,
        multiplier: section
            .get("multiplier")
            .and_then(|value| value.number(|growth| (1.0..=MOST_GROWTH).contains(&growth), "it must be from 1 to 1000"))
            .unwrap_or(2.0),
        // An `initial` longer than the default maximum asks for long waits.
        max: max.unwrap_or(Duration::from_secs(300).max(initial)),
        jitter: section
            .get("jitter")
            .and_then(|value| value.number(|part| (0.0..=1.0).contains(&part), "it must be from 0 to 1"))
            .unwrap_or(0.2),
        budget: duration("budget", MS..=YEAR),
    }
}

fn dead_letter(table: &Section<'_>, group: &str, topics: &[String], ordering: Ordering) -> DeadLetter {
    let Some(value) = table.get("dead_letter") else { return DeadLetter::Off };
    let choices = "it may be false, true (the topic dlq.<topic>.<group>), the name of a topic, or \"hold\"";
    match (value.as_flag(), value.as_text()) {
        (Some(false), _) => DeadLetter::Off,
        (Some(true), _) => {
            let longest = topics.iter().map(|topic| "dlq.".len() + topic.len() + 1 + group.len()).max();
            if longest.is_some_and(|length| length > units::MAX_NAME) {
                value.wrong("`dlq.<topic>.<group>` is too long for Kafka", "name a topic: dead_letter = \"dead\"");
            }
            DeadLetter::Topic(None)
        }
        (_, Some("hold")) => {
            if ordering == Ordering::None {
                let remedy = "write ordering = \"key\", or dead_letter = true to keep failed messages in a topic";
                value.wrong("\"hold\" makes a lane wait, and with ordering = \"none\" there are no lanes", remedy);
            }
            DeadLetter::Hold
        }
        (_, Some(word @ ("true" | "false"))) => {
            value.wrong(format!("`binding.dead_letter` is the text {word:?}"), format!("remove the quotes: {word}"));
            DeadLetter::Off
        }
        (_, Some(topic)) => {
            if let Err(remedy) = units::name(topic) {
                value.wrong(format!("`binding.dead_letter` is {topic:?}"), format!("{remedy}; {choices}"));
            } else if topics.iter().any(|bound| bound == topic) {
                let message = format!("dead letters on {topic:?} would come back to this binding");
                value.wrong(message, "name another topic, or write true");
            }
            DeadLetter::Topic(Some(topic.to_owned()))
        }
        (None, None) => {
            value.wrong("`binding.dead_letter` is neither true or false nor text", choices);
            DeadLetter::Off
        }
    }
}

fn grant(table: &Section<'_>) -> Grant {
    let section = table.section("grant", &["publish", "state", "state_bytes", "state_keys", "state_ttl", "cache"]);
    let flag = |key| section.get(key).and_then(|value| value.flag()).unwrap_or(false);
    let state_keys = section.get("state_keys").and_then(|value| value.integer(STATE_KEYS));
    Grant {
        publish: section.get("publish").and_then(|value| names(&value, "stock")).unwrap_or_default(),
        state: flag("state"),
        state_bytes: section
            .get("state_bytes")
            .and_then(|value| value.size(STATE_BYTES))
            .unwrap_or(STATE_BYTES_UNLESS_SAID),
        state_keys: state_keys.and_then(|keys| u64::try_from(keys).ok()).unwrap_or(STATE_KEYS_UNLESS_SAID),
        state_ttl: section.get("state_ttl").and_then(|value| value.duration(Duration::from_secs(1)..=YEAR)),
        cache: flag("cache"),
    }
}

fn config(table: &Section<'_>) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    for (name, value) in table.open_section("config").entries() {
        if secret::is_secret_name(name) {
            value.reader.hide(&value.span);
        }
        match value.as_scalar().or_else(|| json_of_texts(&value)) {
            Some(text) => {
                config.insert(name.to_owned(), text);
            }
            None => value.wrong(
                format!("`{}` has arrays or tables in an array or a table", value.path),
                format!("a handler reads text, and a list or a table of texts as JSON: {name} = [\"a\", \"b\"]"),
            ),
        }
    }
    config
}

/// An array or a table of scalars as the JSON of their texts.
fn json_of_texts(value: &Value<'_>) -> Option<String> {
    let json = match value.as_open_section() {
        Some(table) => {
            let texts = table.entries().into_iter().map(|(name, value)| Some((name, value.as_scalar()?)));
            serde_json::to_string(&texts.collect::<Option<BTreeMap<_, _>>>()?)
        }
        None => {
            let texts = value.as_items().iter().map(Value::as_scalar).collect::<Option<Vec<_>>>()?;
            serde_json::to_string(&texts)
        }
    };
    json.ok()
}

fn secrets(table: &Section<'_>) -> BTreeMap<String, Secret> {
    let entries = table.open_section("secrets").entries();
    entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.secret()?))).collect()
}
