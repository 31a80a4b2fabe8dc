//! The machine of one relay shard.
//!
//! A pass begins with rows in the order of their ids and ends when each has a
//! stored result. In between the machine asks for their topics, chooses
//! partitions and has them stored, has rows of unknown fate looked up, and has
//! the others produced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Offset, Timestamp};

/// First and longest wait of a row that cannot be sent now. The longest is
/// short, so that rows go out soon after the cause has passed.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// The id of an outbound row: ascending in the order of insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub i64);

/// Kafka's id of a topic; empty when the broker reports none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub Arc<str>);

impl TopicId {
    /// Whether both ids are known and differ: then the topic was deleted and made
    /// anew under the same name.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        !self.0.is_empty() && !other.0.is_empty() && self != other
    }
}

/// A row as the store has it, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id of the row.
    pub id: RowId,
    /// The topic it goes to.
    pub topic: Arc<str>,
    /// The raw key; rows without a key have no order.
    pub key: Option<Arc<[u8]>>,
    /// The hash of the key (or of the id) that chooses the partition, as Kafka's
    /// Java client computes it: not negative.
    pub hash: u32,
    /// Bytes of the record, as `max.message.bytes` counts them.
    pub size_bytes: usize,
    /// The chosen partition, and the topic that it was chosen in.
    pub chosen: Option<(TopicId, i32)>,
    /// The first offset at which the record can lie, if the fate of an earlier
    /// send is unknown.
    pub unknown_from: Option<Offset>,
    /// How many passes it has waited through.
    pub tries: u32,
}

/// The state of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicAnswer {
    /// The topic exists.
    Known {
        /// Its id.
        id: TopicId,
        /// The number of partitions, at least one.
        partitions: i32,
        /// The largest record in bytes that it takes, where that is known.
        max_bytes: Option<usize>,
    },
    /// The topic does not exist, or its state is unknown: its rows wait for the
    /// reason given.
    Unknown(String),
    /// No topic can have this name, for the reason given.
    Invalid(String),
}

/// The result of producing or looking up a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Kafka has it at this offset.
    Acknowledged(Offset),
    /// Kafka will never take the record as it is, for the reason given.
    Refused(String),
    /// Kafka does not take it now, for the reason given.
    Later(String),
    /// The fate is unknown; the record lies at this offset or later, or nowhere.
    Unknown(Offset),
}

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
    /// A row could not be looked up now.
    NotLookedUp {
        /// The row.
        row: RowId,
        /// Why not, for people.
        reason: String,
    },
    /// The results of [`ShardAction::Settle`] are durable, or another host has the
    /// shard and its rows now.
    Settled,
    /// Another host has the shard, or the store refused the choices.
    LeaseLost,
    /// The host stops: nothing new is begun.
    Shutdown,
}

/// The partition that was chosen for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The row.
    pub row: RowId,
    /// The topic it was chosen in.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
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
    /// [`ShardEvent::LookedUp`] or [`ShardEvent::NotLookedUp`].
    LookUp {
        /// The row.
        row: RowId,
        /// The partition to search.
        partition: i32,
        /// The first offset that the record can have.
        from: Offset,
    },
    /// Store the results of the rows, and reply with [`ShardEvent::Settled`], which
    /// ends the pass.
    Settle(Vec<(RowId, RowEnd)>),
}

/// The result of a row in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowEnd {
    /// Kafka has the record: the row is deleted.
    Acknowledged {
        /// The partition.
        partition: i32,
        /// The offset of the record.
        offset: Offset,
    },
    /// The row waits for another pass.
    Retry(Retry),
    /// Kafka can never take the record as it is: it is kept as undelivered, with
    /// its content.
    Undelivered(Undeliverable),
}

/// Why and how long a row waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The reason, for people.
    pub reason: String,
    /// The wait until the next try.
    pub wait: Duration,
    /// The first offset at which the record can lie, if its fate is unknown.
    pub unknown_from: Option<Offset>,
}

/// Why a row can never be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeliverable {
    /// A stable word: `too_large`, `invalid_topic` or `refused`.
    pub code: &'static str,
    /// The reason, for people.
    pub reason: String,
}

/// The state of a row within a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RowProgress {
    /// Not begun.
    Waiting,
    /// With the client, or being looked up.
    Begun,
    Ended(RowEnd),
    /// Left to the next holder of the shard, as it is.
    Left,
}

#[derive(Clone, Debug)]
struct Entry {
    row: Row,
    partition: Option<i32>,
    progress: RowProgress,
}

/// The machine of one relay shard; the module `outbound` lists its invariants.
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
    /// Whether results are being stored.
    settling: bool,
}

impl Shard {
    /// Whether no pass is under way, so that rows may be taken.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.rows.is_empty()
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
            ShardEvent::NotLookedUp { row, reason } => {
                let from = self.rows.get(&row).and_then(|entry| entry.row.unknown_from);
                self.wait(row, reason, from);
            }
            ShardEvent::Settled => {
                self.rows.clear();
                self.settling = false;
            }
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
        self.closed = false;
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
                    entry.progress = RowProgress::Ended(undelivered("too_large", reason));
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
                    entry.progress = RowProgress::Ended(retry(reason.clone(), tries, unknown_from));
                }
                TopicAnswer::Invalid(reason) => {
                    entry.progress = RowProgress::Ended(undelivered("invalid_topic", reason.clone()));
                }
            }
        }
    }

    fn produced(&mut self, row: RowId, fate: Fate, actions: &mut Vec<ShardAction>) {
        let Some(entry) = self.rows.get_mut(&row) else { return };
        let partition = entry.partition.unwrap_or(0);
        match fate {
            Fate::Acknowledged(offset) => {
                entry.progress = RowProgress::Ended(RowEnd::Acknowledged { partition, offset });
            }
            Fate::Refused(reason) => entry.progress = RowProgress::Ended(undelivered("refused", reason)),
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
        entry.progress = match found {
            Some(offset) => RowProgress::Ended(RowEnd::Acknowledged { partition, offset }),
            // The next pass sends it again, before the rows behind it.
            None => RowProgress::Ended(RowEnd::Retry(Retry {
                reason: "kafka lost the message, which is sent again".to_owned(),
                wait: Duration::ZERO,
                unknown_from: None,
            })),
        };
    }

    fn wait(&mut self, row: RowId, reason: String, unknown_from: Option<Offset>) {
        if let Some(entry) = self.rows.get_mut(&row) {
            entry.progress = RowProgress::Ended(retry(reason, entry.row.tries, unknown_from));
        }
    }

    /// Starts the rows that can start, and settles once every row has ended.
    fn go_on(&mut self, now: Timestamp, actions: &mut Vec<ShardAction>) {
        if self.rows.is_empty() || self.settling || self.storing || !self.unknown_topics.is_empty() && !self.closed {
            return;
        }
        let expired = self.leased_until.is_none_or(|until| now >= until);
        if !(self.closed || expired || self.choices.is_empty()) {
            self.storing = true;
            actions.push(ShardAction::StoreChoices(self.choices.clone()));
            return;
        }
        self.begin(self.closed || expired, actions);
        if self.rows.values().all(|entry| matches!(entry.progress, RowProgress::Ended(_) | RowProgress::Left)) {
            self.settling = true;
            self.unknown_topics.clear();
            self.choices.clear();
            let ended = self.rows.iter().filter_map(|(id, entry)| match &entry.progress {
                RowProgress::Ended(end) => Some((*id, end.clone())),
                _ => None,
            });
            actions.push(ShardAction::Settle(ended.collect()));
        }
    }

    /// Starts rows in the order of their ids, except those whose lanes wait. With
    /// `leave`, rows that have not started are left to the next holder.
    fn begin(&mut self, leave: bool, actions: &mut Vec<ShardAction>) {
        let mut lanes: BTreeMap<(Arc<str>, Arc<[u8]>), Ahead> = BTreeMap::new();
        for (id, entry) in &mut self.rows {
            let lane = entry.row.key.clone().map(|key| (Arc::clone(&entry.row.topic), key));
            let ahead = lane.as_ref().and_then(|lane| lanes.get(lane)).copied();
            if entry.progress == RowProgress::Waiting {
                entry.progress = match (leave || held_back(ahead, entry), entry.partition, entry.row.unknown_from) {
                    (true, ..) | (_, None, _) => RowProgress::Left,
                    (_, Some(partition), Some(from)) => {
                        actions.push(ShardAction::LookUp { row: *id, partition, from });
                        RowProgress::Begun
                    }
                    (_, Some(partition), None) => {
                        actions.push(ShardAction::Produce { row: *id, partition });
                        RowProgress::Begun
                    }
                };
            }
            let (Some(lane), Some(ahead)) = (lane, ahead_of(entry)) else { continue };
            let _furthest = lanes.entry(lane).and_modify(|known| *known = (*known).max(ahead)).or_insert(ahead);
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

/// What a row means to the rows behind it in its lane.
fn ahead_of(entry: &Entry) -> Option<Ahead> {
    match &entry.progress {
        RowProgress::Begun if entry.row.unknown_from.is_some() => Some(Ahead::Waiting),
        RowProgress::Begun => entry.partition.map(Ahead::With),
        // An undelivered row holds back nothing once that is durable. Before, a host
        // that dies would leave the row to another host, which may judge it otherwise
        // and send it behind its successors.
        RowProgress::Waiting | RowProgress::Left | RowProgress::Ended(RowEnd::Retry(_) | RowEnd::Undelivered(_)) => {
            Some(Ahead::Waiting)
        }
        RowProgress::Ended(RowEnd::Acknowledged { .. }) => None,
    }
}

fn undelivered(code: &'static str, reason: String) -> RowEnd {
    RowEnd::Undelivered(Undeliverable { code, reason })
}

fn retry(reason: String, tries: u32, unknown_from: Option<Offset>) -> RowEnd {
    let wait = RETRY_FIRST.saturating_mul(1 << tries.min(8)).min(RETRY_LONGEST);
    RowEnd::Retry(Retry { reason, wait, unknown_from })
}
