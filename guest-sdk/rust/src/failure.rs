//! How an attempt can fail, and how an import can refuse.

use std::{fmt, time::Duration};

/// Why an attempt did not succeed, and with that what happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It failed; the binding's retry policy decides what follows.
    Error(String),
    /// It failed and another attempt is worth while.
    Retry {
        /// Why, for people.
        reason: String,
        /// How long to wait; none leaves it to the binding's schedule.
        after: Option<Duration>,
    },
    /// It can never succeed: no further attempt is made.
    Reject(String),
    /// Something the handler depends on is down: the binding pauses, and this
    /// attempt is not counted.
    Unavailable {
        /// Why, for people.
        reason: String,
        /// How long the binding pauses at least, five minutes at most; none
        /// leaves it to the host.
        after: Option<Duration>,
    },
}

impl Failure {
    /// It failed; the binding's retry policy decides what follows. Any error
    /// can be the reason: `.map_err(Failure::error)?`.
    pub fn error(reason: impl fmt::Display) -> Self {
        Failure::Error(reason.to_string())
    }

    /// Asks for another attempt, when the binding's schedule says.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Failure::Retry { reason: reason.to_string(), after: None }
    }

    /// Asks for another attempt after this time.
    pub fn retry_after(reason: impl fmt::Display, after: Duration) -> Self {
        Failure::Retry { reason: reason.to_string(), after: Some(after) }
    }

    /// Says that this message can never be handled.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Failure::Reject(reason.to_string())
    }

    /// Says that something the handler depends on is down.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Failure::Unavailable { reason: reason.to_string(), after: None }
    }

    /// Says that something the handler depends on is down, and for how long the
    /// binding should pause at least: what a `Retry-After` said, for example.
    /// Past five minutes the host looks anyway whether it is back.
    pub fn unavailable_for(reason: impl fmt::Display, wait: Duration) -> Self {
        Failure::Unavailable { reason: reason.to_string(), after: Some(wait) }
    }

    /// The reason, as people will read it.
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

/// JSON may come from anywhere (the state, an answer of another service), so
/// that it is wrong says nothing about further attempts.
impl From<serde_json::Error> for Failure {
    fn from(problem: serde_json::Error) -> Self {
        Failure::error(problem)
    }
}

/// Only a refusal that passes by itself pauses the binding; the others want a
/// person, who then finds the reason at the delivery.
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
    /// The binding does not grant this; the text says what to add to it.
    Denied(String),
    /// The call broke a limit of the host.
    Limit(String),
    /// The arguments make no sense.
    Invalid(String),
    /// The host could not do it now.
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
