//! The caller of an operation, with its role and scope.

use std::sync::Arc;

use super::Role;
use crate::api::problem::Problem;
use crate::store::AuditEntry;

/// The caller of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's name, or `local` where no tokens are needed.
    pub name: Arc<str>,
    pub(super) admission: Admission,
    pub(super) role: Role,
    pub(super) topics: Option<Arc<[String]>>,
    pub(super) groups: Option<Arc<[String]>>,
    pub(super) sources: Option<Arc<[String]>>,
}

/// How a caller was admitted. The name does not tell: a token may be named `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Without a token, since there are none.
    Open,
    /// By a token, or by a session of one.
    Token,
}

impl Caller {
    /// The caller on this machine when there are no tokens.
    pub(super) fn local() -> Self {
        Self {
            name: "local".into(),
            admission: Admission::Open,
            role: Role::Admin,
            topics: None,
            groups: None,
            sources: None,
        }
    }

    /// The source of messages that name none: the token's name; empty, which means
    /// unknown, without tokens.
    #[must_use]
    pub fn source(&self) -> &str {
        if self.is_local() { "" } else { &self.name }
    }

    /// Whether the caller was admitted because there are no tokens.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.admission == Admission::Open
    }

    /// Whether a source is among the `sources` of the caller's token.
    pub(super) fn lists(&self, source: &str) -> bool {
        self.sources.iter().any(|own| own.iter().any(|one| one == source))
    }

    /// An audit entry in the caller's name.
    #[must_use]
    pub fn deed(&self, action: &str, subject: &str, detail: &str) -> AuditEntry {
        let [by, action, subject, detail] = [&self.name, action, subject, detail].map(str::to_owned);
        AuditEntry { by, action, subject, detail }
    }

    /// The caller's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether a topic is in scope.
    #[must_use]
    pub fn sees_topic(&self, topic: &str) -> bool {
        reaches(self.topics.as_deref(), topic)
    }

    /// Whether a group is in scope.
    #[must_use]
    pub fn sees_group(&self, group: &str) -> bool {
        reaches(self.groups.as_deref(), group)
    }

    /// Whether a binding's group and one of its topics are in scope.
    #[must_use]
    pub fn sees_binding(&self, group: &str, topics: &[String]) -> bool {
        self.sees_group(group) && topics.iter().any(|topic| self.sees_topic(topic))
    }

    /// The topics that lists are limited to; `None` for all.
    #[must_use]
    pub fn topics(&self) -> Option<Vec<String>> {
        self.topics.as_deref().map(<[String]>::to_vec)
    }

    /// The groups that lists are limited to; `None` for all.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<String>> {
        self.groups.as_deref().map(<[String]>::to_vec)
    }

    /// Whether every topic and group is in scope.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.topics.is_none() && self.groups.is_none()
    }

    /// Refuses a topic that a request named and that is out of scope.
    ///
    /// # Errors
    /// 403 that names the topics in scope.
    pub fn topic(&self, topic: &str) -> Result<(), Problem> {
        self.within("topic", topic, self.topics.as_deref())
    }

    /// Refuses a group that a request named and that is out of scope.
    ///
    /// # Errors
    /// 403 that names the groups in scope.
    pub fn group(&self, group: &str) -> Result<(), Problem> {
        self.within("group", group, self.groups.as_deref())
    }

    /// Refuses an operation on all topics and groups to a caller with a scope.
    ///
    /// # Errors
    /// 403 when the token has a scope.
    pub fn unscoped(&self, what: &str) -> Result<(), Problem> {
        if self.sees_all() {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "{what} concern every topic and group, and the token `{}` is limited to some; use one without topics and groups",
            self.name
        )))
    }

    pub(super) fn within(&self, kind: &str, name: &str, scope: Option<&[String]>) -> Result<(), Problem> {
        if reaches(scope, name) {
            return Ok(());
        }
        let allowed = scope.unwrap_or_default().join("`, `");
        Err(Problem::forbidden(format!(
            "the {kind} `{name}` is not one that the token `{}` reaches; it reaches `{allowed}`",
            self.name
        )))
    }

    pub(super) fn at_least(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "this needs the role {role} or a higher one, and the token `{}` has the role {}",
            self.name, self.role
        )))
    }
}

pub(super) fn reaches(scope: Option<&[String]>, name: &str) -> bool {
    scope.is_none_or(|allowed| allowed.iter().any(|one| one == name))
}
