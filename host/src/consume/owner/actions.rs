//! Carries out what the machine of the partition says: dispatches deliveries,
//! settles outcomes, pauses and resumes the partition.

use std::sync::Arc;

use courier_core::message::{Attempts, Offset};
use courier_core::partition::{Action, Batch, Release};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Owner;
use super::message::{LaneTurn, OwnerMessage};
use super::record_loader::RecordLoader;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::attempt::ready_delivery::ReadyDelivery;
use crate::consume::settle::batcher::SettleRequest;
use crate::consume::settle::rows;
use crate::kafka::consumer::ConsumerCommand;
use crate::store::Part;
use crate::supervise::{self, Task};

impl Owner {
    /// Carries out the actions of the machine. Returns why it released the partition, if it did.
    pub(super) async fn act(&mut self) -> Option<Release> {
        let mut load = Vec::new();
        let mut why = None;
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Dispatch { offset, attempts, has_row } => {
                    if has_row {
                        self.recalls.insert(offset, CancellationToken::new());
                    }
                    match self.records.get(&offset) {
                        Some(in_hand) => {
                            let turn = LaneTurn { in_hand: Arc::clone(in_hand), attempts };
                            self.turn(turn, self.seen_asks.contains_key(&offset));
                        }
                        None => {
                            debug_assert!(has_row, "a delivery without a row has its record in memory");
                            load.push((offset, attempts));
                        }
                    }
                }
                Action::GiveUp { offset, attempts } => load.push((offset, attempts)),
                Action::Settle(batch) => self.settle(batch).await,
                Action::Pause => self.order(ConsumerCommand::Pause(self.address.place.clone())),
                Action::Resume => self.order(ConsumerCommand::Resume(self.address.place.clone())),
                Action::Release(release) => why = Some(release),
            }
        }
        self.actions = actions;
        if !load.is_empty() {
            self.load(load);
        }
        let full = self.machine.parked_full();
        self.full.send_if_modified(|now| std::mem::replace(now, full) != full);
        why
    }

    pub(super) fn order(&self, order: ConsumerCommand) {
        // A consumer thread that has ended fetches nothing, so its answer is not needed.
        let _ = self.orders.send(order);
    }

    /// Dispatches a delivery that has its lane's turn. With `dedupe` it is
    /// looked up first, unless a rerun was requested.
    pub(super) fn turn(&self, turn: LaneTurn, asked: bool) {
        if let Some(bytes) = turn.in_hand.record.left_out {
            let LaneTurn { in_hand, attempts } = turn;
            let concluded = FinishedAttempt::too_large(in_hand, attempts, bytes);
            return self.address.tell(OwnerMessage::AttemptFinished(Box::new(concluded)));
        }
        match &self.duplicates {
            Some(duplicates) if !asked => {
                if duplicates.is_decided(&turn) {
                    self.drop_duplicate(turn);
                } else if let Some(turn) = duplicates.look_up(turn) {
                    self.dispatch(turn, false);
                }
            }
            _ => self.dispatch(turn, asked),
        }
    }

    pub(super) fn drop_duplicate(&self, turn: LaneTurn) {
        metrics::counter!("courier_duplicates_total", "group" => self.bound.binding.group.clone()).increment(1);
        let LaneTurn { in_hand, attempts } = turn;
        self.address.tell(OwnerMessage::AttemptFinished(Box::new(FinishedAttempt::duplicate(in_hand, attempts))));
    }

    pub(super) fn work(&self, turn: LaneTurn) -> ReadyDelivery {
        let LaneTurn { in_hand, attempts } = turn;
        let recall = self.recalls.get(&in_hand.offset).cloned();
        ReadyDelivery { in_hand, owner: Arc::clone(&self.address), attempts, probe: false, recall }
    }

    pub(super) fn dispatch(&self, turn: LaneTurn, asked: bool) {
        let work = self.work(turn);
        if self.address.no_more.is_cancelled() {
            return work.give_back();
        }
        if let Err(work) = self.bound.ready.push(work, asked) {
            // The workers have ended, because the binding is being removed.
            work.give_back();
        }
    }

    pub(super) async fn settle(&mut self, batch: Arc<Batch<Box<FinishedAttempt>>>) {
        let trace = self.bound.binding.trace;
        let part = Part {
            group: self.bound.binding.group.clone(),
            topic: self.address.place.log_topic().into_owned(),
            partition: self.address.place.partition,
            position: self.address.position,
            epoch: self.epoch,
            next: batch.position,
            outcomes: batch
                .writes
                .iter()
                .filter_map(|write| rows::row(write, self.records.get(&write.offset), &self.tools.node, trace))
                .collect(),
        };
        debug_assert_eq!(part.outcomes.len(), batch.writes.len(), "every write has its record");
        rows::count(&part);
        let (answer, answered) = oneshot::channel();
        self.answer = Some((answered, batch));
        let refused = self.refused.clone();
        self.tools.settler.settle(SettleRequest { part, answer, refused }).await;
    }

    /// Reads the records of open deliveries from the store, or from Kafka where
    /// the store keeps only coordinates: a chunk at a time, at most
    /// [`MAX_REREAD`] in memory.
    pub(super) fn load(&self, wanted: Vec<(Offset, Attempts)>) {
        let loader = RecordLoader {
            tools: self.tools.clone(),
            address: Arc::clone(&self.address),
            room: Arc::clone(&self.room),
        };
        supervise::spawn(Task::PartitionOwner, loader.load(wanted));
    }
}
