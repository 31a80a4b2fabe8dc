//! Dropping the doubles of messages that a group has handled.
//!
//! A double has the id of another message, and its source, and comes from its
//! topic: whatever differs in one of them is another message.
//!
//! A delivery is looked up when its lane gives it its turn, so that whatever
//! stood before it in the lane is decided by then: doubles in a partition share
//! a key, or, without one, a lane of their own. What is decided and not yet
//! durable is remembered here; what is durable the store tells.
//!
//! It refuses to guess: while the store does not answer, the delivery waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Kind;
use courier_core::verdict::{Outcome, Verdict};
use tokio::sync::mpsc;

use super::message::{DedupeTurn, OwnerMessage, OwnerRef};
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::context::OwnerDeps;
use crate::kafka::buffered::BufferedRecord;
use crate::store::dedupe::MAX_IDS;
use crate::store::{HandledBy, SameTopic, SharedStore, SourceHash};
use crate::supervise::{self, Task};

/// How long to wait before the store is asked again.
const LOOK_RETRY: Duration = Duration::from_millis(200);

/// What one owner knows of messages that were handled. Bounded by what the
/// machine may have decided and not yet written.
#[derive(Debug)]
pub(in crate::consume) struct Duplicates {
    /// Messages that were handled and are not durable, with how many deliveries.
    decided: HashMap<SameTopic, u32>,
    questions: mpsc::UnboundedSender<DedupeTurn>,
}

impl Duplicates {
    /// For the owner of a partition; none when its binding keeps doubles.
    pub(in crate::consume) fn of(bound: &RunningBinding, tools: &OwnerDeps, address: &Arc<OwnerRef>) -> Option<Self> {
        let window = bound.binding.dedupe?;
        let (questions, turns) = mpsc::unbounded_channel();
        let asking = DedupeQuery {
            store: Arc::clone(&tools.store),
            who: HandledBy {
                group: bound.binding.group.clone(),
                topic: address.place.topic.to_string(),
                listener: (address.place.kind == Kind::Broadcast).then(|| tools.node.to_string()),
            },
            window,
            address: Arc::clone(address),
        };
        supervise::spawn(Task::DuplicateLookup, asking.run(turns));
        Some(Self { decided: HashMap::new(), questions })
    }

    /// Whether the message is handled, which only this owner knows yet.
    pub(in crate::consume) fn is_decided(&self, turn: &DedupeTurn) -> bool {
        !self.decided.is_empty() && self.decided.contains_key(&same_topic(&turn.in_hand))
    }

    /// Asks the store; gives the delivery back when there is nothing to ask.
    pub(in crate::consume) fn look_up(&self, turn: DedupeTurn) -> Option<DedupeTurn> {
        if is_coordinates(&turn.in_hand) {
            return Some(turn);
        }
        // The other end lives as long as this owner.
        self.questions.send(turn).err().map(|unsent| unsent.0)
    }

    /// Takes note of a delivery that was handled.
    pub(in crate::consume) fn decided(&mut self, concluded: &FinishedAttempt) {
        if counts(concluded) {
            *self.decided.entry(same_topic(&concluded.in_hand)).or_default() += 1;
        }
    }

    /// What was decided is in the store now.
    pub(in crate::consume) fn durable(&mut self, concluded: &FinishedAttempt) {
        if !counts(concluded) {
            return;
        }
        let message = same_topic(&concluded.in_hand);
        if let Some(count) = self.decided.get_mut(&message) {
            *count -= 1;
            if *count == 0 {
                self.decided.remove(&message);
            }
        }
    }
}

/// What tells a message from the others of its partition.
fn same_topic(in_hand: &BufferedRecord) -> SameTopic {
    let message = in_hand.message();
    SameTopic { id: message.id.clone(), source: SourceHash::of(&message.source) }
}

/// Whether the handler handled it.
fn counts(concluded: &FinishedAttempt) -> bool {
    concluded.outcome == Outcome::Handled && concluded.verdict != Verdict::Duplicate
}

/// Whether the message has no id of its own, and so no double.
fn is_coordinates(in_hand: &BufferedRecord) -> bool {
    let id = &in_hand.message().id;
    id.ends_with(|last: char| last.is_ascii_digit()) && *id == format!("{}:{}", in_hand.place, in_hand.offset)
}

/// Asks the store, many deliveries at a time, until the owner has ended.
struct DedupeQuery {
    store: SharedStore,
    who: HandledBy,
    window: Duration,
    address: Arc<OwnerRef>,
}

impl DedupeQuery {
    async fn run(self, mut turns: mpsc::UnboundedReceiver<DedupeTurn>) {
        while let Some(first) = turns.recv().await {
            let mut asked = vec![first];
            while asked.len() < MAX_IDS
                && let Ok(next) = turns.try_recv()
            {
                asked.push(next);
            }
            let messages: Vec<SameTopic> = asked.iter().map(|turn| same_topic(&turn.in_hand)).collect();
            // Nothing more may begin: what is not answered yet goes back.
            let answer = tokio::select! {
                biased;
                () = self.address.no_more.cancelled() => None,
                handled = self.ask(&messages) => Some(handled),
            };
            match answer {
                None => {
                    asked.into_iter().for_each(|turn| self.address.tell(OwnerMessage::NotStarted(turn.in_hand.offset)))
                }
                Some(handled) => {
                    for (turn, handled) in asked.into_iter().zip(handled) {
                        self.address.tell(OwnerMessage::LookedUp(turn, handled));
                    }
                }
            }
        }
    }

    async fn ask(&self, messages: &[SameTopic]) -> Vec<bool> {
        loop {
            match self.store.handled_within(&self.who, messages, self.window).await {
                Ok(handled) => return handled,
                Err(error) => tracing::debug!(%error, place = %self.address.place, "cannot look for duplicates"),
            }
            tokio::time::sleep(LOOK_RETRY).await;
        }
    }
}
