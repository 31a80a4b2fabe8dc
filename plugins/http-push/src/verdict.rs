//! Which status leads to which verdict.
//!
//! PUSH_FAIL and HANDLE_FAIL differ. An answer about the service or its address
//! says nothing about the message: the binding pauses and uses up no attempt. An
//! answer about the message fails that message alone.

/// The verdict of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// HANDLED.
    Handled,
    /// HANDLE_FAIL; the binding's retry policy decides what follows.
    Error,
    /// HANDLE_FAIL, and another attempt.
    Retry,
    /// HANDLE_FAIL for good.
    Reject,
    /// PUSH_FAIL: the binding pauses.
    Unavailable,
}

impl Verdict {
    /// The verdict of a word in the TOML or in a problem document.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "handled" | "success" => Some(Self::Handled),
            "error" => Some(Self::Error),
            "retry" => Some(Self::Retry),
            "reject" => Some(Self::Reject),
            "unavailable" => Some(Self::Unavailable),
            _ => None,
        }
    }
}

/// Whether the URL has answered 2xx under the present configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has: an answer about a message is taken as such.
    Proven,
    /// It has not: the URL may be wrong, and no message may be lost for that.
    Unproven,
}

/// A verdict that the binding sets for a status or a class of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The first digit of the status.
    class: u16,
    status: Option<u16>,
    verdict: Verdict,
}

impl Override {
    /// The verdict for `404` or `4xx`; `None` for other texts.
    pub fn new(answer: &str, verdict: Verdict) -> Option<Self> {
        if let Some(class) = answer.strip_suffix("xx") {
            let class = class.parse().ok().filter(|class| (2..=5).contains(class))?;
            return Some(Self { class, status: None, verdict });
        }
        let status = answer.parse::<u16>().ok().filter(|status| (200..=599).contains(status))?;
        Some(Self { class: status / 100, status: Some(status), verdict })
    }
}

/// Whether the status means that the message was handled.
pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The verdict of an answer with this status.
pub fn of_status(status: u16, standing: Standing, overrides: &[Override]) -> Verdict {
    let exact = overrides.iter().find(|one| one.status == Some(status));
    let class = || overrides.iter().find(|one| one.status.is_none() && one.class == status / 100);
    if let Some(found) = exact.or_else(class) {
        return found.verdict;
    }
    match (status, standing) {
        (200..=299, _) => Verdict::Handled,
        (300..=399 | 401 | 405 | 407 | 429 | 503, _) => Verdict::Unavailable,
        (403 | 404 | 410, Standing::Unproven) => Verdict::Unavailable,
        (408 | 425, _) => Verdict::Retry,
        (400..=499, _) => Verdict::Reject,
        // 5xx, and numbers that are no HTTP status.
        _ => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_of_answers() {
        for status in 100..=600 {
            let expected = match status {
                200..=299 => Verdict::Handled,
                300..=399 | 401 | 405 | 407 | 429 | 503 => Verdict::Unavailable,
                408 | 425 => Verdict::Retry,
                400..=499 => Verdict::Reject,
                _ => Verdict::Retry,
            };
            assert_eq!(of_status(status, Standing::Proven, &[]), expected, "{status}");
            let unproven = if [403, 404, 410].contains(&status) { Verdict::Unavailable } else { expected };
            assert_eq!(of_status(status, Standing::Unproven, &[]), unproven, "{status} before any success");
        }
    }

    #[test]
    fn the_binding_overrides_a_status_before_its_class() {
        let overrides = [
            Override::new("4xx", Verdict::Retry).unwrap(),
            Override::new("404", Verdict::Handled).unwrap(),
            Override::new("503", Verdict::Reject).unwrap(),
        ];
        let verdict = |status| of_status(status, Standing::Unproven, &overrides);
        assert_eq!((verdict(404), verdict(422)), (Verdict::Handled, Verdict::Retry));
        assert_eq!((verdict(503), verdict(500)), (Verdict::Reject, Verdict::Retry));
        for wrong in ["", "xx", "6xx", "1xx", "99", "600", "teapot", "40x"] {
            assert_eq!(Override::new(wrong, Verdict::Reject), None, "{wrong:?}");
        }
    }
}
