//! Reads JSON of requests, with errors for people: which member is wrong, what it is,
//! and what would be right.
//!
//! Serde's errors name Rust types and count columns within a part of the body. So a
//! refused text is parsed once more with its path, and the error is reworded. Only
//! refused texts cost that.

use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// Letters of a wrong value that an error repeats.
const MAX_SHOWN: usize = 60;

/// Reads an object from JSON.
///
/// # Errors
/// Which member is wrong, and what would be right.
pub fn object<'de, T: Deserialize<'de>>(raw: &'de RawValue) -> Result<T, String> {
    // Derived code would also accept an array.
    if !raw.get().starts_with('{') {
        return Err(format!("it is {}; write an object: {{..}}", kind_of(raw.get())));
    }
    serde_json::from_str(raw.get()).map_err(|_| explain::<T>(raw.get()))
}

/// Reads an object from any bytes.
///
/// # Errors
/// As [`object`], and where the bytes are no JSON.
pub fn object_in<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, String> {
    let raw: &RawValue = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
    object(raw)
}

/// Reads a member that is an object, for `deserialize_with`: derived code would also
/// accept an array.
///
/// # Errors
/// When the member is no object.
pub fn nested<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// Why this text is no `T`.
fn explain<'de, T: Deserialize<'de>>(json: &'de str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) if error.inner().classify() == Category::Data => {
            tell(&error.path().to_string(), &error.inner().to_string())
        }
        // The text is JSON, so only its depth can be refused.
        _ => "it is nested too deeply".to_owned(),
    }
}

/// Serde's message at a path, reworded.
fn tell(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    if let Some(rest) = message.strip_prefix("missing field `") {
        return format!("`{}` is missing", member(path, rest.trim_end_matches('`')));
    }
    if let Some((name, _)) = message.strip_prefix("duplicate field `").and_then(|rest| rest.split_once('`')) {
        return format!("`{}` is given twice; give it once", member(path, name));
    }
    if let Some((name, known)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let advice = match known.strip_prefix("expected ") {
            Some(known) => format!("write {known}"),
            None => "it has no members".to_owned(),
        };
        return format!("`{}` is unknown; {advice}", member(path, name));
    }
    let misfit = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, wanted)) = misfit.and_then(|rest| rest.rsplit_once(", expected ")) {
        let place = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
        return format!("{place} is {}; write {}", found_words(found), wanted_words(wanted));
    }
    // This program's own message.
    message.to_owned()
}

/// The path of the member `name` of the value at `path`. The path of an unknown or
/// repeated member may end in its name already.
fn member(path: &str, name: &str) -> String {
    let ends_so = path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    match path {
        "" => name.to_owned(),
        _ if ends_so => path.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

/// The value found, from the words of `serde::de::Unexpected`.
fn found_words(found: &str) -> String {
    let inner = found.split_once(' ').map_or("", |(_, rest)| rest);
    let plain = inner.trim_matches('`');
    match found.split(' ').next() {
        Some("map") => "an object".to_owned(),
        Some("sequence") => "an array".to_owned(),
        Some("integer") => format!("the number {plain}"),
        Some("floating") => format!("the number {}", plain.trim_start_matches("point `")),
        Some("boolean") => plain.to_owned(),
        Some("string") => format!("the text {}", cut(inner)),
        _ => found.to_owned(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}..\"", &text[..end]),
        None => text.to_owned(),
    }
}

/// The value wanted, where serde names a type.
fn wanted_words(wanted: &str) -> String {
    match wanted {
        "a string" => "text in double quotes".to_owned(),
        "a sequence" => "an array: [..]".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "i32" => format!("a whole number of at most {}", i32::MAX),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        _ if wanted.starts_with("struct ") || wanted.contains("map") || wanted.contains("object") => {
            "an object: {..}".to_owned()
        }
        _ => wanted.to_owned(),
    }
}

/// The kind of a JSON text, by its first byte.
fn kind_of(json: &str) -> String {
    match json.bytes().next() {
        Some(b'[') => "an array".to_owned(),
        Some(b'"') => format!("the text {}", cut(json)),
        Some(b'n' | b't' | b'f') => json.to_owned(),
        _ => format!("the number {json}"),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "name")]
        _name: String,
        #[serde(rename = "count")]
        _count: Option<u32>,
        #[serde(rename = "inner", default, deserialize_with = "nested")]
        _inner: Inner,
        #[serde(rename = "list", default)]
        _list: Vec<Box<RawValue>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        #[serde(rename = "deep")]
        _deep: Option<String>,
        #[serde(rename = "flag")]
        _flag: bool,
        #[serde(rename = "place")]
        _place: Option<i32>,
    }

    fn why(json: &str) -> String {
        object_in::<Outer>(json.as_bytes()).expect_err(json)
    }

    #[test]
    fn what_fits_is_read() {
        object_in::<Outer>(br#" {"name":"a","count":1,"inner":{"flag":true},"list":[1, {"x": 1.0}]} "#).unwrap();
    }

    #[test]
    fn a_misfit_is_told_by_its_member_and_by_what_would_be_right() {
        for (json, words) in [
            ("{}", "`name` is missing"),
            (r#"{"name":5}"#, "`name` is the number 5; write text in double quotes"),
            (r#"{"name":"a","count":-1}"#, "`count` is the number -1; write a whole number from 0 to 4294967295"),
            (r#"{"name":"a","count":1.5}"#, "`count` is the number 1.5; write a whole number from 0 to 4294967295"),
            (r#"{"name":"a","count":"x, expected y"}"#, "`count` is the text \"x, expected y\"; write a whole number"),
            (r#"{"name":"a","nome":1}"#, "`nome` is unknown; write one of `name`, `count`, `inner`, `list`"),
            (r#"{"name":"a","name":"b"}"#, "`name` is given twice; give it once"),
            (r#"{"name":"a","inner":[]}"#, "`inner` is an array; write an object: {..}"),
            (r#"{"name":"a","inner":{"deep":{}}}"#, "`inner.deep` is an object; write text in double quotes"),
            (r#"{"name":"a","inner":{"flag":null}}"#, "`inner.flag` is null; write true or false"),
            (r#"{"name":"a","inner":{"depp":1}}"#, "`inner.depp` is unknown; write one of `deep`, `flag`, `place`"),
            (
                r#"{"name":"a","inner":{"place":9999999999}}"#,
                "`inner.place` is the number 9999999999; write a whole number of at most 2147483647",
            ),
            (r#"{"name":"a","list":{}}"#, "`list` is an object; write an array: [..]"),
            ("[1]", "it is an array; write an object: {..}"),
            ("\"x\"", "it is the text \"x\"; write an object: {..}"),
            ("null", "it is null; write an object: {..}"),
            ("7", "it is the number 7; write an object: {..}"),
            ("{\"name\":", "it is no JSON: EOF while parsing a value at line 1 column 8"),
        ] {
            assert!(why(json).starts_with(words), "{json}: {}", why(json));
        }
        assert!(!why(r#"{"name":5}"#).contains("line"));
    }

    #[test]
    fn a_long_wrong_text_is_cut() {
        let why = why(&format!(r#"{{"name":"a","count":"{}"}}"#, "é".repeat(1_000)));
        assert!(why.chars().count() < 200, "{why}");
    }
}
