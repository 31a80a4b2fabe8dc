//! Runs handlers: untrusted WebAssembly components, each call within limits.
//!
//! How a call goes through. An upload is first looked at without compiling it
//! ([`inspect`], in [`component`]): is it a component, does it export a
//! handler, is everything it imports offered here. [`Engine::prepare`]
//! ([`prepare`]) compiles it in a child process under limits ([`compile`]) or
//! takes it from disk ([`artefacts`]), links it, and checks the types of what it
//! exports, so that a call later looks nothing up.
//! A [`Sandbox`] ([`instance`]) then runs calls one at a time: it takes an
//! instance (fresh, or the one it kept), hands it the message, and turns
//! whatever comes of it into one [`Ended`]: a verdict with its reason, the
//! log, and the effects. [`limits`] holds every bound, [`clock`] interrupts
//! guests that are busy and measures what they burn, [`fault`] puts traps into
//! words, and [`imports`] is all that a guest can reach. [`slots`] shares the
//! pool of instances out between the groups.
//!
//! What always holds:
//! - An instance that trapped, broke a limit or was dropped in the middle of a
//!   call is never used again: a sandbox takes its instance out before a call
//!   and puts it back only after the guest returned.
//! - Effects (messages to publish, state writes) leave this module only with
//!   [`Verdict::Success`]; those of any other attempt are dropped here.
//! - A guest blocks no thread: host calls that wait are futures, and a busy
//!   guest yields at every tick.
//! - A guest gets no file, no socket, no environment, no argument; what its
//!   binding does not grant is refused in words that say what to add. HTTP goes
//!   out through the host, which judges where it leads ([`http`]).
//! - Machine code comes only from our own compiler. A precompiled artefact
//!   from outside is refused, and one from the cache is checked first.
//! - No guest-controlled input makes the host panic, and nothing a guest hands
//!   over is kept without a bound.
//!
//! This module knows neither Kafka nor the store. State that handlers read
//! comes through [`StateSource`], which the store's side implements, and when a
//! guest has burned enough for now a [`Brake`] knows.

mod artefacts;
pub mod builtin;
mod capacity;
mod clock;
mod compile;
mod component;
mod contract;
mod fault;
mod guest;
pub mod http;
mod imports;
mod instance;
pub mod limits;
mod prepare;
mod redaction;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Header, Message, Timestamp};
use courier_core::verdict::Verdict;
use futures::future::BoxFuture;
use secrecy::SecretString;

pub use crate::config::Isolation;
pub use capacity::{Capacity, Shortage};
pub use compile::{compile_child_main, is_compile_child};
pub use component::{Inspection, RefusedUpload, World, digest, inspect};
pub use imports::cache::NodeCache;
pub use imports::log_budget::LogBudget;
pub use imports::quota::{StateHeld, StateQuota};
pub use instance::Sandbox;
pub use limits::MAX_UPLOAD_BYTES;
pub use prepare::{Engine, EngineError, EngineSettings, PrepareError, Prepared};

/// What a binding allows its handler, and how it runs it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The consumer group the handler is bound in.
    pub group: String,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// Bytes of linear memory that one instance may hold.
    pub memory: u64,
    /// Wall time of one call, waiting included, but not what a [`Brake`] held it
    /// back.
    pub timeout: Duration,
    /// CPU time of one call.
    pub cpu: Duration,
    /// Bytes of log that are kept of one call; what is beyond is cut.
    pub log: usize,
    /// Bytes that the effects of one call may hold.
    pub output: usize,
    /// Calls after which a kept instance is replaced.
    pub recycle_after: u32,
    /// Topics the handler may publish to.
    pub publish: Vec<String>,
    /// What a message must keep to that the handler publishes.
    pub rules: Arc<dyn EmissionRules>,
    /// Where the handler may send HTTP requests; none sends none anywhere.
    pub http: Option<Arc<http::HttpOut>>,
    /// Whether the handler may use the group's key/value state.
    pub state: bool,
    /// How much of it the group may hold.
    pub state_quota: Arc<StateQuota>,
    /// Whether the handler may use the node's cache.
    pub cache: bool,
    /// `[binding.config]`.
    pub config: BTreeMap<String, String>,
    /// `[binding.secrets]`.
    pub secrets: BTreeMap<String, SecretString>,
}

/// The rules for what a handler publishes. They are asked while the handler
/// runs, so that it hears of what could not go out and can still fail for it.
pub trait EmissionRules: std::fmt::Debug + Send + Sync + 'static {
    /// Says why this message may not go out: a sentence for the handler.
    ///
    /// # Errors
    /// The sentence.
    fn check(&self, emission: &Outgoing) -> Result<(), String>;
}

/// No rules beside those of the engine itself.
#[derive(Debug)]
pub struct NoRules;

impl EmissionRules for NoRules {
    fn check(&self, _emission: &Outgoing) -> Result<(), String> {
        Ok(())
    }
}

/// Where a group's key/value state is read from. Writes are not its business:
/// they leave with [`Ended::state_writes`] and commit with the status.
pub trait StateSource: Send + Sync + 'static {
    /// The committed value of a key, if it has one that was written at most
    /// `max_age` ago. The error is a sentence for the handler.
    fn get(&self, group: &str, key: &str, max_age: Option<Duration>) -> BoxFuture<'_, Result<Option<Bytes>, String>>;

    /// What the group's state holds.
    fn held(&self, group: &str) -> BoxFuture<'_, Result<StateHeld, String>>;
}

/// Who may hold guests back that burn more than is theirs for now.
pub trait Brake: Send + Sync + 'static {
    /// An attempt burned more than its first tick. Answers what it has to wait
    /// for before it goes on, if for anything.
    fn burned(self: Arc<Self>, burned: Burned) -> Option<BoxFuture<'static, ()>>;

    /// One has ended, and burned so much more before it did.
    fn owes(&self, more: Duration);
}

/// What a call has burned while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Burned {
    /// When it began, in nanoseconds by any clock.
    pub began: u64,
    /// What it burned in all.
    pub all: Duration,
    /// What of that was not told of before.
    pub more: Duration,
}

/// One call to make: a message and the attempt made on it.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The message to hand over.
    pub message: &'a Message,
    /// What the handler is told about the attempt.
    pub attempt: AttemptInfo,
}

/// What a handler is told about an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptInfo {
    /// Identifies the delivery over all its attempts.
    pub delivery: String,
    /// Counts invocations from 1.
    pub number: u32,
    /// Attempts used up before this one.
    pub counted: u32,
    /// Attempts the binding allows.
    pub max_attempts: u32,
    /// The record's partition.
    pub partition: u32,
    pub offset: u64,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What the attempt concluded.
    pub verdict: Verdict,
    /// Why it did not succeed, in words for a developer.
    pub reason: Option<String>,
    /// The wait that a retry or an `unavailable` asked for.
    pub after: Option<Duration>,
    /// What the guest logged and printed: valid UTF-8 without escapes, cut at
    /// the binding's limit. Items of one batch call share one log.
    pub log: String,
    /// Messages to publish; empty unless the verdict is success.
    pub emissions: Vec<Outgoing>,
    /// State to write (`None` deletes), each key once; empty unless the
    /// verdict is success.
    pub state_writes: Vec<(String, Option<Bytes>)>,
    /// When the call began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// CPU time burned by the call; items of one batch call share it evenly.
    pub cpu: Duration,
}

/// A message that a handler published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The UUID (version 7) that the guest was told.
    pub id: String,
    /// Where it goes.
    pub topic: String,
    /// What happened, for example `StockReserved`; empty when not given.
    pub type_name: String,
    /// Its primary key.
    pub key: Option<Bytes>,
    /// Media type of the body; empty when not given.
    pub content_type: String,
    /// The body; none makes it a tombstone.
    pub body: Option<Bytes>,
    pub headers: Vec<Header>,
}
