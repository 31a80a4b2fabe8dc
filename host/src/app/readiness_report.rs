//! Whether the host can take requests, and what stands still.

use crate::causes::Standing;

/// Whether the host can take requests.
#[derive(Clone, Debug, Default)]
pub struct ReadinessReport {
    /// The store answers.
    pub store: bool,
    /// Its migrations are done.
    pub migrated: bool,
    /// Sends are accepted.
    pub accepting: bool,
    /// Unavailable parts that do not stop the host.
    pub degraded: Vec<Degraded>,
    /// Why the host is not ready, for people.
    pub reasons: Vec<String>,
    /// Notes for a person about things that stop nothing.
    pub notes: Vec<Note>,
}

/// A note about the whole host that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its kind, as attention names it.
    pub kind: &'static str,
    /// Its subject.
    pub subject: String,
    /// What is wrong, and what would help.
    pub detail: String,
}

impl Note {
    /// A note.
    #[must_use]
    pub fn new(kind: &'static str, subject: &str, detail: String) -> Self {
        Self { kind, subject: subject.to_owned(), detail }
    }
}

/// An unavailable part that does not stop the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The code of its cause, without names.
    pub code: &'static str,
    /// Its name, for example `kafka`.
    pub what: String,
    /// The topic it belongs to, if any.
    pub topic: Option<String>,
    /// Why, for people.
    pub why: String,
    /// Whether the board of causes shows it too.
    pub on_board: bool,
}

impl ReadinessReport {
    /// Notes an unavailable part.
    pub fn degrade(
        &mut self,
        code: &'static str,
        what: impl Into<String>,
        topic: Option<&str>,
        why: impl Into<String>,
    ) {
        let topic = topic.map(ToOwned::to_owned);
        self.degraded.push(Degraded { code, what: what.into(), topic, why: why.into(), on_board: false });
    }

    /// Notes a cause on the board.
    pub fn degrade_for(&mut self, standing: &Standing) {
        let (kind, name) = (standing.subject.kind(), standing.subject.to_string());
        self.degraded.push(Degraded {
            code: standing.code,
            // The store and the configuration have no name of their own.
            what: if name == kind { name } else { format!("{kind} {name}") },
            topic: standing.subject.topic().map(ToOwned::to_owned),
            why: standing.why.clone(),
            on_board: true,
        });
    }

    /// Whether the host should get requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store && self.migrated && self.accepting
    }
}
