//! What PostgreSQL will not take as text, and the way back from rows.

use std::borrow::Cow;

use courier_core::status::State;
use courier_core::verdict::Verdict;

use crate::store::StoreError;

/// Text without NUL, the one character that PostgreSQL refuses: it would fail
/// the whole batch it stands in.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// [`clean`] for text that may be absent.
pub(super) fn clean_opt(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(clean)
}

/// The state that a row holds.
pub(super) fn state(code: i16) -> Result<State, StoreError> {
    State::from_code(code).ok_or_else(|| StoreError::Bug(format!("a row holds the unknown state {code}")))
}

/// The verdict that a row holds.
pub(super) fn verdict(code: i16) -> Result<Verdict, StoreError> {
    Verdict::from_code(code).ok_or_else(|| StoreError::Bug(format!("a row holds the unknown verdict {code}")))
}

/// A count that a row holds.
pub(super) fn count(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or(0)
}

/// A count as a row holds it.
pub(super) fn stored(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nul_is_replaced() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(clean("a\u{1}b"), Cow::Borrowed("a\u{1}b")));
    }
}
