//! Text as it is stored.

use std::borrow::Cow;

/// Text without NUL, the one character that PostgreSQL refuses (it would fail
/// the whole batch it stands in) and that C programs cut at. Every text goes
/// through here, also what is looked for.
pub(in crate::store) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// [`clean`] for text that may be absent.
pub(in crate::store) fn clean_opt(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(clean)
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
