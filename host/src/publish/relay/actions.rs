//! Carries out the actions of the machines: asks for topics, stores the chosen
//! partitions, produces and looks records up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use courier_core::message::Offset;
use courier_core::outbound::{Choice, Fate, RowId, ShardAction, ShardEvent, TopicAnswer};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::pass::{PassId, fate_of};
use super::{Done, KNOWN_WITHIN, ROOM_WITHIN, Relay};
use crate::kafka::log_reader::Search;
use crate::kafka::record::Record;
use crate::store::ChosenPartition;

impl Relay {
    /// Carries out the pending actions in as few transactions as possible.
    pub(super) async fn carry_out(&mut self) {
        let (mut topics, mut choices) = (HashMap::<Arc<str>, Vec<PassId>>::new(), Vec::new());
        // An action may cause others at once, such as that of a row that must wait.
        while !self.wanted.is_empty() {
            for (pass, action) in std::mem::take(&mut self.wanted) {
                match action {
                    ShardAction::AskTopic(topic) => topics.entry(topic).or_default().push(pass),
                    ShardAction::StoreChoices(chosen) => choices.push((pass, chosen)),
                    ShardAction::Produce { row, partition } => self.produce(pass, row, partition).await,
                    ShardAction::LookUp { row, partition, from } => self.look_up(pass, row, partition, from),
                    ShardAction::Settle(ends) => self.keep_results(pass, ends),
                }
            }
            for (topic, passes) in std::mem::take(&mut topics) {
                self.ask(topic, passes);
            }
        }
        if !choices.is_empty() {
            self.store_choices(choices);
        }
        self.settle();
    }

    pub(super) fn ask(&mut self, topic: Arc<str>, passes: Vec<PassId>) {
        if let Some(reason) = self.waits.topic(Instant::now(), &topic) {
            for pass in passes {
                let answer = TopicAnswer::Unknown(reason.clone());
                self.tell(pass, ShardEvent::Topic { topic: Arc::clone(&topic), answer });
            }
            return;
        }
        let producer = self.producer.clone();
        self.working.push(Box::pin(async move {
            // A topic that the broker has to look for must not delay others.
            let answer = tokio::time::timeout(KNOWN_WITHIN, producer.topic(&topic)).await.ok();
            vec![Done::Topic { topic, answer, passes }]
        }));
    }

    /// Waits for an answer that is late. A broker that takes its time, or a topic
    /// that is missing and is asked for several times, would else never be known:
    /// each question would be given up before its answer, and rows would wait
    /// without a cause.
    pub(super) fn await_late(&mut self, topic: &Arc<str>) {
        if self.shutdown.is_cancelled() || !self.awaited.insert(Arc::clone(topic)) {
            return;
        }
        let (producer, shutdown, topic) = (self.producer.clone(), self.shutdown.clone(), Arc::clone(topic));
        self.working.push(Box::pin(async move {
            let answer = shutdown.run_until_cancelled(producer.topic(&topic)).await;
            vec![Done::LateTopic { topic, answer }]
        }));
    }

    pub(super) fn store_choices(&mut self, choices: Vec<(PassId, Vec<Choice>)>) {
        let passes: Vec<PassId> = choices.iter().map(|(pass, _)| *pass).collect();
        // Only the leases of these shards are locked.
        let leases = passes.iter().filter_map(|pass| self.passes.get(pass)).map(|pass| (pass.shard, pass.epoch));
        let leases: Vec<_> = leases.collect::<BTreeSet<_>>().into_iter().collect();
        let chosen = choices.into_iter().flat_map(|(_, chosen)| chosen).map(|choice| ChosenPartition {
            row: choice.row.0,
            topic_id: choice.topic_id.0.to_string(),
            partition: choice.partition,
        });
        let chosen: Vec<_> = chosen.collect();
        let store = Arc::clone(&self.store);
        self.write(async move {
            let stored = store.choose_partitions(&leases, &chosen).await;
            Done::Choices { passes, stored }
        });
    }

    /// Runs a write to the store as a task of its own. A future in `working` stands
    /// still while the relay awaits something else, with its locks held in the store:
    /// the server would end the transaction, and rows that Kafka has taken would be
    /// sent again.
    pub(super) fn write(&mut self, write: impl Future<Output = Done> + Send + 'static) {
        let writing = tokio::spawn(write);
        self.working.push(Box::pin(async move {
            match writing.await.map_err(JoinError::try_into_panic) {
                Ok(done) => vec![done],
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime ends, and the relay with it.
                Err(Err(_cancelled)) => std::future::pending().await,
            }
        }));
    }

    pub(super) async fn produce(&mut self, id: PassId, row: RowId, partition: i32) {
        let Some(pass) = self.passes.get_mut(&id) else { return };
        let order = pass.order.clone();
        let Some(kept) = pass.rows.get_mut(&row) else { return };
        if let Some(before) = kept.row.partition.filter(|before| *before != partition) {
            // The topic was made anew: its earlier partition is asked by no row any more.
            self.waits.forget_partition(&(kept.row.topic.clone(), before));
        }
        kept.partition = Some(partition);
        let record = match Record::decode(&kept.row.record) {
            Ok(record) => record,
            Err(error) => {
                return self.tell(id, ShardEvent::Produced { row, fate: Fate::Refused(error.to_string()) });
            }
        };
        let topic = kept.row.topic.clone();
        let waits = if order.has_failed(&topic, partition) {
            Some("waits behind an earlier message of its partition")
        } else if Instant::now() >= self.shards.borrow().until {
            // The rows before it took long to hand over.
            order.fail(&topic, partition);
            Some("the lease on its shard ran out")
        } else if !self.waits.admits(Instant::now(), &(topic.clone(), partition)) {
            // The pause may end while the rows behind it are still handed over.
            order.fail(&topic, partition);
            Some("its partition does not answer")
        } else {
            None
        };
        if let Some(reason) = waits {
            return self.tell(id, ShardEvent::Produced { row, fate: Fate::Later(reason.to_owned()) });
        }
        kept.asked = true;
        match self.producer.send(&order, &topic, partition, &record, Instant::now() + ROOM_WITHIN).await {
            Ok(ack) => self.working.push(Box::pin(async move {
                vec![Done::Row { pass: id, row, event: ShardEvent::Produced { row, fate: fate_of(ack.await) } }]
            })),
            Err(error) => {
                let fate = fate_of(Err(error));
                self.note(id, row, &fate);
                self.tell(id, ShardEvent::Produced { row, fate });
            }
        }
    }

    pub(super) fn look_up(&mut self, pass: PassId, row: RowId, partition: i32, from: Offset) {
        let Some(kept) = self.passes.get(&pass).and_then(|kept| kept.rows.get(&row)) else { return };
        let (log, topic, record) = (self.log.clone(), kept.row.topic.clone(), kept.row.record.clone());
        self.working.push(Box::pin(async move {
            let event = match Record::decode(&record) {
                Ok(record) => match log.find(&topic, partition, from, &record).await {
                    Ok(Search::Found(offset)) => ShardEvent::LookedUp { row, found: Some(offset) },
                    Ok(Search::NotThere) => ShardEvent::LookedUp { row, found: None },
                    Ok(Search::NotBelow(next)) => ShardEvent::SearchedTo { row, next },
                    Err(error) => ShardEvent::NotLookedUp { row, reason: error.to_string() },
                },
                Err(error) => ShardEvent::NotLookedUp { row, reason: error.to_string() },
            };
            vec![Done::Row { pass, row, event }]
        }));
    }
}
