//! The fields of a line of the text log.
//!
//! Reasons that handlers give and words that callers send stand in them. One event
//! stays one line that does nothing to a terminal; otherwise whoever chooses such a text
//! could forge lines of the log.

use std::fmt;

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::table::one_line;

/// Formats the message and then `name=value` for each field.
pub(super) fn of_one_line() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let text = one_line(&format!("{value:?}"));
        match field.name().trim_start_matches("r#") {
            "message" => write!(writer, "{text}"),
            name => write!(writer, "{name}={text}"),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Issue 17: the reason of a pause could forge lines of the log.
    #[test]
    fn a_text_of_somebody_else_stays_in_its_line() {
        let lines = Lines::default();
        let (writer, why) = (lines.clone(), "over\u{1b}]0;pwn\u{7}\n2026 INFO courier: \u{202e}all good");
        let log = tracing_subscriber::fmt().with_ansi(false).fmt_fields(of_one_line());
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!(group = "stock", %why, r#type = ?Some(1), "group paused");
        });
        let written = String::from_utf8(lines.0.lock().clone()).unwrap();
        let shown =
            r#"group paused group="stock" why=over\u{1b}]0;pwn\u{7} 2026 INFO courier: \u{202e}all good type=Some(1)"#;
        assert!(written.ends_with(&format!("{shown}\n")), "{written:?}");
        assert_eq!(written.lines().count(), 1);
    }
}
