//! Handles rerun requests, rows that nobody works on, and records that Kafka is
//! about to remove.

use std::sync::Arc;

use courier_core::message::Offset;
use courier_core::partition::Event;

use super::Owner;
use super::foresight::Foresight;
use super::lanes::LaneRule;
use super::message::ReadyDelivery;
use super::reruns;
use crate::clock::now;
use crate::said;
use crate::store::OpenRow;

impl Owner {
    pub(super) fn asked(&mut self, rows: Vec<OpenRow>) {
        let newest = rows.iter().filter_map(|row| row.asked_at).max();
        for row in rows {
            let at = row.asked_at.unwrap_or_default();
            if self.seen_asks.insert(row.offset, at) == Some(at) {
                continue;
            }
            let rule = LaneRule::of(&self.bound);
            self.step(Event::RerunRequested(rule.open(&row)));
            if row.give_up.is_some() {
                self.recall(row.offset);
            }
        }
        if let Some(newest) = newest {
            let horizon = reruns::WINDOW * 2;
            self.seen_asks.retain(|_, at| newest.since(*at) < horizon);
        }
    }

    /// Recalls a dispatched delivery that was given up, unless its attempt has
    /// begun: a pause could delay its end for ever.
    fn recall(&self, offset: Offset) {
        let Some(recall) = self.recalls.get(&offset) else { return };
        recall.cancel();
        self.recalled.send_replace(());
        let is_meant = |delivery: &ReadyDelivery| {
            delivery.buffered.offset == offset && Arc::ptr_eq(&delivery.owner, &self.address)
        };
        self.bound.ready.drain_where(is_meant).into_iter().for_each(ReadyDelivery::give_back);
    }

    /// Pauses the partition while parked records will be lost.
    pub(super) fn foreseen(&mut self, found: Option<&Foresight>) {
        self.preserver.looked(found, &self.tools.causes);
        if let Some(found) = found {
            self.step(Event::LossAhead(found.is_loss()));
        }
    }

    /// Runs the open rows that nobody works on.
    pub(super) fn visited(&mut self, rows: &[OpenRow]) {
        let rule = LaneRule::of(&self.bound);
        let lanes: Vec<_> = rows.iter().map(|row| (row.offset, rule.lane_of_row(row))).collect();
        let unknown_rows = self.machine.unknown_rows(&lanes);
        let mut found = 0_u64;
        for (offset, since) in self.rescuer.forgotten(rows, &unknown_rows, now()) {
            let Some(row) = rows.iter().find(|row| row.offset == offset) else { continue };
            // A row that waits for a person is not forgotten.
            if row.held && row.give_up.is_none() {
                continue;
            }
            found += 1;
            self.rescuer.note(offset, since);
            self.step(Event::RerunRequested(rule.open(row)));
        }
        let (group, place) = (&self.bound.binding.group, &self.address.place);
        if found > 0 {
            metrics::counter!("courier_swept_total", "group" => group.clone()).increment(found);
            if let Some(unsaid) = said::again(&format!("{group} {place} swept")) {
                tracing::warn!(group, %place, found, unsaid, "open deliveries without an owner were rescued");
            }
        }
    }
}
