//! Checks that the owners here are the rightful ones, and finds partitions without an owner.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use courier_core::message::Offset;
use tokio::sync::oneshot;

use super::{EventConsumer, MAX_PASSED_OVER};
use crate::consume::consumer::out_of_range;
use crate::consume::context::CONFIRM_RETRY;
use crate::consume::owner::message::OwnerMessage;
use crate::kafka::buffered::TopicPartition;
use crate::kafka::consumer::{ConsumerCommand, ConsumerThread, Ownership};
use crate::said;
use crate::store::{PositionId, SharedStore};
use crate::supervise::Task;

impl EventConsumer {
    /// Claims a fenced partition again if Kafka confirms it. Kafka is asked
    /// until it answers, unless a revocation comes first.
    pub(super) fn claim_if_ours(&mut self, place: TopicPartition, position: Offset, source: &ConsumerThread) {
        let (claims, orders, group, fenced) = (self.claims.clone(), source.orders(), self.name.clone(), place.clone());
        self.begin_claim(place, async move {
            loop {
                let (answer, standing) = oneshot::channel();
                // A consumer thread that has ended does not answer: the group is stopping.
                orders.send(ConsumerCommand::VerifyOwnership(fenced.clone(), position, answer)).ok()?;
                match standing.await {
                    Ok(Ownership::Owner) => {
                        if let Some(unsaid) = said::again(&format!("{group} {fenced} confirmed")) {
                            tracing::warn!(
                                group, place = %fenced, unsaid, "kafka confirms this host as owner; claiming again"
                            );
                        }
                        return Some(claims.claim(fenced, None).await);
                    }
                    Ok(Ownership::Other) => return None,
                    Ok(Ownership::Unknown) | Err(_) => tokio::time::sleep(CONFIRM_RETRY).await,
                }
            }
        });
    }

    pub(super) async fn out_of_range(&mut self) {
        for place in out_of_range::left_their_logs(&self.name, &self.owners, &self.node.tools.log, &self.notices).await
        {
            if let Some(owner) = self.take_owner(&place) {
                let _ = owner.mail.send(OwnerMessage::Lost);
                self.claim(place);
            }
        }
    }

    /// Asks the store for the epochs of the positions that have owners here.
    pub(super) fn ask_for_epochs(&mut self) {
        let positions: Vec<_> = self.owners.values().map(|owner| owner.position).collect();
        if positions.is_empty() {
            return;
        }
        let (store, group) = (SharedStore::clone(&self.node.tools.store), self.name.clone());
        self.epochs.ask(Task::EventConsumer, async move {
            let answer = store.epochs(&positions).await;
            answer.inspect_err(|error| tracing::debug!(group, %error, "cannot compare epochs")).ok()
        });
    }

    /// An owner with an older epoch than the store's cannot write any more: its
    /// position was moved, or another host claimed it. If Kafka confirms the
    /// partition it is claimed again.
    pub(super) fn compare_epochs(&mut self, epochs: Vec<(PositionId, i64)>, source: &ConsumerThread) {
        let epochs: HashMap<_, _> = epochs.into_iter().collect();
        let mut fenced = Vec::new();
        for (place, owner) in &mut self.owners {
            if epochs.get(&owner.position).is_none_or(|epoch| *epoch <= owner.epoch) {
                continue;
            }
            // The settle under way is refused as stale, which the owner notices
            // as well.
            if owner.busy.load(Ordering::Relaxed) && owner.passed_over < MAX_PASSED_OVER {
                owner.passed_over += 1;
                continue;
            }
            fenced.push(place.clone());
        }
        for place in fenced {
            let Some(owner) = self.owners.remove(&place) else { continue };
            if let Some(unsaid) = said::again(&format!("{} {place} newer epoch", self.name)) {
                tracing::info!(group = self.name, %place, epoch = owner.epoch, unsaid, "a newer epoch is stored");
            }
            let position = Offset(owner.durable.load(Ordering::Relaxed));
            let _ = owner.mail.send(OwnerMessage::Lost);
            self.claim_if_ours(place, position, source);
        }
    }

    /// Claims the assigned partitions that have no owner.
    pub(super) fn adopt(&mut self, source: &ConsumerThread) {
        let (owners, claiming) = (&self.owners, &self.claiming);
        let gone: Vec<TopicPartition> = self.given.places().filter(|place| self.is_gone(place)).cloned().collect();
        let cared_for =
            |place: &TopicPartition| owners.contains_key(place) || claiming.contains_key(place) || gone.contains(place);
        let orphans = self.given.orphans(cared_for);
        for place in orphans {
            if let Some(unsaid) = said::again(&format!("{} {place} no owner", self.name)) {
                tracing::warn!(
                    group = self.name, %place, unsaid, "a partition of ours has no owner; asking kafka whose it is"
                );
            }
            metrics::counter!("courier_orphaned_partitions_total", "group" => self.name.clone()).increment(1);
            // The committed offset is a hint, which the next owner corrects.
            self.claim_if_ours(place, Offset(0), source);
        }
    }
}
