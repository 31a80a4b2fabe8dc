//! The log of an attempt: what its handler logs, and prints to standard output and
//! error.
//!
//! It is bounded by the call, and by the group's budget of stored logs
//! ([`log_budget`](super::log_budget)). Text over a bound is cut with a mark, so
//! that a handler that floods its log does not fail for it. Any bytes may come
//! in; the log is valid UTF-8 without escape sequences and control characters,
//! since people see it in terminals and browsers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::fault::size;
use super::limits::{LOG_BYTES_A_SECOND, LOG_KEPT_BYTES, PANIC_TAIL_BYTES};
use super::log_budget::LogBudget;
use super::redaction::Redaction;

/// The log of the current call. The instance's store and the sandbox share it,
/// since the sandbox needs it after the store is dropped.
#[derive(Clone, Debug)]
pub(super) struct SharedLog {
    log: Arc<Mutex<HandlerLog>>,
    budget: LogBudget,
    redaction: Arc<Redaction>,
}

/// The logged text, up to the limit.
#[derive(Debug)]
pub(super) struct HandlerLog {
    kept: Vec<u8>,
    limit: usize,
    cut: bool,
    /// The end of what went to standard error or was logged as an error. A panic
    /// message is found here even if the log was cut before it.
    tail: Vec<u8>,
}

impl SharedLog {
    pub(super) fn new(limit: usize, budget: LogBudget) -> Self {
        let log = HandlerLog { kept: Vec::new(), limit, cut: false, tail: Vec::new() };
        Self { log: Arc::new(Mutex::new(log)), budget, redaction: Arc::default() }
    }

    /// The same log with secrets removed.
    pub(super) fn without(self, redaction: Arc<Redaction>) -> Self {
        Self { redaction, ..self }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HandlerLog> {
        self.log.lock()
    }

    /// Returns the log, of which each of `copies` attempts keeps a copy, and begins an
    /// empty one.
    pub(super) fn take(&self, copies: usize) -> String {
        let mut log = self.lock();
        let bytes = log.kept.len();
        let over = bytes > LOG_KEPT_BYTES && !self.budget.spend(bytes.saturating_mul(copies));
        log.take(over, &self.redaction)
    }

    /// Logs that the host refused a request of the guest.
    pub(super) fn refused(&self, why: &str) {
        let mut log = self.lock();
        log.line();
        log.print(format!("WARN http: {why}\n").as_bytes(), false);
    }

    /// Drops what is left of a call that was given up.
    pub(super) fn drop_rest(&self) {
        self.lock().take(true, &self.redaction);
    }

    /// The end of what went to standard error or was logged as an error.
    pub(super) fn tail(&self) -> String {
        clean(&self.lock().tail)
    }
}

impl HandlerLog {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let room = self.limit - self.kept.len();
        if bytes.len() > room {
            self.cut = true;
        }
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Begins a new line unless the log is at the beginning of one.
    pub(super) fn line(&mut self) {
        if self.kept.last().is_some_and(|last| *last != b'\n') {
            self.write(b"\n");
        }
    }

    pub(super) fn print(&mut self, bytes: &[u8], error: bool) {
        self.write(bytes);
        if error {
            self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(PANIC_TAIL_BYTES)..]);
            let excess = self.tail.len().saturating_sub(PANIC_TAIL_BYTES);
            self.tail.drain(..excess);
        }
    }

    /// Returns the log; `over` the group's budget only its beginning.
    fn take(&mut self, over: bool, redaction: &Redaction) -> String {
        self.tail.clear();
        if self.kept.is_empty() && !self.cut {
            return String::new();
        }
        let mut kept = std::mem::take(&mut self.kept);
        let cut = std::mem::take(&mut self.cut);
        if over {
            kept.truncate(LOG_KEPT_BYTES);
        }
        let mut text = redaction.hide(clean(&kept), cut || over);
        if over {
            let most = size(LOG_BYTES_A_SECOND.get().into());
            text.push_str(&format!("\n[log cut: this group logs more than {most} a second]"));
        } else if cut {
            text.push_str(&format!("\n[log cut: limit {}]", size(self.limit as u64)));
        }
        text
    }
}

/// Cleans text for people: replaces invalid bytes, and removes escape sequences
/// and control characters except tab and newline.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' | '\n' => out.push(c),
            '\u{1b}' => match chars.next() {
                // CSI: parameters up to a final byte.
                Some('[') => {
                    while let Some(next) = chars.next_if(|next| ('\u{20}'..='\u{7e}').contains(next)) {
                        if ('\u{40}'..='\u{7e}').contains(&next) {
                            break;
                        }
                    }
                }
                // OSC and other strings: up to BEL or ST, within the line, so that a sequence
                // without an end hides no more than that.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(next) = chars.next_if(|next| *next != '\n') {
                        if next == '\u{7}' {
                            break;
                        }
                        if next == '\u{1b}' {
                            chars.next_if_eq(&'\\');
                            break;
                        }
                    }
                }
                Some('\n') => out.push('\n'),
                _ => {}
            },
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Standard output or standard error of a guest.
pub(super) struct Printed {
    pub(super) log: SharedLog,
    pub(super) error: bool,
}

/// Bytes that a guest may print in one write.
const PRINT_BYTES: usize = 64 * 1024;

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self { log: self.log.clone(), error: self.error })
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Self { log: self.log.clone(), error: self.error })
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.lock().print(&bytes, self.error);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PRINT_BYTES)
    }
}

#[async_trait::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.lock().print(bytes, self.error);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_with_a_mark() {
        let log = SharedLog::new(64 * 1024, LogBudget::default());
        for _ in 0..20_000 {
            log.lock().print(b"0123456789\n", false);
        }
        let text = log.take(1);
        assert!(text.ends_with("\n[log cut: limit 64KiB]"), "{}", &text[text.len() - 40..]);
        assert!(text.len() < 64 * 1024 + 40);
        assert_eq!(log.take(1), "");
    }

    #[test]
    fn a_group_that_floods_keeps_the_beginning_of_each_log() {
        let log = SharedLog::new(64 * 1024, LogBudget::default());
        let flood = || {
            log.lock().print(&[b'x'; 64 * 1024], false);
            log.take(1)
        };
        // The burst, and the few bytes that come back meanwhile.
        let mut floods = 0;
        let text = std::iter::from_fn(|| Some(flood()))
            .take(1_000)
            .inspect(|_| floods += 1)
            .find(|text| text.len() < 64 * 1024);
        let text = text.expect("it ends with one that is cut");
        assert!((129..1_000).contains(&floods), "{floods}");
        assert!(text.ends_with("\n[log cut: this group logs more than 1MiB a second]"), "{}", &text[LOG_KEPT_BYTES..]);
        assert!(text.starts_with(&"x".repeat(LOG_KEPT_BYTES)) && text.len() < LOG_KEPT_BYTES + 60);
        log.lock().print(&[b'y'; LOG_KEPT_BYTES], false);
        assert_eq!(log.take(1), "y".repeat(LOG_KEPT_BYTES), "a short log is always whole");
        log.lock().print(&[b'z'; 64 * 1024], false);
        assert!(log.take(1_000).len() < 2 * LOG_KEPT_BYTES, "a batch keeps one for each of its items");
    }

    #[test]
    fn secrets_in_a_log_are_replaced_also_where_it_is_cut() {
        let secret = secrecy::SecretString::from("s3cret");
        let redaction = Arc::new(Redaction::of([&secret].into_iter()));
        let log = SharedLog::new(20, LogBudget::default()).without(redaction);
        log.lock().print(b"a s3cret, b\n", false);
        assert_eq!(log.take(1), "a ***, b\n");
        log.lock().print(b"0123456789abcd s3cret", false);
        assert_eq!(log.take(1), "0123456789abcd ***\n[log cut: limit 20 bytes]");
    }

    #[test]
    fn a_log_at_its_limit_is_whole() {
        let log = SharedLog::new(5, LogBudget::default());
        log.lock().print(b"12345", false);
        assert_eq!(log.take(1), "12345");
    }

    #[test]
    fn hostile_bytes_become_text() {
        assert_eq!(clean(b"a\x1b[31;1mred\x1b[0m\0b\xff\tc\r\n"), "aredb\u{fffd}\tc\n");
        assert_eq!(clean(b"\x1b]0;title\x07x\x1b]8;;http://x\x1b\\y"), "xy");
        assert_eq!(clean(b"\x1b]never ended\nnext"), "\nnext");
        assert_eq!(clean("\x1b[ü \u{9b}31m".as_bytes()), "ü 31m");
        assert_eq!(clean(b"\x1b"), "");
    }

    #[test]
    fn the_tail_outlives_the_cut() {
        let log = SharedLog::new(10, LogBudget::default());
        log.lock().print(&[b'x'; 100_000], true);
        log.lock().print(b"panicked at here:\nboom", true);
        assert!(log.tail().ends_with("panicked at here:\nboom"));
        assert!(log.lock().tail.len() <= PANIC_TAIL_BYTES);
    }
}
