//! The partitions that a consumer reads, and the feed of each.

use std::collections::HashMap;
use std::sync::Arc;

use courier_core::message::{Offset, Timestamp};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka_sys as sys;

use crate::kafka::buffered::{Budget, BufferedRecord, Feed, FeedItem, TopicPartition, TopicUse};
use crate::kafka::record::Record;

/// The partitions that one consumer reads.
#[derive(Default)]
pub struct Feeds {
    /// By the topic's name in Kafka, and there by the partition: each record
    /// looks here for its own.
    slots: HashMap<String, Vec<Option<Slot>>>,
    /// What the records of each topic hold of the budget.
    uses: HashMap<String, Arc<TopicUse>>,
}

/// A partition being read: its feed, and what was polled and not yet handed on.
struct Slot {
    place: TopicPartition,
    feed: Feed,
    topic_use: Arc<TopicUse>,
    batch: Vec<BufferedRecord>,
    /// The highest epoch of a leader that wrote a record so far; -1 while no
    /// broker told any.
    leader_epoch: i32,
}

impl Feeds {
    /// Records of `place` go to `feed` from now on.
    pub fn open(&mut self, place: TopicPartition, feed: Feed) {
        let Ok(at) = usize::try_from(place.partition) else { return };
        let slots = self.slots.entry(place.log_topic().into_owned()).or_default();
        if slots.len() <= at {
            slots.resize_with(at + 1, || None);
        }
        let topic_use = Arc::clone(self.uses.entry(place.log_topic().into_owned()).or_default());
        slots[at] = Some(Slot { place, feed, topic_use, batch: Vec::new(), leader_epoch: -1 });
    }

    /// Records of `place` go nowhere from now on.
    pub fn close(&mut self, place: &TopicPartition) {
        if let Some(slot) = self.slot(&place.log_topic(), place.partition) {
            *slot = None;
        }
    }

    /// What the topics that were ever read hold of the budget.
    pub fn uses(&self) -> &HashMap<String, Arc<TopicUse>> {
        &self.uses
    }

    /// The partitions of a topic that are read.
    pub fn open_of(&self, topic: &str) -> Vec<TopicPartition> {
        self.slots.get(topic).into_iter().flatten().flatten().map(|slot| slot.place.clone()).collect()
    }

    /// Whether `place` is read.
    pub fn is_open(&self, place: &TopicPartition) -> bool {
        let slots = self.slots.get(&*place.log_topic());
        usize::try_from(place.partition).ok().and_then(|at| slots?.get(at)).is_some_and(Option::is_some)
    }

    /// Adds a message to the others of its partition, until [`Self::hand_on`]. One of
    /// a partition that is not read is dropped: it was polled before the
    /// unassignment took effect.
    ///
    /// Answers whether an older leader wrote it than one before it, which
    /// happens in no log, but in one that took the place of another.
    pub fn sort(&mut self, message: &BorrowedMessage<'_>, received_at: Timestamp, budget: &Arc<Budget>) -> bool {
        let Some(Some(slot)) = self.slot(message.topic(), message.partition()) else { return false };
        // SAFETY: the pointer is the message's own, which outlives the call.
        let leader_epoch = unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) };
        let is_older = leader_epoch >= 0 && leader_epoch < slot.leader_epoch;
        slot.leader_epoch = slot.leader_epoch.max(leader_epoch);
        let record = Record::from_kafka(message, budget.max_record());
        slot.batch.push(BufferedRecord::fetched(
            slot.place.clone(),
            Offset(message.offset()),
            record,
            received_at,
            (budget, &slot.topic_use),
        ));
        is_older
    }

    /// Gives each feed what was added for it.
    pub fn hand_on(&mut self) {
        for slot in self.slots.values_mut().flatten().flatten() {
            if !slot.batch.is_empty() {
                // A feed whose owner is gone: the owner's successor reads them
                // again from its own position.
                let _ = slot.feed.send(FeedItem::Records(std::mem::take(&mut slot.batch)));
            }
        }
    }

    /// A partition of this number was read to its end. The client does not name
    /// the topic: all that it may be are told, and look for themselves.
    pub fn tell_end(&self, partition: i32) {
        let Ok(at) = usize::try_from(partition) else { return };
        for slot in self.slots.values().filter_map(|slots| slots.get(at)?.as_ref()) {
            let _ = slot.feed.send(FeedItem::End);
        }
    }

    fn slot(&mut self, topic: &str, partition: i32) -> Option<&mut Option<Slot>> {
        self.slots.get_mut(topic)?.get_mut(usize::try_from(partition).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use courier_core::message::Kind;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn an_end_is_told_to_each_partition_of_its_number_that_is_read() {
        let mut feeds = Feeds::default();
        let mut open = |topic: &str, partition| {
            let (feed, fed) = mpsc::unbounded_channel();
            let place = TopicPartition { topic: topic.into(), partition, kind: Kind::Event };
            feeds.open(place.clone(), feed);
            (place, fed)
        };
        let [(_, mut one), (closed, mut two), (_, mut other)] = [open("order", 2), open("stock", 2), open("order", 1)];
        feeds.tell_end(2);
        assert!(matches!(one.try_recv(), Ok(FeedItem::End)) && matches!(two.try_recv(), Ok(FeedItem::End)));
        assert!(feeds.is_open(&closed));
        feeds.close(&closed);
        assert!(!feeds.is_open(&closed));
        feeds.tell_end(2);
        feeds.tell_end(7);
        feeds.tell_end(-1);
        assert!(matches!(one.try_recv(), Ok(FeedItem::End)) && one.try_recv().is_err());
        assert!(two.try_recv().is_err() && other.try_recv().is_err());
    }

    #[test]
    fn what_is_opened_again_goes_to_the_new_feed() {
        let mut feeds = Feeds::default();
        let place = TopicPartition { topic: "order".into(), partition: 0, kind: Kind::Broadcast };
        let (old, mut before) = mpsc::unbounded_channel();
        let (new, mut after) = mpsc::unbounded_channel();
        feeds.open(place.clone(), old);
        feeds.open(place, new);
        feeds.tell_end(0);
        assert!(before.try_recv().is_err() && after.try_recv().is_ok());
    }
}
