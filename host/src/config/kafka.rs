//! `[kafka]`: the brokers, the properties that are passed through to librdkafka,
//! and Courier's own topics.
//!
//! Each property is tried on librdkafka itself, which knows its names and bounds.
//! The properties that Courier's guarantees rest on are refused.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::reader::{Section, Value};
use super::{Kafka, OwnTopics, Property, secret, secret_source};

/// Properties that Courier sets itself, each with its remedy.
const OWNED: [(&str, &str); 16] = [
    ("bootstrap.servers", "write bootstrap_servers in [kafka]"),
    ("metadata.broker.list", "write bootstrap_servers in [kafka]"),
    ("group.id", "write group in each [[binding]]"),
    ("group.instance.id", "write node in [server]: Courier derives it from the node's name"),
    ("group.protocol", "remove it: Courier's rebalances are built on the classic protocol"),
    ("partition.assignment.strategy", "remove it: Courier hands partitions over with cooperative-sticky"),
    ("enable.auto.commit", "remove it: an offset is committed once the store has what happened below it"),
    ("enable.auto.offset.store", "remove it: an offset is committed once the store has what happened below it"),
    ("auto.offset.reset", "write start in [[binding]]: positions are in the store"),
    ("isolation.level", "remove it: Courier reads only what was committed"),
    ("enable.idempotence", "remove it: Courier's producer is always idempotent"),
    ("acks", "remove it: a message counts as sent once all in-sync replicas have it"),
    ("request.required.acks", "remove it: a message counts as sent once all in-sync replicas have it"),
    ("transactional.id", "remove it: effects are committed in the store and relayed"),
    ("partitioner", "remove it: Courier places a key where a Java sender would"),
    ("enable.partition.eof", "remove it: Courier takes the ends of partitions from the broker's answers"),
];

/// Bounds of `max_record`, in bytes. Below Kafka's default of 1 MiB most topics
/// would lose messages; above 1 GiB one record fills a group's memory.
const MAX_RECORD: RangeInclusive<u64> = 1 << 20..=1 << 30;
/// `max_record` by default, in bytes.
pub(super) const MAX_RECORD_UNLESS_SAID: usize = 16 << 20;

/// `[kafka]`.
pub(super) fn kafka(root: &Section<'_>) -> Kafka {
    let section = root.section("kafka", &["bootstrap_servers", "max_record", "properties", "topics"]);
    let default = || vec!["localhost:9092".to_owned()];
    let topics = section.section("topics", &["create", "partitions", "replication"]);
    let count = |key, least| Some(topics.get(key)?.integer(least..=10_000)? as i32);
    let replication = count("replication", -1);
    if let Some(value) = topics.get("replication").filter(|_| replication == Some(0)) {
        value.wrong("`kafka.topics.replication` is 0", "write at least 1, or -1 for the broker's default");
    }
    Kafka {
        bootstrap_servers: section.get("bootstrap_servers").and_then(|value| servers(&value)).unwrap_or_else(default),
        max_record: section
            .get("max_record")
            .and_then(|value| value.size(MAX_RECORD))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(MAX_RECORD_UNLESS_SAID),
        properties: properties(&section.open_section("properties")),
        topics: OwnTopics {
            create: topics.get("create").and_then(|value| value.flag()).unwrap_or(false),
            partitions: count("partitions", 1).unwrap_or(6),
            replication: replication.unwrap_or(-1),
        },
    }
}

fn servers(value: &Value<'_>) -> Option<Vec<String>> {
    let servers = value.texts("localhost:9092", |item, text| {
        // librdkafka takes a list in one text; the TOML has an array.
        let right = text.rsplit_once(':').is_some_and(|(host, port)| {
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
            named && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if right {
            return Some(text.to_owned());
        }
        let host = text.split([',', ':', '/']).next().filter(|host| !host.is_empty()).unwrap_or("localhost");
        let remedy = format!("write each broker as host:port, for example \"{host}:9092\"");
        item.wrong(format!("{text:?} is no broker"), remedy);
        None
    })?;
    if value.is_empty_array() {
        value.wrong("`kafka.bootstrap_servers` is empty", "name at least one broker: [\"localhost:9092\"]");
    }
    Some(servers)
}

fn properties(section: &Section<'_>) -> BTreeMap<String, Property> {
    let mut properties = BTreeMap::new();
    for (name, value) in section.entries() {
        property(name.to_owned(), &value, &mut properties);
    }
    properties
}

/// Reads one property. TOML reads the dots of an unquoted `sasl.username` as
/// tables within tables; both ways of writing mean the same here.
fn property(name: String, value: &Value<'_>, properties: &mut BTreeMap<String, Property>) {
    let inline = value.reader.text[value.span.start..].starts_with('{');
    if let Some(table) = value.as_open_section().filter(|_| !inline) {
        for (rest, value) in table.entries() {
            property(format!("{name}.{rest}"), &value, properties);
        }
        return;
    }
    if let Some((_, remedy)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        value.reader.problem(&value.key_span, format!("Courier sets `{name}` itself"), *remedy);
        return;
    }
    let property = if inline || secret::is_secret_name(&name) {
        secret_source::read(value, &name).map(Property::Secret)
    } else {
        let plain = value.as_scalar();
        if plain.is_none() {
            value.wrong(format!("the property `{name}` is an array"), format!("write it as text: {name:?} = \"a,b\""));
        }
        plain.map(Property::Plain)
    };
    let Some(property) = property else { return };
    if let Err(refusal) = ClientConfig::new().set(&name, property.expose()).create_native_config() {
        refused(&name, value, &property, &refusal);
    } else if properties.insert(name.clone(), property).is_some() {
        value.reader.problem(&value.key_span, format!("`{name}` stands twice"), "remove one of the two");
    }
}

fn refused(name: &str, value: &Value<'_>, property: &Property, refusal: &KafkaError) {
    let (kind, why) = match refusal {
        KafkaError::ClientConfig(kind, why, ..) => (Some(*kind), why.as_str()),
        _ => (None, ""),
    };
    if kind == Some(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN) {
        let remedy =
            "look its name up in librdkafka's CONFIGURATION.md; properties of Java clients may have other names";
        value.reader.problem(&value.key_span, format!("librdkafka has no property `{name}`"), remedy);
        return;
    }
    match property {
        // librdkafka's message repeats the value.
        Property::Secret(_) => {
            value.wrong(format!("librdkafka refuses the value of `{name}`"), "correct what the secret holds");
        }
        Property::Plain(_) => {
            value.wrong(format!("librdkafka refuses the value of `{name}`"), format!("correct it: {why}"));
        }
    }
}
