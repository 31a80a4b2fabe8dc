//! The consumer of events: follows the partitions that Kafka assigns to a group on this node.
//!
//! One task answers the events of the consumer thread: partitions are assigned
//! (claim them in the store, then read from the claimed position), partitions
//! are revoked (drain their owners, then release them), an owner is fenced (ask
//! Kafka whose partition it is).
//!
//! Invariants kept here:
//! - A partition is claimed only on an assignment, or when Kafka confirmed
//!   that it is ours; never because a write was refused.
//! - Each claim has an owner task and a feed of its own, so that no record of
//!   an earlier assignment can reach a later machine.

mod fences;
mod old_subscription;
mod ownership;
mod rivals;
mod topics;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use courier_core::message::{Offset, Timestamp};
use courier_core::partition::Release;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::fences::Fences;
use super::assignment::{AssignedPartitions, AssignmentLook};
use super::claim::{Begun, ClaimedPartition, Claims};
use super::every;
use super::question::StoreQuestion;
use crate::causes::{Cause, Subject};
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::context::{NodeContext, STOP_WAIT};
use crate::consume::owner;
use crate::consume::owner::message::{OwnerExit, OwnerHandle, OwnerMessage};
use crate::consume::owner::reruns;
use crate::kafka::buffered::{Budget, TopicPartition};
use crate::kafka::consumer::{ConsumerCommand, ConsumerEvent, ConsumerThread};
use crate::kafka::topic_watch::Watched;
use crate::said;
use crate::store::PositionId;
use crate::supervise::{self, Task};

/// How long a revoked partition may drain; the whole consumer is blocked
/// meanwhile.
const REVOKE_WAIT: Duration = Duration::from_millis(900);
/// How long an assignment waits for claims. Partitions whose claim takes longer
/// (the store is away) are read once it is done.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// How often offsets are committed to Kafka as a hint.
const HINT_INTERVAL: Duration = Duration::from_secs(2);
/// How often unchanged offsets are committed again: the answer to a commit is
/// not awaited, so one may have failed.
const HINT_AGAIN: Duration = Duration::from_secs(60);
/// How often the epochs of owners are compared with the store: an idle owner
/// would not learn otherwise that its position was moved.
const EPOCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often a busy owner is left to its own settle to find out that it was fenced.
const MAX_PASSED_OVER: u32 = 5;

/// A finished claim, by its running number; `None` for a partition that is not
/// ours.
type Finished = (u64, Option<ClaimedPartition>);

/// The task of one group on this node.
pub struct EventConsumer {
    node: NodeContext,
    claims: Claims,
    name: String,
    bindings: Vec<Arc<RunningBinding>>,
    budget: Arc<Budget>,
    notices: mpsc::UnboundedSender<ConsumerEvent>,
    released: mpsc::UnboundedSender<OwnerExit>,
    owners: HashMap<TopicPartition, OwnerHandle>,
    /// Claims under way, by their running numbers.
    claiming: HashMap<TopicPartition, (u64, tokio::task::AbortHandle)>,
    claims_begun: u64,
    ready: JoinSet<Finished>,
    /// Revoked partitions, with whether their owner has ended.
    leaving: HashMap<TopicPartition, bool>,
    given: AssignedPartitions,
    assignment_look: AssignmentLook,
    /// Notices topics that were recreated.
    watched: Watched,
    /// The ids of the topics at Kafka's last answer.
    topic_ids: HashMap<Arc<str>, String>,
    /// From which offset on the records of a dropped owner are not confirmed to
    /// be of its topic.
    unconfirmed: HashMap<TopicPartition, Offset>,
    /// Side tasks, which end with the group.
    chores: JoinSet<()>,
    /// Asks for the epochs of the positions that have owners here.
    epochs: StoreQuestion<Vec<(PositionId, i64)>>,
    /// Asks for requests to run deliveries.
    requests: StoreQuestion<reruns::Polled>,
    /// The newest request that was passed on.
    newest: Timestamp,
    /// When another client took this consumer's place.
    fenced: Fences,
    /// Why the whole group stands still here, by the codes of the causes.
    standing: BTreeSet<&'static str>,
    /// When foreign members of the group were last looked for.
    foreign: Option<Instant>,
    /// What Kafka was last told of the positions, and when.
    hinted: Option<(Vec<(TopicPartition, Offset)>, Instant)>,
}

impl EventConsumer {
    /// Runs until `stop`, then drains and leaves the group.
    pub async fn run(
        node: NodeContext,
        name: String,
        bindings: Vec<Arc<RunningBinding>>,
        budget: Arc<Budget>,
        stop: CancellationToken,
        asked: Arc<Notify>,
    ) {
        let (released, releases) = mpsc::unbounded_channel();
        let (notices, _) = mpsc::unbounded_channel();
        let topics = bindings.iter().flat_map(|bound| bound.binding.topics.clone());
        let following = Self {
            watched: node.topics.watch(topics),
            topic_ids: HashMap::new(),
            unconfirmed: HashMap::new(),
            chores: JoinSet::new(),
            epochs: StoreQuestion::default(),
            requests: StoreQuestion::default(),
            newest: Timestamp::default(),
            fenced: Fences::default(),
            standing: BTreeSet::new(),
            foreign: None,
            hinted: None,
            claims: Claims::new(&node, &name),
            node,
            name,
            bindings,
            budget,
            notices,
            released,
            owners: HashMap::new(),
            claiming: HashMap::new(),
            claims_begun: 0,
            ready: JoinSet::new(),
            leaving: HashMap::new(),
            given: AssignedPartitions::default(),
            assignment_look: AssignmentLook::default(),
        };
        following.follow(releases, stop, asked).await;
    }

    async fn follow(
        mut self,
        mut releases: mpsc::UnboundedReceiver<OwnerExit>,
        stop: CancellationToken,
        asked: Arc<Notify>,
    ) {
        let topics = self.topics();
        let (mut source, mut notices) = tokio::select! {
            subscribed = self.subscribe(&topics) => subscribed,
            () = stop.cancelled() => return,
        };
        let (mut wake, mut hint) = (every(reruns::OVERLOOKED), every(HINT_INTERVAL));
        let mut epochs = every(EPOCH_INTERVAL);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(notice) = notices.recv() => match notice {
                    ConsumerEvent::Fatal(_) | ConsumerEvent::Fenced => {
                        let stands_back = self.consumer_ended(&notice);
                        let begun = tokio::select! {
                            subscribed = async {
                                if stands_back {
                                    self.until_alone().await;
                                }
                                self.subscribe(&topics).await
                            } => subscribed,
                            () = stop.cancelled() => break,
                        };
                        let gone = std::mem::replace(&mut source, begun.0);
                        notices = begun.1;
                        tokio::spawn(gone.close());
                    }
                    notice => self.noticed(notice, &source).await,
                },
                Some(released) = releases.recv() => self.owner_ended(released, &source),
                Some(ready) = self.ready.join_next(), if !self.ready.is_empty() => {
                    if let Some(begun) = self.accept(ready) {
                        let (assignment, begun) = begun.feed();
                        source.order(ConsumerCommand::Reassign(assignment));
                        self.own(begun, &source);
                        // What was asked of it before is told to nobody again.
                        wake.reset_immediately();
                    }
                }
                answers = self.watched.next() => self.compare_topics(&answers),
                Some(_) = self.chores.join_next(), if !self.chores.is_empty() => {}
                (answer, again) = self.epochs.answered() => {
                    self.compare_epochs(answer.unwrap_or_default(), &source);
                    if again {
                        self.ask_for_epochs();
                    }
                }
                (polled, again) = self.requests.answered() => {
                    polled.into_iter().for_each(|polled| polled.pass_on(&self.owners, &mut self.newest));
                    if again {
                        self.ask_for_requests();
                    }
                }
                () = asked.notified() => {
                    self.ask_for_epochs();
                    self.ask_for_requests();
                }
                _ = wake.tick() => self.ask_for_requests(),
                _ = epochs.tick() => {
                    self.ask_for_epochs();
                    self.adopt(&source);
                    self.look_for_topics_without_reader(&source).await;
                }
                _ = hint.tick() => self.hint(&source),
            }
        }
        self.stop(source, releases).await;
    }

    fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<Arc<str>> =
            self.bindings.iter().flat_map(|bound| &bound.binding.topics).map(|topic| topic.as_str().into()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    fn bound(&self, topic: &str) -> Option<&Arc<RunningBinding>> {
        self.bindings.iter().find(|bound| bound.binding.topics.iter().any(|bound| bound == topic))
    }

    /// Resolves where the group starts, then subscribes. The other order would
    /// miss records published in between.
    async fn subscribe(&mut self, topics: &[Arc<str>]) -> (ConsumerThread, mpsc::UnboundedReceiver<ConsumerEvent>) {
        // Each consumer has a channel of its own: late events of an earlier one
        // would be taken for those of the later one.
        let (notices, noticed) = mpsc::unbounded_channel();
        self.notices = notices;
        self.assignment_look = AssignmentLook::default();
        let mut wait = Duration::from_millis(200);
        loop {
            let begun = self.claims.begin(&self.bindings).await;
            let started = begun.map_err(|error| (error.code(), error.to_string())).and_then(|()| {
                let mut config = self.node.consumer.clone();
                config.set("group.id", (self.node.kafka_group)(&self.name));
                ConsumerThread::start(&config, &self.name, topics, Arc::clone(&self.budget), self.notices.clone())
                    .map_err(|error| ("no_consumer", error.to_string()))
            });
            match started {
                Ok(source) => {
                    self.goes_on();
                    return (source, noticed);
                }
                Err((code, why)) => self.stands_still(Cause::new(code, why)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Reports what keeps the whole group from running on this node.
    fn stands_still(&mut self, cause: Cause) {
        self.standing.insert(cause.code());
        self.node.tools.causes.report(Subject::Group(self.name.clone()), cause);
    }

    /// Clears that cause.
    fn goes_on(&mut self) {
        for code in std::mem::take(&mut self.standing) {
            self.node.tools.causes.clear_code(&Subject::Group(self.name.clone()), code);
        }
    }

    /// Logs an event of the consumer that an operator may want to know.
    fn trouble(&self, what: &str) {
        if let Some(unsaid) = said::again(&format!("{} consumer {what}", self.name)) {
            tracing::warn!(group = self.name, what, unsaid, "consumer");
        }
    }

    /// Drops every partition, because the consumer is gone.
    fn lose_all(&mut self) {
        self.ready.abort_all();
        self.claiming.clear();
        self.leaving.clear();
        self.given.clear();
        for (_, owner) in self.owners.drain() {
            let _ = owner.mail.send(OwnerMessage::Lost);
        }
    }

    async fn noticed(&mut self, notice: ConsumerEvent, source: &ConsumerThread) {
        match notice {
            ConsumerEvent::Assigned(partitions) => self.assigned(partitions, source).await,
            ConsumerEvent::Revoked { partitions, lost } => self.revoked(partitions, lost, source),
            ConsumerEvent::OutOfRange => {
                self.node.topics.look_now();
                self.out_of_range().await;
            }
            ConsumerEvent::OlderLeader => self.node.topics.look_now(),
            ConsumerEvent::OtherProtocol => self.held_by_others().await,
            ConsumerEvent::Fenced => {}
            ConsumerEvent::Fatal(what) | ConsumerEvent::Trouble(what) => {
                // It may be one of a topic.
                self.node.topics.look_now();
                self.trouble(&what);
            }
        }
    }

    async fn assigned(&mut self, partitions: Vec<TopicPartition>, source: &ConsumerThread) {
        tracing::info!(group = self.name, partitions = ?names(&partitions), "partitions assigned");
        self.joined();
        if self.is_of_old_subscription(&partitions, source) {
            return;
        }
        self.note_assignment();
        for place in partitions {
            self.given.assigned(&place);
            self.claim(place);
        }
        let mut ready = Vec::new();
        let deadline = tokio::time::Instant::now() + CLAIM_WAIT;
        while !self.ready.is_empty() {
            match tokio::time::timeout_at(deadline, self.ready.join_next()).await {
                Ok(Some(finished)) => ready.extend(self.accept(finished)),
                Ok(None) | Err(_) => break,
            }
        }
        let (assignments, begun): (Vec<_>, Vec<_>) = ready.into_iter().map(ClaimedPartition::feed).unzip();
        // The partitions are read before their owners begin: an early order of
        // an owner, such as a pause, must find its partition there.
        source.order(ConsumerCommand::Assign(assignments));
        for begun in begun {
            self.own(begun, source);
        }
    }

    /// Takes a finished claim in, if it is still wanted: a revocation removes
    /// its entry, and a newer claim on the partition replaces it.
    fn accept(&mut self, finished: Result<Finished, tokio::task::JoinError>) -> Option<ClaimedPartition> {
        let (number, ready) = finished.ok()?;
        let ready = ready?;
        match self.claiming.get(&ready.place) {
            Some((wanted, _)) if *wanted == number => self.claiming.remove(&ready.place),
            _ => return None,
        };
        Some(ready)
    }

    fn claim(&mut self, place: TopicPartition) {
        let claims = self.claims.clone();
        let (claimed, unconfirmed) = (place.clone(), self.unconfirmed.remove(&place));
        self.begin_claim(place, async move { Some(claims.claim(claimed, unconfirmed).await) });
    }

    /// Removes an owner, and remembers up to which offset its records are
    /// confirmed to be of its topic.
    fn take_owner(&mut self, place: &TopicPartition) -> Option<OwnerHandle> {
        let owner = self.owners.remove(place)?;
        self.unconfirmed.insert(place.clone(), owner.confirmed.below());
        Some(owner)
    }

    fn begin_claim(
        &mut self,
        place: TopicPartition,
        claim: impl Future<Output = Option<ClaimedPartition>> + Send + 'static,
    ) {
        self.claims_begun += 1;
        let number = self.claims_begun;
        let handle = self.ready.spawn(supervise::unbroken(Task::PartitionOwner, async move { (number, claim.await) }));
        if let Some((_, earlier)) = self.claiming.insert(place, (number, handle)) {
            earlier.abort();
        }
    }

    /// Starts the owner of a claimed partition.
    fn own(&mut self, begun: Begun, source: &ConsumerThread) {
        let (place, claimed) = (begun.ready.place.clone(), &begun.ready.claimed);
        tracing::info!(
            group = self.name, %place, epoch = claimed.epoch, position = %claimed.next,
            settled = claimed.settled.len(), open = claimed.open.len(), ahead = begun.ready.ahead.len(), "partition claimed"
        );
        if let Some(bound) = self.bound(&place.topic) {
            let tools = self.node.tools.clone();
            let handle = owner::start(tools, Arc::clone(bound), begun, source.orders(), self.released.clone());
            if let Some(earlier) = self.owners.insert(place.clone(), handle) {
                let _ = earlier.mail.send(OwnerMessage::Lost);
            }
        }
    }

    fn revoked(&mut self, partitions: Vec<TopicPartition>, lost: bool, source: &ConsumerThread) {
        tracing::info!(group = self.name, partitions = ?names(&partitions), lost, "partitions revoked");
        for place in partitions {
            self.given.revoked(&place);
            if let Some((_, claiming)) = self.claiming.remove(&place) {
                claiming.abort();
            }
            let owned = match self.take_owner(&place) {
                Some(owner) => {
                    owner.mail.send(if lost { OwnerMessage::Lost } else { OwnerMessage::Revoke(REVOKE_WAIT) }).is_ok()
                }
                None => false,
            };
            // Lost partitions are released at once: other hosts may own them already.
            self.leaving.insert(place, !owned || lost);
        }
        self.let_go(source);
    }

    /// Answers a revocation once all its owners have ended.
    fn let_go(&mut self, source: &ConsumerThread) {
        if !self.leaving.is_empty() && self.leaving.values().all(|ended| *ended) {
            source.order(ConsumerCommand::Unassign(self.leaving.drain().map(|(place, _)| place).collect()));
        }
    }

    fn owner_ended(&mut self, released: OwnerExit, source: &ConsumerThread) {
        let OwnerExit { place, epoch, why, position } = released;
        tracing::info!(group = self.name, %place, epoch, position = %position, ?why, "partition released");
        if why == Release::Late {
            tracing::info!(group = self.name, %place, "unfinished attempts were dropped and will be delivered again");
        }
        if let Some(ended) = self.leaving.get_mut(&place) {
            *ended = true;
            if why == Release::Drained || why == Release::Late {
                source.order(ConsumerCommand::CommitOffsets(vec![(place, position)]));
            }
            return self.let_go(source);
        }
        let is_ours = self.owners.get(&place).is_some_and(|owner| owner.epoch == epoch);
        if why == Release::Fenced && is_ours {
            self.owners.remove(&place);
            // The store has a newer epoch, and Kafka did not revoke the
            // partition: only Kafka can say which is right.
            self.claim_if_ours(place, position, source);
        }
    }

    fn ask_for_requests(&mut self) {
        let poll = reruns::poll(&self.node.tools.store, &self.owners, self.newest);
        self.requests.ask(Task::EventConsumer, poll);
    }

    fn hint(&mut self, source: &ConsumerThread) {
        let positions: Vec<_> = self
            .owners
            .iter()
            .map(|(place, owner)| (place.clone(), Offset(owner.durable.load(Ordering::Relaxed))))
            .collect();
        let is_known = |(known, at): &(Vec<_>, Instant)| *known == positions && at.elapsed() < HINT_AGAIN;
        if positions.is_empty() || self.hinted.as_ref().is_some_and(is_known) {
            return;
        }
        self.hinted = Some((positions.clone(), Instant::now()));
        source.order(ConsumerCommand::CommitOffsets(positions));
    }

    /// Drains every owner, then leaves the group.
    async fn stop(mut self, source: ConsumerThread, mut releases: mpsc::UnboundedReceiver<OwnerExit>) {
        self.ready.abort_all();
        self.owners.retain(|_, owner| owner.mail.send(OwnerMessage::Revoke(STOP_WAIT)).is_ok());
        // Also owners that a revocation drains already.
        while !self.owners.is_empty() || self.leaving.values().any(|ended| !ended) {
            let Some(OwnerExit { place, why, position, .. }) = releases.recv().await else { break };
            self.owners.remove(&place);
            self.leaving.remove(&place);
            if matches!(why, Release::Drained | Release::Late) {
                source.order(ConsumerCommand::CommitOffsets(vec![(place, position)]));
            }
        }
        source.close().await;
        tracing::info!(group = self.name, "consumer group left");
    }
}

fn names(partitions: &[TopicPartition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}
