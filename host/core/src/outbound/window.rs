//! Bounds how many records of one partition the Kafka client has at once.
//!
//! An idempotent producer keeps its order only where the broker has state for
//! it: a broker without state takes any first sequence number. With several
//! requests in flight to a fresh partition, the first can fail for now and the
//! second be accepted; the client then reports success for the first, without
//! an offset, though it is nowhere in the log (librdkafka 2.12,
//! `rd_kafka_dr_implicit_ack`). A broker also forgets a producer after
//! `producer.id.expiration.ms`.
//!
//! Therefore the client is handed one record at a time until the partition
//! acknowledged one at a real offset, and more only while such an
//! acknowledgement is younger than [`OPEN_FOR`] and no error came since.
//!
//! The client packs what it has into batches, and a broker refuses a batch as a
//! whole: one of a thousand small records is too large for a topic whose
//! `max.message.bytes` is below the client's size of batches, and none of its
//! records is. So a refusal is believed of a record that was with the client
//! [alone](Window::is_alone), and one of several narrows the window: the client
//! has fewer bytes at once from then on.

use std::time::Duration;

use crate::message::{Offset, Timestamp};

/// How long an acknowledgement at a real offset keeps the window open. It is far
/// below any usual `producer.id.expiration.ms` (one day by default).
pub const OPEN_FOR: Duration = Duration::from_secs(60);

/// The largest batch that the client makes by default (its `batch.size`): what it
/// has beyond that lies in other batches.
const LARGEST_BATCH_BYTES: usize = 1_000_000;
/// The part of the bytes in flight that a refused batch leaves to the window. Each
/// step sends the records of a batch once more through the relay, so they are few.
const NARROWED_TO: usize = 4;
/// After this long without a refusal the window takes twice as many bytes: the
/// topic may take larger batches by now. Until then a topic with a small limit
/// has one refused batch in this time at most.
const WIDENED_AFTER: Duration = Duration::from_secs(600);
/// A window that takes one small record at a time takes more at the first step.
const WIDENED_TO: usize = 1_024;

/// The client's report on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Kafka acknowledged it at this offset.
    Acknowledged(Offset),
    /// The client reported success without an offset: the fate is unknown.
    WithoutOffset,
    /// The client reported an error.
    Failed,
    /// The broker refused the batch of the record for what is in it.
    Refused,
}

/// The bound on the bytes in flight after a batch was refused.
#[derive(Clone, Copy, Debug)]
struct Narrowed {
    bytes: usize,
    widened_at: Timestamp,
}

/// The window of one partition. Its times must be of a clock that never goes
/// back.
#[derive(Clone, Debug, Default)]
pub struct Window {
    in_flight: usize,
    in_flight_bytes: usize,
    /// Whether several records were in flight at once since there was none.
    together: bool,
    narrowed: Option<Narrowed>,
    /// When the window closes; `None` while it is closed.
    open_until: Option<Timestamp>,
    /// Records that were handed over before the last error. Their
    /// acknowledgements do not open the window, since the failed record may lie
    /// between them.
    doubtful: usize,
    /// The offset after the last acknowledged one.
    behind_last: Option<Offset>,
}

impl Window {
    /// Whether the client may have one more record, of `bytes`.
    #[must_use]
    pub fn admits(&self, now: Timestamp, bytes: usize) -> bool {
        let has_room = || self.narrowed.is_none_or(|narrowed| self.in_flight_bytes + bytes <= narrowed.bytes);
        self.in_flight == 0 || self.open_until.is_some_and(|until| now < until) && has_room()
    }

    /// Notes that the client was handed a record of `bytes`.
    pub fn handed_over(&mut self, bytes: usize) {
        self.together = self.in_flight > 0;
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
    }

    /// Whether the record in flight cannot share a batch with another: the client
    /// had no other since it was handed over.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.in_flight == 1 && !self.together
    }

    /// Notes the client's report on a record of `bytes`.
    pub fn delivered(&mut self, now: Timestamp, bytes: usize, delivery: Delivery) {
        let doubtful = self.doubtful > 0;
        // The other records of a batch that was refused say nothing new.
        if delivery == Delivery::Refused && !self.is_alone() && !doubtful {
            let bytes = self.in_flight_bytes.min(LARGEST_BATCH_BYTES) / NARROWED_TO;
            self.narrowed = Some(Narrowed { bytes, widened_at: after(now, WIDENED_AFTER) });
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        self.doubtful = self.doubtful.saturating_sub(1);
        match delivery {
            Delivery::Acknowledged(offset) => {
                self.behind_last = Some(Offset(offset.0 + 1));
                self.widen(now);
                if !doubtful {
                    self.open_until = Some(after(now, OPEN_FOR));
                }
            }
            Delivery::WithoutOffset | Delivery::Failed | Delivery::Refused => self.close(),
        }
    }

    fn widen(&mut self, now: Timestamp) {
        if let Some(Narrowed { bytes, .. }) = self.narrowed.filter(|narrowed| now >= narrowed.widened_at) {
            let wider = Narrowed { bytes: (bytes * 2).max(WIDENED_TO), widened_at: after(now, WIDENED_AFTER) };
            self.narrowed = (wider.bytes < LARGEST_BATCH_BYTES).then_some(wider);
        }
    }

    /// Closes the window: the records in flight end first, then one goes alone.
    /// Also for a client that was replaced, since no broker knows its successor.
    pub fn close(&mut self) {
        self.open_until = None;
        self.doubtful = self.in_flight;
    }

    /// The number of records that the client has.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The offset after the last acknowledged record, or 0 when none was
    /// acknowledged: a record of unknown fate lies there or later, if at all.
    #[must_use]
    pub fn unknown_from(&self) -> Offset {
        self.behind_last.unwrap_or(Offset(0))
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn a_fresh_partition_gets_one_record_until_it_acknowledged_one() {
        let mut window = Window::default();
        assert!(window.admits(at(0), 1));
        window.handed_over(1);
        assert!(!window.admits(at(0), 1));
        window.delivered(at(1), 1, Delivery::Acknowledged(Offset(7)));
        for _ in 0..100 {
            assert!(window.admits(at(2), 1));
            window.handed_over(1);
        }
        assert_eq!((window.in_flight(), window.unknown_from()), (100, Offset(8)));
    }

    #[test]
    fn an_acknowledgement_opens_for_a_minute() {
        let mut window = Window::default();
        window.handed_over(1);
        window.delivered(at(0), 1, Delivery::Acknowledged(Offset(0)));
        window.handed_over(1);
        assert!(window.admits(at(59), 1) && !window.admits(at(60), 1));
    }

    #[test]
    fn success_without_an_offset_and_errors_close_until_a_record_sent_afterwards_is_acknowledged() {
        for bad in [Delivery::WithoutOffset, Delivery::Failed] {
            let mut window = Window::default();
            window.handed_over(1);
            window.delivered(at(0), 1, Delivery::Acknowledged(Offset(0)));
            for _ in 0..3 {
                window.handed_over(1);
            }
            window.delivered(at(1), 1, bad);
            assert!(!window.admits(at(1), 1));
            // Acknowledgements of records sent before the error open nothing.
            window.delivered(at(1), 1, Delivery::Acknowledged(Offset(1)));
            assert!(!window.admits(at(1), 1));
            window.delivered(at(1), 1, Delivery::Acknowledged(Offset(2)));
            assert!(window.admits(at(1), 1));
            window.handed_over(1);
            assert!(!window.admits(at(1), 1));
            window.delivered(at(2), 1, Delivery::Acknowledged(Offset(3)));
            window.handed_over(1);
            assert!(window.admits(at(2), 1));
        }
    }

    /// A window with `count` records of 1,000 bytes in flight.
    fn with(count: usize) -> Window {
        let mut window = Window::default();
        window.handed_over(1_000);
        window.delivered(at(0), 1_000, Delivery::Acknowledged(Offset(0)));
        for _ in 0..count {
            window.handed_over(1_000);
        }
        window
    }

    #[test]
    fn a_record_is_alone_unless_the_client_had_another_with_it() {
        let mut window = with(1);
        assert!(window.is_alone());
        window.handed_over(1_000);
        assert!(!window.is_alone());
        // The record that is left was in a batch with the refused one.
        window.delivered(at(1), 1_000, Delivery::Refused);
        assert!(!window.is_alone());
        window.delivered(at(1), 1_000, Delivery::Refused);
        window.handed_over(1_000);
        assert!(window.is_alone());
    }

    #[test]
    fn refused_batches_narrow_the_window_and_time_widens_it() {
        let mut window = with(100);
        for _ in 0..100 {
            window.delivered(at(1), 1_000, Delivery::Refused);
        }
        let fits = |window: &mut Window, now: Timestamp| {
            window.handed_over(1_000);
            window.delivered(now, 1_000, Delivery::Acknowledged(Offset(1)));
            let mut count = 0;
            while window.admits(now, 1_000) && count < 2_000 {
                window.handed_over(1_000);
                count += 1;
            }
            for _ in 0..count {
                window.delivered(now, 1_000, Delivery::Acknowledged(Offset(2)));
            }
            count
        };
        assert_eq!(fits(&mut window, at(2)), 25, "once for all records of the batch");
        assert!(window.admits(at(2), 50_000), "what is larger goes alone");
        assert_eq!((fits(&mut window, at(601)), fits(&mut window, at(1_201))), (50, 100));
        for minute in 3..8 {
            fits(&mut window, at(minute * 601));
        }
        assert_eq!(fits(&mut window, at(8 * 601)), 2_000, "wider than any batch is no bound");
    }

    #[test]
    fn a_record_that_was_refused_alone_narrows_nothing() {
        let mut window = with(1);
        window.delivered(at(1), 1_000, Delivery::Refused);
        window.handed_over(1_000);
        window.delivered(at(2), 1_000, Delivery::Acknowledged(Offset(1)));
        window.handed_over(1_000);
        assert!(window.admits(at(2), LARGEST_BATCH_BYTES));
    }
}
