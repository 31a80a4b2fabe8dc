//! Bounds and rules of the names that messages carry: ids, types, sources, headers.

/// Longest type, id and source, in characters.
pub const MAX_NAME_CHARS: usize = 255;
/// Headers one message may have.
pub const MAX_HEADERS: usize = 100;

/// Whether a type, a source or the name of a header is valid.
pub(super) fn valid_name(name: &str) -> bool {
    !name.is_empty()
        // A text has no more characters than bytes, so most names need no count.
        && (name.len() <= MAX_NAME_CHARS || name.chars().count() <= MAX_NAME_CHARS)
        && !name.chars().any(char::is_control)
}

/// Whether a message may have the id. `.` and `..` are steps of a path to every client
/// of HTTP, so that nobody could ask for the message.
#[must_use]
pub fn valid_id(id: &str) -> bool {
    valid_name(id) && !matches!(id, "." | "..")
}

/// The part of a foreign text that may be repeated in an answer or a row.
pub(super) fn shown(text: &str) -> &str {
    super::cut(text, MAX_NAME_CHARS)
}
