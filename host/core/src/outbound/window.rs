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

use std::time::Duration;

use crate::message::{Offset, Timestamp};

/// How long an acknowledgement at a real offset keeps the window open. It is far
/// below any usual `producer.id.expiration.ms` (one day by default).
pub const OPEN_FOR: Duration = Duration::from_secs(60);

/// The client's report on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Kafka acknowledged it at this offset.
    Acknowledged(Offset),
    /// The client reported success without an offset: the fate is unknown.
    WithoutOffset,
    /// The client reported an error.
    Failed,
}

/// The window of one partition. Its times must be of a clock that never goes
/// back.
#[derive(Clone, Debug, Default)]
pub struct Window {
    in_flight: usize,
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
    /// Whether the client may have one more record.
    #[must_use]
    pub fn admits(&self, now: Timestamp) -> bool {
        self.in_flight == 0 || self.open_until.is_some_and(|until| now < until)
    }

    /// Notes that the client was handed a record.
    pub fn handed_over(&mut self) {
        self.in_flight += 1;
    }

    /// Notes the client's report on a record.
    pub fn delivered(&mut self, now: Timestamp, delivery: Delivery) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let doubtful = self.doubtful > 0;
        self.doubtful = self.doubtful.saturating_sub(1);
        match delivery {
            Delivery::Acknowledged(offset) => {
                self.behind_last = Some(Offset(offset.0 + 1));
                if !doubtful {
                    let micros = i64::try_from(OPEN_FOR.as_micros()).unwrap_or(i64::MAX);
                    self.open_until = Some(Timestamp(now.0.saturating_add(micros)));
                }
            }
            Delivery::WithoutOffset | Delivery::Failed => self.close(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn a_fresh_partition_gets_one_record_until_it_acknowledged_one() {
        let mut window = Window::default();
        assert!(window.admits(at(0)));
        window.handed_over();
        assert!(!window.admits(at(0)));
        window.delivered(at(1), Delivery::Acknowledged(Offset(7)));
        for _ in 0..100 {
            assert!(window.admits(at(2)));
            window.handed_over();
        }
        assert_eq!((window.in_flight(), window.unknown_from()), (100, Offset(8)));
    }

    #[test]
    fn an_acknowledgement_opens_for_a_minute() {
        let mut window = Window::default();
        window.handed_over();
        window.delivered(at(0), Delivery::Acknowledged(Offset(0)));
        window.handed_over();
        assert!(window.admits(at(59)) && !window.admits(at(60)));
    }

    #[test]
    fn success_without_an_offset_and_errors_close_until_a_record_sent_afterwards_is_acknowledged() {
        for bad in [Delivery::WithoutOffset, Delivery::Failed] {
            let mut window = Window::default();
            window.handed_over();
            window.delivered(at(0), Delivery::Acknowledged(Offset(0)));
            for _ in 0..3 {
                window.handed_over();
            }
            window.delivered(at(1), bad);
            assert!(!window.admits(at(1)));
            // Acknowledgements of records sent before the error open nothing.
            window.delivered(at(1), Delivery::Acknowledged(Offset(1)));
            assert!(!window.admits(at(1)));
            window.delivered(at(1), Delivery::Acknowledged(Offset(2)));
            assert!(window.admits(at(1)));
            window.handed_over();
            assert!(!window.admits(at(1)));
            window.delivered(at(2), Delivery::Acknowledged(Offset(3)));
            window.handed_over();
            assert!(window.admits(at(2)));
        }
    }
}
