//! What a handler can do to the world beside returning.

use std::{fmt, rc::Rc};

use serde::Serialize;

use crate::{Attempt, Event, HttpError, HttpRequest, HttpResponse, Key, Message, Outgoing, Refusal};

/// The message and attempt at hand, and everything a handler may do.
///
/// Nothing done through it is visible before the attempt succeeded: publishes
/// and state are committed together with the success, or not at all. In a
/// component the calls go to the host; in a native test [`Context::test`]
/// makes one that records them.
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

    /// The message being handled: id, key, headers, time and the rest.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The attempt being made: number, deadline, delivery and the rest.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Publishes an event when this attempt succeeds, and returns the id that
    /// its message will have. The binding must grant the topic.
    pub fn publish<E: Event + Serialize>(&self, event: &E) -> Result<String, Refusal> {
        self.publish_raw(Outgoing::new(event)?)
    }

    /// Publishes a tombstone for a key of an event's topic when this attempt
    /// succeeds.
    pub fn publish_tombstone<E: Event>(&self, key: &(impl Key + ?Sized)) -> Result<String, Refusal> {
        self.publish_raw(Outgoing::tombstone::<E>(key))
    }

    /// Publishes any message when this attempt succeeds.
    pub fn publish_raw(&self, message: Outgoing) -> Result<String, Refusal> {
        self.host.publish(message)
    }

    /// Reads a value of the group's state.
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

    /// Reads the cache that the group's handlers on one node share.
    pub fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.host.cache_get(key)
    }

    /// Writes the cache, at once and whether or not this attempt succeeds. It
    /// is not durable.
    pub fn cache_set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Refusal> {
        self.host.cache_set(key, Some(value.as_ref()))
    }

    /// Deletes a value of the cache.
    pub fn cache_delete(&self, key: &str) -> Result<(), Refusal> {
        self.host.cache_set(key, None)
    }

    /// A value of `[binding.config]`.
    pub fn config(&self, key: &str) -> Option<String> {
        self.host.config(key)
    }

    /// A value of `[binding.secrets]`.
    pub fn secret(&self, key: &str) -> Option<String> {
        self.host.secret(key)
    }

    /// Sends an HTTP request and reads the whole answer; [`http`](Self::http)
    /// makes one.
    pub fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Not one of the `Effects`: through their table every handler would
        // import the interface, whether it makes requests or not.
        #[cfg(target_arch = "wasm32")]
        return crate::wire_http::send(&request);
        #[cfg(not(target_arch = "wasm32"))]
        self.host.http(&request)
    }

    /// Writes to the log that is kept with the attempt.
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

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever writes the handler.
    Debug,
    /// What happened.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}

/// The calls behind a [`Context`]: the host's in a component, a recording in
/// a test.
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
