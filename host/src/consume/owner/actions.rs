//! Carries out what the machine of the partition says: dispatches deliveries,
//! settles outcomes, pauses and resumes the partition.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use courier_core::message::Attempts;
use courier_core::partition::{Action, Answer, Batch, Event, Release};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Owner;
use super::message::{OwnerMessage, ReadyDelivery};
use super::record_loader::{RecordLoader, WantedRecord};
use crate::causes::Subject;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::settle::batcher::SettleRequest;
use crate::consume::settle::rows;
use crate::kafka::buffered::BufferedRecord;
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
                    let recall = has_row.then(CancellationToken::new);
                    self.recalls.extend(recall.clone().map(|recall| (offset, recall)));
                    match self.records.get(&offset) {
                        Some(buffered) => {
                            let delivery = self.ready(Arc::clone(buffered), attempts);
                            self.begin(delivery, self.seen_asks.contains_key(&offset));
                        }
                        None => {
                            debug_assert!(has_row, "a delivery without a row has its record in memory");
                            load.push(WantedRecord { offset, attempts, recall });
                        }
                    }
                }
                Action::GiveUp { offset, attempts } => {
                    // Given up once more, without a dead letter, it need not wait for its record.
                    let recall = CancellationToken::new();
                    self.recalls.insert(offset, recall.clone());
                    load.push(WantedRecord { offset, attempts, recall: Some(recall) });
                }
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
    pub(super) fn begin(&self, delivery: ReadyDelivery, asked: bool) {
        if let Some(bytes) = delivery.buffered.record.left_out {
            let ReadyDelivery { buffered, attempts, .. } = delivery;
            let finished = FinishedAttempt::too_large(buffered, attempts, bytes);
            return self.address.tell(OwnerMessage::AttemptFinished(Box::new(finished)));
        }
        match &self.duplicates {
            Some(duplicates) if !asked => {
                if duplicates.is_decided(&delivery) {
                    self.drop_duplicate(delivery);
                } else if let Some(delivery) = duplicates.look_up(delivery) {
                    self.dispatch(delivery, false);
                }
            }
            _ => self.dispatch(delivery, asked),
        }
    }

    pub(super) fn drop_duplicate(&self, delivery: ReadyDelivery) {
        metrics::counter!("courier_duplicates_total", "group" => self.bound.binding.group.clone()).increment(1);
        let ReadyDelivery { buffered, attempts, .. } = delivery;
        self.address.tell(OwnerMessage::AttemptFinished(Box::new(FinishedAttempt::duplicate(buffered, attempts))));
    }

    /// A delivery that has its lane's turn, as the workers take it.
    pub(super) fn ready(&self, buffered: Arc<BufferedRecord>, attempts: Attempts) -> ReadyDelivery {
        let recall = self.recalls.get(&buffered.offset).cloned();
        ReadyDelivery { buffered, owner: Arc::clone(&self.address), attempts, probe: false, recall }
    }

    pub(super) fn dispatch(&self, delivery: ReadyDelivery, asked: bool) {
        if delivery.is_recalled() {
            return delivery.give_back();
        }
        if let Err(delivery) = self.bound.ready.push(delivery, asked) {
            // The workers have ended, because the binding is being removed.
            delivery.give_back();
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

    /// Takes the answer to the batch that is being written.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Some((_, batch)) = self.answer.take() else { return };
        if answer == Answer::Written {
            self.durable.fetch_max(batch.position.0, Ordering::Relaxed);
            for write in &batch.writes {
                self.records.remove(&write.offset);
                if let Some(duplicates) = &mut self.duplicates {
                    write.details.iter().for_each(|finished| duplicates.durable(finished));
                }
            }
        }
        self.step(Event::Settled(answer));
    }

    /// Reads the records of open deliveries from the store, or from Kafka where
    /// the store keeps only coordinates: a chunk at a time, as many as [`Room`] lets in.
    ///
    /// [`Room`]: super::record_loader::Room
    pub(super) fn load(&self, wanted: Vec<WantedRecord>) {
        let place = &self.address.place;
        let loader = RecordLoader {
            records: self.tools.clone(),
            address: Arc::clone(&self.address),
            room: self.room.clone(),
            recalled: self.recalled.subscribe(),
            causes: self.tools.causes.clone(),
            subject: Subject::Partition {
                group: self.bound.binding.group.clone(),
                topic: place.log_topic().into_owned(),
                partition: place.partition,
            },
        };
        supervise::spawn(Task::PartitionOwner, loader.load(wanted));
    }
}
