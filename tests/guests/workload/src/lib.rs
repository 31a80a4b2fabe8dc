//! The handler of the benchmarks: it does the `work` of `[binding.config]`, as the
//! peers do.

use courier_sdk::{Context, Failure, Message, handler};
use serde_json::Value;

#[handler(group = "workload")]
fn workload(message: Message, ctx: &Context) -> Result<(), Failure> {
    match ctx.config("work").as_deref() {
        Some("none") => Ok(()),
        Some("json") => validate(&parse(&message)?),
        Some("failing") => fail(&message),
        Some("effect") => effect(&message, ctx),
        other => Err(Failure::reject(format!("`work` in [binding.config] is {other:?}"))),
    }
}

fn parse(message: &Message) -> Result<Value, Failure> {
    serde_json::from_slice(message.bytes()).map_err(|error| Failure::reject(error.to_string()))
}

fn validate(order: &Value) -> Result<(), Failure> {
    let sound = [
        (order["sequence"].is_u64(), "sequence is no whole number"),
        (order["key"].as_str().is_some_and(|key| !key.is_empty()), "key is empty"),
        (order["amount"].as_f64().is_some_and(|amount| amount > 0.0), "amount is not above zero"),
        (order["items"].as_array().is_some_and(|items| !items.is_empty()), "items is empty"),
    ];
    sound.iter().find(|(sound, _)| !sound).map_or(Ok(()), |(_, why)| Err(Failure::reject(*why)))
}

/// One key in a hundred: the keys are three digits after a word.
fn fail(message: &Message) -> Result<(), Failure> {
    let fails = message.key.as_deref().is_some_and(|key| key.ends_with(b"00"));
    if fails { Err(Failure::retry("this key always fails")) } else { Ok(()) }
}

fn effect(message: &Message, ctx: &Context) -> Result<(), Failure> {
    let effects = ctx.config("effects").unwrap_or_default();
    let key = String::from_utf8_lossy(message.key.as_deref().unwrap_or_default());
    let url = format!("{effects}/?key={key}&sequence={}", parse(message)?["sequence"]);
    ctx.http().get(url).send()?.error_for_status().map(drop)
}
