//! Keeps the order of keys in a topic that got more partitions.
//!
//! A producer that sees more partitions sends a key to another partition than
//! before. While deliveries of the key are open in its older partition, from
//! before the growth, new ones wait here as open rows; every other key goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::message::{OwnerMessage, OwnerRef};
use crate::config::Ordering;
use crate::store::{Growth, SharedStore, TopicOfGroup};
use crate::supervise::{self, Task};

/// How often the store is asked whether they have ended.
const LOOK: Duration = Duration::from_secs(1);

/// The keys that an owner waits for.
#[derive(Debug)]
pub(in crate::consume) struct OlderPartitions {
    keys: HashSet<Bytes>,
    look_at: Option<Instant>,
    topic_id: Arc<str>,
}

impl OlderPartitions {
    /// The keys of a claim, where the binding keeps the order of keys.
    pub fn of(keys: Vec<Bytes>, ordering: Ordering, topic_id: Arc<str>) -> Self {
        let keys: HashSet<Bytes> = keys.into_iter().filter(|_| ordering == Ordering::Key).collect();
        let look_at = (!keys.is_empty()).then(|| Instant::now() + LOOK);
        Self { keys, look_at, topic_id }
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }

    /// When [`OlderPartitions::look`] is wanted.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Asks which keys are still open, and sends the answer to the owner.
    pub fn look(&mut self, store: SharedStore, owner: &Arc<OwnerRef>, group: &str) {
        // No second question until this one is answered.
        self.look_at = None;
        let asking = ask(store, Arc::clone(owner), group.to_owned(), Arc::clone(&self.topic_id));
        supervise::spawn(Task::PartitionOwner, asking);
    }

    /// Keeps the keys that are still open, and returns the others.
    pub fn open(&mut self, open: &[Bytes]) -> Vec<Bytes> {
        // There may be as many as a partition may park, so neither is searched through.
        let open: HashSet<&Bytes> = open.iter().collect();
        let ended: Vec<Bytes> = self.keys.extract_if(|key| !open.contains(key)).collect();
        self.look_at = (!self.keys.is_empty()).then(|| Instant::now() + LOOK);
        ended
    }
}

async fn ask(store: SharedStore, owner: Arc<OwnerRef>, group: String, topic_id: Arc<str>) {
    let place = &owner.place;
    let topic = TopicOfGroup { group: &group, topic: &place.topic, topic_id: &topic_id };
    let asked = async {
        loop {
            match store.growth(&topic, place.partition).await {
                Ok(Growth::Passed(keys)) => return keys,
                // The position of an older partition was moved back: what is
                // open there now is no part of the growth.
                Ok(_) => {}
                Err(error) => tracing::debug!(%place, %error, "cannot ask which keys are open in older partitions"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = owner.dropped.cancelled() => {}
        keys = asked => owner.tell(OwnerMessage::OpenAhead(keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_waited_for_until_the_last_has_ended() {
        let keys = || vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let mut ahead = OlderPartitions::of(keys(), Ordering::Key, "id".into());
        assert!(ahead.look_at().is_some());
        assert_eq!(ahead.open(&keys()[..1]), keys()[1..]);
        assert!(ahead.look_at().is_some() && ahead.open(&keys()[..1]).is_empty());
        assert_eq!(ahead.open(&[]), keys()[..1]);
        assert!(ahead.look_at().is_none() && ahead.keys().next().is_none());
        assert!(OlderPartitions::of(keys(), Ordering::None, "id".into()).look_at().is_none(), "no order is promised");
    }
}
