//! Applies the results of rows, and checks that the rows kept their order.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::outbound::RowEnd;
use crate::outbound::simulation::Bug;
use crate::outbound::simulation::kafka::Topic;

impl World {
    pub(super) fn settle(&mut self, row: i64, end: RowEnd) -> Result<(), String> {
        match end {
            RowEnd::Acknowledged { partition, offset } => {
                let Some(stored) = self.outbound.remove(&row) else { return Ok(()) };
                let place = (usize::try_from(partition).unwrap_or(0), usize::try_from(offset.0).unwrap_or(usize::MAX));
                let lies = |topic: &Topic| {
                    topic
                        .partitions
                        .get(place.0)
                        .and_then(|of| of.log.get(place.1))
                        .is_some_and(|logged| logged.row == row)
                };
                let past = self.past.iter().filter(|(name, _)| *name == stored.topic).map(|(_, topic)| topic);
                if !past.chain([&self.topics[stored.topic]]).any(lies) {
                    return Err(format!("row {row} is COMMITTED at {partition}:{} and is not there", offset.0));
                }
                self.paid.insert(row);
            }
            RowEnd::Undelivered(why) => {
                let Some(stored) = self.outbound.remove(&row) else { return Ok(()) };
                if stored.size <= self.smallest_limit {
                    return Err(format!("row {row} could have been sent: {}", why.reason));
                }
                self.undelivered.insert(row);
            }
            RowEnd::Retry(retry) => {
                let wait = i64::try_from(retry.wait.as_micros()).unwrap_or(0);
                let Some(stored) = self.outbound.get_mut(&row) else { return Ok(()) };
                stored.tries += 1;
                stored.held_until = self.now + wait;
                stored.unknown_from = retry.unknown_from;
                if self.bug == Some(Bug::DeletedAfterTries) && stored.tries > 5 {
                    self.outbound.remove(&row);
                }
            }
        }
        Ok(())
    }

    /// Checks that rows of a key lie in one partition of a topic, and that their
    /// first copies lie there in the order of their ids.
    pub(super) fn check_orders(&self) -> Result<(), String> {
        let present = self.topics.iter().enumerate();
        let mut earlier: BTreeSet<(usize, i64)> = BTreeSet::new();
        for (name, topic) in self.past.iter().map(|(name, topic)| (*name, topic)).chain(present) {
            let mut first: BTreeMap<usize, Vec<(i64, usize)>> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for (number, partition) in topic.partitions.iter().enumerate() {
                for logged in &partition.log {
                    // A row whose record lay in an earlier topic of the name may come again,
                    // since the host could not know.
                    let again = earlier.contains(&(name, logged.row)) || self.refused.contains(&logged.row);
                    if again || !seen.insert(logged.row) {
                        continue;
                    }
                    // A record that was meant for an earlier topic of the name was sent before
                    // its host could know that the topic is gone.
                    if let Some(key) = self.key_of(logged.row).filter(|_| logged.meant_for == topic.id) {
                        first.entry(key).or_default().push((logged.row, number));
                    }
                }
            }
            earlier.extend(seen.into_iter().map(|row| (name, row)));
            for (key, rows) in first {
                if rows.windows(2).any(|pair| pair[0].1 == pair[1].1 && pair[0].0 > pair[1].0) {
                    return Err(format!("topic {name}: rows of key {key} lie as {rows:?}"));
                }
                if !topic.grown && rows.iter().any(|row| row.1 != rows[0].1) {
                    return Err(format!("topic {name}: rows of key {key} lie in several partitions: {rows:?}"));
                }
            }
        }
        Ok(())
    }

    /// The key of a row.
    pub(super) fn key_of(&self, row: i64) -> Option<usize> {
        self.keys.get(&row).copied().flatten()
    }
}
