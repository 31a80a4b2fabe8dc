//! The one place of the host that draws random numbers. Code that must be
//! repeatable (`courier_core`, simulations, tests) takes them as arguments.
#![allow(clippy::disallowed_methods, reason = "this module is where random numbers come from")]

use std::time::Duration;

/// A random wait below `longest`, which spreads out hosts that began together.
#[must_use]
pub fn jitter(longest: Duration) -> Duration {
    longest.mul_f64(rand::random::<f64>())
}

/// A number from 0 up to 1, without 1.
#[must_use]
pub fn fraction() -> f64 {
    rand::random()
}

/// A secret of 256 random bits.
#[must_use]
pub fn secret() -> [u8; 32] {
    rand::random()
}

/// The id of a trace, which is never 0.
#[must_use]
pub fn trace_id() -> u128 {
    rand::random::<u128>() | 1
}

/// The id of a span, which is never 0.
#[must_use]
pub fn span_id() -> u64 {
    rand::random::<u64>() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jitter_stays_below_its_bound() {
        let longest = Duration::from_millis(7);
        assert!((0..1_000).all(|_| jitter(longest) < longest));
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
