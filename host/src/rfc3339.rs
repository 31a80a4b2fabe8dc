//! Times as people and programs read them: RFC 3339, UTC, microseconds.

use courier_core::message::Timestamp;

/// Formats a time as `2026-01-02T03:04:05.000006Z`. A time outside of the range of
/// jiff is written as the nearest one inside.
#[must_use]
pub fn format(time: Timestamp) -> String {
    let latest = jiff::Timestamp::MAX;
    let nearest = if time.0 < 0 { jiff::Timestamp::MIN } else { latest };
    format!("{:.6}", jiff::Timestamp::from_microsecond(time.0).unwrap_or(nearest))
}

/// Reads an RFC 3339 time with any offset from UTC.
///
/// # Errors
/// What a time looks like.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let dashes = text.len() >= "2026-01-02T03:04:05Z".len() && text.as_bytes().get(4) == Some(&b'-');
    text.parse::<jiff::Timestamp>()
        .ok()
        // The parser also accepts other notations, on which clients should not rely.
        .filter(|_| dashes && !text.contains('['))
        .map(|time| Timestamp(time.as_microsecond()))
        .ok_or_else(|| match text.starts_with("9999-12-3") {
            true => format!("{text:?} is later than the last time that is known, {}", format(Timestamp(i64::MAX))),
            false => format!("{text:?} is no time: write RFC 3339, as in 2026-01-02T03:04:05.000006Z"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_a_z() {
        assert_eq!(format(Timestamp(0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format(Timestamp(1_767_323_045_000_006)), "2026-01-02T03:04:05.000006Z");
        assert_eq!(format(Timestamp(i64::MAX)), "9999-12-30T22:00:00.999999Z");
        assert!(format(Timestamp(i64::MIN)).starts_with("-0099"));
    }

    #[test]
    fn times_are_read_with_any_offset_and_nothing_else_is() {
        let time = Timestamp(1_767_323_045_000_006);
        assert_eq!(parse("2026-01-02T03:04:05.000006Z"), Ok(time));
        assert_eq!(parse("2026-01-02T05:04:05.000006+02:00"), Ok(time));
        assert_eq!(parse("1970-01-01T00:00:00Z"), Ok(Timestamp(0)));
        assert!(parse("9999-12-31T23:59:59Z").unwrap_err().contains("9999-12-30T22:00:00.999999Z"));
        for wrong in ["", "now", "1767323045", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z[UTC]", "\0"] {
            assert!(parse(wrong).unwrap_err().contains("RFC 3339"), "{wrong}");
        }
    }
}
