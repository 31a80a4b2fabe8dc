//! How fast something went, from what it had done at which time.

use std::time::Instant;

/// Part of a run that is left out at its beginning and at its end: joining a
/// group and the last half-filled batch say nothing about throughput.
const EDGE: f64 = 0.1;

/// What was done by when.
#[derive(Debug, Default)]
pub struct Progress {
    notes: Vec<(Instant, u64)>,
}

impl Progress {
    /// So much is done now.
    pub fn note(&mut self, done: u64) {
        self.notes.push((Instant::now(), done));
    }

    /// Messages a second in the middle of the run; none for a run that is too
    /// short to have one.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let total = self.notes.last()?.1 as f64;
        let first = self.notes.iter().find(|(_, done)| *done as f64 >= total * EDGE)?;
        let last = self.notes.iter().find(|(_, done)| *done as f64 >= total * (1.0 - EDGE))?;
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        (seconds > 0.0).then(|| (last.1 - first.1) as f64 / seconds)
    }
}
