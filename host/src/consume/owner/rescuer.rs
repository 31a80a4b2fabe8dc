//! Finds open deliveries that nobody works on, and runs them.
//!
//! A safety net: the invariants say that there are no such rows. The owner of a
//! partition scans its open rows and compares them with its machine. A row that
//! the machine does not know at two visits in a row, and that did not change in
//! between, is counted in `courier_swept_total`, logged as a warning, and run
//! in its lane's turn. Rows that a person inserted are found this way too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::{Offset, Timestamp};

use super::message::{OwnerMessage, OwnerRef};
use crate::random;
use crate::store::{OpenRow, SharedStore};
use crate::supervise::{self, Task};

/// Time between two visits of an owner, and the jitter that keeps owners apart.
const VISIT_INTERVAL: Duration = Duration::from_secs(4);
const VISIT_JITTER: Duration = Duration::from_secs(2);
/// Rows of one visit; the next visit continues behind them.
const PAGE: u32 = 1_000;

/// The state of the visits of one owner.
#[derive(Debug, Default)]
pub(in crate::consume) struct Rescuer {
    /// Where the next visit begins.
    after: Option<Offset>,
    /// Rows that the machine did not know at the last visit, with their
    /// invocations and when they were first missed.
    suspects: HashMap<Offset, (u32, Timestamp)>,
    /// Notes for the logs of the next attempts of rescued deliveries.
    notes: HashMap<Offset, String>,
}

impl Rescuer {
    /// Time until the next visit.
    pub fn next(&self) -> Duration {
        VISIT_INTERVAL + random::jitter(VISIT_JITTER)
    }

    /// Reads the rows of the next visit, and sends them to the owner.
    pub fn visit(&self, store: SharedStore, address: Arc<OwnerRef>) {
        let after = self.after.unwrap_or(Offset(-1));
        supervise::spawn(Task::PartitionOwner, async move {
            match store.open_page(address.position, after, PAGE).await {
                Ok(rows) => address.tell(OwnerMessage::OpenRowsScanned(rows)),
                Err(error) => tracing::debug!(%error, place = %address.place, "cannot look for forgotten deliveries"),
            }
        });
    }

    /// The unknown rows that were unknown at the last visit too, with since
    /// when.
    pub fn forgotten(
        &mut self,
        visited: &[OpenRow],
        unknown_rows: &[Offset],
        now: Timestamp,
    ) -> Vec<(Offset, Timestamp)> {
        let earlier = std::mem::take(&mut self.suspects);
        let mut forgotten = Vec::new();
        for row in visited.iter().filter(|row| unknown_rows.contains(&row.offset)) {
            match earlier.get(&row.offset) {
                Some((invoked, since)) if *invoked == row.attempts.invoked => forgotten.push((row.offset, *since)),
                _ => {
                    self.suspects.insert(row.offset, (row.attempts.invoked, now));
                }
            }
        }
        // A page with an unknown row is read once more before the scan continues.
        let full = visited.len() == PAGE as usize;
        if self.suspects.is_empty() {
            self.after = visited.last().filter(|_| full).map(|row| row.offset);
        }
        forgotten
    }

    /// Notes why a delivery runs.
    pub fn note(&mut self, offset: Offset, since: Timestamp) {
        let since = jiff::Timestamp::from_microsecond(since.0).map(|since| since.to_string()).unwrap_or_default();
        let note = format!("courier: nobody worked on this delivery since {since} or longer; found by the sweeper");
        self.notes.insert(offset, note);
    }

    /// The log of an attempt, with the note before it.
    pub fn explain(&mut self, offset: Offset, log: Option<String>) -> Option<String> {
        match (self.notes.remove(&offset), log) {
            (Some(note), Some(log)) => Some(format!("{note}\n{log}")),
            (note, log) => note.or(log),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courier_core::message::Attempts;
    use courier_core::status::State;

    fn row(offset: i64, invoked: u32) -> OpenRow {
        OpenRow {
            position: crate::store::PositionId(1),
            offset: Offset(offset),
            key: None,
            message_id: format!("m-{offset}"),
            state: State::Committed,
            next_attempt_at: None,
            held: false,
            attempts: Attempts { invoked, used: 0 },
            received_at: Timestamp(0),
            record_bytes: 0,
            asked_at: None,
            give_up: None,
        }
    }

    #[test]
    fn a_row_is_forgotten_when_nobody_knew_it_twice() {
        let mut rescuer = Rescuer::default();
        let unknown_rows = [Offset(3), Offset(4)];
        assert!(rescuer.forgotten(&[row(3, 0), row(4, 1), row(5, 1)], &unknown_rows, Timestamp(10)).is_empty());
        let found = rescuer.forgotten(&[row(3, 0), row(4, 2), row(5, 1)], &unknown_rows, Timestamp(20));
        assert_eq!(found, [(Offset(3), Timestamp(10))], "4 was tried meanwhile, 5 is known");
    }

    #[test]
    fn the_note_stands_before_what_the_handler_logged() {
        let mut rescuer = Rescuer::default();
        assert_eq!(rescuer.explain(Offset(1), None), None);
        rescuer.note(Offset(1), Timestamp(0));
        let log = rescuer.explain(Offset(1), Some("reserved".to_owned())).unwrap();
        assert!(log.contains("found by the sweeper\nreserved") && log.contains("1970-01-01"), "{log}");
        assert_eq!(rescuer.explain(Offset(1), None), None, "it is told once");
    }
}
