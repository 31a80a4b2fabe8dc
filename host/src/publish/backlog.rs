//! Tracks the topics with unsent rows, which later messages must not overtake.
//!
//! A topic is marked before its row is written, until a look at the store that
//! began after the row was durable finds none. The marks of this process are
//! exact; rows of other nodes and of handlers are known as of the last look.
//!
//! Where hosts share a store, a look that found a topic empty lets messages go
//! directly for [`GOOD_FOR`]. A host that answers for a row that is still unsent
//! waits as long before it answers: whoever sends after that answer meets a look
//! that has seen the row. Asking before each send instead took a third more of the
//! processors for each message.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a look at the store is good for, from its beginning.
pub const GOOD_FOR: Duration = Duration::from_millis(20);
/// How long looks have to find rows of other hosts until they are a backlog, behind
/// which all messages of the topic go. Rows that come and go, such as those of direct
/// sends in flight, hold back only messages of their keys.
const LASTING: Duration = Duration::from_millis(200);

/// The topics with unsent rows; clones share them.
#[derive(Clone, Default)]
pub struct Backlog {
    inner: Arc<Mutex<UnsentCounts>>,
    /// Wakes the task that looks at the store, when a message could go by its look.
    needed: Arc<Notify>,
    /// Whether other hosts write to the store. Messages wait behind rows of their keys
    /// there, for which [`super::unsent`] asks, also before the rows are a backlog.
    shared: bool,
}

#[derive(Default)]
struct UnsentCounts {
    topics: HashMap<String, Topic>,
    /// Whether the store was looked at: rows of an earlier process are known
    /// then.
    looked: bool,
    /// Counts events, so that a look knows what happened after it began.
    clock: u64,
    /// When the last look began, and the topics with rows that it found.
    last: Option<(Instant, HashSet<String>)>,
}

#[derive(Default)]
struct Topic {
    /// Rows may be in the store.
    owed: bool,
    /// Marks that are held now.
    marks: usize,
    /// The event at which the last mark ended.
    ended: u64,
    /// Direct sends whose rows are held for them.
    flights: usize,
    /// The event at which the last direct send ended.
    landed: u64,
    /// Since when each look has found rows.
    found_since: Option<Instant>,
}

/// A look at the store that has begun.
#[derive(Clone, Copy, Debug)]
pub struct BacklogLook {
    clock: u64,
    /// When it began.
    pub began: Instant,
}

/// Marks a topic until it is dropped, which must be after the row is durable.
pub struct UnsentGuard {
    backlog: Backlog,
    topic: String,
}

/// A direct send whose row the store holds back from the relay: the row is no backlog.
pub struct DirectSendGuard {
    backlog: Backlog,
    topic: String,
}

impl Backlog {
    /// The backlog of a host, which may share its store with others.
    #[must_use]
    pub fn new(shared: bool) -> Self {
        Self { shared, ..Self::default() }
    }

    /// Whether no host has unsent rows of `topic`, by a look that is still good.
    /// Asking keeps looks coming.
    #[must_use]
    pub fn is_empty_everywhere(&self, topic: &str, now: Instant) -> bool {
        self.needed.notify_one();
        let inner = self.locked();
        inner.last.as_ref().is_some_and(|(began, found)| now < *began + GOOD_FOR && !found.contains(topic))
    }

    /// Waits until a look could let messages go.
    pub async fn look_is_needed(&self) {
        self.needed.notified().await;
    }

    /// Whether messages for `topic` must go through the relay.
    #[must_use]
    pub fn has(&self, topic: &str) -> bool {
        self.locked().topics.get(topic).is_some_and(|topic| topic.owed || topic.marks > 0)
    }

    /// Whether the rows of an earlier process are known.
    #[must_use]
    pub fn has_looked(&self) -> bool {
        self.locked().looked
    }

    /// Whether any topic is marked.
    #[must_use]
    pub fn any(&self) -> bool {
        self.locked().topics.values().any(|topic| topic.owed || topic.marks > 0)
    }

    /// Marks a topic, before its row is written.
    #[must_use]
    pub fn mark(&self, topic: &str) -> UnsentGuard {
        self.locked().topics.entry(topic.to_owned()).or_default().marks += 1;
        UnsentGuard { backlog: self.clone(), topic: topic.to_owned() }
    }

    /// Notes a direct send whose row is held.
    #[must_use]
    pub fn flight(&self, topic: &str) -> DirectSendGuard {
        self.locked().topics.entry(topic.to_owned()).or_default().flights += 1;
        DirectSendGuard { backlog: self.clone(), topic: topic.to_owned() }
    }

    /// Begins a look at the store.
    #[must_use]
    pub fn look(&self) -> BacklogLook {
        let mut inner = self.locked();
        inner.clock += 1;
        BacklogLook { clock: inner.clock, began: Instant::now() }
    }

    /// Applies the result of a look.
    pub fn saw(&self, look: BacklogLook, found: &[String]) {
        let found: HashSet<&str> = found.iter().map(String::as_str).collect();
        let mut inner = self.locked();
        inner.looked = true;
        inner.last = Some((look.began, found.iter().map(|topic| (*topic).to_owned()).collect()));
        for topic in &found {
            let known = inner.topics.entry((*topic).to_owned()).or_default();
            let lasting = look.began - *known.found_since.get_or_insert(look.began) >= LASTING;
            // The rows found may be those of direct sends in flight during the
            // look. Taken for a backlog, each message with an id would force
            // all others of its topic through the relay.
            if known.flights == 0 && known.landed < look.clock && (lasting || !self.shared) {
                known.owed = true;
            }
        }
        inner.topics.retain(|name, topic| {
            if !found.contains(name.as_str()) {
                topic.found_since = None;
                if topic.ended < look.clock {
                    topic.owed = false;
                }
            }
            topic.owed || topic.marks > 0 || topic.flights > 0 || topic.found_since.is_some()
        });
    }

    fn locked(&self) -> MutexGuard<'_, UnsentCounts> {
        self.inner.lock()
    }
}

impl Drop for UnsentGuard {
    fn drop(&mut self) {
        let mut inner = self.backlog.locked();
        inner.clock += 1;
        let now = inner.clock;
        if let Some(topic) = inner.topics.get_mut(&self.topic) {
            topic.marks -= 1;
            topic.owed = true;
            topic.ended = now;
        }
    }
}

impl Drop for DirectSendGuard {
    fn drop(&mut self) {
        let mut inner = self.backlog.locked();
        inner.clock += 1;
        let now = inner.clock;
        if let Some(topic) = inner.topics.get_mut(&self.topic) {
            topic.flights -= 1;
            topic.landed = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_topic_is_marked_until_a_later_look_finds_it_empty() {
        let backlog = Backlog::default();
        let early = backlog.look();
        let mark = backlog.mark("order");
        assert!(backlog.has("order") && !backlog.has("stock"));
        let during = backlog.look();
        drop(mark);
        // Neither look could have seen the row.
        backlog.saw(early, &[]);
        backlog.saw(during, &[]);
        assert!(backlog.has("order"));
        let after = backlog.look();
        backlog.saw(after, &topics(&["order"]));
        assert!(backlog.has("order"));
        let after = backlog.look();
        backlog.saw(after, &[]);
        assert!(!backlog.has("order") && !backlog.any());
    }

    #[test]
    fn rows_of_others_are_seen() {
        let backlog = Backlog::default();
        let look = backlog.look();
        backlog.saw(look, &topics(&["stock"]));
        assert!(backlog.has("stock"));
    }

    #[test]
    fn a_look_lets_messages_go_only_while_it_is_good() {
        let backlog = Backlog::new(true);
        assert!(!backlog.is_empty_everywhere("order", Instant::now()), "nothing is known yet");
        let look = backlog.look();
        backlog.saw(look, &topics(&["stock"]));
        let soon = look.began + GOOD_FOR / 2;
        assert!(backlog.is_empty_everywhere("order", soon) && !backlog.is_empty_everywhere("stock", soon));
        assert!(!backlog.has("stock"), "they hold back only their keys");
        // It counts from its beginning: a row may have come since.
        assert!(!backlog.is_empty_everywhere("order", look.began + GOOD_FOR));
    }

    #[test]
    fn rows_of_other_hosts_are_a_backlog_once_they_last() {
        let backlog = Backlog::new(true);
        let first = backlog.look();
        backlog.saw(first, &topics(&["order"]));
        let later = |look: BacklogLook| BacklogLook { began: first.began + LASTING, ..look };
        backlog.saw(later(backlog.look()), &[]);
        backlog.saw(later(backlog.look()), &topics(&["order"]));
        assert!(!backlog.has("order"), "they were gone in between");
        let look = later(backlog.look());
        backlog.saw(BacklogLook { began: look.began + LASTING, ..look }, &topics(&["order"]));
        assert!(backlog.has("order"));
    }

    #[test]
    fn rows_held_for_direct_sends_are_no_backlog() {
        let backlog = Backlog::default();
        let flight = backlog.flight("order");
        let look = backlog.look();
        drop(flight);
        backlog.saw(look, &topics(&["order"]));
        assert!(!backlog.has("order"));
        // Without a direct send since the look began, the row is another node's.
        let look = backlog.look();
        backlog.saw(look, &topics(&["order"]));
        assert!(backlog.has("order"));
    }

    #[test]
    fn a_flight_does_not_clear_what_is_owed() {
        let backlog = Backlog::default();
        drop(backlog.mark("order"));
        let flight = backlog.flight("order");
        let look = backlog.look();
        backlog.saw(look, &topics(&["order"]));
        drop(flight);
        assert!(backlog.has("order"));
    }
}
