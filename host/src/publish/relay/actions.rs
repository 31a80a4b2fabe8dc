//! Carries out the actions of the machines: asks for topics, stores the chosen
//! partitions, produces, looks records up and stores results.

use std::collections::HashMap;
use std::sync::Arc;

use courier_core::message::Offset;
use courier_core::outbound::{Choice, Fate, RowEnd, RowId, ShardAction, ShardEvent, TopicAnswer};
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::pass::{fate_of, result_of};
use super::{Done, KNOWN_WITHIN, REFUSED_PAUSE, ROOM_WITHIN, Relay, STORE_PAUSE};
use crate::kafka::record::Record;
use crate::said;
use crate::store::{ChosenPartition, Relayed, SharedStore, StoreError};

impl Relay {
    /// Carries out the pending actions in as few transactions as possible.
    pub(super) async fn carry_out(&mut self) {
        let (mut topics, mut choices, mut settles) = (HashMap::<Arc<str>, Vec<i32>>::new(), Vec::new(), Vec::new());
        // An action may cause others at once, such as that of a row that must wait.
        while !self.wanted.is_empty() {
            for (shard, action) in std::mem::take(&mut self.wanted) {
                match action {
                    ShardAction::AskTopic(topic) => topics.entry(topic).or_default().push(shard),
                    ShardAction::StoreChoices(chosen) => choices.push((shard, chosen)),
                    ShardAction::Produce { row, partition } => self.produce(shard, row, partition).await,
                    ShardAction::LookUp { row, partition, from } => self.look_up(shard, row, partition, from),
                    ShardAction::Settle(ends) => settles.push((shard, ends)),
                }
            }
            for (topic, shards) in std::mem::take(&mut topics) {
                self.ask(topic, shards);
            }
        }
        if !choices.is_empty() {
            self.store_choices(choices);
        }
        if !settles.is_empty() {
            self.settle(settles);
        }
    }

    pub(super) fn ask(&mut self, topic: Arc<str>, shards: Vec<i32>) {
        if let Some(reason) = self.waits.topic(Instant::now(), &topic) {
            for shard in shards {
                let answer = TopicAnswer::Unknown(reason.clone());
                self.tell(shard, ShardEvent::Topic { topic: Arc::clone(&topic), answer });
            }
            return;
        }
        let producer = self.producer.clone();
        self.working.push(Box::pin(async move {
            // A topic that the broker has to look for must not delay others.
            let answer = tokio::time::timeout(KNOWN_WITHIN, producer.topic(&topic)).await.ok();
            vec![Done::Topic { topic, answer, shards }]
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

    pub(super) fn store_choices(&mut self, choices: Vec<(i32, Vec<Choice>)>) {
        let shards: Vec<i32> = choices.iter().map(|(shard, _)| *shard).collect();
        // Only the leases of these shards are locked.
        let leases = self.epochs(&shards);
        let chosen = choices.into_iter().flat_map(|(_, chosen)| chosen).map(|choice| ChosenPartition {
            row: choice.row.0,
            topic_id: choice.topic_id.0.to_string(),
            partition: choice.partition,
        });
        let chosen: Vec<_> = chosen.collect();
        let store = Arc::clone(&self.store);
        self.write(async move {
            let stored = store.choose_partitions(&leases, &chosen).await;
            Done::Choices { shards, stored }
        });
    }

    /// Runs a write to the store as a task of its own. A future in `working` stands
    /// still while the relay awaits something else, with its locks held in the store:
    /// the server would end the transaction, and rows that Kafka has taken would be
    /// sent again.
    fn write(&mut self, write: impl Future<Output = Done> + Send + 'static) {
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

    pub(super) async fn produce(&mut self, shard: i32, row: RowId, partition: i32) {
        let Some(pass) = self.passes.get_mut(&shard) else { return };
        let order = pass.order.clone();
        let Some(kept) = pass.rows.get_mut(&row) else { return };
        kept.partition = Some(partition);
        let record = match Record::decode(&kept.row.record) {
            Ok(record) => record,
            Err(error) => {
                return self.tell(shard, ShardEvent::Produced { row, fate: Fate::Refused(error.to_string()) });
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
            return self.tell(shard, ShardEvent::Produced { row, fate: Fate::Later(reason.to_owned()) });
        }
        kept.asked = true;
        match self.producer.send(&order, &topic, partition, &record, Instant::now() + ROOM_WITHIN).await {
            Ok(ack) => self.working.push(Box::pin(async move {
                vec![Done::Row { shard, row, event: ShardEvent::Produced { row, fate: fate_of(ack.await) } }]
            })),
            Err(error) => {
                let fate = fate_of(Err(error));
                self.note(shard, row, &fate);
                self.tell(shard, ShardEvent::Produced { row, fate });
            }
        }
    }

    pub(super) fn look_up(&mut self, shard: i32, row: RowId, partition: i32, from: Offset) {
        let Some(kept) = self.passes.get(&shard).and_then(|pass| pass.rows.get(&row)) else { return };
        let (log, topic, record) = (self.log.clone(), kept.row.topic.clone(), kept.row.record.clone());
        self.working.push(Box::pin(async move {
            let event = match Record::decode(&record) {
                Ok(record) => match log.find(&topic, partition, from, &record).await {
                    Ok(found) => ShardEvent::LookedUp { row, found },
                    Err(error) => ShardEvent::NotLookedUp { row, reason: error.to_string() },
                },
                Err(error) => ShardEvent::NotLookedUp { row, reason: error.to_string() },
            };
            vec![Done::Row { shard, row, event }]
        }));
    }

    pub(super) fn settle(&mut self, settles: Vec<(i32, Vec<(RowId, RowEnd)>)>) {
        let shards: Vec<i32> = settles.iter().map(|(shard, _)| *shard).collect();
        let leases = self.epochs(&shards);
        let mut results = Vec::new();
        for (shard, ends) in settles {
            for (row, end) in ends {
                results.push((shard, row, Relayed { id: row.0, shard, result: result_of(end) }));
            }
        }
        let (store, shutdown) = (Arc::clone(&self.store), self.shutdown.clone());
        self.write(async move {
            let rows: Vec<Relayed> = results.iter().map(|(_, _, relayed)| relayed.clone()).collect();
            let stored = if rows.is_empty() { Ok(()) } else { store_results(&store, &leases, &rows, &shutdown).await };
            Done::Settled { results, shards, stored }
        });
    }
}

/// Stores results, and retries until the store takes them or the host stops.
/// Repeating is safe, since rows that are gone are left alone; dropping results
/// would send the rows again.
pub(super) async fn store_results(
    store: &SharedStore,
    shards: &[(i32, i64)],
    results: &[Relayed],
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let mut pause = STORE_PAUSE;
    loop {
        match store.relayed(shards, results).await {
            Err(error) if error.may_pass() && !shutdown.is_cancelled() => {
                if !error.is_transient() {
                    pause = (pause * 2).min(REFUSED_PAUSE);
                    if let Some(unsaid) = said::again("refused results of the relay") {
                        warn!(%error, again_in = ?pause, unsaid, "the store refused results of the relay; they are retried");
                    }
                }
                tokio::time::sleep(pause).await;
            }
            Err(StoreError::Data(reason)) if results.len() > 1 => {
                warn!(%reason, "the store refused a result of the relay; each is stored alone");
                for result in results {
                    if let Err(error) = store.relayed(shards, std::slice::from_ref(result)).await
                        && let Some(unsaid) = said::again("a result of the relay")
                    {
                        error!(%error, row = result.id, unsaid, "cannot store what became of a row");
                    }
                }
                return Ok(());
            }
            answer => return answer,
        }
    }
}
