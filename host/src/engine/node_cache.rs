//! The cache of one group on one node. The oldest values are removed when it is
//! full.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::limits::EFFECT_OVERHEAD_BYTES;

/// The cache of one group on one node, bounded by bytes.
#[derive(Clone, Debug)]
pub struct NodeCache {
    max_bytes: usize,
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    values: HashMap<String, (u64, Bytes)>,
    /// Keys by the number of the write that set them, the oldest first.
    ages: BTreeMap<u64, String>,
    writes: u64,
    bytes: usize,
}

impl NodeCache {
    /// An empty cache of at most `max_bytes` bytes of keys and values.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, entries: Arc::default() }
    }

    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        let entries = self.entries.lock();
        entries.values.get(key).map(|(_, value)| value.clone())
    }

    pub(super) fn set(&self, key: String, value: Option<Bytes>) {
        let mut entries = self.entries.lock();
        entries.remove(&key);
        let Some(value) = value else { return };
        let bytes = weight(&key, &value);
        if bytes > self.max_bytes {
            return;
        }
        while entries.bytes + bytes > self.max_bytes {
            let Some((_, oldest)) = entries.ages.pop_first() else { break };
            entries.remove(&oldest);
        }
        entries.writes += 1;
        let age = entries.writes;
        entries.bytes += bytes;
        entries.ages.insert(age, key.clone());
        entries.values.insert(key, (age, value));
    }
}

impl Entries {
    fn remove(&mut self, key: &str) {
        if let Some((age, value)) = self.values.remove(key) {
            self.ages.remove(&age);
            self.bytes -= weight(key, &value);
        }
    }
}

fn weight(key: &str, value: &Bytes) -> usize {
    2 * key.len() + value.len() + EFFECT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_the_bound_holds() {
        let cache = NodeCache::new(3 * weight("a", &Bytes::from_static(b"1")));
        for key in ["a", "b", "c"] {
            cache.set(key.into(), Some(Bytes::from_static(b"1")));
        }
        cache.set("a".into(), Some(Bytes::from_static(b"2")));
        cache.set("d".into(), Some(Bytes::from_static(b"1")));
        assert_eq!(cache.get("b"), None);
        assert_eq!(cache.get("a"), Some(Bytes::from_static(b"2")));
        cache.set("a".into(), None);
        assert_eq!(cache.get("a"), None);
        cache.set("big".into(), Some(Bytes::from(vec![0; 10_000])));
        assert_eq!(cache.get("big"), None);
        assert_eq!(cache.get("d"), Some(Bytes::from_static(b"1")));
        let entries = cache.entries.lock();
        assert_eq!(entries.ages.len(), entries.values.len());
        assert!(entries.bytes <= cache.max_bytes);
    }
}
