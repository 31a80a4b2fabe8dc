//! Shows the responses of a host to people or programs.

use std::io::Write as _;

use clap::ValueEnum;

use super::client::ResponseText;
use super::table;

/// The form in which responses are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table for people.
    Table,
    /// The JSON of the API, unchanged.
    Json,
}

/// Prints text, and a line end if it has none.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Prints a warning on standard error.
pub(super) fn warn(text: &str) {
    // A warning that cannot be shown is no failure of the command.
    let _ = writeln!(std::io::stderr(), "warning: {}", table::clean(text));
}

/// Shows a response: unchanged, or as the text that `people` makes of it.
pub(super) fn show<T: serde::de::DeserializeOwned>(
    output: Output,
    answer: &ResponseText,
    people: impl FnOnce(T) -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Json => say(answer.text()),
        Output::Table => say(&people(answer.read()?)),
    }
}

/// Reads a point in time: RFC 3339, or a duration before now.
pub(super) fn point_in_time(text: &str) -> Result<String, String> {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    #[allow(clippy::disallowed_methods, reason = "a command asks its own machine how late it is")]
    let ago = crate::config::parse_duration(text).ok().and_then(|ago| jiff::Timestamp::now().checked_sub(ago).ok());
    ago.map(|time| format!("{time:.6}"))
        .ok_or_else(|| "write a time, 2026-01-31T08:00:00Z, or how long ago, 15m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "it compares with the time of its own machine")]
    fn a_duration_is_that_long_ago() {
        assert_eq!(point_in_time("2026-01-31T08:00:00Z").unwrap(), "2026-01-31T08:00:00Z");
        let time: jiff::Timestamp = point_in_time("1h").unwrap().parse().unwrap();
        assert!((3_590..3_610).contains(&jiff::Timestamp::now().duration_since(time).as_secs()));
        assert!(point_in_time("yesterday").is_err());
    }
}
