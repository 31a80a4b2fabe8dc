//! Tests of handlers without a host: a context that records the effects.
//!
//! Outside of WebAssembly every [`Context`] is such a context, so that a handler
//! and its test need no condition, mock or feature.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    Attempt, Context, Event, Failure, HttpError, HttpRequest, HttpResponse, Input, Item, Kind, Level, Message,
    Outgoing, Refusal, context::Effects, run,
};

/// One line that a handler logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its severity.
    pub level: Level,
    /// Its text.
    pub text: String,
}

impl Context {
    /// Begins a context for a test, in which everything is granted unless denied.
    ///
    /// ```
    /// use courier_sdk::Context;
    ///
    /// let ctx = Context::test().attempt_number(2).config("currency", "EUR").build();
    /// assert_eq!(ctx.attempt().number, 2);
    /// assert_eq!(ctx.config("currency").as_deref(), Some("EUR"));
    /// ```
    pub fn test() -> TestContext {
        TestContext::default()
    }

    /// Runs a handler as the host would: the message's body is read first, and a
    /// body that does not parse is a rejection.
    pub fn deliver<I: Input, F: Into<Failure>>(
        &self,
        handler: impl FnOnce(I, &Context) -> Result<(), F>,
    ) -> Result<(), Failure> {
        run::one(self, handler)
    }

    /// The messages published so far.
    pub fn published(&self) -> Vec<Outgoing> {
        self.host.record.borrow().published.clone()
    }

    /// The group's state now.
    pub fn state(&self) -> BTreeMap<String, Vec<u8>> {
        self.host.record.borrow().state.clone()
    }

    /// The cache now.
    pub fn cache(&self) -> BTreeMap<String, Vec<u8>> {
        self.host.record.borrow().cache.clone()
    }

    /// The HTTP requests that got an answer so far.
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.host.record.borrow().requests.clone()
    }

    /// The lines logged so far.
    pub fn logs(&self) -> Vec<Line> {
        self.host.record.borrow().logs.clone()
    }
}

impl<T: Event + Serialize> Item<T> {
    /// An item of a batch for a test, with a context of its own.
    pub fn test(event: T) -> Self {
        let ctx = Context::test().event(&event).build();
        Item { event, ctx }
    }
}

/// Runs a batch handler as the host would: a message whose body does not parse is
/// rejected without a call of the handler.
pub fn deliver_batch<I: Input, F: Into<Failure>>(
    contexts: &[Context],
    handler: impl FnOnce(Vec<Item<I>>) -> Vec<Result<(), F>>,
) -> Vec<Result<(), Failure>> {
    run::batch(contexts.to_vec(), handler)
}

/// A builder of a context; made by [`Context::test`].
pub struct TestContext {
    message: Message,
    attempt: Attempt,
    host: Recording,
}

impl Default for TestContext {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        TestContext {
            message: Message {
                id: "test-message".into(),
                source: "test".into(),
                topic: "test".into(),
                kind: Kind::Event,
                time: micros(now),
                body: Some(Vec::new()),
                ..Message::default()
            },
            attempt: Attempt {
                group: "test".into(),
                delivery: "test-delivery".into(),
                number: 1,
                counted: 0,
                max_attempts: 1,
                partition: 0,
                offset: 0,
                deadline: micros(now + Duration::from_secs(5)),
            },
            host: Recording::default(),
        }
    }
}

impl TestContext {
    /// Sets the message.
    pub fn message(mut self, message: Message) -> Self {
        self.message = message;
        self
    }

    /// Sets the topic, type, key and body of the message to those of an event.
    ///
    /// # Panics
    /// When the event cannot be written as JSON.
    pub fn event<E: Event + Serialize>(mut self, event: &E) -> Self {
        let sent = match Outgoing::new(event) {
            Ok(sent) => sent,
            Err(refusal) => panic!("{refusal}"),
        };
        self.message.topic = sent.topic;
        self.message.type_ = sent.type_;
        self.message.key = sent.key;
        self.message.content_type = sent.content_type;
        self.message.body = sent.body;
        self
    }

    /// Sets the body of the message.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.message.body = Some(body.as_ref().to_vec());
        self
    }

    /// Makes the message a tombstone: a record without a value.
    pub fn tombstone(mut self) -> Self {
        self.message.body = None;
        self
    }

    /// Sets the attempt.
    pub fn attempt(mut self, attempt: Attempt) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets the number of the attempt; all earlier ones count as used up.
    pub fn attempt_number(mut self, number: u32) -> Self {
        self.attempt.number = number;
        self.attempt.counted = number.saturating_sub(1);
        self.attempt.max_attempts = self.attempt.max_attempts.max(number);
        self
    }

    /// Sets a value of `[binding.config]`.
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.host.config.insert(key.into(), value.into());
        self
    }

    /// Sets a value of `[binding.secrets]`.
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.host.secrets.insert(key.into(), value.into());
        self
    }

    /// Sets a value of the group's state.
    pub fn state(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.host.record.get_mut().state.insert(key.into(), value.as_ref().to_vec());
        self
    }

    /// Sets a value of the node's cache.
    pub fn cache(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.host.record.get_mut().cache.insert(key.into(), value.as_ref().to_vec());
        self
    }

    /// Answers requests of this method and URL. Other requests are refused, as the
    /// host refuses those that the binding does not allow.
    pub fn http(mut self, method: &str, url: &str, status: u16, body: impl AsRef<[u8]>) -> Self {
        let response = HttpResponse { status, body: body.as_ref().to_vec(), ..HttpResponse::default() };
        self.host.answers.insert((method.into(), url.into()), Ok(response));
        self
    }

    /// Answers requests of this method and URL with this response, or fails them with
    /// this error.
    pub fn http_answer(mut self, method: &str, url: &str, answer: Result<HttpResponse, HttpError>) -> Self {
        self.host.answers.insert((method.into(), url.into()), answer);
        self
    }

    /// Grants publishing to these topics and no others.
    pub fn grant_publish<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.host.topics = Some(topics.into_iter().map(Into::into).collect());
        self
    }

    /// Grants no publishing.
    pub fn deny_publish(self) -> Self {
        self.grant_publish::<String>([])
    }

    /// Grants no state.
    pub fn deny_state(mut self) -> Self {
        self.host.state_denied = true;
        self
    }

    /// Grants no cache.
    pub fn deny_cache(mut self) -> Self {
        self.host.cache_denied = true;
        self
    }

    /// Builds the context.
    pub fn build(self) -> Context {
        Context::new(self.message, self.attempt, Rc::new(self.host))
    }
}

/// Replaces the host and records the effects of a handler.
#[derive(Default)]
pub(crate) struct Recording {
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    /// The topics that are granted; `None` grants all.
    topics: Option<BTreeSet<String>>,
    state_denied: bool,
    cache_denied: bool,
    /// Answers to HTTP requests, by method and URL.
    answers: BTreeMap<(String, String), Result<HttpResponse, HttpError>>,
    record: RefCell<Record>,
}

#[derive(Default)]
struct Record {
    published: Vec<Outgoing>,
    state: BTreeMap<String, Vec<u8>>,
    cache: BTreeMap<String, Vec<u8>>,
    logs: Vec<Line>,
    requests: Vec<HttpRequest>,
}

impl Recording {
    fn check_state(&self) -> Result<(), Refusal> {
        denied(self.state_denied, "state = true")
    }

    pub(crate) fn http(&self, request: &HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer =
            self.answers.get(&(request.method.clone(), request.url.clone())).cloned().unwrap_or_else(|| {
                let HttpRequest { method, url, .. } = request;
                Err(HttpError::Refused(format!(
                    "refused: the test has no answer for {method} {url}: add one with .http(..)"
                )))
            })?;
        self.record.borrow_mut().requests.push(request.clone());
        if let Some(bounds) = request.body_bounds.filter(|bounds| answer.body.len() > bounds.at_most) {
            answer.body.truncate(bounds.at_most);
            answer.is_cut = true;
        }
        Ok(answer)
    }

    fn check_cache(&self) -> Result<(), Refusal> {
        denied(self.cache_denied, "cache = true")
    }
}

fn denied(denied: bool, remedy: &str) -> Result<(), Refusal> {
    match denied {
        true => Err(Refusal::Denied(format!("add `{remedy}` to [binding.grant]"))),
        false => Ok(()),
    }
}

impl Effects for Recording {
    fn publish(&self, message: Outgoing) -> Result<String, Refusal> {
        if message.topic.is_empty() {
            return Err(Refusal::Invalid("an outgoing message names no topic".into()));
        }
        if let Some(topics) = &self.topics {
            denied(!topics.contains(&message.topic), &format!("publish = [\"{}\"]", message.topic))?;
        }
        if message.body.is_none() && message.key.is_none() {
            return Err(Refusal::Invalid("a tombstone (a message without a body) needs a key".into()));
        }
        let published = &mut self.record.borrow_mut().published;
        published.push(message);
        Ok(format!("test-published-{}", published.len()))
    }

    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.check_state()?;
        Ok(self.record.borrow().state.get(key).cloned())
    }

    fn state_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
        self.check_state()?;
        put(&mut self.record.borrow_mut().state, key, value);
        Ok(())
    }

    fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.check_cache()?;
        Ok(self.record.borrow().cache.get(key).cloned())
    }

    fn cache_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
        self.check_cache()?;
        put(&mut self.record.borrow_mut().cache, key, value);
        Ok(())
    }

    fn config(&self, key: &str) -> Option<String> {
        self.config.get(key).cloned()
    }

    fn secret(&self, key: &str) -> Option<String> {
        self.secrets.get(key).cloned()
    }

    fn log(&self, level: Level, text: &str) {
        self.record.borrow_mut().logs.push(Line { level, text: text.into() });
    }
}

fn put(values: &mut BTreeMap<String, Vec<u8>>, key: &str, value: Option<&[u8]>) {
    match value {
        Some(value) => values.insert(key.into(), value.to_vec()),
        None => values.remove(key),
    };
}

fn micros(since_1970: Duration) -> u64 {
    since_1970.as_micros().try_into().unwrap_or(u64::MAX)
}
