//! The failures of an attempt, and the refusals of an import.

use std::{fmt, time::Duration};

/// Why an attempt did not succeed, which decides what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It failed; the binding's retry policy decides what follows.
    Error(String),
    /// It failed and asks for another attempt.
    Retry {
        /// Why, for people.
        reason: String,
        /// The wait, at most seven days; `None` leaves it to the binding's schedule.
        after: Option<Duration>,
    },
    /// It can never succeed: the host makes no further attempt.
    Reject(String),
    /// A service that the handler depends on is down: the binding pauses, and this
    /// attempt is not counted.
    Unavailable {
        /// Why, for people.
        reason: String,
        /// The least time for which the binding pauses, at most five minutes; `None`
        /// leaves it to the host.
        after: Option<Duration>,
    },
}

impl Failure {
    /// A plain failure; the binding's retry policy decides what follows. Any error
    /// can be the reason: `.map_err(Failure::error)?`.
    pub fn error(reason: impl fmt::Display) -> Self {
        Failure::Error(reason.to_string())
    }

    /// A request for another attempt, by the binding's schedule.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Failure::Retry { reason: reason.to_string(), after: None }
    }

    /// A request for another attempt after this time, at most seven days.
    pub fn retry_after(reason: impl fmt::Display, after: Duration) -> Self {
        Failure::Retry { reason: reason.to_string(), after: Some(after) }
    }

    /// A message that can never be handled.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Failure::Reject(reason.to_string())
    }

    /// A service that the handler depends on is down.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Failure::Unavailable { reason: reason.to_string(), after: None }
    }

    /// A service that the handler depends on is down, and the binding pauses at
    /// least this long, for example as long as a `Retry-After` asked. After five
    /// minutes the host probes it anyway.
    pub fn unavailable_for(reason: impl fmt::Display, wait: Duration) -> Self {
        Failure::Unavailable { reason: reason.to_string(), after: Some(wait) }
    }

    /// The reason, for people.
    pub fn reason(&self) -> &str {
        match self {
            Failure::Error(reason)
            | Failure::Retry { reason, .. }
            | Failure::Reject(reason)
            | Failure::Unavailable { reason, .. } => reason,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure::Error(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Failure::Error(reason.into())
    }
}

/// JSON may come from anywhere (the state, an answer of another service), so an
/// error in it does not make the message unhandleable.
impl From<serde_json::Error> for Failure {
    fn from(problem: serde_json::Error) -> Self {
        Failure::error(problem)
    }
}

/// Only a refusal that passes by itself pauses the binding; the others need a
/// person, who finds the reason at the delivery.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Unavailable(_) => Failure::unavailable(refusal),
            Refusal::Denied(_) | Refusal::Limit(_) | Refusal::Invalid(_) => Failure::error(refusal),
        }
    }
}

/// Why the host refused a call of the [`Context`](crate::Context).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The binding does not grant the call; the text names the setting.
    Denied(String),
    /// The call broke a limit of the host.
    Limit(String),
    /// An argument is wrong.
    Invalid(String),
    /// The host cannot carry it out now.
    Unavailable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            Refusal::Denied(text) => ("denied", text),
            Refusal::Limit(text) => ("over a limit", text),
            Refusal::Invalid(text) => ("invalid", text),
            Refusal::Unavailable(text) => ("unavailable", text),
        };
        write!(f, "{what}: {text}")
    }
}

impl std::error::Error for Refusal {}
