//! Runs handlers: untrusted WebAssembly components, each call within limits.
//!
//! The way of a call: an upload is inspected without compiling it ([`inspect`],
//! in [`component`]): whether it is a component, exports a handler, and imports
//! and uses ([`proposals`]) only what is offered. [`Engine::prepare`]
//! ([`prepare`]) compiles it in a child process under limits ([`compile`]) or
//! takes it from disk ([`artefacts`]), links it, and checks the types of its
//! exports, so that a later call looks nothing up. A [`Sandbox`] ([`instance`])
//! then runs calls one at a time: it takes an instance (fresh, or the one it
//! kept), hands it the message, and turns the result into one [`Ended`]: a verdict
//! with its reason, the log, and the effects. [`limits`] has every bound,
//! [`clock`] interrupts busy guests and measures their CPU time, [`fault`] turns
//! traps into reasons, [`imports`] is everything that a guest can reach, and
//! [`slots`] divides the pool of instances among the groups.
//!
//! Invariants:
//! - An instance that trapped, broke a limit or was dropped during a call is
//!   never used again: a sandbox takes its instance out before a call and puts it
//!   back only after the guest returned.
//! - Effects (messages to publish, state writes) leave this module only with
//!   [`Verdict::Success`]; those of any other attempt are dropped here.
//! - A guest blocks no thread: host calls that wait are futures, and a busy
//!   guest yields at every tick.
//! - A guest gets no file, no socket, no environment, no argument; an import that
//!   its binding does not grant is refused with the setting to change. HTTP
//!   requests go through the host, which judges their targets ([`http`]).
//! - Machine code comes only from our own compiler. A precompiled upload is
//!   refused, and an artefact from the cache is checked first.
//! - No guest-controlled input makes the host panic, and everything that a guest
//!   hands over and the host keeps has a bound.
//!
//! This module uses neither Kafka nor the store. It reads the handlers' state
//! through [`StateSource`], which the store's side implements, and reports the
//! CPU time of guests to a [`Brake`], which may throttle them.

mod artefacts;
pub mod builtin;
mod capacity;
mod clock;
mod compile;
mod component;
mod contract;
mod fault;
mod guest;
mod handler_log;
pub mod http;
mod imports;
mod instance;
pub mod limits;
mod log_budget;
mod node_cache;
mod prepare;
mod proposals;
mod redaction;
mod slots;
mod state_quota;
mod state_reads;
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
pub use instance::Sandbox;
pub use limits::MAX_UPLOAD_BYTES;
pub use log_budget::LogBudget;
pub use node_cache::NodeCache;
pub use prepare::{Engine, EngineError, EngineSettings, PrepareError, Prepared};
pub use state_quota::{StateHeld, StateQuota};

/// What a binding allows its handler, and how the host runs it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The consumer group the handler is bound in.
    pub group: String,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// Bytes of linear memory that one instance may hold.
    pub memory: u64,
    /// Wall time of one call, including waiting, but not the time for which a
    /// [`Brake`] throttled it.
    pub timeout: Duration,
    /// CPU time of one call.
    pub cpu: Duration,
    /// Bytes of log that are kept of one call; the rest is cut.
    pub log: usize,
    /// Bytes that the effects of one call may hold.
    pub output: usize,
    /// Calls after which a kept instance is replaced.
    pub recycle_after: u32,
    /// Topics the handler may publish to.
    pub publish: Vec<String>,
    /// The rules for the messages that the handler publishes.
    pub rules: Arc<dyn EmissionRules>,
    /// Where the handler may send HTTP requests; `None` allows none.
    pub http: Option<Arc<http::HttpOut>>,
    /// Whether the handler may use the group's key/value state.
    pub state: bool,
    /// The bounds of that state.
    pub state_quota: Arc<StateQuota>,
    /// Whether the handler may use the node's cache.
    pub cache: bool,
    /// `[binding.config]`.
    pub config: BTreeMap<String, String>,
    /// `[binding.secrets]`.
    pub secrets: BTreeMap<String, SecretString>,
}

/// The rules for the messages that a handler publishes. They are checked while
/// the handler runs, so that it learns of a refusal and can still fail.
pub trait EmissionRules: std::fmt::Debug + Send + Sync + 'static {
    /// Checks whether this message may be published.
    ///
    /// # Errors
    /// Why not: a sentence for the handler.
    fn check(&self, emission: &Outgoing) -> Result<(), String>;
}

/// No rules except those of the engine itself.
#[derive(Debug)]
pub struct NoRules;

impl EmissionRules for NoRules {
    fn check(&self, _emission: &Outgoing) -> Result<(), String> {
        Ok(())
    }
}

/// The source of a group's key/value state. Writes do not go through it: they
/// leave with [`Ended::state_writes`] and are committed with the outcome.
pub trait StateSource: Send + Sync + 'static {
    /// The committed value of a key, if it has one that was written at most
    /// `max_age` ago. The error is a sentence for the handler.
    fn get(&self, group: &str, key: &str, max_age: Option<Duration>) -> BoxFuture<'_, Result<Option<Bytes>, String>>;

    /// The amount of the group's state. The error is a sentence for the handler.
    fn held(&self, group: &str) -> BoxFuture<'_, Result<StateHeld, String>>;
}

/// Throttles guests that use more CPU time than their group's share.
pub trait Brake: Send + Sync + 'static {
    /// Reports, at a tick, the CPU time of an attempt beyond its first tick. Returns
    /// what the attempt has to wait for before it goes on, if anything.
    fn burned(self: Arc<Self>, burned: Burned) -> Option<BoxFuture<'static, ()>>;

    /// Reports the CPU time that a call used since its last tick, when it ends.
    fn owes(&self, more: Duration);
}

/// The CPU time of a call so far.
#[derive(Clone, Copy, Debug)]
pub struct Burned {
    /// When the call began, in nanoseconds of the monotonic clock.
    pub began: u64,
    /// CPU time of the call in all.
    pub all: Duration,
    /// The part of it that was not reported before.
    pub more: Duration,
}

/// One call of a handler: a message and the attempt made on it.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The message for the handler.
    pub message: &'a Message,
    /// The handler's view of the attempt.
    pub attempt: AttemptInfo,
}

/// The handler's view of an attempt (`attempt` in the contract).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptInfo {
    /// The id of the delivery, the same for all its attempts.
    pub delivery: String,
    /// The number of this invocation, from 1.
    pub number: u32,
    /// Attempts used up before this one.
    pub counted: u32,
    /// Attempts the binding allows.
    pub max_attempts: u32,
    /// The record's partition.
    pub partition: u32,
    pub offset: u64,
}

/// The result of a call.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How the attempt ended.
    pub verdict: Verdict,
    /// Why it did not succeed, for a developer.
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
    /// CPU time of the call; items of one batch call share it evenly.
    pub cpu: Duration,
}

/// A message that a handler published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The UUID (version 7) that the guest got.
    pub id: String,
    /// The topic to publish on.
    pub topic: String,
    /// What happened, for example `StockReserved`; empty when not given.
    pub type_name: String,
    /// Its primary key.
    pub key: Option<Bytes>,
    /// Media type of the body; empty when not given.
    pub content_type: String,
    /// The body; `None` for a tombstone.
    pub body: Option<Bytes>,
    pub headers: Vec<Header>,
}
