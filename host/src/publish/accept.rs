//! Takes messages of senders: the direct way to Kafka.
//!
//! A message with an id made here is produced first and its row written after,
//! already COMMITTED: a crash in between leaves it on Kafka, unanswered, as any
//! lost answer does. A message with the sender's id has its row first, with an
//! outbound row that is held while the direct send runs: of several senders of
//! one id only one gets to send, and a crash leaves the rest to the relay.
//!
//! A sender is answered within a second whatever Kafka does. A send that is
//! still in flight then has a durable row, held from the relay until the
//! flight ends ([`HOLD`] is longer than a flight can be). Nothing is sent while
//! the store is known to be away.
//!
//! Next: [`super::relay`], which sends what did not go directly.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use tokio::time::Instant;
use tracing::warn;

use super::backlog::{Backlog, Flight, Mark};
use super::draft::{Draft, MAX_MESSAGE_BYTES, Problem, Ready, Receipt, new_id};
use super::journal::{Journal, Written};
use super::waker::{Waker, Watch};
use crate::kafka::producer::{Ack, DELIVERY_TIMEOUT, ProduceError, Producer};
use crate::kafka::record::murmur2_partition;
use crate::kafka::topics::TopicError;
use crate::store::{Accepted, MessageRow, RelayResult, SentMessage, SharedStore, StoreError};

/// How long a sender waits for Kafka; what is left of a second is the store's.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// How long a sender waits for the store before it is told that it is away.
const STORE_WITHIN: Duration = Duration::from_secs(5);
/// How long the relay leaves the row of a direct send alone. Longer than a
/// flight can take: the client gives a record back after its delivery timeout,
/// which it checks each second.
const HOLD: Duration = DELIVERY_TIMEOUT.saturating_add(Duration::from_secs(5));
/// How often the store is asked for topics with unsent rows: while there are
/// some, and while none are known.
const LOOK_BUSY: Duration = Duration::from_millis(100);
const LOOK_IDLE: Duration = Duration::from_secs(1);
/// Messages of one request for which the store is asked in the end whether
/// another node has sent them meanwhile, and how often.
const MAX_ASKED: usize = 16;
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What the send side may be told by configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest message, with key and headers.
    pub max_message_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_message_bytes: MAX_MESSAGE_BYTES }
    }
}

/// The send side's front door; clones share it.
#[derive(Clone)]
pub struct Acceptor {
    inner: Arc<Inner>,
}

struct Inner {
    store: SharedStore,
    producer: Producer,
    journal: Journal,
    backlog: Backlog,
    waker: Waker,
    settings: Settings,
}

/// How messages for a topic go, for the whole of one request.
enum Route {
    Direct {
        partitions: i32,
    },
    /// Through the relay; with Kafka there, its result is worth waiting for.
    Owed {
        reason: String,
        wait: bool,
        mark: Arc<Mark>,
    },
    Refused(Problem),
}

/// One message of a request, between the steps.
enum Step {
    Done(Receipt),
    /// Its row is being written; the receipt is right once it is durable.
    Row {
        id: String,
        written: Written<Accepted>,
        then: Then,
        kept: Option<Arc<Mark>>,
    },
    /// A named message waits for its row before it is sent.
    Reserved {
        ready: Ready,
        partitions: i32,
        written: Written<Accepted>,
        flight: Flight,
    },
    /// Was handed in before; another request may just be sending it.
    Known(Box<MessageRow>),
    /// To be sent directly; the flight is that of a named message.
    Clear {
        ready: Ready,
        partitions: i32,
        flight: Option<Flight>,
    },
    Flying {
        ready: Ready,
        ack: Ack,
        flight: Option<Flight>,
    },
    /// Kafka said something about it.
    Landed {
        ready: Ready,
        result: Result<(i32, Offset), ProduceError>,
        flight: Option<Flight>,
    },
    /// A named message was sent or released, which is being written.
    Marked {
        receipt: Receipt,
        written: Written<()>,
        kept: Option<Arc<Mark>>,
    },
}

/// What a durable row means for the sender.
enum Then {
    Committed,
    Retrying(Option<Watch>),
    Refused(Problem),
}

impl Acceptor {
    /// Starts the send side.
    #[must_use]
    pub fn start(store: SharedStore, producer: Producer, waker: Waker, settings: Settings) -> Self {
        let journal = Journal::start(Arc::clone(&store));
        let inner = Arc::new(Inner { store, producer, journal, backlog: Backlog::default(), waker, settings });
        tokio::spawn(look_for_backlog(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Whether the store is known to be away, so that nothing is accepted.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.inner.journal.store_is_away()
    }

    /// Takes messages; the receipts are in their order. Messages of one key
    /// reach Kafka in this order.
    pub async fn accept(&self, drafts: Vec<Draft>) -> Vec<Receipt> {
        let ids: Vec<Option<String>> = drafts.iter().map(|draft| draft.id.clone()).collect();
        let inner = Arc::clone(&self.inner);
        // A task of its own: a sender that hangs up must not leave a message
        // on Kafka without its row.
        let receipts = match tokio::spawn(async move { inner.accept(drafts).await }).await {
            Ok(receipts) => receipts,
            Err(error) => {
                tracing::error!(%error, "accepting messages failed");
                let problem = Problem { status: 500, title: "internal error", detail: error.to_string() };
                ids.into_iter().map(|id| fail(id.unwrap_or_default(), problem.clone())).collect()
            }
        };
        for receipt in &receipts {
            metrics::counter!("courier_messages_total", "state" => receipt.state.as_str()).increment(1);
        }
        receipts
    }
}

impl Inner {
    async fn accept(self: Arc<Self>, drafts: Vec<Draft>) -> Vec<Receipt> {
        if self.journal.store_is_away() {
            let problem = Problem::store_away("nothing was sent: try again later");
            return drafts.into_iter().map(|draft| fail(draft.id.unwrap_or_default(), problem.clone())).collect();
        }
        let begun = Instant::now();
        let (answer_by, store_by) = (begun + ANSWER_WITHIN, begun + STORE_WITHIN);
        let mut steps = self.prepare(drafts, answer_by).await;
        // All rows are handed in before one is waited for: they share a
        // transaction.
        for step in &mut steps {
            self.cleared(step, store_by).await;
        }
        self.take_off(&mut steps, answer_by).await;
        for step in &mut steps {
            land(step, answer_by).await;
        }
        for step in &mut steps {
            self.record(step).await;
        }
        let few = steps.len() <= MAX_ASKED;
        let mut receipts = Vec::with_capacity(steps.len());
        for step in steps {
            receipts.push(self.finish(step, answer_by, store_by, few).await);
        }
        receipts
    }

    /// Validates, finds each topic's route, and hands in the rows that must be
    /// durable before anything is sent.
    async fn prepare(&self, drafts: Vec<Draft>, answer_by: Instant) -> Vec<Step> {
        let mut routes: HashMap<String, Route> = HashMap::new();
        let mut steps = Vec::with_capacity(drafts.len());
        let now = now();
        for draft in drafts {
            let ready = match draft.ready(now, self.settings.max_message_bytes) {
                Ok(ready) => ready,
                Err((row, problem)) => {
                    let id = row.id.clone();
                    let written = self.journal.accept(*row).await;
                    steps.push(Step::Row { id, written, then: Then::Refused(problem), kept: None });
                    continue;
                }
            };
            let topic = &ready.message.topic;
            if !routes.contains_key(topic) {
                let route = self.route(topic, answer_by).await;
                routes.insert(topic.clone(), route);
            }
            steps.push(match &routes[topic] {
                Route::Direct { partitions } if ready.named => {
                    let flight = self.backlog.flight(topic);
                    let written = self.journal.accept(ready.owed("being sent", Some(HOLD))).await;
                    Step::Reserved { ready, partitions: *partitions, written, flight }
                }
                Route::Direct { partitions } => Step::Clear { ready, partitions: *partitions, flight: None },
                Route::Owed { reason, wait, mark } => {
                    let watch = if *wait { self.waker.watch(&ready.message.id) } else { None };
                    let written = self.journal.accept(ready.owed(reason, None)).await;
                    let kept = Some(Arc::clone(mark));
                    Step::Row { id: ready.message.id, written, then: Then::Retrying(watch), kept }
                }
                Route::Refused(problem) => {
                    let written = self.journal.accept(ready.refused(&problem.detail)).await;
                    Step::Row { id: ready.message.id, written, then: Then::Refused(problem.clone()), kept: None }
                }
            });
        }
        steps
    }

    async fn route(&self, topic: &str, answer_by: Instant) -> Route {
        let owed = |reason: String, wait| Route::Owed { reason, wait, mark: Arc::new(self.backlog.mark(topic)) };
        if self.producer.is_down() {
            return owed("kafka cannot be reached".to_owned(), false);
        }
        if self.backlog.has(topic) {
            return owed("waits behind earlier messages of its topic".to_owned(), true);
        }
        match tokio::time::timeout_at(answer_by, self.producer.partitions(topic)).await {
            Ok(Ok(partitions)) => Route::Direct { partitions },
            Ok(Err(error @ (TopicError::Missing(_) | TopicError::Invalid(_)))) => {
                Route::Refused(Problem::refused(error.to_string()))
            }
            Ok(Err(TopicError::Unavailable(reason))) => owed(reason, false),
            Err(_) => owed("kafka does not answer".to_owned(), false),
        }
    }

    /// Waits for the row of a named message, which says whether it is new.
    async fn cleared(&self, step: &mut Step, store_by: Instant) {
        if !matches!(step, Step::Reserved { .. }) {
            return;
        }
        let taken = std::mem::replace(step, Step::Done(placeholder()));
        let Step::Reserved { ready, partitions, written, flight } = taken else { return };
        let id = ready.message.id.clone();
        *step = match tokio::time::timeout_at(store_by, written.wait()).await {
            Ok(Ok(Accepted::New)) => Step::Clear { ready, partitions, flight: Some(flight) },
            Ok(Ok(Accepted::Same(row))) => Step::Known(row),
            Ok(Ok(Accepted::Other)) => Step::Done(fail(id.clone(), Problem::conflict(&id))),
            Ok(Err(error)) => Step::Done(fail(id, store_problem(&error))),
            Err(_) => Step::Done(fail(id, Problem::store_away("nothing was sent: try again later"))),
        };
    }

    /// Hands everything that goes directly to the client, in the order of the
    /// request. Does not wait for acknowledgements in between.
    async fn take_off(&self, steps: &mut [Step], answer_by: Instant) {
        // What did not get into the client's queue must not be overtaken.
        let mut blocked: HashSet<String> = HashSet::new();
        for step in steps {
            if !matches!(step, Step::Clear { .. }) {
                continue;
            }
            let taken = std::mem::replace(step, Step::Done(placeholder()));
            let Step::Clear { ready, partitions, flight } = taken else { continue };
            let topic = &ready.message.topic;
            let sent = if blocked.contains(topic) {
                Err(ProduceError::Later("waits behind an earlier message of its topic".to_owned()))
            } else {
                let partition = partition_of(&ready, partitions);
                self.producer.send(topic, partition, &ready.record, answer_by).await
            };
            *step = match sent {
                Ok(ack) => Step::Flying { ready, ack, flight },
                Err(error) => {
                    if matches!(error, ProduceError::Later(_)) {
                        blocked.insert(topic.clone());
                    }
                    Step::Landed { ready, result: Err(error), flight }
                }
            };
        }
    }

    /// Hands in the rows that say what became of direct sends.
    async fn record(self: &Arc<Self>, step: &mut Step) {
        let taken = std::mem::replace(step, Step::Done(placeholder()));
        *step = match taken {
            Step::Flying { ready, ack, flight } => self.record_flying(ready, ack, flight).await,
            Step::Landed { ready, result, flight } => self.record_landed(ready, result, flight).await,
            other => other,
        };
    }

    async fn record_landed(
        &self,
        ready: Ready,
        result: Result<(i32, Offset), ProduceError>,
        flight: Option<Flight>,
    ) -> Step {
        let id = ready.message.id.clone();
        let named = ready.named;
        match result {
            Ok(place) if named => {
                let sent = SentMessage { id: id.clone(), partition: place.0, offset: place.1 };
                let written = self.journal.sent(sent).await;
                drop(flight);
                Step::Marked { receipt: committed(id), written, kept: None }
            }
            Ok(place) => {
                let written = self.journal.accept(ready.committed(place)).await;
                Step::Row { id, written, then: Then::Committed, kept: None }
            }
            Err(ProduceError::Refused(reason)) if named => {
                // The row is held for this send. The relay gets the same
                // refusal and settles the row.
                let problem = Problem::refused(reason.clone());
                let kept = Some(Arc::new(self.backlog.mark(&ready.message.topic)));
                let written = self.journal.release(id.clone(), reason).await;
                Step::Marked { receipt: fail(id, problem), written, kept }
            }
            Err(ProduceError::Refused(reason)) => {
                let written = self.journal.accept(ready.refused(&reason)).await;
                Step::Row { id, written, then: Then::Refused(Problem::refused(reason)), kept: None }
            }
            Err(ProduceError::Later(reason)) => {
                let kept = Some(Arc::new(self.backlog.mark(&ready.message.topic)));
                if named {
                    let written = self.journal.release(id.clone(), reason).await;
                    Step::Marked { receipt: retrying(id), written, kept }
                } else {
                    let written = self.journal.accept(ready.owed(&reason, None)).await;
                    Step::Row { id, written, then: Then::Retrying(None), kept }
                }
            }
        }
    }

    /// A send that is still in flight when its sender must be answered: its
    /// row is made durable, held, and another task waits for the flight's end.
    async fn record_flying(self: &Arc<Self>, ready: Ready, ack: Ack, flight: Option<Flight>) -> Step {
        let id = ready.message.id.clone();
        let mark = Arc::new(self.backlog.mark(&ready.message.topic));
        if ready.named {
            tokio::spawn(Arc::clone(self).wait_for_landing(id.clone(), ack, flight, Arc::clone(&mark)));
            return Step::Done(retrying(id));
        }
        let written = self.journal.accept(ready.owed("kafka has not answered yet", Some(HOLD))).await;
        tokio::spawn(Arc::clone(self).wait_for_landing(id.clone(), ack, flight, Arc::clone(&mark)));
        Step::Row { id, written, then: Then::Retrying(None), kept: Some(mark) }
    }

    async fn wait_for_landing(self: Arc<Self>, id: String, ack: Ack, flight: Option<Flight>, mark: Arc<Mark>) {
        // The journal writes what it is handed in order, so that the row is
        // there before what is said of it.
        let written = match ack.await {
            Ok((partition, offset)) => {
                metrics::counter!("courier_messages_total", "state" => State::Committed.as_str()).increment(1);
                self.journal.sent(SentMessage { id: id.clone(), partition, offset }).await.wait().await
            }
            Err(ProduceError::Refused(reason) | ProduceError::Later(reason)) => {
                self.journal.release(id.clone(), reason).await.wait().await
            }
        };
        if let Err(error) = written {
            // The hold runs out and the relay sends it again, with its id.
            warn!(%error, message = %id, "cannot store how a send ended");
        }
        drop((flight, mark));
        self.waker.wake();
    }

    async fn finish(&self, step: Step, answer_by: Instant, store_by: Instant, ask: bool) -> Receipt {
        match step {
            Step::Row { id, written, then, kept } => {
                let durable = tokio::time::timeout_at(store_by, written.wait()).await;
                if kept.is_some() {
                    drop(kept);
                    self.waker.wake();
                }
                match (durable, then) {
                    (Ok(Ok(Accepted::Other)), Then::Retrying(_)) => fail(id.clone(), Problem::conflict(&id)),
                    (Ok(Ok(Accepted::Same(row))), Then::Retrying(_)) => again(self.outcome_of(*row, answer_by).await),
                    (Ok(Ok(_)), Then::Committed) => committed(id),
                    (Ok(Ok(_)), Then::Retrying(watch)) => self.relayed(id, watch, answer_by, ask).await,
                    // A problem with the message is told whatever its row says.
                    (_, Then::Refused(problem)) => fail(id, problem),
                    (_, Then::Committed) => {
                        let detail =
                            format!("message {id} is on kafka, but this is not stored yet: do not send it again");
                        Receipt { problem: Some(Problem::store_away(detail)), ..committed(id) }
                    }
                    (Ok(Err(error)), Then::Retrying(_)) => fail(id, store_problem(&error)),
                    (Err(_), Then::Retrying(_)) => {
                        fail(id, Problem::store_away("the message could not be stored in time"))
                    }
                }
            }
            Step::Marked { receipt, written, kept } => {
                // The row itself is durable: when this is not, the relay sends
                // the message once more after the hold.
                let durable = tokio::time::timeout_at(store_by, written.wait()).await;
                if !matches!(durable, Ok(Ok(()))) {
                    warn!(message = %receipt.id, "how a send ended is not stored yet");
                }
                if kept.is_some() {
                    drop(kept);
                    self.waker.wake();
                }
                receipt
            }
            Step::Known(row) => again(self.outcome_of(*row, answer_by).await),
            Step::Done(receipt) => receipt,
            Step::Reserved { ready, .. }
            | Step::Clear { ready, .. }
            | Step::Flying { ready, .. }
            | Step::Landed { ready, .. } => retrying(ready.message.id),
        }
    }

    /// The receipt of a message that went to the relay while Kafka is there.
    async fn relayed(&self, id: String, watch: Option<Watch>, answer_by: Instant, ask: bool) -> Receipt {
        let Some(watch) = watch else { return retrying(id) };
        match watch.result(answer_by).await {
            Some(RelayResult::Taken { .. }) => committed(id),
            Some(RelayResult::Refused { reason }) => fail(id, Problem::refused(reason)),
            Some(RelayResult::Later { .. }) => retrying(id),
            // Another node may hold the shard and have sent it.
            None if ask => match self.store.message(&id).await {
                Ok(Some(row)) => again(row),
                _ => retrying(id),
            },
            None => retrying(id),
        }
    }

    /// Waits a little for a message that another request is just sending.
    async fn outcome_of(&self, mut row: MessageRow, until: Instant) -> MessageRow {
        while row.retrying && !self.producer.is_down() && Instant::now() + ASK_EVERY < until {
            tokio::time::sleep(ASK_EVERY).await;
            match self.store.message(&row.id).await {
                Ok(Some(newer)) => row = newer,
                _ => break,
            }
        }
        row
    }
}

/// Waits for an acknowledgement as long as the sender can wait.
async fn land(step: &mut Step, answer_by: Instant) {
    if !matches!(step, Step::Flying { .. }) {
        return;
    }
    let taken = std::mem::replace(step, Step::Done(placeholder()));
    let Step::Flying { ready, mut ack, flight } = taken else { return };
    *step = match tokio::time::timeout_at(answer_by, &mut ack).await {
        Ok(result) => Step::Landed { ready, result, flight },
        Err(_) => Step::Flying { ready, ack, flight },
    };
}

/// A message without a key goes where its id says, so that it goes there again
/// when the relay repeats a send that a crash cut short.
fn partition_of(ready: &Ready, partitions: i32) -> i32 {
    murmur2_partition(ready.message.key.as_deref().unwrap_or(ready.message.id.as_bytes()), partitions)
}

/// Asks the store now and then which topics have unsent rows, as long as the
/// send side is there.
async fn look_for_backlog(inner: Weak<Inner>) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let look = inner.backlog.look();
        if let Ok(found) = inner.store.topics_with_outbound().await {
            inner.backlog.saw(look, &found);
        }
        let pause = if inner.backlog.any() { LOOK_BUSY } else { LOOK_IDLE };
        drop(inner);
        tokio::time::sleep(pause).await;
    }
}

fn committed(id: String) -> Receipt {
    Receipt { id, state: State::Committed, retrying: false, problem: None }
}

fn retrying(id: String) -> Receipt {
    Receipt { id, state: State::SendFail, retrying: true, problem: None }
}

fn fail(id: String, problem: Problem) -> Receipt {
    let id = if id.is_empty() { new_id() } else { id };
    Receipt { id, state: State::SendFail, retrying: false, problem: Some(problem) }
}

/// The first answer, as far as the row still has it.
fn again(row: MessageRow) -> Receipt {
    let refused = row.state == State::SendFail && !row.retrying;
    let problem = refused.then(|| Problem::refused(row.reason.unwrap_or_else(|| "it was refused before".to_owned())));
    Receipt { id: row.id, state: row.state, retrying: row.retrying, problem }
}

fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Data(_) => Problem::invalid(error.to_string()),
        _ => Problem::store_away(error.to_string()),
    }
}

/// Stands in a step's place while the step is worked on.
fn placeholder() -> Receipt {
    retrying(String::new())
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}
