//! The five states, and which of them may follow which.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a message or of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Of a message: it is not on Kafka. The host sends it again by itself when
    /// the cause can pass; otherwise a person resends it.
    SendFail,
    /// Of a message: Kafka has it. Of a delivery: it was received and is not
    /// finished; its owner runs it, after a crash the next owner.
    Committed,
    /// The handler never ran. It is tried again until it can run.
    PushFail,
    /// The handler ran and failed. The binding's retry policy moves it on,
    /// then a person.
    HandleFail,
    /// The handler succeeded and its effects are durable. A person may run it
    /// again.
    Handled,
}

impl State {
    /// All states, in the order of a message's life.
    pub const ALL: [Self; 5] = [Self::SendFail, Self::Committed, Self::PushFail, Self::HandleFail, Self::Handled];

    /// The name in the API, the CLI and the console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendFail => "SEND_FAIL",
            Self::Committed => "COMMITTED",
            Self::PushFail => "PUSH_FAIL",
            Self::HandleFail => "HANDLE_FAIL",
            Self::Handled => "HANDLED",
        }
    }

    /// The number that stores keep; it never changes.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::SendFail => 1,
            Self::Committed => 2,
            Self::PushFail => 3,
            Self::HandleFail => 4,
            Self::Handled => 5,
        }
    }

    /// The state with this [`code`](Self::code).
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether a message may move from this state to `next` on its sending side.
    ///
    /// COMMITTED becomes SEND_FAIL when a delayed message is cancelled, or when
    /// Kafka can never take it.
    #[must_use]
    pub fn message_may_become(self, next: Self) -> bool {
        matches!((self, next), (Self::SendFail, Self::SendFail | Self::Committed) | (Self::Committed, Self::SendFail))
    }

    /// Whether a delivery may move from this state to `next`.
    ///
    /// A redrive by a person moves HANDLED back to COMMITTED. A redriven delivery
    /// that had failed stays HANDLE_FAIL until its next outcome. A delivery is
    /// never SEND_FAIL.
    #[must_use]
    pub fn delivery_may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::SendFail, _) | (_, Self::SendFail) => false,
            (
                Self::Committed | Self::PushFail | Self::HandleFail,
                Self::PushFail | Self::HandleFail | Self::Handled,
            ) => true,
            (Self::Handled, Self::Committed) => true,
            (_, Self::Committed) | (Self::Handled, _) => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
            format!("unknown state {word:?}: the states are SEND_FAIL, COMMITTED, PUSH_FAIL, HANDLE_FAIL and HANDLED")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_lead_back_to_the_state() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(State::from_code(state.code()), Some(state));
        }
        assert!("handled".parse::<State>().unwrap_err().contains("HANDLED"));
        assert_eq!(State::from_code(0), None);
    }

    /// The whole table, so that no transition appears or vanishes by accident.
    #[test]
    fn the_table_of_states_is_exactly_this() {
        let arrows = |may: fn(State, State) -> bool| {
            let mut arrows = Vec::new();
            for from in State::ALL {
                for to in State::ALL {
                    if may(from, to) {
                        arrows.push(format!("{from}>{to}"));
                    }
                }
            }
            arrows.join(" ")
        };
        assert_eq!(arrows(State::message_may_become), "SEND_FAIL>SEND_FAIL SEND_FAIL>COMMITTED COMMITTED>SEND_FAIL");
        assert_eq!(
            arrows(State::delivery_may_become),
            "COMMITTED>PUSH_FAIL COMMITTED>HANDLE_FAIL COMMITTED>HANDLED \
             PUSH_FAIL>PUSH_FAIL PUSH_FAIL>HANDLE_FAIL PUSH_FAIL>HANDLED \
             HANDLE_FAIL>PUSH_FAIL HANDLE_FAIL>HANDLE_FAIL HANDLE_FAIL>HANDLED \
             HANDLED>COMMITTED"
        );
    }
}
