//! Reads the verdict in a service's answer.

use std::time::Duration;

use courier_sdk::HttpResponse;
use serde_json::{Map, Value};

use crate::{time::http_date, verdict::Verdict};

/// The longest wait of a `retry-after` that is kept. The service may be back
/// earlier than it said.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// The most characters of an answer without a document that a reason shows.
const SHOWN_CHARS: usize = 200;
const PROBLEM: &str = "application/problem+json";
const JSON: &str = "application/json";

/// The document of an answer, for one message.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    /// The verdict, if the document has one.
    pub verdict: Option<Verdict>,
    /// The reason, for people.
    pub reason: Option<String>,
    /// The wait until the next attempt.
    pub after: Option<Duration>,
}

impl Said {
    fn read(document: &Map<String, Value>) -> Self {
        let text = |key: &str| document.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Self {
            verdict: text("verdict").and_then(Verdict::of_word),
            reason: text("reason").or(text("detail")).or(text("title")).map(ToOwned::to_owned),
            after: document.get("after").and_then(wait),
        }
    }
}

/// Reads the document in an answer. The body of a 2xx answer counts only as a
/// problem document: a service may return other JSON there, even with a field
/// named `verdict`.
pub fn read(answer: &HttpResponse) -> Said {
    let counts = match media_type(answer).as_str() {
        PROBLEM => true,
        JSON => answer.status >= 400,
        _ => false,
    };
    match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(document)) if counts => Said::read(&document),
        _ => Said::default(),
    }
}

/// Whether a problem document was cut, so that the verdict in it is not known.
pub fn is_cut_problem(answer: &HttpResponse) -> bool {
    answer.is_cut && media_type(answer) == PROBLEM
}

/// What a 2xx answer to a batch says about its items.
#[derive(Debug, PartialEq)]
pub enum OfItems {
    /// No list of results: the status speaks for all.
    Absent,
    /// A result for each item, in their order.
    Each(Vec<Said>),
    /// A list that cannot be matched with the items, and why. Some of them may have
    /// failed, so that none may count as handled.
    Unmatched(String),
}

/// Reads the results in a 2xx answer to a batch of `items` messages.
pub fn of_items(answer: &HttpResponse, items: usize) -> OfItems {
    if media_type(answer) != JSON || answer.body.trim_ascii_start().first() != Some(&b'[') {
        return OfItems::Absent;
    }
    if answer.is_cut {
        return OfItems::Unmatched("it was cut before its end".to_owned());
    }
    match serde_json::from_slice::<Vec<Value>>(&answer.body) {
        Ok(results) if results.len() == items => {
            OfItems::Each(results.iter().map(|one| one.as_object().map(Said::read).unwrap_or_default()).collect())
        }
        Ok(results) => OfItems::Unmatched(format!("it has {} results for a batch of {items}", results.len())),
        Err(error) => OfItems::Unmatched(format!("it is no JSON: {error}")),
    }
}

/// The wait that the header `retry-after` names, in seconds or as a date.
pub fn retry_after(answer: &HttpResponse, now_seconds: u64) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    let seconds = text.parse().ok().or_else(|| Some(http_date(text)?.saturating_sub(now_seconds)))?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// A reason for an answer that has none of its own.
pub fn in_words(answer: &HttpResponse) -> String {
    let status = answer.status;
    if let Some(to) = answer.header("location").filter(|_| (300..400).contains(&status)) {
        return format!("http {status}: it redirects to {}, which is not followed", shown(to));
    }
    let is_text = media_type(answer).starts_with("text/plain") || media_type(answer).ends_with("json");
    match shown(&answer.text()) {
        text if is_text && !text.is_empty() => format!("http {status}: {text}"),
        _ => format!("http {status}"),
    }
}

/// The beginning of a text, on one line.
fn shown(text: &str) -> String {
    let line: String = text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}

fn media_type(answer: &HttpResponse) -> String {
    let whole = answer.header("content-type").unwrap_or_default();
    whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A number of seconds, or a text of a number and `ms`, `s`, `m`, `h` or `d`.
fn wait(value: &Value) -> Option<Duration> {
    match value {
        Value::Number(seconds) => Duration::try_from_secs_f64(seconds.as_f64()?).ok(),
        Value::String(text) => {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(digits);
            let millis = match unit {
                "ms" => 1,
                "" | "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
        }
        _ => None,
    }
}
