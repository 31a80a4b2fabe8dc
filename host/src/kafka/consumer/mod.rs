//! The consumer of one group: an OS thread that polls, and nothing else.
//!
//! It polls a `BaseConsumer` as long as the group runs, also while partitions
//! are paused, the store is away or a rebalance is under way, because a
//! consumer that is not polled is removed from its group. Everything that may
//! wait happens elsewhere: the thread sends [`ConsumerEvent`]s and carries out
//! [`ConsumerCommand`]s. A rebalance callback only sends an event; the thread
//! polls on until the command to assign or unassign comes.
//!
//! It never chooses offsets: an assignment names the offset to start at, and a
//! position that Kafka no longer has is an event, never a silent reset.

mod cluster_watch;
mod feeds;
mod held_topics;
mod message;
mod rebalances;
mod trouble;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka_sys as sys;
use tokio::sync::mpsc as async_mpsc;

use self::feeds::Feeds;
use self::held_topics::{HeldTopics, HoldChange};
pub use self::message::{Assignment, ConsumerCommand, ConsumerEvent, Ownership};
use self::rebalances::Rebalances;
use super::buffered::{Budget, TopicPartition};
use crate::clock::now;
use crate::supervise::{self, Task};

/// How long one poll waits for a message, and so how long an order waits.
const POLL: Duration = Duration::from_millis(10);
/// The same for a group that is idle; a message still ends the wait at once.
const IDLE_POLL: Duration = Duration::from_millis(100);
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// Records taken in one go before orders are looked at again.
const MAX_TAKE: usize = 1_024;
/// How long the thread waits at most without a poll when the budget is used up.
const FULL_WAIT: Duration = Duration::from_millis(50);
/// How often it looks whether there is room again.
const FULL_STEP: Duration = Duration::from_millis(1);
/// How long closing waits for the client to leave its group.
const LEAVE_WAIT: Duration = Duration::from_secs(3);
/// How long closing may take before the thread is left to itself:
/// `BaseConsumer::drop` can hang when its group is in an odd state.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// The handle of a running consumer thread.
#[derive(Debug)]
pub struct ConsumerThread {
    orders: mpsc::Sender<ConsumerCommand>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ConsumerThread {
    /// Subscribes and starts to poll.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration or the subscription.
    pub fn start(
        config: &ClientConfig,
        group: &str,
        topics: &[Arc<str>],
        budget: Arc<Budget>,
        notices: async_mpsc::UnboundedSender<ConsumerEvent>,
    ) -> Result<Self, KafkaError> {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        Self::spawn(config, group, budget, notices, &names)
    }

    /// Starts to poll without a subscription: partitions are read from
    /// [`ConsumerCommand::Reassign`] on, and nobody else's assignment takes them away.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn unsubscribed(
        config: &ClientConfig,
        group: &str,
        budget: Arc<Budget>,
        notices: async_mpsc::UnboundedSender<ConsumerEvent>,
    ) -> Result<Self, KafkaError> {
        Self::spawn(config, group, budget, notices, &[])
    }

    fn spawn(
        config: &ClientConfig,
        group: &str,
        budget: Arc<Budget>,
        notices: async_mpsc::UnboundedSender<ConsumerEvent>,
        topics: &[&str],
    ) -> Result<Self, KafkaError> {
        let context = Rebalances::new(notices.clone());
        let consumer: Arc<BaseConsumer<Rebalances>> = Arc::new(config.create_with_context(context)?);
        if !topics.is_empty() {
            consumer.subscribe(topics)?;
        }
        let (orders, inbox) = mpsc::channel();
        let (watched, same) = (Arc::downgrade(&consumer), config.clone());
        let subscribed = topics.first().map(|topic| (*topic).to_owned());
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        thread::Builder::new()
            .name(format!("watch {group}"))
            .spawn(move || {
                supervise::thread(Task::ConsumerWatch, || {
                    cluster_watch::keep_watch(&watched, &same, subscribed.as_deref())
                });
            })
            .map_err(no_thread)?;
        let thread = thread::Builder::new()
            .name(format!("consume {group}"))
            .spawn(move || {
                let (feeds, paused, held) = (Feeds::default(), Vec::new(), HeldTopics::default());
                let thread = Thread { consumer, topics, rejoining: false, inbox, notices, budget, feeds, paused, held };
                supervise::thread(Task::ConsumerThread, || thread.run());
            })
            .map_err(no_thread)?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Gives an order. One to a thread that has ended is dropped: whoever
    /// waits for an answer sees the channel close.
    pub fn order(&self, order: ConsumerCommand) {
        let _ = self.orders.send(order);
    }

    /// A handle for those who only give orders.
    #[must_use]
    pub fn orders(&self) -> mpsc::Sender<ConsumerCommand> {
        self.orders.clone()
    }

    /// Leaves the group and waits, for a while, until that is done.
    pub async fn close(mut self) {
        self.order(ConsumerCommand::Close);
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                while !thread.is_finished() && begun.elapsed() < CLOSE_WAIT {
                    thread::sleep(Duration::from_millis(5));
                }
                thread.is_finished()
            });
            if !joined.await.unwrap_or(false) {
                tracing::warn!("a consumer did not close within {CLOSE_WAIT:?}; it is left to itself");
            }
        }
    }
}

fn no_thread(error: std::io::Error) -> KafkaError {
    KafkaError::ClientCreation(format!("cannot start a thread: {error}"))
}

fn is_in(list: &TopicPartitionList, place: &TopicPartition) -> bool {
    list.find_partition(&place.log_topic(), place.partition).is_some()
}

struct Thread {
    consumer: Arc<BaseConsumer<Rebalances>>,
    topics: Vec<String>,
    /// It leaves the group, and subscribes again once it has left.
    rejoining: bool,
    inbox: mpsc::Receiver<ConsumerCommand>,
    notices: async_mpsc::UnboundedSender<ConsumerEvent>,
    budget: Arc<Budget>,
    feeds: Feeds,
    /// Partitions whose owners want no more for now.
    paused: Vec<TopicPartition>,
    /// Topics that hold their part of the budget.
    held: HeldTopics,
}

impl Thread {
    fn run(mut self) {
        let mut active = Instant::now();
        loop {
            if self.rejoining && self.has_left() {
                self.join_again();
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(ConsumerCommand::Close) | Err(mpsc::TryRecvError::Disconnected) => return self.close(),
                    Ok(order) => {
                        active = Instant::now();
                        self.carry_out(order);
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                }
            }
            let is_used_up = self.budget.is_used_up();
            self.hold_back(is_used_up);
            if is_used_up && self.held.is_empty() {
                // Not polling holds the records back without the pause that
                // would throw away what is prefetched; one poll in a while
                // still serves rebalances.
                let begun = Instant::now();
                while self.budget.is_used_up() && begun.elapsed() < FULL_WAIT {
                    thread::sleep(FULL_STEP);
                }
                self.take(1, Duration::ZERO);
                active = Instant::now();
            } else {
                let begun = Instant::now();
                let wait = if begun - active < IDLE_AFTER { POLL } else { IDLE_POLL };
                self.take(MAX_TAKE, wait);
                // A rebalance ends a wait as well, and orders follow it.
                active = if begun.elapsed() < wait { begun } else { active };
            }
        }
    }

    /// Polls up to `limit` records, waiting for the first one only.
    fn take(&mut self, limit: usize, wait: Duration) {
        let mut wait = wait;
        let mut ended = Vec::new();
        // Read once the wait is over: a record is not received before it is there.
        let mut received_at = None;
        let mut older_leader = false;
        for _ in 0..limit {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let received_at = *received_at.get_or_insert_with(now);
                    older_leader |= self.feeds.sort(&message, received_at, &self.budget);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => ended.push(partition),
                Some(Err(error)) => {
                    let notice = trouble::notice(self.consumer.client(), &error);
                    let is_end = matches!(notice, ConsumerEvent::Fatal(_) | ConsumerEvent::Fenced);
                    let _ = self.notices.send(notice);
                    if is_end {
                        break;
                    }
                }
            }
            wait = Duration::ZERO;
        }
        if older_leader {
            let _ = self.notices.send(ConsumerEvent::OlderLeader);
        }
        self.feeds.hand_on();
        ended.into_iter().for_each(|partition| self.feeds.tell_end(partition));
    }

    fn carry_out(&mut self, order: ConsumerCommand) {
        let result = match order {
            ConsumerCommand::Assign(assignments) => self.assign(assignments),
            ConsumerCommand::Unassign(partitions) => self.unassign(&partitions),
            ConsumerCommand::Reassign(assignment) => self.assign(vec![assignment]),
            ConsumerCommand::Pause(place) => self.pause(place),
            ConsumerCommand::Resume(place) => self.resume(&place),
            ConsumerCommand::CommitOffsets(positions) => {
                let list = listed(positions.iter().map(|(place, offset)| (place, Some(*offset))));
                self.consumer.commit(&list, CommitMode::Async)
            }
            ConsumerCommand::VerifyOwnership(place, offset, answer) => {
                // Whoever asked and has gone since wants no answer.
                let _ = answer.send(self.standing(&place, offset));
                Ok(())
            }
            ConsumerCommand::Rejoin => {
                self.rejoining = true;
                self.consumer.unsubscribe();
                Ok(())
            }
            ConsumerCommand::Close => Ok(()),
        };
        if let Err(error) = result {
            let _ = self.notices.send(ConsumerEvent::Trouble(error.to_string()));
        }
    }

    /// A broker takes a commit from any member of the current generation, so
    /// the assignment is asked first.
    fn standing(&self, place: &TopicPartition, offset: Offset) -> Ownership {
        match self.consumer.assignment() {
            Ok(assigned) if is_in(&assigned, place) => {}
            Ok(_) => return Ownership::Other,
            Err(_) => return Ownership::Unknown,
        }
        match self.consumer.commit(&listed([(place, Some(offset))]), CommitMode::Sync) {
            Ok(()) => Ownership::Owner,
            Err(error) => {
                tracing::info!(%place, %error, "kafka does not confirm this host as owner");
                match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::UnknownMemberId
                        | RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::FencedInstanceId,
                    ) => Ownership::Other,
                    _ => Ownership::Unknown,
                }
            }
        }
    }

    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<(), KafkaError> {
        // One that is assigned already would be a conflict, and the new feed
        // would get records from where the old one stood.
        let again: Vec<TopicPartition> = assignments.iter().map(|one| one.place.clone()).collect();
        self.let_go(&again, false)?;
        let list = listed(assignments.iter().map(|one| (&one.place, Some(one.offset))));
        self.consumer.incremental_assign(&list)?;
        let mut held = TopicPartitionList::new();
        for Assignment { place, feed, .. } in assignments {
            if self.held.contains(&place.log_topic()) {
                held.add_partition(&place.log_topic(), place.partition);
            }
            self.feeds.open(place, feed);
        }
        if held.count() > 0 { self.consumer.pause(&held) } else { Ok(()) }
    }

    /// Pauses the topics that hold their part of a budget that is used up, and resumes
    /// them once they hold less.
    fn hold_back(&mut self, is_used_up: bool) {
        for change in self.held.compare(is_used_up, self.feeds.uses()) {
            let (HoldChange::Hold(topic) | HoldChange::Release(topic)) = &change;
            let mut places = self.feeds.open_of(topic);
            // What its owner paused is paused already, and stays so.
            places.retain(|place| !self.paused.contains(place));
            let list = listed(places.iter().map(|place| (place, None)));
            let result = match &change {
                HoldChange::Hold(_) => self.consumer.pause(&list),
                HoldChange::Release(_) => self.consumer.resume(&list),
            };
            if let Err(error) = result {
                let _ = self.notices.send(ConsumerEvent::Trouble(error.to_string()));
            }
        }
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.let_go(partitions, true)
    }

    /// Stops reading what of `partitions` is assigned. A revocation must be
    /// answered even when that is nothing.
    fn let_go(&mut self, partitions: &[TopicPartition], answer: bool) -> Result<(), KafkaError> {
        // Naming a partition that is not assigned would be an error and would
        // leave the rebalance unanswered.
        let assigned = self.consumer.assignment()?;
        let known: Vec<&TopicPartition> = partitions.iter().filter(|place| is_in(&assigned, place)).collect();
        for place in partitions {
            // librdkafka remembers a pause over an unassignment: a partition
            // that came back would never be fetched again.
            let is_held = self.held.contains(&place.log_topic()) && self.feeds.is_open(place);
            let was_paused = self.unpause(place);
            if was_paused || is_held {
                self.consumer.resume(&listed([(place, None)]))?;
            }
            self.feeds.close(place);
        }
        if known.is_empty() && !answer {
            return Ok(());
        }
        self.consumer.incremental_unassign(&listed(known.into_iter().map(|place| (place, None))))
    }

    fn pause(&mut self, place: TopicPartition) -> Result<(), KafkaError> {
        if !self.feeds.is_open(&place) || self.paused.contains(&place) {
            return Ok(());
        }
        let is_held = self.held.contains(&place.log_topic());
        let result = if is_held { Ok(()) } else { self.consumer.pause(&listed([(&place, None)])) };
        self.paused.push(place);
        result
    }

    /// Resumes what was paused, and nothing else: resuming what is not paused
    /// makes librdkafka fetch from an offset of its own choice.
    fn resume(&mut self, place: &TopicPartition) -> Result<(), KafkaError> {
        if !self.unpause(place) || self.held.contains(&place.log_topic()) {
            return Ok(());
        }
        self.consumer.resume(&listed([(place, None)]))
    }

    /// Forgets that its owner paused a partition; whether it had.
    fn unpause(&mut self, place: &TopicPartition) -> bool {
        let Some(at) = self.paused.iter().position(|paused| paused == place) else { return false };
        self.paused.swap_remove(at);
        true
    }

    /// Whether the client has given up its partitions and left the group. It forgets
    /// its id as a member in the moment in which it asks the coordinator to let it go;
    /// closing waits for the answer.
    fn has_left(&self) -> bool {
        if self.consumer.assignment().is_ok_and(|list| list.count() > 0) {
            return false;
        }
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client lives as long as the consumer. The library gives a string
        // that ends with a NUL and is freed by its own function, or null.
        unsafe {
            let member = sys::rd_kafka_memberid(client);
            let has_none = member.is_null() || *member == 0;
            if !member.is_null() {
                sys::rd_kafka_mem_free(client, member.cast());
            }
            has_none
        }
    }

    fn join_again(&mut self) {
        self.rejoining = false;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            let _ = self.notices.send(ConsumerEvent::Fatal(error.to_string()));
        }
    }

    /// Leaves the group before it closes, so that the others get the partitions in a
    /// moment: a member with an instance id that only closes keeps them until its
    /// session times out, and whoever joins under that id gets the partitions of its
    /// old subscription without a rebalance.
    fn close(self) {
        self.consumer.unsubscribe();
        let begun = Instant::now();
        while begun.elapsed() < LEAVE_WAIT && !self.has_left() {
            // The revocation must be answered, or the group waits for it.
            let _ = self.consumer.poll(Duration::from_millis(20));
            if let Ok(list) = self.consumer.assignment()
                && list.count() > 0
            {
                let _ = self.consumer.incremental_unassign(&list);
            }
        }
    }
}

fn listed<'a>(places: impl IntoIterator<Item = (&'a TopicPartition, Option<Offset>)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (place, offset) in places {
        match offset {
            // The error is for an element that is not in the list, and it was
            // added in this very call.
            Some(offset) => {
                let _ = list.add_partition_offset(&place.log_topic(), place.partition, KafkaOffset::Offset(offset.0));
            }
            None => {
                list.add_partition(&place.log_topic(), place.partition);
            }
        }
    }
    list
}
