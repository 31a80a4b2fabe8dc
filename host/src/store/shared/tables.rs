//! The two tables that deliveries stand in, which have the same names in both
//! dialects.

use courier_core::status::State;

/// The table that a delivery stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum DeliveryTable {
    /// Deliveries that have not ended.
    Open,
    /// Deliveries that have ended.
    Final,
}

impl DeliveryTable {
    /// The table's name.
    pub(in crate::store) fn name(self) -> &'static str {
        match self {
            Self::Open => "open_delivery",
            Self::Final => "delivery",
        }
    }

    /// The column with the time that lists go by.
    pub(in crate::store) fn time(self) -> &'static str {
        match self {
            Self::Open => "received_at",
            Self::Final => "settled_at",
        }
    }

    /// Whether rows in `state` stand in this table.
    pub(in crate::store) fn has(self, state: State) -> bool {
        match self {
            Self::Open => matches!(state, State::Committed | State::PushFail | State::HandleFail),
            Self::Final => matches!(state, State::Handled | State::HandleFail),
        }
    }
}
