//! The board of what stands still, and why.
//!
//! Any part of the host that cannot go on reports its cause here each time it
//! looks, and clears it with the first success. The board keeps since when the
//! cause has stood, and says it in the log once and then ever more seldom: a
//! part that looks ten times a second must not fill the log. Lists, attention
//! and `/readyz` read the board, so that nothing stands still in silence.
//!
//! A cause that passes by itself within [`SHOWN_AFTER`] is neither shown nor
//! logged, unless it comes again. One that is not reported again within
//! [`FORGOTTEN_AFTER`] is forgotten, so that a task which ended cannot leave a
//! cause behind; [`Cause::until_cleared`] exempts events that happen once, such
//! as a refused configuration.
//!
//! Each process has its own board and shows only its own causes.

mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use parking_lot::{Mutex, MutexGuard};

pub use self::view::CauseView;

/// How long a cause stands before it is shown and logged.
pub const SHOWN_AFTER: Duration = Duration::from_secs(10);
/// How long a cause is kept without a new report.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// First and longest pause between two log lines about one cause.
const LOGGED_AGAIN_FIRST: Duration = Duration::from_secs(60);
const LOGGED_AGAIN_LONGEST: Duration = Duration::from_secs(3_600);
/// Causes kept at a time. Past it new ones are dropped, so that the board cannot
/// grow without bound.
const MAX_CAUSES: usize = 10_000;

/// Code of a partition with as many parked deliveries as it may have.
pub const PARKED_FULL: &str = "parked_full";
/// Code of work that no host has a binding for.
pub const NO_BINDING: &str = "no_binding";
/// Code of parked records that Kafka will remove soon and that are copied.
pub const RETENTION_NEAR: &str = "retention_near";
/// Code of parked records that Kafka will remove soon and that exceed the bytes
/// that may be copied.
pub const COPIED_FULL: &str = "copied_full";
/// Code of parked records that Kafka removed before they were copied.
pub const RECORDS_REMOVED: &str = "records_removed";
/// Code of an open delivery whose record can be read neither in the store nor in Kafka.
pub const RECORD_UNREADABLE: &str = "record_unreadable";
/// Code of a group or binding that a person or the configuration paused.
pub const PAUSED: &str = "paused";
/// Code of deliveries that wait for a person.
pub const HELD: &str = "held";
/// Code of topics with too many undelivered rows, and of the bindings and outboxes
/// that send to them.
pub const UNDELIVERED_FULL: &str = "undelivered_full";

/// What a cause means for its subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The subject stands still, and should not.
    #[default]
    Stopped,
    /// Nothing stands still yet, but something will be lost unless it is mended.
    Foreseen,
    /// A person stopped the subject, or it waits for a person's decision.
    AwaitsPerson,
}

/// The thing that a cause stops, endangers or holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A consumer group.
    Group(String),
    /// A binding of a group, by its plugin.
    Binding {
        group: String,
        /// The plugin as the binding names it.
        plugin: String,
    },
    /// A partition that a group reads.
    Partition {
        group: String,
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// A topic that is read or sent to.
    Topic(String),
    /// The relay's rows for a topic.
    Relay(String),
    /// An outbox, by its name in the TOML.
    Outbox(String),
    /// A redrive, by its id.
    Redrive(String),
    /// A half message, by its id.
    Transaction(String),
    Store,
    /// The configuration file.
    Config,
    /// A part of the host that belongs to no other subject, by its name.
    Host(String),
}

impl Subject {
    /// The kind of subject, as attention names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Group(_) => "group",
            Self::Binding { .. } => "binding",
            Self::Partition { .. } => "partition",
            Self::Topic(_) => "topic",
            Self::Relay(_) => "relay",
            Self::Outbox(_) => "outbox",
            Self::Redrive(_) => "redrive",
            Self::Transaction(_) => "transaction",
            Self::Store => "store",
            Self::Config => "config",
            Self::Host(_) => "host",
        }
    }

    /// The group whose viewers may see the subject; `None` if it has no group.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Group(group) | Self::Binding { group, .. } | Self::Partition { group, .. } => Some(group),
            _ => None,
        }
    }

    /// The topic whose viewers may see the subject; `None` if it has no topic.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(topic) | Self::Relay(topic) | Self::Partition { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// Whether sending or handling suffers while the subject stands still, so that
    /// `/readyz` calls the host degraded.
    #[must_use]
    pub fn degrades(&self) -> bool {
        !matches!(self, Self::Redrive(_) | Self::Transaction(_))
    }
}

/// The subject's name without its kind, as attention shows it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name)
            | Self::Topic(name)
            | Self::Relay(name)
            | Self::Outbox(name)
            | Self::Redrive(name)
            | Self::Transaction(name)
            | Self::Host(name) => f.write_str(name),
            Self::Binding { group, plugin } => write!(f, "{group} ({plugin})"),
            Self::Partition { group, topic, partition } => write!(f, "{group} {topic}:{partition}"),
            Self::Store => f.write_str("store"),
            Self::Config => f.write_str("config"),
        }
    }
}

/// Why something stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    code: &'static str,
    fields: BTreeMap<&'static str, String>,
    why: String,
    weight: Weight,
    at_once: bool,
    until_cleared: bool,
}

impl Cause {
    /// A cause with its stable code and its sentence for people.
    #[must_use]
    pub fn new(code: &'static str, why: impl Into<String>) -> Self {
        let weight = Weight::default();
        Self { code, fields: BTreeMap::new(), why: why.into(), weight, at_once: false, until_cleared: false }
    }

    /// Adds a fact that programs may read.
    #[must_use]
    pub fn with(mut self, field: &'static str, value: impl fmt::Display) -> Self {
        self.fields.insert(field, value.to_string());
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Marks the cause as [`Weight::Foreseen`], and shows it at once.
    #[must_use]
    pub fn foreseen(mut self) -> Self {
        self.weight = Weight::Foreseen;
        self.at_once()
    }

    /// Marks the cause as [`Weight::AwaitsPerson`], and shows it at once.
    #[must_use]
    pub fn awaits_person(mut self) -> Self {
        self.weight = Weight::AwaitsPerson;
        self.at_once()
    }

    /// Leaves it to a person to decide, unless the cause passes by itself.
    #[must_use]
    pub fn left_to_person(mut self) -> Self {
        self.weight = Weight::AwaitsPerson;
        self
    }

    /// Shows the cause at once: for causes that cannot pass by themselves.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Keeps the cause until it is cleared, without further reports, and shows it
    /// at once.
    #[must_use]
    pub fn until_cleared(mut self) -> Self {
        self.until_cleared = true;
        self.at_once()
    }
}

/// A cause that was reported and not cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The affected thing.
    pub subject: Subject,
    /// The stable code.
    pub code: &'static str,
    /// Facts that programs may read.
    pub fields: BTreeMap<&'static str, String>,
    /// The sentence for people.
    pub why: String,
    /// When it was first reported.
    pub since: Timestamp,
    /// What it means for the subject.
    pub weight: Weight,
}

impl Standing {
    /// Sorts the causes of one subject: the lowest rank matters most.
    #[must_use]
    pub fn rank(&self) -> (Weight, Timestamp) {
        (self.weight, self.since)
    }

    /// Whether `/readyz` calls the host degraded because of this cause.
    #[must_use]
    pub fn degrades(&self) -> bool {
        self.weight == Weight::Stopped && self.subject.degrades()
    }
}

/// The board; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    board: Arc<Mutex<Board>>,
}

impl Causes {
    /// Reports that `subject` stands still. Reporting the same cause again is
    /// cheap and keeps the time of the first report.
    pub fn report(&self, subject: Subject, cause: Cause) {
        self.locked().report(crate::clock::now(), subject, cause);
    }

    /// Reports why `subject` stands still and clears its other causes: a cause
    /// that this one explains would otherwise be shown first, because it is older.
    pub fn report_instead(&self, subject: Subject, cause: Cause) {
        self.locked().report_instead(crate::clock::now(), subject, cause);
    }

    /// Clears every cause of `subject`, because it goes on.
    pub fn clear(&self, subject: &Subject) {
        self.locked().clear(crate::clock::now(), subject, None);
    }

    /// Clears one cause of `subject`.
    pub fn clear_code(&self, subject: &Subject, code: &str) {
        self.locked().clear(crate::clock::now(), subject, Some(code));
    }

    /// The cause of `subject` that is shown: the oldest of those with the gravest
    /// [`Weight`].
    #[must_use]
    pub fn of(&self, subject: &Subject) -> Option<Standing> {
        self.shown().into_iter().filter(|standing| standing.subject == *subject).min_by_key(Standing::rank)
    }

    /// All causes that are shown, by subject.
    #[must_use]
    pub fn shown(&self) -> Vec<Standing> {
        self.locked().shown(crate::clock::now())
    }

    /// The code and the sentence of the cause that stands for `subject`, shown or not yet.
    #[cfg(test)]
    pub(crate) fn reported(&self, subject: &Subject) -> Option<(&'static str, String)> {
        let board = self.locked();
        let found = board.entries.iter().find(|((of, _), entry)| of == subject && !entry.cleared);
        found.map(|((_, code), entry)| (*code, entry.cause.why.clone()))
    }

    fn locked(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}

/// The causes and when each is logged next. Time is an argument, so that tests
/// need no clock.
#[derive(Debug, Default)]
struct Board {
    entries: BTreeMap<(Subject, &'static str), ReportedCause>,
}

#[derive(Debug)]
struct ReportedCause {
    cause: Cause,
    since: Timestamp,
    reported_at: Timestamp,
    /// A cleared entry stays until [`SHOWN_AFTER`] past its next log line, so that
    /// a cause that comes and goes neither floods the log nor is left out of it.
    cleared: bool,
    log_at: Timestamp,
    log_pause: Duration,
}

impl Board {
    fn report(&mut self, now: Timestamp, subject: Subject, cause: Cause) {
        self.forget(now);
        let key = (subject, cause.code);
        if !self.entries.contains_key(&key) && self.entries.len() >= MAX_CAUSES {
            return;
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(|| ReportedCause {
            cause: cause.clone(),
            since: now,
            reported_at: now,
            cleared: false,
            // A cause that passes by itself soon is no alarm, such as a binding
            // that a starting host has not announced yet.
            log_at: if cause.at_once { now } else { later(now, SHOWN_AFTER) },
            log_pause: LOGGED_AGAIN_FIRST,
        });
        if entry.cleared {
            entry.since = now;
            entry.cleared = false;
        }
        entry.reported_at = now;
        entry.cause = cause;
        if now >= entry.log_at {
            let (subject, why) = (&key.0, &entry.cause.why);
            let (kind, code) = (subject.kind(), key.1);
            match entry.cause.weight {
                Weight::Stopped => tracing::warn!(kind, %subject, code, %why, "progress stopped"),
                Weight::Foreseen => tracing::warn!(kind, %subject, code, %why, "a loss was foreseen"),
                Weight::AwaitsPerson => tracing::info!(kind, %subject, code, %why, "progress was left to a person"),
            }
            entry.log_at = later(now, entry.log_pause);
            entry.log_pause = (entry.log_pause * 2).min(LOGGED_AGAIN_LONGEST);
        }
    }

    fn report_instead(&mut self, now: Timestamp, subject: Subject, cause: Cause) {
        for ((of, code), entry) in &mut self.entries {
            entry.cleared |= *of == subject && *code != cause.code;
        }
        self.report(now, subject, cause);
    }

    fn clear(&mut self, now: Timestamp, subject: &Subject, code: Option<&str>) {
        for ((of, its_code), entry) in &mut self.entries {
            if of == subject && code.is_none_or(|code| code == *its_code) && !entry.cleared {
                entry.cleared = true;
                if now.since(entry.since) >= SHOWN_AFTER {
                    tracing::info!(kind = of.kind(), subject = %of, code = its_code, "progress resumed");
                }
            }
        }
    }

    fn shown(&mut self, now: Timestamp) -> Vec<Standing> {
        self.forget(now);
        let told =
            |entry: &ReportedCause| !entry.cleared && (entry.cause.at_once || now.since(entry.since) >= SHOWN_AFTER);
        let entries = self.entries.iter().filter(|(_, entry)| told(entry));
        let standing = entries.map(|((subject, code), entry)| Standing {
            subject: subject.clone(),
            code,
            fields: entry.cause.fields.clone(),
            why: entry.cause.why.clone(),
            since: entry.since,
            weight: entry.cause.weight,
        });
        standing.collect()
    }

    /// Clears causes that are no longer reported, and drops those whose time in the
    /// log is over.
    fn forget(&mut self, now: Timestamp) {
        for entry in self.entries.values_mut() {
            if !entry.cause.until_cleared && now.since(entry.reported_at) > FORGOTTEN_AFTER {
                entry.cleared = true;
            }
        }
        self.entries.retain(|_, entry| !entry.cleared || now < later(entry.log_at, SHOWN_AFTER));
    }
}

/// The time `pause` after `now`.
fn later(now: Timestamp, pause: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests;
