//! A batch on its way to the store and back, whole or in pieces.

use std::sync::Arc;

use super::Checked;
use crate::message::Offset;
use crate::partition::{Answer, Batch, DeliveryWrite, Event, NewState};
use crate::simulation::bug::Bug;
use crate::simulation::world::{Task, World};

impl World {
    /// Sends a batch to the store, for the first time or again.
    pub fn settle(&mut self, claim: u64, batch: Arc<Batch<u64>>) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        if batch.writes.len() > self.profile.bounds.max_batch {
            return Err(format!("a batch of {} outcomes", batch.writes.len()));
        }
        // The host writes a row from an attempt, or from the record in memory.
        let bare = |write: &&DeliveryWrite<u64>| write.details.is_empty() && !owner.records.contains(&write.offset);
        if let Some(write) = batch.writes.iter().find(bare) {
            return Err(format!("{} is to be written and its record is gone", write.offset));
        }
        match &owner.under_way {
            None => (owner.sequence, owner.written) = (owner.sequence + 1, 0),
            Some(earlier) if Arc::ptr_eq(earlier, &batch) => {}
            Some(_) => return Err("a batch is sent while another is under way".to_owned()),
        }
        owner.under_way = Some(Arc::clone(&batch));
        let (partition, sequence, draining) = (owner.partition, owner.sequence, owner.draining);
        let batch = match owner.written {
            0 => batch,
            written => Arc::new(Batch { writes: batch.writes[written..].to_vec(), ..(*batch).clone() }),
        };
        let batch = match self.bug {
            Some(Bug::ParkedHeadLost) if draining => {
                let mut batch = (*batch).clone();
                batch.writes.retain(|write| !matches!(write.to, NewState::Open { due: Some(_), .. }));
                Arc::new(batch)
            }
            Some(Bug::PositionTooFar) => Arc::new(Batch { position: batch.position.next(), ..(*batch).clone() }),
            Some(Bug::CommitBeforeSettle) => {
                self.shelves[partition].position = batch.position;
                batch
            }
            _ => batch,
        };
        self.answer_soon(Task::Arrive { claim, partition, sequence, batch });
        Ok(())
    }

    /// A batch arrives at the store, whether or not its sender still lives.
    pub fn arrive(&mut self, claim: u64, partition: usize, sequence: u64, batch: Arc<Batch<u64>>) -> Checked {
        let lost = self.chance.percent(self.profile.lost_answer) && !self.calm();
        if !self.up || (lost && self.chance.percent(50)) {
            // The batch never arrived, and its sender cannot know that.
            self.answer_soon(Task::Answer { claim, answer: Answer::Unknown, batch: None });
            return Ok(());
        }
        let is_new = !self.shelves[partition].has(claim, sequence);
        let in_pieces = self.profile.pieces && is_new && batch.writes.len() > 1 && !self.calm();
        if in_pieces && self.chance.percent(50) {
            let first = self.chance.between(1, batch.writes.len() as i64 - 1) as usize;
            // The position moves with the last piece only.
            let writes = batch.writes[..first].to_vec();
            let early = self.bug == Some(Bug::PositionWithFirstPiece);
            let position = if early { batch.position } else { Offset(0) };
            let answer = self.store(claim, partition, sequence, &Batch { writes, position, ..(*batch).clone() })?;
            if answer == Answer::Written {
                let writes = batch.writes[first..].to_vec();
                let batch = Arc::new(Batch { writes, ..(*batch).clone() });
                self.answer_soon(Task::Rest { claim, partition, batch });
            } else {
                self.answer_soon(Task::Answer { claim, answer, batch: Some(batch) });
            }
            return Ok(());
        }
        let answer = self.store(claim, partition, sequence, &batch)?;
        let told = if lost { Answer::Unknown } else { answer };
        self.answer_soon(Task::Answer { claim, answer: told, batch: Some(batch) });
        Ok(())
    }

    /// Writes a batch, or a piece of one.
    fn store(&mut self, claim: u64, partition: usize, sequence: u64, batch: &Batch<u64>) -> Result<Answer, String> {
        let log = &self.logs[partition];
        let answer = self.shelves[partition].settle(claim, sequence, batch, log, self.bug)?;
        self.note(|| format!("store: {} of batch {sequence} of claim {claim}: {answer:?}", batch.writes.len()));
        if answer == Answer::Written
            && let Some(owner) = self.owners.get_mut(&claim)
        {
            for write in &batch.writes {
                if !owner.running.values().any(|offset| *offset == write.offset) {
                    owner.flight.remove(&write.offset);
                }
            }
        }
        Ok(answer)
    }

    /// A host that is still alive sends the rest of its batch, under a new sequence
    /// number.
    pub fn send_rest(&mut self, claim: u64, partition: usize, batch: Arc<Batch<u64>>) {
        let Some(owner) = self.owners.get_mut(&claim) else { return };
        let Some(whole) = &owner.under_way else { return };
        owner.written = whole.writes.len() - batch.writes.len();
        owner.sequence += 1;
        let sequence = owner.sequence;
        self.answer_soon(Task::Arrive { claim, partition, sequence, batch });
    }

    pub fn answered(&mut self, claim: u64, answer: Answer, batch: Option<&Batch<u64>>) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        if (answer, batch.is_some()) == (Answer::Written, true) {
            let whole = owner.under_way.take();
            for write in whole.iter().flat_map(|whole| &whole.writes) {
                owner.records.remove(&write.offset);
            }
        }
        self.step(claim, Event::Settled(answer))
    }
}
