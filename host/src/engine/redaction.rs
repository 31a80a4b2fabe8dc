//! Removes the secrets of a binding from the text of its handler.
//!
//! A handler that logs its request, or fails with the text of one, would put a
//! token into the store, the console and the dead letters. A secret that the
//! handler encodes in another way is not found.

use secrecy::{ExposeSecret as _, SecretString};

/// The replacement of a secret.
const HIDDEN: &str = "***";
/// The least bytes of a secret that is looked for: a shorter one would be found
/// in ordinary words.
const LEAST_BYTES: usize = 4;
/// The least bytes of one line of a secret that is looked for by itself. A log has no
/// carriage returns, and JSON writes the ends of lines as escapes: a key of several
/// lines would not be found as a whole.
const LEAST_LINE_BYTES: usize = 8;

/// The secrets to look for.
#[derive(Clone, Default)]
pub(super) struct Redaction {
    /// Secrets, and the lines of those with several. Longest first: replacing a secret
    /// within a longer one would leave the rest of the longer one visible.
    needles: Vec<SecretString>,
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redaction of {} secrets and lines of secrets", self.needles.len())
    }
}

impl Redaction {
    pub(super) fn of<'s>(secrets: impl Iterator<Item = &'s SecretString>) -> Self {
        let mut needles: Vec<&str> = Vec::new();
        for secret in secrets.map(|secret| secret.expose_secret().trim()) {
            if secret.len() >= LEAST_BYTES {
                needles.push(secret);
            }
            if secret.lines().nth(1).is_some() {
                needles.extend(secret.lines().map(str::trim).filter(|line| line.len() >= LEAST_LINE_BYTES));
            }
        }
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        Self { needles: needles.into_iter().map(SecretString::from).collect() }
    }

    /// The text with each secret replaced. When the text was cut, a beginning of a
    /// secret at its end is replaced too.
    pub(super) fn hide(&self, mut text: String, is_cut: bool) -> String {
        for secret in self.needles.iter().map(|needle| needle.expose_secret()) {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
            if is_cut && let Some(begun) = beginning_at_end(&text, secret) {
                text.truncate(text.len() - begun);
                text.push_str(HIDDEN);
            }
        }
        text
    }
}

/// The bytes of the longest beginning of `secret` with which `text` ends.
fn beginning_at_end(text: &str, secret: &str) -> Option<usize> {
    let mut lengths = secret.char_indices().map(|(at, _)| at).filter(|at| *at >= LEAST_BYTES);
    lengths.rfind(|at| text.ends_with(&secret[..*at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(secrets: &[&str]) -> Redaction {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        Redaction::of(secrets.iter())
    }

    #[test]
    fn secrets_are_replaced_wherever_they_stand() {
        let hides = redaction(&["s3cret", "s3cret-longer\n", "abc", ""]);
        let hide = |text: &str| hides.hide(text.to_owned(), false);
        assert_eq!(hide("token=s3cret; again s3cret"), "token=***; again ***");
        assert_eq!(hide("s3cret-longer"), "***", "the longer one as a whole");
        assert_eq!(hide("abc s3cre"), "abc s3cre", "three letters are no secret, and a part is none");
        assert!(!format!("{hides:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_of_several_lines_is_found_however_its_lines_end() {
        let hides = redaction(&["BEGIN-KEY\r\nKEYDATA1234567890\r\nEND\r\n"]);
        for told in ["BEGIN-KEY\nKEYDATA1234567890\nEND", r"BEGIN-KEY\r\nKEYDATA1234567890\r\nEND", "KEYDATA1234567890"]
        {
            let hidden = hides.hide(told.to_owned(), false);
            assert!(!hidden.contains("KEYDATA") && !hidden.contains("BEGIN-KEY"), "{hidden}");
        }
        assert_eq!(hides.hide("THE END".to_owned(), false), "THE END", "a short line may be any word");
    }

    #[test]
    fn what_a_cut_leaves_of_a_secret_is_replaced() {
        let hides = redaction(&["s3cret-längst"]);
        assert_eq!(hides.hide("log s3cret-l".to_owned(), true), "log ***");
        assert_eq!(hides.hide("log s3c".to_owned(), true), "log s3c");
        assert_eq!(hides.hide("log s3cret-l".to_owned(), false), "log s3cret-l");
    }
}
