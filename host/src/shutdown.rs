//! The signals that stop a host or make it read its configuration again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives the signals of the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The request that a signal makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// Drain and stop (SIGTERM, SIGINT). A second one stops at once.
    Stop,
    /// Read the configuration again (SIGHUP).
    Reload,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Stop,
            _ = self.interrupt.recv() => StopSignal::Stop,
            _ = self.hangup.recv() => StopSignal::Reload,
        }
    }
}
