//! The host's clock: the one place outside the store where time is read.

use courier_core::message::Timestamp;

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}
