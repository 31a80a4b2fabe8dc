//! The script in a message, and its words.
//!
//! A body is `{"do": ["retry", "sleep:20ms+trap", "publish:out+ok"], ..}`:
//! attempt n carries out entry n, and later attempts the last entry. A tombstone
//! has no body, so its list is in the header `do`. An entry is words joined by
//! `+`, carried out in turn:
//!
//! | word | what it does |
//! |---|---|
//! | `ok`, `error`, `retry`, `retry:500ms`, `reject`, `unavailable`, `unavailable:3s` | decides; the last that decides counts |
//! | `because` | decides for an error with the body's text `because` as its reason |
//! | `trap` | panics |
//! | `spin` | computes for ever |
//! | `alloc` | allocates and touches memory without end |
//! | `stack` | calls itself without end |
//! | `log:1MiB` | logs that many bytes |
//! | `say` | logs the body's text `say`, whatever is in it |
//! | `sleep:20ms` | waits without computing |
//! | `publish:TOPIC` | publishes its own body under its own key and type |
//! | `copy:TOPIC` | publishes all of itself, whether it has a body or not, with its headers |
//! | `flood:TOPIC=N` | publishes N messages without content |
//! | `http:URL` | asks for the URL; a failure or a status of 400 and more ends the entry as the SDK maps it |
//! | `cache:KEY=VALUE` | puts a value into the cache of the group on this node |
//! | `need:KEY=VALUE` | fails unless that cache has this value |
//!
//! An entry without a deciding word ends as `ok`, as does a body without a script.
//! A wrong script is rejected, so that a test cannot pass by a slip of its own.

use std::{hint::black_box, thread, time::Duration};

use courier_sdk::{Context, Failure, Header, Message, Outgoing};
use serde_json::Value;

/// Carries out the entry of this attempt.
pub fn act(message: &Message, ctx: &Context) -> Result<(), Failure> {
    let Some(entry) = entry(message, ctx.attempt().number)? else {
        return Ok(());
    };
    let mut outcome = Ok(());
    for word in entry.split('+') {
        let (verb, argument) = match word.split_once(':') {
            Some((verb, argument)) => (verb, Some(argument)),
            None => (word, None),
        };
        match (verb, argument) {
            ("ok", None) => outcome = Ok(()),
            ("error", None) => outcome = Err(Failure::error(reason(word))),
            ("retry", None) => outcome = Err(Failure::retry(reason(word))),
            ("retry", Some(wait)) => outcome = Err(Failure::retry_after(reason(word), duration(wait)?)),
            ("reject", None) => outcome = Err(Failure::reject(reason(word))),
            ("unavailable", None) => outcome = Err(Failure::unavailable(reason(word))),
            ("unavailable", Some(wait)) => outcome = Err(Failure::unavailable_for(reason(word), duration(wait)?)),
            ("because", None) => outcome = Err(Failure::error(text(message.bytes(), word)?)),
            ("say", None) => ctx.info(text(message.bytes(), word)?),
            ("trap", None) => panic!("{}", reason(word)),
            ("spin", None) => spin(),
            ("alloc", None) => alloc(),
            ("stack", None) => {
                stack(0);
            }
            ("log", Some(length)) => log(ctx, size(length)?),
            ("sleep", Some(wait)) => thread::sleep(duration(wait)?),
            ("publish", Some(topic)) => publish(message, topic, Vec::new(), ctx)?,
            ("copy", Some(topic)) => publish(message, topic, message.headers.clone(), ctx)?,
            ("flood", Some(entry)) => flood(entry, ctx)?,
            ("http", Some(url)) => http(url, ctx)?,
            ("cache", Some(entry)) => {
                let (key, value) = pair(entry)?;
                ctx.cache_set(key, value)?;
            }
            ("need", Some(entry)) => {
                let (key, value) = pair(entry)?;
                if ctx.cache_get(key)?.as_deref() != Some(value.as_bytes()) {
                    outcome = Err(Failure::error(reason(word)));
                }
            }
            _ => return Err(wrong(format_args!("`{word}` is no word it knows"))),
        }
    }
    outcome
}

/// The entry for this attempt; `None` when the body has no script.
fn entry(message: &Message, attempt: u32) -> Result<Option<String>, Failure> {
    let script = match &message.body {
        Some(body) => match serde_json::from_slice(body) {
            Ok(Value::Object(mut body)) => body.remove("do"),
            _ => None,
        },
        None => message.header("do").and_then(|script| serde_json::from_slice(script).ok()),
    };
    let script = match script {
        None => return Ok(None),
        Some(Value::Array(script)) => script,
        Some(other) => return Err(wrong(format_args!("`do` is {other}, must be a list of texts"))),
    };
    let index = (attempt.max(1) as usize - 1).min(script.len().saturating_sub(1));
    match script.into_iter().nth(index) {
        None => Ok(None),
        Some(Value::String(entry)) => Ok(Some(entry)),
        Some(other) => Err(wrong(format_args!("entry {} of `do` is {other}, must be a text", index + 1))),
    }
}

/// A text of the body, for words that a script cannot hold.
fn text(body: &[u8], name: &str) -> Result<String, Failure> {
    match serde_json::from_slice::<Value>(body).ok().as_mut().and_then(|body| body.get_mut(name)).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong(format_args!("`{name}` needs the text `{name}` in the body"))),
    }
}

fn reason(word: &str) -> String {
    format!("scripted: {word}")
}

fn wrong(what: std::fmt::Arguments<'_>) -> Failure {
    Failure::reject(format_args!("scripted: {what}"))
}

fn spin() {
    let mut turn = 0u64;
    loop {
        turn = black_box(turn.wrapping_add(1));
    }
}

/// Allocates without end. Every page is written to, since reserved memory costs
/// nothing.
fn alloc() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
        black_box(&held);
    }
}

/// Recurses without end. The function is read through a `black_box`, since the
/// compiler would otherwise make a loop of it.
fn stack(depth: u64) -> u64 {
    let deeper: fn(u64) -> u64 = black_box(stack);
    deeper(depth + 1).wrapping_add(depth)
}

/// Logs this many bytes, in lines of moderate length, so that a flood needs no
/// memory of its size.
fn log(ctx: &Context, bytes: u64) {
    const LINE: u64 = 16 << 10;
    let line = "x".repeat(LINE.min(bytes) as usize);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(LINE);
        ctx.info(&line[..now as usize]);
        left -= now;
    }
}

fn publish(message: &Message, topic: &str, headers: Vec<Header>, ctx: &Context) -> Result<(), Failure> {
    ctx.publish_raw(Outgoing {
        topic: topic.into(),
        type_: message.type_.clone(),
        key: message.key.clone(),
        content_type: message.content_type.clone(),
        body: message.body.clone(),
        headers,
    })?;
    Ok(())
}

fn flood(entry: &str, ctx: &Context) -> Result<(), Failure> {
    let (topic, count) = pair(entry)?;
    let count: u32 = count.parse().map_err(|_| wrong(format_args!("`{entry}` is no TOPIC=N")))?;
    for _ in 0..count {
        let message =
            Outgoing { topic: topic.into(), type_: "Flood".into(), body: Some(Vec::new()), ..Outgoing::default() };
        ctx.publish_raw(message)?;
    }
    Ok(())
}

fn http(url: &str, ctx: &Context) -> Result<(), Failure> {
    let answer = ctx.http().get(url).send().map_err(|error| scripted(error.into()))?;
    if answer.status < 400 {
        return Ok(());
    }
    answer.error_for_status().map(drop).map_err(scripted)
}

/// The failure with `scripted: ` before its reason.
fn scripted(failure: Failure) -> Failure {
    match failure {
        Failure::Error(why) => Failure::Error(reason(&why)),
        Failure::Retry { reason: why, after } => Failure::Retry { reason: reason(&why), after },
        Failure::Reject(why) => Failure::Reject(reason(&why)),
        Failure::Unavailable { reason: why, after } => Failure::Unavailable { reason: reason(&why), after },
    }
}

fn pair(entry: &str) -> Result<(&str, &str), Failure> {
    entry.split_once('=').ok_or_else(|| wrong(format_args!("`{entry}` is no KEY=VALUE")))
}

/// A number and `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, Failure> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    match number_with_unit(text, &units) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err(wrong(format_args!("`{text}` is no duration, write for example 20ms, 2s or 1m"))),
    }
}

/// A number and `B`, `KiB`, `MiB` or `GiB`; without a unit it is bytes.
fn size(text: &str) -> Result<u64, Failure> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];
    match number_with_unit(text, &units) {
        Some(bytes) => Ok(bytes),
        None => Err(wrong(format_args!("`{text}` is no size, write for example 100B, 64KiB or 1MiB"))),
    }
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of the script in `body` at this attempt.
    fn run(body: &str, attempt: u32) -> (Result<(), Failure>, Context) {
        let message = Message {
            key: Some(b"k".to_vec()),
            type_: "T".into(),
            body: Some(body.as_bytes().to_vec()),
            ..Message::default()
        };
        let ctx = Context::test().message(message).attempt_number(attempt).build();
        (act(ctx.message(), &ctx), ctx)
    }

    fn outcome(body: &str, attempt: u32) -> Result<(), Failure> {
        run(body, attempt).0
    }

    #[test]
    fn attempt_n_does_entry_n_and_then_the_last() {
        let body = r#"{"do": ["retry", "error", "ok"], "more": 1}"#;
        assert_eq!(outcome(body, 1), Err(Failure::retry("scripted: retry")));
        assert_eq!(outcome(body, 2), Err(Failure::error("scripted: error")));
        assert_eq!(outcome(body, 3), Ok(()));
        assert_eq!(outcome(body, 9), Ok(()));
    }

    #[test]
    fn the_last_word_that_decides_counts() {
        for (entry, expected) in [
            ("retry:500ms", Err(Failure::retry_after("scripted: retry:500ms", Duration::from_millis(500)))),
            ("reject", Err(Failure::reject("scripted: reject"))),
            ("unavailable", Err(Failure::unavailable("scripted: unavailable"))),
            ("unavailable:3s", Err(Failure::unavailable_for("scripted: unavailable:3s", Duration::from_secs(3)))),
            ("error+ok", Ok(())),
            ("ok+error+sleep:1ms", Err(Failure::error("scripted: error"))),
            ("sleep:1ms", Ok(())),
        ] {
            assert_eq!(outcome(&format!(r#"{{"do": ["{entry}"]}}"#), 1), expected, "{entry}");
        }
    }

    #[test]
    fn where_nothing_decides_it_is_ok() {
        for body in ["", "no json", "[1]", "{}", r#"{"do": []}"#] {
            assert_eq!(outcome(body, 1), Ok(()), "{body}");
        }
    }

    #[test]
    fn a_wrong_script_is_rejected() {
        for (body, expected) in [
            (r#"{"do": ["dance"]}"#, "`dance` is no word it knows"),
            (r#"{"do": ["ok:1"]}"#, "`ok:1` is no word it knows"),
            (r#"{"do": "ok"}"#, "must be a list"),
            (r#"{"do": [1]}"#, "entry 1 of `do` is 1"),
            (r#"{"do": ["sleep:20"]}"#, "no duration"),
            (r#"{"do": ["log:1MB"]}"#, "no size"),
        ] {
            match outcome(body, 1) {
                Err(Failure::Reject(reason)) => assert!(reason.contains(expected), "{body}: {reason}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn it_publishes_its_own_body_and_key() {
        let body = r#"{"do": ["publish:out+ok"]}"#;
        let (outcome, ctx) = run(body, 1);
        assert_eq!(outcome, Ok(()));
        let published = ctx.published();
        assert_eq!((published[0].topic.as_str(), published[0].type_.as_str()), ("out", "T"));
        assert_eq!(published[0].key, Some(b"k".to_vec()));
        assert_eq!(published[0].body.as_deref(), Some(body.as_bytes()));
    }

    #[test]
    fn a_need_is_met_by_what_was_cached() {
        let met = outcome(r#"{"do": ["cache:mode=on+need:mode=on"]}"#, 1);
        assert_eq!(met, Ok(()));
        let unmet = outcome(r#"{"do": ["cache:mode=off+need:mode=on"]}"#, 1);
        assert_eq!(unmet, Err(Failure::error("scripted: need:mode=on")));
    }

    #[test]
    fn it_says_and_gives_as_its_reason_what_no_script_could_carry() {
        let strange = "a+b:c \u{202e}<b>";
        let body = serde_json::json!({ "do": ["say+because"], "say": strange, "because": strange }).to_string();
        let (outcome, ctx) = run(&body, 1);
        assert_eq!(outcome, Err(Failure::error(strange)));
        assert_eq!(ctx.logs()[0].text, strange);
        let (outcome, _) = run(r#"{"do": ["say"], "say": 1}"#, 1);
        assert!(matches!(outcome, Err(Failure::Reject(reason)) if reason.contains("needs the text `say`")));
    }

    #[test]
    fn it_logs_exactly_so_many_bytes() {
        for (length, bytes) in [("0", 0), ("10B", 10), ("40KiB", 40 << 10), ("1MiB", 1 << 20)] {
            let (_, ctx) = run(&format!(r#"{{"do": ["log:{length}"]}}"#), 1);
            assert_eq!(ctx.logs().iter().map(|line| line.text.len()).sum::<usize>(), bytes, "{length}");
        }
    }

    #[test]
    #[should_panic(expected = "scripted: trap")]
    fn it_traps() {
        let _ = outcome(r#"{"do": ["trap"]}"#, 1);
    }
}
