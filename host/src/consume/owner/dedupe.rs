//! Drops duplicates of messages that the group has handled.
//!
//! A duplicate has the id, the source and the topic of another message; a
//! message that differs in one of them is a different message.
//!
//! A delivery is looked up when it has its lane's turn, because the deliveries
//! before it in the lane are decided by then: duplicates in a partition share a
//! key or, without one, a lane of their own. Decisions that are not durable yet
//! are remembered here; the store knows the durable ones.
//!
//! While the store does not answer, the delivery waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Kind;
use courier_core::verdict::{Outcome, Verdict};
use tokio::sync::mpsc;

use super::message::{OwnerMessage, OwnerRef, ReadyDelivery};
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::context::OwnerDeps;
use crate::kafka::buffered::BufferedRecord;
use crate::store::dedupe::MAX_IDS;
use crate::store::{HandledBy, SameTopic, SharedStore, SourceHash};
use crate::supervise::{self, Task};

/// Wait before the store is asked again.
const LOOK_RETRY: Duration = Duration::from_millis(200);

/// The handled messages of one owner. Bounded by what the machine may have
/// decided and not written.
#[derive(Debug)]
pub(in crate::consume) struct Duplicates {
    /// Handled messages that are not durable, each with its number of deliveries.
    decided: HashMap<SameTopic, u32>,
    questions: mpsc::UnboundedSender<ReadyDelivery>,
}

impl Duplicates {
    /// For the owner of a partition; `None` when its binding runs duplicates.
    pub(in crate::consume) fn of(bound: &RunningBinding, tools: &OwnerDeps, address: &Arc<OwnerRef>) -> Option<Self> {
        let window = bound.binding.dedupe?;
        let (questions, deliveries) = mpsc::unbounded_channel();
        let asking = DedupeQuery {
            store: Arc::clone(&tools.store),
            who: HandledBy {
                group: bound.binding.group.clone(),
                topic: address.place.topic.to_string(),
                listener: (address.place.kind == Kind::Broadcast).then(|| tools.listener.to_string()),
            },
            window,
            address: Arc::clone(address),
        };
        supervise::spawn(Task::DuplicateLookup, asking.run(deliveries));
        Some(Self { decided: HashMap::new(), questions })
    }

    /// Whether the message is handled and not durable yet.
    pub(in crate::consume) fn is_decided(&self, delivery: &ReadyDelivery) -> bool {
        !self.decided.is_empty() && self.decided.contains_key(&same_topic(&delivery.buffered))
    }

    /// Asks the store; returns the delivery when there is nothing to ask.
    pub(in crate::consume) fn look_up(&self, delivery: ReadyDelivery) -> Option<ReadyDelivery> {
        if is_coordinates(&delivery.buffered) {
            return Some(delivery);
        }
        // The receiver lives as long as this owner.
        self.questions.send(delivery).err().map(|unsent| unsent.0)
    }

    /// Adds a handled delivery.
    pub(in crate::consume) fn decided(&mut self, finished: &FinishedAttempt) {
        if counts(finished) {
            *self.decided.entry(same_topic(&finished.buffered)).or_default() += 1;
        }
    }

    /// Removes deliveries that are durable now.
    pub(in crate::consume) fn durable(&mut self, finished: &FinishedAttempt) {
        if !counts(finished) {
            return;
        }
        let message = same_topic(&finished.buffered);
        if let Some(count) = self.decided.get_mut(&message) {
            *count -= 1;
            if *count == 0 {
                self.decided.remove(&message);
            }
        }
    }
}

/// The identity of a message within its partition.
fn same_topic(buffered: &BufferedRecord) -> SameTopic {
    let message = buffered.message();
    SameTopic { id: message.id.clone(), source: SourceHash::of(&message.source) }
}

/// Whether the handler succeeded.
fn counts(finished: &FinishedAttempt) -> bool {
    finished.outcome == Outcome::Handled && finished.verdict != Verdict::Duplicate
}

/// Whether the id is made of coordinates: such a message has no duplicate.
fn is_coordinates(buffered: &BufferedRecord) -> bool {
    let id = &buffered.message().id;
    id.ends_with(|last: char| last.is_ascii_digit()) && *id == format!("{}:{}", buffered.place, buffered.offset)
}

/// Asks the store, many deliveries a query, until the owner has ended.
struct DedupeQuery {
    store: SharedStore,
    who: HandledBy,
    window: Duration,
    address: Arc<OwnerRef>,
}

impl DedupeQuery {
    async fn run(self, mut deliveries: mpsc::UnboundedReceiver<ReadyDelivery>) {
        while let Some(first) = deliveries.recv().await {
            let mut asked = vec![first];
            while asked.len() < MAX_IDS
                && let Ok(next) = deliveries.try_recv()
            {
                asked.push(next);
            }
            let messages: Vec<SameTopic> = asked.iter().map(|delivery| same_topic(&delivery.buffered)).collect();
            // Nothing more may begin: deliveries without an answer are returned.
            let answer = tokio::select! {
                biased;
                () = self.address.no_more.cancelled() => None,
                handled = self.ask(&messages) => Some(handled),
            };
            match answer {
                None => asked.into_iter().for_each(ReadyDelivery::give_back),
                Some(handled) => {
                    for (delivery, handled) in asked.into_iter().zip(handled) {
                        self.address.tell(OwnerMessage::LookedUp(delivery, handled));
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
