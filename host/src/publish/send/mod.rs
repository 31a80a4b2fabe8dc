//! Accepts messages of senders, and sends them directly to Kafka while all is well.
//!
//! A message without a sender's id is produced first, and its row is written as
//! COMMITTED: a crash in between leaves it in Kafka without an answer, like any
//! lost answer. A message with a sender's id has its row first, with an
//! outbound row that is held while the direct send runs: of several senders of
//! one id only one sends, and after a crash the relay sends it.
//!
//! A sender is answered within a second whatever Kafka does. A send that is in
//! flight then has a durable row, which is held back from the relay until the
//! send ends ([`HOLD`] is longer than a send can take). Nothing is sent while
//! the store is known to be away.
//!
//! Next: [`self::result`], which records the results, and [`super::relay`],
//! which sends the rest.

mod admission;
mod companions;
mod parts;
pub mod result;
mod route;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use courier_core::message::Kind;
use tokio::time::Instant;

use self::admission::NotAdmitted;
use self::companions::Companions;
use self::parts::{ANSWER_WITHIN, AcceptorParts, HOLD, STORE_WITHIN};
use self::result::{DurableMeaning, SendStep};
use self::route::{Route, SendBarrier};
use super::backlog::{Backlog, GOOD_FOR};
use super::draft::{Draft, SendableMessage, new_id};
use super::message_writer::MessageWriter;
use super::receipt::{Receipt, SendProblem};
use super::rules::Rules;
use super::undelivered::FullTopics;
use super::unsent::{Lane, UnsentLanes};
use super::waker::Waker;
use crate::clock::now;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::{OrderedSends, ProduceError, Producer};
use crate::kafka::record::murmur2_partition;
use crate::publish::relay::delayed::DelayedWaker;
use crate::said;
use crate::store::{Accepted, HalfMessage, NewMessage, SharedStore};
use crate::supervise::{self, Task};

/// The least time for Kafka, when a slow store used up the time above.
const FLIGHT_AT_LEAST: Duration = Duration::from_millis(250);
/// How often the store is asked for topics with unsent rows: while there are
/// some, and while none are known.
const LOOK_BUSY: Duration = Duration::from_millis(100);
const LOOK_IDLE: Duration = Duration::from_secs(1);
/// How often companions are created that are missing although messages wait for them.
const COMPANIONS_EVERY: Duration = Duration::from_secs(5);
/// How many messages of one request are looked up in the store at its end,
/// because another node may have sent them.
const MAX_ASKED: usize = 16;

/// Accepts messages; clones share one send side.
#[derive(Clone)]
pub struct Acceptor {
    pub(super) inner: Arc<AcceptorParts>,
}

impl Acceptor {
    /// Starts the send side.
    #[must_use]
    pub fn start(
        store: SharedStore,
        producer: Producer,
        log: LogReader,
        waker: Waker,
        alarm: DelayedWaker,
        full: FullTopics,
    ) -> Self {
        let journal = MessageWriter::start(Arc::clone(&store));
        let backlog = Backlog::new(store.is_shared());
        let unsent = UnsentLanes::start(Arc::clone(&store), backlog.clone());
        let rules = Rules::default();
        let companions = Companions::new(producer.clone(), rules.clone());
        let inner = Arc::new(AcceptorParts {
            store,
            producer,
            log,
            journal,
            backlog,
            unsent,
            waker,
            alarm,
            full,
            rules,
            companions,
        });
        supervise::spawn(Task::BacklogLook, look_for_backlog(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// What messages are held to.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// Whether the store is known to be away, so that nothing is accepted.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.inner.journal.store_is_away()
    }

    /// Why nothing is accepted: the store is known to be away, or refuses rows.
    #[must_use]
    pub fn why_closed(&self) -> Option<String> {
        self.inner.journal.why_closed()
    }

    /// Checks drafts, and returns the row of each that may be sent. Nothing is
    /// written or sent.
    pub(super) async fn validate(&self, drafts: Vec<Draft>) -> Vec<Result<NewMessage, SendProblem>> {
        self.inner.validate(drafts).await
    }

    /// Marks the topics of messages whose unsent rows were written elsewhere, so that
    /// what this host sends directly overtakes none of them.
    pub(super) fn mark_unsent(&self, messages: &[HalfMessage]) {
        for message in messages {
            for kind in [Kind::Event, Kind::Broadcast] {
                drop(self.inner.backlog.mark(&kind.log_topic(&message.topic)));
            }
        }
    }

    /// Waits until no other host sends by a look at the store from before this
    /// moment. Whoever is told that rows are durable, and then sends through another
    /// host, is sure that what it sends overtakes none of them.
    pub(super) async fn outlast_looks(&self) {
        self.inner.outlast_looks().await;
    }

    /// Makes the relay and the scheduler poll for rows that were written elsewhere.
    pub(super) fn look(&self) {
        self.inner.waker.wake();
        self.inner.alarm.look();
    }

    /// Why no message can be sent to a topic of Kafka, as far as that is known now.
    pub async fn refuses_topic(&self, topic: &str) -> Option<SendProblem> {
        let kept = self.inner.rules.keeps(topic);
        if kept.is_some() || self.inner.producer.is_down() {
            return kept;
        }
        self.inner.refused_by_kafka(topic, Instant::now() + ANSWER_WITHIN).await
    }

    /// Accepts messages, and returns the receipts in their order. Messages of
    /// one key reach Kafka in this order.
    pub async fn accept(&self, drafts: Vec<Draft>) -> Vec<Receipt> {
        let ids: Vec<Option<String>> = drafts.iter().map(|draft| draft.id.clone()).collect();
        let inner = Arc::clone(&self.inner);
        // A task of its own: a sender that hangs up must not leave a message in
        // Kafka without its row.
        match tokio::spawn(async move { inner.accept(drafts).await }).await {
            Ok(receipts) => receipts,
            Err(error) => {
                if let Some(unsaid) = said::again("accepting messages failed") {
                    tracing::error!(%error, unsaid, "accepting messages failed");
                }
                let problem = SendProblem::internal(error.to_string());
                ids.into_iter().map(|id| Receipt::failed(id.unwrap_or_else(new_id), problem.clone())).collect()
            }
        }
    }
}

impl AcceptorParts {
    async fn accept(self: Arc<Self>, drafts: Vec<Draft>) -> Vec<Receipt> {
        if self.journal.store_is_away() {
            return none_taken(drafts, "nothing was sent: try again later");
        }
        let begun = Instant::now();
        if !self.journal.has_room(begun + STORE_WITHIN).await {
            return none_taken(
                drafts,
                "nothing was sent, since the store does not keep up with the messages: try again later",
            );
        }
        let (answer_by, store_by) = (begun + ANSWER_WITHIN, begun + STORE_WITHIN);
        let mut steps = self.prepare(drafts, answer_by, store_by).await;
        // All rows are written before one is awaited: they share a transaction.
        for step in &mut steps {
            self.await_reservation(step, store_by).await;
        }
        let answer_by = answer_by.max(Instant::now() + FLIGHT_AT_LEAST);
        self.produce(&mut steps, answer_by).await;
        for step in &mut steps {
            await_ack(step, answer_by).await;
        }
        for step in &mut steps {
            self.record(step).await;
        }
        let few = steps.len() <= MAX_ASKED;
        let mut receipts = Vec::with_capacity(steps.len());
        for step in steps {
            receipts.push(self.finish(step, answer_by, store_by, few).await);
        }
        if receipts.iter().any(|receipt| receipt.retrying) {
            self.outlast_looks().await;
        }
        receipts
    }

    /// [`Acceptor::outlast_looks`].
    async fn outlast_looks(&self) {
        if self.store.is_shared() {
            tokio::time::sleep(GOOD_FOR).await;
        }
    }

    /// Validates, chooses the route of each topic, and writes the rows that
    /// must be durable before anything is sent.
    async fn prepare(&self, drafts: Vec<Draft>, answer_by: Instant, store_by: Instant) -> Vec<SendStep> {
        // Rows are sent in the order of their insertion. If some messages of a
        // topic had a row before the send and others only after it failed, the
        // former would overtake: one message with an id reserves rows for all.
        let log_topic = |draft: &Draft| draft.kind.log_topic(&draft.topic).into_owned();
        let reserved: HashSet<String> = drafts.iter().filter(|draft| draft.reserves()).map(log_topic).collect();
        let barriers = self.barriers_of(&drafts);
        let unsent = self.unsent.among(self.lanes_of(&drafts, &barriers), store_by).await;
        let mut routes: HashMap<String, Route> = HashMap::new();
        let mut refusals: HashMap<String, Option<SendProblem>> = HashMap::new();
        let mut steps = Vec::with_capacity(drafts.len());
        let now = now();
        for draft in drafts {
            let named = reserved.contains(&*draft.kind.log_topic(&draft.topic));
            let ready = match self.admit(draft, now) {
                Ok(ready) => SendableMessage { named, ..ready },
                Err(NotAdmitted::Refused(row, problem)) => {
                    let message = row.identity();
                    let written = self.journal.accept(*row, store_by).await;
                    steps.push(SendStep::Row { message, written, then: DurableMeaning::Refused(problem), kept: None });
                    continue;
                }
                Err(NotAdmitted::Full { id, problem }) => {
                    steps.push(SendStep::Done(Receipt::failed(id, problem)));
                    continue;
                }
            };
            let topic = &*ready.log_topic();
            if let Some(due) = ready.due {
                if !refusals.contains_key(topic) {
                    let refusal = self.refusal(&ready, answer_by).await;
                    refusals.insert(topic.to_owned(), refusal);
                }
                let (message, refused) = (ready.identity(), refusals[topic].clone());
                let row = refused.as_ref().map_or_else(|| ready.delayed(), |why| ready.refused(&why.detail));
                let written = self.journal.accept(row, store_by).await;
                let then = refused.map_or(DurableMeaning::Delayed(due), DurableMeaning::Refused);
                steps.push(SendStep::Row { message, written, then, kept: None });
                continue;
            }
            if !routes.contains_key(topic) {
                let barrier = barriers.get(topic).copied().unwrap_or(SendBarrier::Backlog);
                let route = match ready.message.kind {
                    Kind::Event => self.route(topic, barrier, answer_by).await,
                    Kind::Broadcast => self.route_broadcast(&ready.message.topic, topic, barrier, answer_by).await,
                };
                routes.insert(topic.to_owned(), route);
            }
            let lane = ready.message.key.clone().map(|key| (topic.to_owned(), key));
            if matches!(routes[topic], Route::Direct { .. }) && lane.is_some_and(|lane| unsent.contains(&lane)) {
                steps.push(self.behind(ready, store_by).await);
                continue;
            }
            steps.push(match &routes[topic] {
                Route::Direct { partitions } if ready.named => {
                    let flight = self.backlog.flight(topic);
                    let written = self.journal.accept(ready.owed("being sent", Some(HOLD)), store_by).await;
                    SendStep::Reserved { ready, partitions: *partitions, written, flight }
                }
                Route::Direct { partitions } => SendStep::Clear { ready, partitions: *partitions, flight: None },
                Route::Owed { reason, wait, mark } => {
                    let message = ready.identity();
                    let watch = if *wait { self.waker.watch(&message) } else { None };
                    let written = self.journal.accept(ready.owed(reason, None), store_by).await;
                    let kept = Some(Arc::clone(mark));
                    SendStep::Row { message, written, then: DurableMeaning::Retrying(watch), kept }
                }
                Route::Refused(problem) => {
                    let written = self.journal.accept(ready.refused(&problem.detail), store_by).await;
                    let message = ready.identity();
                    SendStep::Row { message, written, then: DurableMeaning::Refused(problem.clone()), kept: None }
                }
            });
        }
        steps
    }

    /// The lanes of messages that may be sent directly: none of a topic that something
    /// stands before.
    fn lanes_of(&self, drafts: &[Draft], barriers: &HashMap<String, SendBarrier>) -> HashSet<Lane> {
        // The marks of an only host know all rows.
        if !self.store.is_shared() && self.backlog.has_looked() {
            return HashSet::new();
        }
        let keyed = drafts.iter().filter(|draft| draft.due().is_none());
        let lanes =
            keyed.filter_map(|draft| Some((draft.kind.log_topic(&draft.topic).into_owned(), draft.key.clone()?)));
        lanes.filter(|(topic, _)| barriers.get(topic) == Some(&SendBarrier::Nothing)).collect()
    }

    /// The step of a message whose key has unsent rows on any host: it goes
    /// through the relay, behind them.
    async fn behind(&self, ready: SendableMessage, store_by: Instant) -> SendStep {
        let mark = Arc::new(self.backlog.mark(&ready.log_topic()));
        let message = ready.identity();
        let watch = self.waker.watch(&message);
        let owed = ready.owed("waits behind earlier messages of its key", None);
        let written = self.journal.accept(owed, store_by).await;
        SendStep::Row { message, written, then: DurableMeaning::Retrying(watch), kept: Some(mark) }
    }

    /// Waits for the row of a message with an id, which says whether it is new.
    async fn await_reservation(&self, step: &mut SendStep, store_by: Instant) {
        if !matches!(step, SendStep::Reserved { .. }) {
            return;
        }
        let SendStep::Reserved { ready, partitions, written, flight } = step.take() else { return };
        let id = ready.message.id.clone();
        *step = match tokio::time::timeout_at(store_by, written.wait()).await {
            Ok(Ok(Accepted::New)) => SendStep::Clear { ready, partitions, flight: Some(flight) },
            Ok(Ok(Accepted::Same(row))) => SendStep::Known(row),
            Ok(Ok(Accepted::Other)) => SendStep::Done(Receipt::failed(id, SendProblem::conflict(&ready.identity()))),
            Ok(Ok(Accepted::Reserved { transaction })) => {
                SendStep::Done(Receipt::failed(id, SendProblem::reserved(&ready.identity(), &transaction)))
            }
            Ok(Err(error)) => SendStep::Done(Receipt::failed(id, SendProblem::of_store(&error))),
            Err(_) => SendStep::Done(Receipt::failed(id, SendProblem::store_away("nothing was sent: try again later"))),
        };
    }

    /// Produces the direct sends in the order of the request, without waiting
    /// for acknowledgements in between.
    async fn produce(&self, steps: &mut [SendStep], answer_by: Instant) {
        // A message that did not get into the client's queue must not be overtaken.
        let mut blocked: HashSet<String> = HashSet::new();
        let order = OrderedSends::default();
        for step in steps {
            if !matches!(step, SendStep::Clear { .. }) {
                continue;
            }
            let SendStep::Clear { ready, partitions, flight } = step.take() else { continue };
            let topic = &*ready.log_topic();
            let sent = if blocked.contains(topic) {
                Err(ProduceError::Later("waits behind an earlier message of its topic".to_owned()))
            } else {
                let partition = partition_of(&ready, partitions);
                self.producer.send(&order, topic, partition, &ready.record, answer_by).await
            };
            *step = match sent {
                Ok(ack) => SendStep::InFlight { ready, ack, flight },
                Err(error) => {
                    if !matches!(error, ProduceError::Refused(_)) {
                        blocked.insert(topic.to_owned());
                    }
                    SendStep::Ended { ready, result: Err(error), flight }
                }
            };
        }
    }
}

/// The receipts of messages that were not taken for the store's sake.
fn none_taken(drafts: Vec<Draft>, why: &str) -> Vec<Receipt> {
    let problem = SendProblem::store_away(why);
    drafts.into_iter().map(|draft| Receipt::failed(draft.id.unwrap_or_else(new_id), problem.clone())).collect()
}

/// Waits for an acknowledgement as long as the sender waits.
async fn await_ack(step: &mut SendStep, answer_by: Instant) {
    if !matches!(step, SendStep::InFlight { .. }) {
        return;
    }
    let SendStep::InFlight { ready, mut ack, flight } = step.take() else { return };
    *step = match tokio::time::timeout_at(answer_by, &mut ack).await {
        Ok(result) => SendStep::Ended { ready, result, flight },
        Err(_) => SendStep::InFlight { ready, ack, flight },
    };
}

/// The partition of a message. Without a key its id decides, so that the relay
/// chooses the same one when it repeats a send after a crash.
fn partition_of(ready: &SendableMessage, partitions: i32) -> i32 {
    murmur2_partition(ready.message.key.as_deref().unwrap_or(ready.message.id.as_bytes()), partitions)
}

/// Polls the store for topics with unsent rows until the send side is dropped.
async fn look_for_backlog(inner: Weak<AcceptorParts>) {
    let mut companions_at = Instant::now();
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let backlog = inner.backlog.clone();
        let look = backlog.look();
        if let Ok(found) = inner.store.topics_with_outbound().await {
            backlog.saw(look, &found);
            if companions_at <= look.began {
                inner.companions.ensure_all(&found);
                companions_at = look.began + COMPANIONS_EVERY;
            }
        }
        let pause = if backlog.any() { LOOK_BUSY } else { LOOK_IDLE };
        drop(inner);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The next look is there before this one is no longer good.
            () = backlog.look_is_needed() => tokio::time::sleep_until(look.began + GOOD_FOR / 2).await,
        }
    }
}

#[cfg(test)]
mod tests;
