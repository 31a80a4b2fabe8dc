//! Decides which drafts are taken at all: by the rules in force, and by what is undelivered.

use std::collections::HashMap;

use courier_core::message::Timestamp;
use tokio::time::Instant;

use super::parts::{ANSWER_WITHIN, AcceptorParts};
use crate::clock::now;
use crate::publish::draft::{Draft, SendableMessage};
use crate::publish::receipt::SendProblem;
use crate::store::NewMessage;

/// A draft that is not taken.
pub(super) enum NotAdmitted {
    /// It breaks a rule. The row is kept of it.
    Refused(Box<NewMessage>, SendProblem),
    /// Too much is undelivered for its topic. Nothing is kept of it: its sender knows, and
    /// can send it again.
    Full { id: String, problem: SendProblem },
}

impl AcceptorParts {
    /// The draft as a message that may be sent by the rules in force; otherwise
    /// the row that is kept of it, and why.
    pub(in crate::publish) fn made_ready(
        &self,
        draft: Draft,
        now: Timestamp,
    ) -> Result<SendableMessage, (Box<NewMessage>, SendProblem)> {
        let max_bytes = self.rules.max_bytes(&draft.kind.log_topic(&draft.topic));
        self.rules.check(draft).ready(now, max_bytes)
    }

    /// The draft as a message that may be sent, unless it breaks a rule or its topic takes
    /// nothing more. Every sender's message passes here, also one of a transaction:
    /// otherwise more would become undelivered than the bound of a topic allows. An outbox
    /// leaves the rows of full topics at their source.
    pub(super) fn admit(&self, draft: Draft, now: Timestamp) -> Result<SendableMessage, NotAdmitted> {
        let ready = self.made_ready(draft, now).map_err(|(row, problem)| NotAdmitted::Refused(row, problem))?;
        let topic = ready.log_topic();
        if self.full.contains(&topic) {
            let problem = SendProblem::undelivered_full(&topic);
            return Err(NotAdmitted::Full { id: ready.message.id.clone(), problem });
        }
        Ok(ready)
    }

    /// Checks drafts, and returns the row of each that may be sent. Nothing is
    /// written or sent.
    pub(super) async fn validate(&self, drafts: Vec<Draft>) -> Vec<Result<NewMessage, SendProblem>> {
        let answer_by = Instant::now() + ANSWER_WITHIN;
        let mut refusals: HashMap<String, Option<SendProblem>> = HashMap::new();
        let mut validated = Vec::with_capacity(drafts.len());
        let now = now();
        for draft in drafts {
            let ready = match self.admit(draft, now) {
                Ok(ready) => ready,
                Err(NotAdmitted::Refused(_, problem) | NotAdmitted::Full { problem, .. }) => {
                    validated.push(Err(problem));
                    continue;
                }
            };
            let topic = ready.log_topic().into_owned();
            if !refusals.contains_key(&topic) {
                let refusal = self.refusal(&ready, answer_by).await;
                refusals.insert(topic.clone(), refusal);
            }
            validated.push(match &refusals[&topic] {
                Some(problem) => Err(problem.clone()),
                None if ready.due.is_some() => Ok(ready.delayed()),
                None => Ok(ready.owed("", None)),
            });
        }
        validated
    }
}
