//! Reads `[binding.config]` and `[binding.secrets]`.

use std::collections::BTreeMap;

use courier_sdk::Context;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    sign::Key,
    verdict::{Override, Verdict},
};

/// The most messages of a request. The host sets this key from the binding's
/// `batch`; an author cannot.
const BATCH: &str = "courier.batch";

/// The settings of requests and of verdicts.
pub struct Settings {
    /// The URL that messages are sent to.
    pub url: String,
    /// The method of each request.
    pub method: String,
    /// Whether the message is sent as one JSON document with its attributes.
    pub structured: bool,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// Names of record headers to forward, in lower case; a name that ends in `*`
    /// stands for all names with that beginning.
    pub forward: Vec<String>,
    /// Verdicts that replace those of the table.
    pub verdicts: Vec<Override>,
    /// The value of the header `authorization`.
    pub authorization: Option<String>,
    /// The keys that sign requests; without one they are not signed.
    pub keys: Vec<Key>,
    /// Whether messages are sent as arrays.
    pub batch: bool,
    /// A digest of this configuration, different for any other.
    pub digest: String,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// Which key is wrong, and what would be right.
    pub fn read(ctx: &Context) -> Result<Self, String> {
        let url = ctx.config("url").ok_or("[binding.config] names no url: write url = \"https://..\"")?;
        let mode = ctx.config("mode");
        let structured = match mode.as_deref() {
            None | Some("binary") => false,
            Some("structured") => true,
            Some(other) => {
                return Err(format!("[binding.config] mode is {other:?}: write \"binary\" or \"structured\""));
            }
        };
        let (authorization, signing_key) = (ctx.secret("authorization"), ctx.secret("signing_key"));
        let keys = match &signing_key {
            Some(text) => Key::read_all(text)?,
            None => Vec::new(),
        };
        let texts = ["method", "headers", "forward_headers", "verdicts"].map(|key| ctx.config(key));
        let [method, headers, forward, verdicts] = &texts;
        let mut digest = Sha256::new();
        for part in texts.iter().chain([&Some(url.clone()), &mode, &authorization, &signing_key]) {
            // The length separates two parts from other parts of the same bytes.
            let part = part.as_deref().unwrap_or_default();
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Ok(Self {
            structured: structured || !keys.is_empty(),
            headers: table(headers.as_deref(), "headers", "headers = { x-team = \"shop\" }")?,
            forward: list(forward.as_deref(), "forward_headers", "forward_headers = [\"x-tenant\"]")?,
            verdicts: overrides(verdicts.as_deref())?,
            batch: ctx.config(BATCH).is_some_and(|batch| batch != "1"),
            method: method.as_deref().unwrap_or("POST").to_uppercase(),
            digest: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            url,
            authorization,
            keys,
        })
    }
}

/// A table of the TOML, which the host passes as a JSON object.
fn table(text: Option<&str>, key: &str, example: &str) -> Result<Vec<(String, String)>, String> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let table: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|_| format!("[binding.config] {key} is no table: write {example}"))?;
    Ok(table.into_iter().map(|(name, value)| (name, text_of(value))).collect())
}

/// An array of the TOML, which the host passes as a JSON array. One text is an
/// array of itself.
fn list(text: Option<&str>, key: &str, example: &str) -> Result<Vec<String>, String> {
    let Some(text) = text else { return Ok(Vec::new()) };
    if !text.trim_start().starts_with('[') {
        return Ok(vec![text.to_lowercase()]);
    }
    let list: Vec<Value> =
        serde_json::from_str(text).map_err(|_| format!("[binding.config] {key} is no list: write {example}"))?;
    Ok(list.into_iter().map(|value| text_of(value).to_lowercase()).collect())
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn overrides(text: Option<&str>) -> Result<Vec<Override>, String> {
    let example = "verdicts = { 404 = \"reject\", 5xx = \"retry\" }";
    let table = table(text, "verdicts", example)?;
    let read = table.into_iter().map(|(answer, word)| {
        let verdict = Verdict::of_word(&word).ok_or_else(|| {
            format!("[binding.config] verdicts has {word:?}: write handled, error, retry, reject or unavailable")
        })?;
        Override::new(&answer, verdict)
            .ok_or_else(|| format!("[binding.config] verdicts has {answer:?}: write a status or a class, {example}"))
    });
    read.collect()
}
