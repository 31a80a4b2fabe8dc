//! `[[topic]]`: the JSON Schema of a topic's bodies.
//!
//! A schema is read and compiled with the configuration, so that a wrong one is an
//! error of the configuration and never of a message. References to other files
//! are not followed: whether a message is valid must not depend on a network.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

use super::names::name;
use super::reader::{Section, Value as Toml};
use super::report::ByteRange;

/// Largest schema file, in bytes.
const MAX_SCHEMA_BYTES: u64 = 1024 * 1024;
/// Errors reported of one body.
const MAX_TOLD: usize = 3;

/// One `[[topic]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRule {
    /// The topic.
    pub name: String,
    /// The only types whose bodies are checked; none means all.
    pub types: Option<Vec<String>>,
    /// The schema of the bodies.
    pub schema: MessageSchema,
}

impl TopicRule {
    /// The errors of a body; `None` if it has none or the rule does not apply to it.
    #[must_use]
    pub fn broken_by(&self, topic: &str, type_name: &str, body: &[u8]) -> Option<String> {
        let about =
            self.name == topic && self.types.as_ref().is_none_or(|types| types.iter().any(|one| one == type_name));
        if about { self.schema.broken_by(body) } else { None }
    }
}

/// A JSON Schema; clones share it.
#[derive(Clone)]
pub struct MessageSchema {
    validator: Arc<Validator>,
    /// The text of the schema, which a reload compares.
    says: Arc<Value>,
}

impl fmt::Debug for MessageSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.says)
    }
}

impl PartialEq for MessageSchema {
    fn eq(&self, other: &Self) -> bool {
        self.says == other.says
    }
}

impl MessageSchema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// When the text is no JSON or no JSON Schema.
    pub fn parse(text: &str) -> Result<Self, String> {
        let says: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        let validator = jsonschema::validator_for(&says).map_err(|error| {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { "/".to_owned() } else { at };
            format!("is no JSON Schema: at {at}: {error}")
        })?;
        Ok(Self { validator: Arc::new(validator), says: Arc::new(says) })
    }

    /// The errors of a body, each with its path and the rule of the schema that it
    /// breaks. Values of the body are not repeated.
    #[must_use]
    pub fn broken_by(&self, body: &[u8]) -> Option<String> {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => return Some(format!("the body is no JSON, and the topic has a schema: {error}")),
        };
        let mut found: Vec<String> = Vec::new();
        for error in self.validator.iter_errors(&value).take(MAX_TOLD) {
            let (at, rule) = (error.instance_path().to_string(), error.schema_path().to_string());
            found.push(format!("body{at}: {} (rule {rule})", error.masked()));
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// `[[topic]]`.
pub(super) fn topics(root: &Section<'_>) -> Vec<TopicRule> {
    let mut rules: Vec<(TopicRule, ByteRange)> = Vec::new();
    for table in root.sections("topic", &["name", "schema", "types"]) {
        let topic = table.require("name", "name the topic: name = \"order\"");
        let span = topic.as_ref().map(|value| value.span.clone());
        let topic = topic.and_then(|value| name(&value, "order"));
        let schema = table.require("schema", "name the file of a JSON Schema: schema = \"schemas/order.json\"");
        let schema = schema.and_then(|value| read(&value));
        let types = table.get("types").and_then(|value| value.texts("OrderCreated", |_, text| Some(text.to_owned())));
        let (Some(topic), Some(span), Some(schema)) = (topic, span, schema) else { continue };
        let all = |rule: &TopicRule| rule.types.is_none() || types.is_none();
        let shared = |rule: &TopicRule| {
            let own = types.iter().flatten();
            all(rule) || own.into_iter().any(|one| rule.types.iter().flatten().any(|other| other == one))
        };
        if let Some((_, first)) = rules.iter().find(|(rule, _)| rule.name == topic && shared(rule)) {
            let message = format!("two schemas are for the same messages of topic {topic:?}");
            table.reader.clash(&span, first, "first here", message, "tell them apart by `types`");
        }
        rules.push((TopicRule { name: topic, types, schema }, span));
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// Reads the schema that a value names; a relative path starts at the
/// directory of the configuration.
fn read(value: &Toml<'_>) -> Option<MessageSchema> {
    let text = value.text("schemas/order.json")?;
    let path = Path::new(value.reader.file).parent().unwrap_or(Path::new("")).join(text);
    value.reader.depends_on(path.clone());
    let shown = path.display();
    let size = std::fs::metadata(&path).map(|metadata| metadata.len());
    if size.is_ok_and(|size| size > MAX_SCHEMA_BYTES) {
        value.wrong(format!("the schema {shown} is larger than 1 MiB"), "split it by `types`");
        return None;
    }
    let schema = match std::fs::read_to_string(&path) {
        Ok(schema) => schema,
        Err(error) => {
            let remedy = "create it and let courier read it; a relative path starts at the directory of this file";
            value.wrong(format!("cannot read the schema {shown}: {error}"), remedy);
            return None;
        }
    };
    match MessageSchema::parse(&schema) {
        Ok(schema) => Some(schema),
        Err(why) => {
            let remedy = "correct that file; references to other files and to the network are not followed";
            value.wrong(format!("the schema {shown} {why}"), remedy);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const ORDER: &str = r#"{"type":"object","required":["order_id"],"properties":{"order_id":{"type":"string"},
        "lines":{"type":"array","items":{"type":"object","properties":{"count":{"minimum":1}}}}}}"#;

    #[test]
    fn a_body_is_told_by_path_and_rule_and_not_repeated() {
        let schema = MessageSchema::parse(ORDER).unwrap();
        assert_eq!(schema.broken_by(br#"{"order_id":"o-1"}"#), None);
        for (body, path, rule) in [
            ("{}", "body: ", "/required"),
            (r#"{"order_id":7}"#, "body/order_id: ", "/properties/order_id/type"),
            (r#"{"order_id":"x","lines":[{"count":2},{"count":0}]}"#, "body/lines/1/count: ", "/minimum"),
            ("[", "no JSON", "topic has a schema"),
        ] {
            let why = schema.broken_by(body.as_bytes()).expect(body);
            assert!(why.contains(path) && why.contains(rule), "{body}: {why}");
        }
        let why = schema.broken_by(br#"{"order_id":{"password":"hunter2"}}"#).unwrap();
        assert!(!why.contains("hunter2"), "{why}");
    }

    #[test]
    fn a_rule_is_for_its_topic_and_types() {
        let types = Some(vec!["OrderCreated".to_owned()]);
        let rule = TopicRule { name: "order".into(), types, schema: MessageSchema::parse(ORDER).unwrap() };
        assert!(rule.broken_by("order", "OrderCreated", b"{}").is_some());
        assert!(rule.broken_by("order", "OrderGone", b"{}").is_none());
        assert!(rule.broken_by("stock", "OrderCreated", b"{}").is_none());
    }

    #[test]
    fn a_wrong_schema_is_an_error_of_the_file_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        file("order.json", ORDER);
        file("broken.json", "{");
        file("odd.json", r#"{"type":"thing"}"#);
        file("far.json", r#"{"$ref":"https://example.com/order.json"}"#);
        let toml = directory.path().join("courier.toml");
        let problem = |text: &str| {
            let error = parse(&toml.display().to_string(), text, &|_| None).unwrap_err();
            let first = &error.errors()[0];
            (first.line, first.column, first.message.clone())
        };
        let topic = |schema: &str| format!("[[topic]]\nname = \"order\"\nschema = \"{schema}\"\n");
        let rules = parse(&toml.display().to_string(), &topic("order.json"), &|_| None).unwrap().topics;
        assert_eq!((rules.len(), rules[0].name.as_str()), (1, "order"));
        for (schema, said) in [
            ("none.json", "cannot read"),
            ("broken.json", "is no JSON: "),
            ("odd.json", "is no JSON Schema"),
            ("far.json", "is no JSON Schema"),
        ] {
            let (line, column, message) = problem(&topic(schema));
            assert_eq!((line, column), (3, 10), "{message}");
            assert!(message.contains(said) && message.contains(schema), "{message}");
        }
        let twice = format!("{}{}", topic("order.json"), topic("order.json"));
        assert!(problem(&twice).2.contains("two schemas"), "{:?}", problem(&twice));
    }
}
