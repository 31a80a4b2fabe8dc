//! What a group follows on this node: the partitions that Kafka gives it.
//!
//! One task answers what the consumer thread notices: partitions come (claim
//! them in the store, then read from the claimed position), partitions go
//! (drain their owners, then let go), an owner was fenced (ask Kafka who is
//! right).
//!
//! Invariants kept here:
//! - A partition is claimed only on an assignment, or when Kafka confirmed
//!   that it is ours; never because a write was refused.
//! - Each claim has an owner task and a feed of its own, so that no record of
//!   an earlier assignment can reach a later machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use courier_core::message::{Offset, Timestamp};
use courier_core::partition::Release;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::binding::Bound;
use super::claim::{Begun, Claims, Ready};
use super::given::Given;
use super::mail::{Handle, Mail, Released};
use super::owner;
use super::{CONFIRM_RETRY, Node, STOP_WAIT, range, wakeups};
use crate::kafka::partition::{Budget, TopicPartition};
use crate::kafka::source::{Notice, Order, Source, Standing};

/// How long a revoked partition may drain; the whole consumer stands still
/// meanwhile.
const REVOKE_WAIT: Duration = Duration::from_millis(900);
/// How long an assignment waits for claims. Those that take longer (the store
/// is away) are read from once they are done.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// How often Kafka is told how far we are.
const HINT_INTERVAL: Duration = Duration::from_secs(2);
/// How often owners are held against the epochs in the store: one that has
/// nothing to settle would not learn that its position was moved.
const EPOCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often an owner that is busy may find out by itself that it was fenced.
const MAX_PASSED_OVER: u32 = 5;

/// A claim that ended, by its running number; none for a partition that is not
/// ours after all.
type Finished = (u64, Option<Ready>);

/// The task that follows one group on this node.
pub struct Following {
    node: Node,
    claims: Claims,
    name: String,
    bindings: Vec<Arc<Bound>>,
    budget: Arc<Budget>,
    notices: mpsc::UnboundedSender<Notice>,
    released: mpsc::UnboundedSender<Released>,
    owners: HashMap<TopicPartition, Handle>,
    /// Claims that are wanted, by their running numbers.
    claiming: HashMap<TopicPartition, (u64, tokio::task::AbortHandle)>,
    claims_begun: u64,
    ready: JoinSet<Finished>,
    /// Partitions that were revoked, with whether their owner has ended.
    leaving: HashMap<TopicPartition, bool>,
    given: Given,
}

impl Following {
    /// Follows the group until it is to stop, then drains and leaves it.
    pub async fn run(
        node: Node,
        name: String,
        bindings: Vec<Arc<Bound>>,
        budget: Arc<Budget>,
        stop: CancellationToken,
        asked: Arc<Notify>,
    ) {
        let (released, releases) = mpsc::unbounded_channel();
        let (notices, _) = mpsc::unbounded_channel();
        let following = Self {
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
            given: Given::default(),
        };
        following.follow(releases, stop, asked).await;
    }

    async fn follow(
        mut self,
        mut releases: mpsc::UnboundedReceiver<Released>,
        stop: CancellationToken,
        asked: Arc<Notify>,
    ) {
        let topics = self.topics();
        let (mut source, mut notices) = tokio::select! {
            subscribed = self.subscribe(&topics) => subscribed,
            () = stop.cancelled() => return,
        };
        let mut newest = Timestamp::default();
        let mut wake = tokio::time::interval(wakeups::INTERVAL);
        let mut hint = tokio::time::interval(HINT_INTERVAL);
        wake.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        hint.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut epochs = tokio::time::interval(EPOCH_INTERVAL);
        epochs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(notice) = notices.recv() => match notice {
                    Notice::Fatal(why) => {
                        tracing::error!(group = self.name, why, "the consumer is beyond use; starting another");
                        self.lose_all();
                        let begun = tokio::select! {
                            subscribed = self.subscribe(&topics) => subscribed,
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
                        source.order(Order::Reassign(assignment));
                        self.own(begun, &source);
                    }
                }
                () = asked.notified() => {
                    self.compare_epochs(&source).await;
                    self.ask(&mut newest).await;
                }
                _ = wake.tick() => self.ask(&mut newest).await,
                _ = epochs.tick() => {
                    self.compare_epochs(&source).await;
                    self.adopt(&source);
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

    fn bound(&self, topic: &str) -> Option<&Arc<Bound>> {
        self.bindings.iter().find(|bound| bound.binding.topics.iter().any(|bound| bound == topic))
    }

    /// Resolves where the group starts, then subscribes: in this order, so
    /// that nothing published in between is missed.
    async fn subscribe(&mut self, topics: &[Arc<str>]) -> (Source, mpsc::UnboundedReceiver<Notice>) {
        // A channel for each consumer: what an earlier one still has to say
        // would be taken for the later one's.
        let (notices, noticed) = mpsc::unbounded_channel();
        self.notices = notices;
        let mut wait = Duration::from_millis(200);
        loop {
            let begun = self.claims.begin(&self.bindings).await;
            let started = begun.map_err(|error| error.to_string()).and_then(|()| {
                let mut config = self.node.consumer.clone();
                config.set("group.id", (self.node.kafka_group)(&self.name));
                Source::start(&config, &self.name, topics, Arc::clone(&self.budget), self.notices.clone())
                    .map_err(|error| error.to_string())
            });
            match started {
                Ok(source) => return (source, noticed),
                Err(error) => tracing::warn!(group = self.name, error, "cannot start to consume yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// The consumer is gone, and with it every partition it was given.
    fn lose_all(&mut self) {
        self.ready.abort_all();
        self.claiming.clear();
        self.leaving.clear();
        self.given.clear();
        for (_, owner) in self.owners.drain() {
            let _ = owner.mail.send(Mail::Lost);
        }
    }

    async fn noticed(&mut self, notice: Notice, source: &Source) {
        match notice {
            Notice::Assigned(partitions) => self.assigned(partitions, source).await,
            Notice::Revoked { partitions, lost } => self.revoked(partitions, lost, source),
            Notice::OutOfRange => self.out_of_range().await,
            Notice::Fatal(what) | Notice::Trouble(what) => tracing::warn!(group = self.name, what, "consumer"),
        }
    }

    async fn assigned(&mut self, partitions: Vec<TopicPartition>, source: &Source) {
        tracing::info!(group = self.name, partitions = ?names(&partitions), "assigned");
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
        let (assignments, begun): (Vec<_>, Vec<_>) = ready.into_iter().map(Ready::feed).unzip();
        // The partitions are read before their owners begin: what an owner
        // orders at once, such as a pause, must find its partition there.
        source.order(Order::Assign(assignments));
        for begun in begun {
            self.own(begun, source);
        }
    }

    /// A claim that ended and is still wanted: a revocation takes its entry
    /// away, and a newer claim on the partition replaces it.
    fn accept(&mut self, finished: Result<Finished, tokio::task::JoinError>) -> Option<Ready> {
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
        let claimed = place.clone();
        self.begin_claim(place, async move { Some(claims.claim(claimed).await) });
    }

    /// Claims again what was fenced, if Kafka says that it is ours; it is asked
    /// until it answers, unless a revocation comes first.
    fn claim_if_ours(&mut self, place: TopicPartition, position: Offset, source: &Source) {
        let (claims, orders, group, fenced) = (self.claims.clone(), source.orders(), self.name.clone(), place.clone());
        self.begin_claim(place, async move {
            loop {
                let (answer, standing) = oneshot::channel();
                // A thread that has ended answers nothing: the group is ending.
                orders.send(Order::Confirm(fenced.clone(), position, answer)).ok()?;
                match standing.await {
                    Ok(Standing::Owner) => {
                        tracing::warn!(group, place = %fenced, "kafka confirms this host as owner; claiming again");
                        return Some(claims.claim(fenced).await);
                    }
                    Ok(Standing::Other) => return None,
                    Ok(Standing::Unknown) | Err(_) => tokio::time::sleep(CONFIRM_RETRY).await,
                }
            }
        });
    }

    fn begin_claim(&mut self, place: TopicPartition, claim: impl Future<Output = Option<Ready>> + Send + 'static) {
        self.claims_begun += 1;
        let number = self.claims_begun;
        let handle = self.ready.spawn(async move { (number, claim.await) });
        if let Some((_, earlier)) = self.claiming.insert(place, (number, handle)) {
            earlier.abort();
        }
    }

    /// Starts the owner of a partition that was claimed.
    fn own(&mut self, begun: Begun, source: &Source) {
        let Begun { place, claimed, records } = begun;
        let offset = claimed.next;
        tracing::info!(
            group = self.name, %place, epoch = claimed.epoch, position = %offset,
            settled = claimed.settled.len(), open = claimed.open.len(), "owns"
        );
        if let Some(bound) = self.bound(&place.topic) {
            let handle = owner::start(
                self.node.tools.clone(),
                Arc::clone(bound),
                place.clone(),
                claimed,
                records,
                source.orders(),
                self.released.clone(),
            );
            if let Some(earlier) = self.owners.insert(place.clone(), handle) {
                let _ = earlier.mail.send(Mail::Lost);
            }
        }
    }

    fn revoked(&mut self, partitions: Vec<TopicPartition>, lost: bool, source: &Source) {
        tracing::info!(group = self.name, partitions = ?names(&partitions), lost, "revoked");
        for place in partitions {
            self.given.revoked(&place);
            if let Some((_, claiming)) = self.claiming.remove(&place) {
                claiming.abort();
            }
            let owned = match self.owners.remove(&place) {
                Some(owner) => owner.mail.send(if lost { Mail::Lost } else { Mail::Revoke(REVOKE_WAIT) }).is_ok(),
                None => false,
            };
            // What is lost is let go at once: others may own it already.
            self.leaving.insert(place, !owned || lost);
        }
        self.let_go(source);
    }

    /// Answers a revocation once every owner it concerns has ended.
    fn let_go(&mut self, source: &Source) {
        if !self.leaving.is_empty() && self.leaving.values().all(|ended| *ended) {
            source.order(Order::Unassign(self.leaving.drain().map(|(place, _)| place).collect()));
        }
    }

    fn owner_ended(&mut self, released: Released, source: &Source) {
        let Released { place, epoch, why, position } = released;
        tracing::info!(group = self.name, %place, epoch, position = %position, ?why, "released");
        if why == Release::Late {
            tracing::info!(group = self.name, %place, "unfinished attempts were dropped and will be delivered again");
        }
        if let Some(ended) = self.leaving.get_mut(&place) {
            *ended = true;
            if why == Release::Drained || why == Release::Late {
                source.order(Order::Hint(vec![(place, position)]));
            }
            return self.let_go(source);
        }
        let is_ours = self.owners.get(&place).is_some_and(|owner| owner.epoch == epoch);
        if why == Release::Fenced && is_ours {
            self.owners.remove(&place);
            // A newer epoch, and yet Kafka did not take the partition away:
            // only Kafka can say which of the two is right.
            self.claim_if_ours(place, position, source);
        }
    }

    async fn out_of_range(&mut self) {
        for place in range::left_their_logs(&self.name, &self.owners, &self.node.tools.log, &self.notices).await {
            if let Some(owner) = self.owners.remove(&place) {
                let _ = owner.mail.send(Mail::Lost);
                self.claim(place);
            }
        }
    }

    async fn ask(&mut self, newest: &mut Timestamp) {
        wakeups::pass_on(&self.node.tools.store, &self.owners, newest).await;
    }

    /// An owner with an older epoch than the store's may write nothing any
    /// more: somebody moved its position, or another host claimed it. Kafka
    /// says whether it is ours, and then it is claimed again.
    async fn compare_epochs(&mut self, source: &Source) {
        let positions: Vec<_> = self.owners.values().map(|owner| owner.position).collect();
        if positions.is_empty() {
            return;
        }
        let epochs: HashMap<_, _> = match self.node.tools.store.epochs(&positions).await {
            Ok(epochs) => epochs.into_iter().collect(),
            Err(error) => return tracing::debug!(group = self.name, %error, "cannot compare epochs"),
        };
        let mut fenced = Vec::new();
        for (place, owner) in &mut self.owners {
            if epochs.get(&owner.position).is_none_or(|epoch| *epoch <= owner.epoch) {
                continue;
            }
            // What is under way ends in a settle that is refused and counted
            // as stale, and that tells the owner as well.
            if owner.busy.load(Ordering::Relaxed) && owner.passed_over < MAX_PASSED_OVER {
                owner.passed_over += 1;
                continue;
            }
            fenced.push(place.clone());
        }
        for place in fenced {
            let Some(owner) = self.owners.remove(&place) else { continue };
            tracing::info!(group = self.name, %place, epoch = owner.epoch, "a newer epoch is stored");
            let position = Offset(owner.durable.load(Ordering::Relaxed));
            let _ = owner.mail.send(Mail::Lost);
            self.claim_if_ours(place, position, source);
        }
    }

    /// Asks for the partitions that are ours and that nobody here works on.
    fn adopt(&mut self, source: &Source) {
        let (owners, claiming) = (&self.owners, &self.claiming);
        let cared_for = |place: &TopicPartition| owners.contains_key(place) || claiming.contains_key(place);
        let orphans = self.given.orphans(cared_for);
        for place in orphans {
            tracing::warn!(group = self.name, %place, "a partition of ours has no owner; asking kafka whose it is");
            metrics::counter!("courier_orphaned_partitions_total", "group" => self.name.clone()).increment(1);
            // What Kafka is told is a hint that the next owner corrects.
            self.claim_if_ours(place, Offset(0), source);
        }
    }

    fn hint(&self, source: &Source) {
        let positions: Vec<_> = self
            .owners
            .iter()
            .map(|(place, owner)| (place.clone(), Offset(owner.durable.load(Ordering::Relaxed))))
            .collect();
        if !positions.is_empty() {
            source.order(Order::Hint(positions));
        }
    }

    /// Drains every owner, then leaves the group.
    async fn stop(mut self, source: Source, mut releases: mpsc::UnboundedReceiver<Released>) {
        self.ready.abort_all();
        self.owners.retain(|_, owner| owner.mail.send(Mail::Revoke(STOP_WAIT)).is_ok());
        // Also those that a revocation had told before.
        while !self.owners.is_empty() || self.leaving.values().any(|ended| !ended) {
            let Some(Released { place, why, position, .. }) = releases.recv().await else { break };
            self.owners.remove(&place);
            self.leaving.remove(&place);
            if matches!(why, Release::Drained | Release::Late) {
                source.order(Order::Hint(vec![(place, position)]));
            }
        }
        source.close().await;
        tracing::info!(group = self.name, "left");
    }
}

fn names(partitions: &[TopicPartition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}
