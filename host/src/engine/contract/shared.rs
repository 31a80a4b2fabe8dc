//! What all versions of the contract share.

use std::time::Duration;

use courier_core::message::{Kind, Message, Timestamp};
use wasmtime::component::{ComponentType, Lower};

use crate::engine::AttemptInfo;

/// Why an attempt did not succeed, as the guest returned it.
#[derive(Debug)]
pub(in crate::engine) enum HandlerFailure {
    Error(String),
    Retry { reason: String, after: Option<Duration> },
    Reject(String),
    Unavailable { reason: String, after: Option<Duration> },
}

/// Why an import refuses a call.
#[derive(Debug)]
pub(in crate::engine) enum Refusal {
    Denied(String),
    Limit(String),
    Invalid(String),
    Unavailable(String),
}

/// The results of a call of the guest, one for each item.
pub(in crate::engine) type Outcomes = Vec<Result<(), HandlerFailure>>;

/// `kind` of the contract.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum KindIn {
    #[component(name = "event")]
    Event,
    #[component(name = "broadcast")]
    Broadcast,
}

/// `attempt` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct AttemptIn<'a> {
    group: &'a str,
    delivery: &'a str,
    number: u32,
    counted: u32,
    #[component(name = "max-attempts")]
    max_attempts: u32,
    partition: u32,
    offset: u64,
    deadline: u64,
}

impl<'a> AttemptIn<'a> {
    /// The attempt in the contract's types.
    pub(super) fn new(group: &'a str, attempt: &'a AttemptInfo, deadline: Timestamp) -> Self {
        Self {
            group,
            delivery: &attempt.delivery,
            number: attempt.number,
            counted: attempt.counted,
            max_attempts: attempt.max_attempts,
            partition: attempt.partition,
            offset: attempt.offset,
            deadline: micros(deadline),
        }
    }
}

impl KindIn {
    pub(super) fn of(message: &Message) -> Self {
        match message.kind {
            Kind::Event => Self::Event,
            Kind::Broadcast => Self::Broadcast,
        }
    }
}

/// Microseconds since 1970; the contract has no earlier time.
pub(super) fn micros(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}
