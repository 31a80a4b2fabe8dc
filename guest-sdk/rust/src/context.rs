//! The effects of a handler besides its result.

use std::{fmt, rc::Rc};

use serde::Serialize;

use crate::{Attempt, Event, HttpError, HttpRequest, HttpResponse, Key, Message, Outgoing, Refusal};

/// The message and attempt at hand, and the calls that a handler may make.
///
/// Messages and state are committed with the success of the attempt, or not at
/// all. Cache writes, logs and HTTP requests take effect at once.
///
/// The calls go to the host; in a native test [`Context::test`] records them.
#[derive(Clone)]
pub struct Context {
    message: Rc<Message>,
    attempt: Rc<Attempt>,
    #[cfg(target_arch = "wasm32")]
    host: Rc<dyn Effects>,
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) host: Rc<crate::testing::Recording>,
}

impl Context {
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn new(message: Message, attempt: Attempt, host: Rc<dyn Effects>) -> Self {
        Context { message: Rc::new(message), attempt: Rc::new(attempt), host }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn new(message: Message, attempt: Attempt, host: Rc<crate::testing::Recording>) -> Self {
        Context { message: Rc::new(message), attempt: Rc::new(attempt), host }
    }

    /// The message that is handled: id, key, headers, time and the rest.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The attempt: number, deadline, delivery and the rest.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Publishes an event when this attempt succeeds, and returns the id (a UUID)
    /// that its message will have. The binding must grant the topic.
    pub fn publish<E: Event + Serialize>(&self, event: &E) -> Result<String, Refusal> {
        self.publish_raw(Outgoing::new(event)?)
    }

    /// Publishes a tombstone for a key on an event's topic when this attempt
    /// succeeds, and returns the id that it will have.
    pub fn publish_tombstone<E: Event>(&self, key: &(impl Key + ?Sized)) -> Result<String, Refusal> {
        self.publish_raw(Outgoing::tombstone::<E>(key))
    }

    /// Publishes a message when this attempt succeeds, and returns its id.
    pub fn publish_raw(&self, message: Outgoing) -> Result<String, Refusal> {
        self.host.publish(message)
    }

    /// Reads a value of the group's state; this attempt's own writes come first.
    pub fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.host.state_get(key)
    }

    /// Writes a value of the group's state when this attempt succeeds.
    pub fn state_set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Refusal> {
        self.host.state_set(key, Some(value.as_ref()))
    }

    /// Deletes a value of the group's state when this attempt succeeds.
    pub fn state_delete(&self, key: &str) -> Result<(), Refusal> {
        self.host.state_set(key, None)
    }

    /// Reads a value of the cache that the group's handlers on one node share.
    pub fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.host.cache_get(key)
    }

    /// Writes a value of the cache, at once and even if this attempt fails. It is
    /// not durable.
    pub fn cache_set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Refusal> {
        self.host.cache_set(key, Some(value.as_ref()))
    }

    /// Deletes a value of the cache.
    pub fn cache_delete(&self, key: &str) -> Result<(), Refusal> {
        self.host.cache_set(key, None)
    }

    /// The value of a key of `[binding.config]`; `None` without such a key.
    pub fn config(&self, key: &str) -> Option<String> {
        self.host.config(key)
    }

    /// The value of a key of `[binding.secrets]`; `None` without such a key.
    pub fn secret(&self, key: &str) -> Option<String> {
        self.host.secret(key)
    }

    /// Sends an HTTP request and reads the whole answer; [`http`](Self::http)
    /// builds one.
    pub fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Not one of the `Effects`: through their table every handler would
        // import the interface, even if it makes no requests.
        #[cfg(target_arch = "wasm32")]
        return crate::wire_http::send(&request);
        #[cfg(not(target_arch = "wasm32"))]
        self.host.http(&request)
    }

    /// Writes to the log that is stored with the attempt.
    pub fn log(&self, level: Level, text: impl fmt::Display) {
        self.host.log(level, &text.to_string());
    }

    /// Logs at level debug.
    pub fn debug(&self, text: impl fmt::Display) {
        self.log(Level::Debug, text);
    }

    /// Logs at level info.
    pub fn info(&self, text: impl fmt::Display) {
        self.log(Level::Info, text);
    }

    /// Logs at level warn.
    pub fn warn(&self, text: impl fmt::Display) {
        self.log(Level::Warn, text);
    }

    /// Logs at level error.
    pub fn error(&self, text: impl fmt::Display) {
        self.log(Level::Error, text);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("message", &self.message)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// The severity of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the handler's developer.
    Debug,
    /// A normal event.
    Info,
    /// Something to look at.
    Warn,
    /// A failure.
    Error,
}

/// The calls behind a [`Context`]: the host's imports in a component, a recording
/// in a test.
pub(crate) trait Effects {
    fn publish(&self, message: Outgoing) -> Result<String, Refusal>;
    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal>;
    fn state_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal>;
    fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal>;
    fn cache_set(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refusal>;
    fn config(&self, key: &str) -> Option<String>;
    fn secret(&self, key: &str) -> Option<String>;
    fn log(&self, level: Level, text: &str);
}
