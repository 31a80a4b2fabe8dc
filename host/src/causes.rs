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
//! The board is of this process. What other hosts report is theirs to show.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use parking_lot::{Mutex, MutexGuard};

/// How long a cause stands before people are told.
pub const SHOWN_AFTER: Duration = Duration::from_secs(10);
/// How long a cause is kept that nobody reports again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// First and longest pause between two log lines about one cause.
const LOGGED_AGAIN_FIRST: Duration = Duration::from_secs(60);
const LOGGED_AGAIN_LONGEST: Duration = Duration::from_secs(3_600);
/// Causes kept at a time. Past it new ones are only logged.
const MAX_CAUSES: usize = 10_000;

/// A partition in which as many deliveries are parked as may be is known by this
/// word.
pub const PARKED_FULL: &str = "parked_full";
/// What nobody runs is known by this word.
pub const NO_BINDING: &str = "no_binding";
/// Parked records that Kafka is about to remove and that are copied are known by
/// this word.
pub const RETENTION_NEAR: &str = "retention_near";
/// Parked records that Kafka is about to remove and that are more than may be
/// copied are known by this word.
pub const COPIED_FULL: &str = "copied_full";
/// Parked records that Kafka has removed before they were copied are known by
/// this word.
pub const RECORDS_REMOVED: &str = "records_removed";
/// What a person or the configuration stopped is known by this word.
pub const PAUSED: &str = "paused";
/// Deliveries that wait for a person are known by this word.
pub const HELD: &str = "held";
/// Topics for which too much is undelivered, and who sends to them, are known by
/// this word.
pub const UNDELIVERED_FULL: &str = "undelivered_full";

/// What a cause means for its subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It stands still, and should not.
    #[default]
    Stopped,
    /// Nothing stands still yet, and something will be lost unless it is mended.
    Foreseen,
    /// A person stopped it, or it was made to wait for one.
    AwaitsPerson,
}

/// What stands still.
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

    /// The group whose viewers may see it; none when it belongs to no group.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Group(group) | Self::Binding { group, .. } | Self::Partition { group, .. } => Some(group),
            _ => None,
        }
    }

    /// The topic whose viewers may see it; none when it belongs to no topic.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(topic) | Self::Relay(topic) | Self::Partition { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// Whether sending or handling suffers while it stands still, so that
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

    /// The stable word.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Says that nothing stands still yet, and shows it at once.
    #[must_use]
    pub fn foreseen(mut self) -> Self {
        self.weight = Weight::Foreseen;
        self.at_once()
    }

    /// Says that a person wants it so or has to decide, and shows it at once.
    #[must_use]
    pub fn awaits_person(mut self) -> Self {
        self.weight = Weight::AwaitsPerson;
        self.at_once()
    }

    /// Says that a person has to decide, unless it passes by itself.
    #[must_use]
    pub fn left_to_person(mut self) -> Self {
        self.weight = Weight::AwaitsPerson;
        self
    }

    /// Shows the cause at once. It is for causes that cannot pass by themselves.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Keeps the cause until it is cleared, though nobody reports it again, and
    /// shows it at once.
    #[must_use]
    pub fn until_cleared(mut self) -> Self {
        self.until_cleared = true;
        self.at_once()
    }
}

/// A cause that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What stands still.
    pub subject: Subject,
    /// The stable word.
    pub code: &'static str,
    /// The facts behind it.
    pub fields: BTreeMap<&'static str, String>,
    /// The sentence for people.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// What it means for the subject.
    pub weight: Weight,
}

impl Standing {
    /// Orders what is told of one subject: the first matters most.
    #[must_use]
    pub fn rank(&self) -> (Weight, Timestamp) {
        (self.weight, self.since)
    }

    /// Whether `/readyz` calls the host degraded for it.
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
    /// Reports that `subject` stands still. To report the same again is cheap
    /// and keeps since when it has stood.
    pub fn report(&self, subject: Subject, cause: Cause) {
        self.locked().report(crate::clock::now(), subject, cause);
    }

    /// Reports why `subject` stands still, in place of what was reported of it
    /// before: an earlier cause that this one explains would be told first, as
    /// the one that has stood longer.
    pub fn report_instead(&self, subject: Subject, cause: Cause) {
        self.locked().report_instead(crate::clock::now(), subject, cause);
    }

    /// Clears every cause of `subject`: it goes on.
    pub fn clear(&self, subject: &Subject) {
        self.locked().clear(crate::clock::now(), subject, None);
    }

    /// Clears one cause of `subject`.
    pub fn clear_code(&self, subject: &Subject, code: &str) {
        self.locked().clear(crate::clock::now(), subject, Some(code));
    }

    /// The cause of `subject` that people are told: of the weightiest ones the
    /// longest standing.
    #[must_use]
    pub fn of(&self, subject: &Subject) -> Option<Standing> {
        self.shown().into_iter().filter(|standing| standing.subject == *subject).min_by_key(Standing::rank)
    }

    /// All causes that people are told, by subject.
    #[must_use]
    pub fn shown(&self) -> Vec<Standing> {
        self.locked().shown(crate::clock::now())
    }

    fn locked(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}

/// The causes and when each is logged next. Time is an argument.
#[derive(Debug, Default)]
struct Board {
    entries: BTreeMap<(Subject, &'static str), ReportedCause>,
}

#[derive(Debug)]
struct ReportedCause {
    cause: Cause,
    since: Timestamp,
    reported_at: Timestamp,
    /// Cleared entries stay until a while after their next log line is due, so
    /// that a cause that comes and goes neither floods the log nor hides from it.
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
            // As in lists: what passes by itself within a moment, such as a
            // binding that a starting host has not announced yet, is no alarm.
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

    /// Drops what nobody reports any more, and what was cleared long enough ago.
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
