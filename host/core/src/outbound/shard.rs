//! The machine of one pass over rows of a relay shard.
//!
//! A pass begins with rows in the order of their ids and ends when each has a
//! stored result. In between the machine asks for their topics, chooses
//! partitions and has them stored, has rows of unknown fate looked up, and has
//! the others produced. Each result is stored as it comes: a row that takes long
//! keeps no other from it. Several passes of a shard may be under way, with no key
//! in two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::row::{Choice, Fate, Retry, Row, RowEnd, RowId, TopicAnswer, retry, undelivered};
use crate::message::{Offset, Timestamp};

/// An input of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardEvent {
    /// Rows were taken, in the order of their ids, under a lease.
    Taken {
        /// The rows, ascending by id.
        rows: Vec<Row>,
        /// When the lease ends unless it is renewed.
        leased_until: Timestamp,
    },
    /// The lease was renewed.
    Renewed {
        /// When the lease ends now.
        leased_until: Timestamp,
    },
    /// The answer to [`ShardAction::AskTopic`].
    Topic {
        /// Its name.
        topic: Arc<str>,
        /// The state of the topic.
        answer: TopicAnswer,
    },
    /// The choices of [`ShardAction::StoreChoices`] are durable.
    ChoicesStored,
    /// A produced row has its result.
    Produced {
        /// The row.
        row: RowId,
        /// Its result.
        fate: Fate,
    },
    /// A row was looked up in its partition.
    LookedUp {
        /// The row.
        row: RowId,
        /// The offset of its record; `None` when the log does not have it.
        found: Option<Offset>,
    },
    /// A row was looked for in a part of its partition, and does not lie there.
    SearchedTo {
        /// The row.
        row: RowId,
        /// The first offset that was not searched.
        next: Offset,
    },
    /// A row could not be looked up now.
    NotLookedUp {
        /// The row.
        row: RowId,
        /// Why not, for people.
        reason: String,
    },
    /// The results of these rows are durable, or another host has the shard and its
    /// rows now.
    Settled {
        /// The rows of a [`ShardAction::Settle`].
        rows: Vec<RowId>,
    },
    /// Another host has the shard, or the store refused the choices.
    LeaseLost,
    /// The host stops: nothing new is begun.
    Shutdown,
}

/// An output of the machine, which the relay carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardAction {
    /// Ask for a topic, and reply with [`ShardEvent::Topic`].
    AskTopic(Arc<str>),
    /// Store the chosen partitions before any row is produced, and reply with
    /// [`ShardEvent::ChoicesStored`].
    StoreChoices(Vec<Choice>),
    /// Produce a row, and reply with [`ShardEvent::Produced`]. Rows of one partition
    /// must reach Kafka in the order of these actions.
    Produce {
        /// The row.
        row: RowId,
        /// The partition to produce to.
        partition: i32,
    },
    /// Look a row up from an offset to the end of the log, and reply with
    /// [`ShardEvent::LookedUp`], [`ShardEvent::SearchedTo`] or
    /// [`ShardEvent::NotLookedUp`].
    LookUp {
        /// The row.
        row: RowId,
        /// The partition to search.
        partition: i32,
        /// The first offset that the record can have.
        from: Offset,
    },
    /// Store the results of the rows, and reply with [`ShardEvent::Settled`]. The pass
    /// is over when that has come for all of its rows.
    Settle(Vec<(RowId, RowEnd)>),
}

/// The state of a row within a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowProgress {
    /// Not begun.
    Waiting,
    /// With the client, or being looked up.
    Begun,
    /// Its result is being stored, or is about to be.
    Ended,
}

#[derive(Clone, Debug)]
struct Entry {
    row: Row,
    partition: Option<i32>,
    progress: RowProgress,
}

/// The machine of one pass; the module `outbound` lists its invariants.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    rows: BTreeMap<RowId, Entry>,
    /// Topics that were asked for and are not known yet.
    unknown_topics: BTreeSet<Arc<str>>,
    choices: Vec<Choice>,
    /// Whether choices are being stored.
    storing: bool,
    leased_until: Option<Timestamp>,
    /// Whether no further row may start.
    closed: bool,
    /// Whether the rows that could start have started.
    begun: bool,
    /// Results that are not handed out yet.
    ended: Vec<(RowId, RowEnd)>,
}

impl Shard {
    /// Whether the pass is over.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows that have no stored result yet.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RowId> {
        self.rows.keys().copied()
    }

    /// Whether a row has no stored result yet. A row that was left to a later pass is
    /// none of this one any more.
    #[must_use]
    pub fn has(&self, row: RowId) -> bool {
        self.rows.contains_key(&row)
    }

    /// Takes an event and returns the actions that follow.
    pub fn step(&mut self, now: Timestamp, event: ShardEvent) -> Vec<ShardAction> {
        let mut actions = Vec::new();
        match event {
            ShardEvent::Taken { rows, leased_until } => self.take(rows, leased_until, &mut actions),
            ShardEvent::Renewed { leased_until } => self.leased_until = Some(leased_until),
            ShardEvent::Topic { topic, answer } => self.learn(&topic, &answer),
            ShardEvent::ChoicesStored => {
                self.storing = false;
                self.choices.clear();
            }
            ShardEvent::Produced { row, fate } => self.produced(row, fate, &mut actions),
            ShardEvent::LookedUp { row, found } => self.looked_up(row, found),
            ShardEvent::SearchedTo { row, next } => self.searched_to(row, next),
            ShardEvent::NotLookedUp { row, reason } => {
                let from = self.rows.get(&row).and_then(|entry| entry.row.unknown_from);
                self.wait(row, reason, from);
            }
            ShardEvent::Settled { rows } => rows.iter().for_each(|row| {
                self.rows.remove(row);
            }),
            ShardEvent::LeaseLost | ShardEvent::Shutdown => {
                self.closed = true;
                self.storing = false;
            }
        }
        self.go_on(now, &mut actions);
        actions
    }

    fn take(&mut self, rows: Vec<Row>, leased_until: Timestamp, actions: &mut Vec<ShardAction>) {
        self.leased_until = Some(leased_until);
        for row in rows {
            if self.unknown_topics.insert(Arc::clone(&row.topic)) {
                actions.push(ShardAction::AskTopic(Arc::clone(&row.topic)));
            }
            let entry = Entry { partition: None, progress: RowProgress::Waiting, row };
            self.rows.insert(entry.row.id, entry);
        }
    }

    /// Chooses the partitions of a topic's rows, or ends the rows.
    fn learn(&mut self, topic: &Arc<str>, answer: &TopicAnswer) {
        if !self.unknown_topics.remove(topic) {
            return;
        }
        for entry in self.rows.values_mut().filter(|entry| entry.row.topic == *topic) {
            match answer {
                TopicAnswer::Known { max_bytes: Some(max_bytes), .. } if entry.row.size_bytes > *max_bytes => {
                    let reason = format!(
                        "the message has {} bytes and topic {topic} takes {max_bytes} (max.message.bytes)",
                        entry.row.size_bytes
                    );
                    entry.end(&mut self.ended, undelivered("too_large", reason));
                }
                TopicAnswer::Known { id, partitions, .. } => {
                    let kept = entry
                        .row
                        .chosen
                        .as_ref()
                        .filter(|(chosen_in, partition)| !chosen_in.differs(id) && partition < partitions);
                    if let Some((_, partition)) = kept {
                        entry.partition = Some(*partition);
                    } else {
                        // A record that was sent to the deleted topic is gone with it.
                        entry.row.unknown_from = None;
                        let count = u32::try_from(*partitions).unwrap_or(1).max(1);
                        let partition = i32::try_from(entry.row.hash % count).unwrap_or(0);
                        entry.partition = Some(partition);
                        self.choices.push(Choice { row: entry.row.id, topic_id: id.clone(), partition });
                    }
                }
                TopicAnswer::Unknown(reason) => {
                    let (tries, unknown_from) = (entry.row.tries, entry.row.unknown_from);
                    entry.end(&mut self.ended, retry(reason.clone(), tries, unknown_from));
                }
                TopicAnswer::Invalid(reason) => {
                    entry.end(&mut self.ended, undelivered("invalid_topic", reason.clone()));
                }
            }
        }
    }

    fn produced(&mut self, row: RowId, fate: Fate, actions: &mut Vec<ShardAction>) {
        let Some(entry) = self.rows.get_mut(&row) else { return };
        let partition = entry.partition.unwrap_or(0);
        match fate {
            Fate::Acknowledged(offset) => entry.end(&mut self.ended, RowEnd::Acknowledged { partition, offset }),
            Fate::Refused(reason) => entry.end(&mut self.ended, undelivered("refused", reason)),
            Fate::Later(reason) => self.wait(row, reason, None),
            Fate::Unknown(from) => {
                entry.row.unknown_from = Some(from);
                actions.push(ShardAction::LookUp { row, partition, from });
            }
        }
    }

    fn looked_up(&mut self, row: RowId, found: Option<Offset>) {
        let Some(entry) = self.rows.get_mut(&row) else { return };
        entry.row.unknown_from = None;
        let partition = entry.partition.unwrap_or(0);
        let end = match found {
            Some(offset) => RowEnd::Acknowledged { partition, offset },
            // The next pass sends it again, before the rows behind it.
            None => RowEnd::Retry(Retry {
                reason: "kafka lost the message, which is sent again".to_owned(),
                wait: Duration::ZERO,
                unknown_from: None,
            }),
        };
        entry.end(&mut self.ended, end);
    }

    /// Keeps how far a row was looked for: begun anew each time, the search would never
    /// end in a partition that grows faster than one attempt reads.
    fn searched_to(&mut self, row: RowId, next: Offset) {
        if let Some(entry) = self.rows.get_mut(&row) {
            let reason = format!("it is looked for in kafka, from offset {} on", next.0);
            entry.end(&mut self.ended, RowEnd::Retry(Retry { reason, wait: Duration::ZERO, unknown_from: Some(next) }));
        }
    }

    fn wait(&mut self, row: RowId, reason: String, unknown_from: Option<Offset>) {
        if let Some(entry) = self.rows.get_mut(&row) {
            let end = retry(reason, entry.row.tries, unknown_from);
            entry.end(&mut self.ended, end);
        }
    }

    /// Starts the rows once all of them can start or have ended, and settles what has
    /// ended.
    fn go_on(&mut self, now: Timestamp, actions: &mut Vec<ShardAction>) {
        if !self.begun && (self.closed || !self.storing && self.unknown_topics.is_empty()) {
            let leave = self.closed || self.leased_until.is_none_or(|until| now >= until);
            if leave || self.choices.is_empty() {
                self.begun = true;
                self.begin(leave, actions);
            } else {
                self.storing = true;
                actions.push(ShardAction::StoreChoices(self.choices.clone()));
            }
        }
        if !self.ended.is_empty() {
            actions.push(ShardAction::Settle(std::mem::take(&mut self.ended)));
        }
    }

    /// Starts rows in the order of their ids. Those whose lanes wait are left to a
    /// later pass, as they are; with `leave`, all are left to the next holder.
    fn begin(&mut self, leave: bool, actions: &mut Vec<ShardAction>) {
        let mut lanes: BTreeMap<(Arc<str>, Arc<[u8]>), Ahead> = BTreeMap::new();
        self.rows.retain(|id, entry| {
            let lane = entry.row.key.clone().map(|key| (Arc::clone(&entry.row.topic), key));
            let ahead = lane.as_ref().and_then(|lane| lanes.get(lane)).copied();
            let mut is_kept = true;
            if entry.progress == RowProgress::Waiting {
                match (leave || held_back(ahead, entry), entry.partition, entry.row.unknown_from) {
                    (true, ..) | (_, None, _) => is_kept = false,
                    (_, Some(partition), Some(from)) => {
                        actions.push(ShardAction::LookUp { row: *id, partition, from });
                        entry.progress = RowProgress::Begun;
                    }
                    (_, Some(partition), None) => {
                        actions.push(ShardAction::Produce { row: *id, partition });
                        entry.progress = RowProgress::Begun;
                    }
                }
            }
            if let Some(lane) = lane {
                let ahead = ahead_of(entry);
                let _furthest = lanes.entry(lane).and_modify(|known| *known = (*known).max(ahead)).or_insert(ahead);
            }
            is_kept
        });
    }
}

impl Entry {
    /// Ends the row, unless it has ended.
    fn end(&mut self, ended: &mut Vec<(RowId, RowEnd)>, end: RowEnd) {
        if self.progress != RowProgress::Ended {
            self.progress = RowProgress::Ended;
            ended.push((self.row.id, end));
        }
    }
}

/// What stands ahead of a row in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ahead {
    /// Rows are with the client, for this partition: rows that follow into it
    /// reach Kafka behind them.
    With(i32),
    /// A row waits: no row passes it.
    Waiting,
}

fn held_back(ahead: Option<Ahead>, entry: &Entry) -> bool {
    match ahead {
        None => false,
        Some(Ahead::Waiting) => true,
        // The partitions differ when some were added between the two choices.
        Some(Ahead::With(partition)) => entry.partition != Some(partition) || entry.row.unknown_from.is_some(),
    }
}

/// What a row means to the rows behind it in its lane, as they start.
fn ahead_of(entry: &Entry) -> Ahead {
    match (entry.progress, entry.partition) {
        (RowProgress::Begun, Some(partition)) if entry.row.unknown_from.is_none() => Ahead::With(partition),
        // A row that ended before it started waits, or is undelivered. An undelivered
        // row holds back nothing once that is durable. Before, a host that dies would
        // leave the row to another host, which may judge it otherwise and send it
        // behind its successors.
        _ => Ahead::Waiting,
    }
}

#[cfg(test)]
mod tests;
