//! What a group hears of broadcasts on this node, or for one address of a pushed
//! service ([`each_address`](super::each_address)).
//!
//! Each listener reads every partition of the companions of its bound topics, with
//! positions of its own: no consumer group, no rebalance, nobody to share with.
//! From there on a broadcast is a delivery as any other, with the owner, the
//! machine and the retries that events have.
//!
//! The node registers, and stores where it begins, before it says that it is
//! ready ([`RunningBinding::listening`]): a broadcast that is sent after that is heard.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use courier_core::message::{Kind, Offset, Timestamp};
use courier_core::partition::Release;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{ClaimedPartition, Claims};
use super::confirmed::TopicIdentity;
use super::held_address::HeldAddress;
use super::question::StoreQuestion;
use super::{every, out_of_range, recreated_topics};
use crate::causes::{Cause, Subject};
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::context::{LookError, NodeContext, STOP_WAIT};
use crate::consume::owner;
use crate::consume::owner::message::{OwnerExit, OwnerHandle, OwnerMessage};
use crate::consume::owner::reruns;
use crate::kafka::buffered::{Budget, TopicPartition};
use crate::kafka::consumer::{ConsumerCommand, ConsumerEvent, ConsumerThread};
use crate::kafka::log_reader::LogError;
use crate::kafka::topic_watch::{Answers, TopicNow, Watched};
use crate::said;
use crate::store::{Extent, Listen, StoreError};
use crate::supervise::{self, Task};

/// How often it is looked for companions and partitions that are not there yet.
const LOOK: Duration = Duration::from_secs(1);
/// How often a companion that is there is looked at for more partitions.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often the node says that it is there.
const STILL_HERE: Duration = Duration::from_secs(3);
/// What librdkafka demands for a name of a group; nobody ever joins it.
const NO_GROUP: &str = "courier-broadcast";
/// A consumer of broadcasts that cannot be started is known by this word.
const NO_LISTENER: &str = "no_broadcast_consumer";

/// The task that listens for one group on this node.
pub(in crate::consume) struct BroadcastConsumer {
    node: NodeContext,
    claims: Claims,
    group: String,
    bindings: Vec<Arc<RunningBinding>>,
    /// Where it listens for an address: whether that one is still this host's.
    lease: Option<Arc<HeldAddress>>,
    /// Apart from that of events, which must not keep broadcasts waiting.
    budget: Arc<Budget>,
    /// Topics that this process is registered for, and when it last looked at
    /// the partitions of their companions; never for one that is not there.
    registered: HashMap<String, Option<Instant>>,
    owners: HashMap<TopicPartition, OwnerHandle>,
    claiming: HashSet<TopicPartition>,
    ready: JoinSet<ClaimedPartition>,
    released: mpsc::UnboundedSender<OwnerExit>,
    notices: mpsc::UnboundedSender<ConsumerEvent>,
    source: Option<ConsumerThread>,
    /// Tells when a companion was created anew.
    watched: Watched,
    /// What this node received from an offset on may be of another topic of the
    /// same name; by partitions that are to be claimed again.
    unconfirmed: HashMap<TopicPartition, Offset>,
    /// What is done beside, and ends with the group.
    chores: JoinSet<()>,
    /// Says that this node listens, and asks for which topics it was taken for gone.
    presence: StoreQuestion<Vec<String>>,
    /// Asks for requests to run deliveries.
    requests: StoreQuestion<reruns::Polled>,
    /// The newest request that was passed on.
    newest: Timestamp,
}

impl BroadcastConsumer {
    /// Listens until `stop`; `asked` says that somebody asked for a delivery.
    pub(in crate::consume) async fn run(
        node: NodeContext,
        group: String,
        bindings: Vec<Arc<RunningBinding>>,
        lease: Option<Arc<HeldAddress>>,
        stop: CancellationToken,
        asked: Arc<Notify>,
    ) {
        let (released, mut releases) = mpsc::unbounded_channel();
        let (notices, mut noticed) = mpsc::unbounded_channel();
        let topics = bindings.iter().flat_map(|bound| &bound.binding.topics);
        let watched = node.topics.watch(topics.map(|topic| Kind::Broadcast.log_topic(topic).into_owned()));
        let mut this = Self {
            claims: Claims::new(&node, &group).under(lease.clone()),
            budget: Arc::new(Budget::new(node.max_record)),
            node,
            group,
            bindings,
            lease,
            registered: HashMap::new(),
            owners: HashMap::new(),
            claiming: HashSet::new(),
            ready: JoinSet::new(),
            released,
            notices,
            source: None,
            watched,
            unconfirmed: HashMap::new(),
            chores: JoinSet::new(),
            presence: StoreQuestion::default(),
            requests: StoreQuestion::default(),
            newest: Timestamp::default(),
        };
        let (mut look, mut wake, mut still_here) = (every(LOOK), every(reruns::OVERLOOKED), every(STILL_HERE));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(notice) = noticed.recv() => this.noticed(notice).await,
                Some(released) = releases.recv() => this.owner_ended(&released),
                Some(ready) = this.ready.join_next(), if !this.ready.is_empty() => {
                    if let Ok(ready) = ready {
                        this.own(ready);
                        wake.reset_immediately();
                    }
                }
                answers = this.watched.next() => this.compare_topics(&answers),
                Some(_) = this.chores.join_next(), if !this.chores.is_empty() => {}
                (gone, again) = this.presence.answered() => {
                    this.taken_for_gone(&gone.unwrap_or_default());
                    if again {
                        this.still_here();
                    }
                }
                (polled, again) = this.requests.answered() => {
                    polled.into_iter().for_each(|polled| polled.pass_on(&this.owners, &mut this.newest));
                    if again {
                        this.ask_for_requests();
                    }
                }
                () = asked.notified() => this.ask_for_requests(),
                _ = wake.tick() => this.ask_for_requests(),
                _ = still_here.tick() => this.still_here(),
                _ = look.tick() => tokio::select! {
                    () = stop.cancelled() => break,
                    () = this.look() => {}
                },
            }
        }
        this.stop(releases).await;
    }

    async fn noticed(&mut self, notice: ConsumerEvent) {
        match notice {
            ConsumerEvent::Fatal(why) => {
                if let Some(unsaid) = said::again(&format!("{} broadcasts beyond use {why}", self.group)) {
                    tracing::error!(
                        group = self.group,
                        why,
                        unsaid,
                        "the consumer of broadcasts is beyond use; starting another"
                    );
                }
                self.lose_all();
            }
            ConsumerEvent::OutOfRange => {
                self.node.topics.look_now();
                self.out_of_range().await;
            }
            ConsumerEvent::OlderLeader => self.node.topics.look_now(),
            ConsumerEvent::Trouble(what) => {
                self.node.topics.look_now();
                if let Some(unsaid) = said::again(&format!("{} broadcasts {what}", self.group)) {
                    tracing::warn!(group = self.group, what, unsaid, "consumer of broadcasts");
                }
            }
            // Without a subscription there is no rebalance and no group.
            ConsumerEvent::Assigned(_)
            | ConsumerEvent::Revoked { .. }
            | ConsumerEvent::Fenced
            | ConsumerEvent::OtherProtocol => {}
        }
    }

    /// Registers for what this process is not registered for, and begins to
    /// read what it does not read yet.
    async fn look(&mut self) {
        // A host that was frozen for longer than its lease must not take back
        // what another one has by now.
        if self.lease.as_ref().is_some_and(|lease| !lease.is_good()) {
            return;
        }
        for bound in self.bindings.clone() {
            let mut all = true;
            for topic in &bound.binding.topics {
                if let Err(error) = self.look_at(&bound, topic).await {
                    tracing::debug!(group = self.group, topic, %error, "cannot look at the broadcasts of a topic yet");
                }
                all &= self.registered.contains_key(topic);
            }
            bound.listening.store(all, Ordering::Relaxed);
        }
    }

    async fn look_at(&mut self, bound: &RunningBinding, topic: &str) -> Result<(), LookError> {
        if let Some(Some(looked)) = self.registered.get(topic)
            && looked.elapsed() < LOOK_AGAIN
        {
            return Ok(());
        }
        let companion = Kind::Broadcast.log_topic(topic);
        let log = self.node.tools.log.clone();
        let info = match log.topic(&companion).await {
            // What this host may not see it does not listen to.
            Err(LogError::Refused { .. }) => None,
            info => info?,
        };
        if !self.registered.contains_key(topic) {
            let mut partitions = Vec::new();
            for partition in info.iter().flat_map(|info| info.partitions.iter().copied()) {
                let (low, high) = log.range(&companion, partition).await?;
                partitions.push(Extent { partition, low, high });
            }
            let topic_id = info.as_ref().map(|info| info.id.clone()).unwrap_or_default();
            self.register(bound, topic, topic_id, partitions).await?;
        }
        let partitions = info.map(|info| info.partitions).unwrap_or_default();
        let looked = (!partitions.is_empty()).then(Instant::now);
        self.registered.insert(topic.to_owned(), looked);
        for partition in partitions {
            let place = TopicPartition { topic: topic.into(), partition, kind: Kind::Broadcast };
            if !self.owners.contains_key(&place) && self.claiming.insert(place.clone()) {
                let (claims, unconfirmed) = (self.claims.clone(), self.unconfirmed.remove(&place));
                let claim = async move { claims.claim(place, unconfirmed).await };
                self.ready.spawn(supervise::unbroken(Task::PartitionOwner, claim));
            }
        }
        Ok(())
    }

    async fn register(
        &self,
        bound: &RunningBinding,
        topic: &str,
        topic_id: String,
        partitions: Vec<Extent>,
    ) -> Result<(), StoreError> {
        let wish = Listen {
            group: self.group.clone(),
            topic: topic.to_owned(),
            node: self.node.tools.listener.to_string(),
            forget: bound.binding.broadcast_forget,
            catch_up: bound.binding.broadcast_catch_up,
            topic_id,
            partitions,
        };
        let listening = self.node.tools.store.listen(&wish).await?;
        let listener = &*self.node.tools.listener;
        tracing::info!(group = self.group, topic, listener, begun = listening.begun, "listens to broadcasts");
        for (partition, from, to) in listening.missed {
            tracing::warn!(
                group = self.group, topic, listener, partition, %from, %to,
                "this listener was away longer than broadcast_forget, and these broadcasts passed it by; \
                 broadcast_catch_up = true in the binding makes it handle them"
            );
        }
        Ok(())
    }

    fn ask_for_requests(&mut self) {
        let poll = reruns::poll(&self.node.tools.store, &self.owners, self.newest);
        self.requests.ask(Task::BroadcastConsumer, poll);
    }

    /// Keeps the node expected.
    fn still_here(&mut self) {
        if self.lease.as_ref().is_some_and(|lease| !lease.is_there()) {
            return;
        }
        let store = Arc::clone(&self.node.tools.store);
        let (group, listener) = (self.group.clone(), Arc::clone(&self.node.tools.listener));
        self.presence.ask(Task::BroadcastConsumer, async move {
            let gone = store.still_listening(&group, &listener).await;
            gone.inspect_err(|error| tracing::debug!(group, %error, "cannot say that this node listens")).ok()
        });
    }

    /// A node that was taken for gone, because it was frozen or could not reach the
    /// store, registers again.
    fn taken_for_gone(&mut self, gone: &[String]) {
        for topic in gone {
            if !self.registered.contains_key(topic) {
                continue;
            }
            if let Some(unsaid) = said::again(&format!("{} {topic} taken for gone", self.group)) {
                let listener = &*self.node.tools.listener;
                tracing::warn!(
                    group = self.group,
                    topic,
                    listener,
                    unsaid,
                    "this listener was taken for gone; it registers again"
                );
            }
            let places: Vec<_> = self.owners.keys().filter(|place| *place.topic == **topic).cloned().collect();
            places.iter().for_each(|place| self.give_up(place));
        }
        self.registered.retain(|topic, _| !gone.contains(topic));
    }

    fn own(&mut self, ready: ClaimedPartition) {
        let place = ready.place.clone();
        self.claiming.remove(&place);
        let Some(bound) =
            self.bindings.iter().find(|bound| bound.binding.topics.iter().any(|one| **one == *place.topic))
        else {
            return;
        };
        let bound = Arc::clone(bound);
        let Some(orders) = self.source().map(ConsumerThread::orders) else { return };
        let (assignment, begun) = ready.feed();
        let claimed = &begun.ready.claimed;
        tracing::info!(
            group = self.group, %place, epoch = claimed.epoch, position = %claimed.next, open = claimed.open.len(),
            "listener started"
        );
        // A thread that has ended reads nothing; its notice starts another.
        let _ = orders.send(ConsumerCommand::Reassign(assignment));
        let handle = owner::start(self.node.tools.clone(), bound, begun, orders, self.released.clone());
        if let Some(earlier) = self.owners.insert(place, handle) {
            let _ = earlier.mail.send(OwnerMessage::Lost);
        }
    }

    /// The consumer, started for the first companion that is there: most hosts
    /// have none.
    fn source(&mut self) -> Option<&ConsumerThread> {
        if self.source.is_none() {
            let mut config = self.node.consumer.clone();
            config.set("group.id", NO_GROUP).remove("group.instance.id");
            let name = format!("{} broadcasts", self.group);
            let (causes, subject) = (&self.node.tools.causes, Subject::Group(self.group.clone()));
            match ConsumerThread::unsubscribed(&config, &name, Arc::clone(&self.budget), self.notices.clone()) {
                Ok(source) => {
                    causes.clear_code(&subject, NO_LISTENER);
                    self.source = Some(source);
                }
                Err(error) => {
                    let why = format!("broadcasts are not heard: no consumer can be started: {error}");
                    causes.report(subject, Cause::new(NO_LISTENER, why));
                }
            }
        }
        self.source.as_ref()
    }

    fn owner_ended(&mut self, released: &OwnerExit) {
        let OwnerExit { place, epoch, why, position } = released;
        if self.owners.get(place).is_none_or(|owner| owner.epoch != *epoch) {
            return;
        }
        tracing::info!(group = self.group, %place, epoch, %position, ?why, "listener stopped");
        self.owners.remove(place);
        if *why == Release::Fenced {
            // Somebody took this node for gone, and ended what lay open for
            // it. It registers again, as one that comes back.
            self.registered.remove(&*place.topic);
        }
    }

    /// What Kafka no longer has is noticed by a claim, and recorded as lost.
    async fn out_of_range(&mut self) {
        for place in out_of_range::left_their_logs(&self.group, &self.owners, &self.node.tools.log, &self.notices).await
        {
            self.give_up(&place);
        }
    }

    /// Drops the owners of companions that were created anew, and ends what lies
    /// open in partitions that they do not have any more.
    fn compare_topics(&mut self, answers: &Answers) {
        let found = recreated_topics::compare(&mut self.owners, answers);
        for (place, found) in found {
            tracing::warn!(group = self.group, %place, ?found, "the companion topic was created anew");
            match found {
                TopicIdentity::Anew { unconfirmed } => {
                    self.give_up(&place);
                    self.unconfirmed.insert(place, unconfirmed);
                }
                TopicIdentity::Gone => {
                    self.give_up(&place);
                    let companion = place.log_topic().into_owned();
                    let Some(TopicNow::Present { id, partitions }) = answers.of(&companion) else { continue };
                    let vanished = recreated_topics::EndedPartitions {
                        store: Arc::clone(&self.node.tools.store),
                        group: self.group.clone(),
                        topic: place.topic.to_string(),
                        listener: Some(self.node.tools.listener.to_string()),
                        topic_id: id.clone(),
                        partitions: *partitions,
                    };
                    self.chores.spawn(vanished.end());
                }
                TopicIdentity::Same => {}
            }
        }
    }

    /// Drops an owner; the next look claims its partition again.
    fn give_up(&mut self, place: &TopicPartition) {
        if let Some(owner) = self.owners.remove(place) {
            let _ = owner.mail.send(OwnerMessage::Lost);
            self.registered.insert(place.topic.to_string(), None);
        }
    }

    fn lose_all(&mut self) {
        let places: Vec<TopicPartition> = self.owners.keys().cloned().collect();
        places.iter().for_each(|place| self.give_up(place));
        if let Some(gone) = self.source.take() {
            tokio::spawn(gone.close());
        }
    }

    /// Drains every owner. The node stays registered: it is expected back.
    async fn stop(mut self, mut releases: mpsc::UnboundedReceiver<OwnerExit>) {
        self.ready.abort_all();
        self.owners.retain(|_, owner| owner.mail.send(OwnerMessage::Revoke(STOP_WAIT)).is_ok());
        while !self.owners.is_empty() {
            let Some(released) = releases.recv().await else { break };
            self.owners.remove(&released.place);
        }
        if let Some(source) = self.source {
            source.close().await;
        }
    }
}
