//! Sends each message to an HTTP service, and takes the answer as the verdict.
//!
//! The plugin comes with the host, so that an existing service becomes a handler
//! by TOML alone; `../README.md` has the protocol. `settings` reads the binding's
//! values, `event` writes a message as a CloudEvent, `request` makes the request
//! and `sign` signs it; `answer` reads the service's answer and `verdict` judges
//! it.

mod answer;
mod event;
mod request;
mod settings;
mod sign;
mod time;
mod verdict;

use std::time::{Duration, SystemTime};

use courier_sdk::{Context, Failure, HttpError, HttpResponse, Item, Message, batch_handler};

use answer::{OfItems, Said};
use request::Request;
use settings::Settings;
use verdict::{Standing, Verdict};

/// The most bytes that are read of an answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// The most bytes that are read of an answer to a batch: for each of its items, and at
/// least.
const MAX_ITEM_ANSWER_BYTES: usize = 4 << 10;
const MIN_BATCH_ANSWER_BYTES: usize = 1 << 20;
/// The parts of the time left for the connection, the head of the answer and its
/// body. The rest lets the attempt end by itself, with a verdict of its own and
/// not at the host's time limit.
const CONNECT_PART: f64 = 0.5;
const HEAD_PART: f64 = 0.9;
const BODY_PART: f64 = 0.95;

/// Sends one message or, with `batch` in the binding, several in one request.
#[batch_handler(group = "http-push")]
fn push(items: Vec<Item<Message>>) -> Vec<Result<(), Failure>> {
    let Some(Item { ctx, .. }) = items.first() else { return Vec::new() };
    let settings = match Settings::read(ctx) {
        Ok(settings) => settings,
        // No message is the cause, so none may fail.
        Err(why) => return each(items.len(), &Err(Failure::unavailable(why))),
    };
    if !settings.batch {
        return items.iter().map(|item| one(&settings, item)).collect();
    }
    let events: Vec<_> = items.iter().map(|item| (&item.event, item.ctx.attempt())).collect();
    let at_most = (items.len() * MAX_ITEM_ANSWER_BYTES).max(MIN_BATCH_ANSWER_BYTES);
    let answer = send(&settings, ctx, request::of_batch(&settings, &events, now()), at_most);
    let outcome = match answer {
        Ok(answer) if verdict::is_success(answer.status) => match answer::of_items(&answer, items.len()) {
            OfItems::Absent => judge(&settings, ctx, Ok(answer)),
            OfItems::Each(results) => {
                standing(&settings, ctx, answer.status);
                return results.into_iter().map(conclude_item).collect();
            }
            OfItems::Unmatched(why) => Err(Failure::retry(format!("http {}: the list of results: {why}", answer.status))),
        },
        answer => judge(&settings, ctx, answer),
    };
    let fails = !matches!(outcome, Ok(()) | Err(Failure::Unavailable { .. }));
    assert!(!(fails && items.len() > 1), "the whole batch failed, so that each message is sent alone: {outcome:?}");
    each(items.len(), &outcome)
}

fn each(items: usize, outcome: &Result<(), Failure>) -> Vec<Result<(), Failure>> {
    vec![outcome.clone(); items]
}

fn one(settings: &Settings, item: &Item<Message>) -> Result<(), Failure> {
    let request = request::of_message(settings, &item.event, item.ctx.attempt(), now());
    let answer = send(settings, &item.ctx, request, MAX_ANSWER_BYTES);
    judge(settings, &item.ctx, answer)
}

fn send(settings: &Settings, ctx: &Context, request: Request, at_most: usize) -> Result<HttpResponse, HttpError> {
    let left = ctx.attempt().time_left();
    let mut builder = ctx.http().request(&settings.method, &settings.url);
    for (name, value) in request.headers {
        builder = builder.header(name, value);
    }
    builder
        .body(request.body)
        .connect_within(left.mul_f64(CONNECT_PART))
        .first_byte_within(left.mul_f64(HEAD_PART))
        .body_bounds(at_most, left.mul_f64(BODY_PART))
        .send()
}

/// The outcome of a request, with or without an answer.
fn judge(settings: &Settings, ctx: &Context, answer: Result<HttpResponse, HttpError>) -> Result<(), Failure> {
    let answer = match answer {
        Ok(answer) => answer,
        // Nothing was sent: the fault is the address's and not the message's.
        Err(error @ (HttpError::Unreachable(_) | HttpError::Refused(_))) => return Err(Failure::unavailable(error)),
        Err(error @ HttpError::Broken(_)) => return Err(Failure::retry(error)),
    };
    if verdict::is_success(answer.status) && answer::is_cut_problem(&answer) {
        return Err(Failure::retry(format!("http {}: the problem document was cut before its end", answer.status)));
    }
    let said = answer::read(&answer);
    let by_status = verdict::of_status(answer.status, standing(settings, ctx, answer.status), &settings.verdicts);
    let after = said.after.or_else(|| answer::retry_after(&answer, unix_seconds(now())));
    conclude(said.verdict.unwrap_or(by_status), Said { after, ..said }, &answer::in_words(&answer))
}

/// Whether the URL has answered 2xx under this configuration. The node's cache
/// has that; a host that restarts learns it from the first success.
fn standing(settings: &Settings, ctx: &Context, status: u16) -> Standing {
    let key = format!("http-push:answered:{}", settings.digest);
    let known = ctx.cache_get(&key).ok().flatten().is_some();
    if verdict::is_success(status) && !known {
        // Without the entry the URL counts as unproven, which pauses more than needed.
        let _ = ctx.cache_set(&key, b"1");
    }
    if known || verdict::is_success(status) { Standing::Proven } else { Standing::Unproven }
}

/// The outcome of an item by its part of the answer to a batch.
fn conclude_item(said: Said) -> Result<(), Failure> {
    conclude(said.verdict.unwrap_or(Verdict::Handled), said, "the service gave no reason")
}

fn conclude(verdict: Verdict, said: Said, otherwise: &str) -> Result<(), Failure> {
    let reason = said.reason.unwrap_or_else(|| otherwise.to_owned());
    match verdict {
        Verdict::Handled => Ok(()),
        Verdict::Error => Err(Failure::Error(reason)),
        Verdict::Retry => Err(Failure::Retry { reason, after: said.after }),
        Verdict::Reject => Err(Failure::Reject(reason)),
        Verdict::Unavailable => Err(Failure::Unavailable { reason, after: said.after }),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn unix_seconds(since_1970: Duration) -> u64 {
    since_1970.as_secs()
}

#[cfg(test)]
mod tests;
