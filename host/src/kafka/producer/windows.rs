//! Records on their way to the client, partition by partition.
//!
//! The client has of each partition what its [`Window`] admits; the rest waits
//! here in order. When the client fails one record, everything that waits
//! behind it is given back: sent now, it would overtake. So is what the same
//! [`OrderedSends`] send there afterwards.
//!
//! Callbacks of the client only take note and ring; a thread of its own hands
//! over what was released, since a callback that kept the last handle on its
//! own client could never drop it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use courier_core::message::{Offset, Timestamp};
use courier_core::outbound::window::{Delivery, Window};
use parking_lot::{Mutex, MutexGuard};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;

use super::order::OrderedSends;
use super::refusal::is_refusal;
use crate::kafka::record::Record;

/// Records that wait for their partitions' windows, all together. Past it a
/// sender is told that there is no room.
const MAX_WAITING: usize = 100_000;
/// Topics whose windows are remembered; past it, idle ones are forgotten.
const MAX_TOPICS: usize = 10_000;

/// How a record ended.
pub(super) type ProduceResult = Result<(i32, Offset), ProduceFailure>;

/// Why the client has not delivered a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProduceFailure {
    /// The client or the broker reported an error.
    Code(RDKafkaErrorCode),
    /// The broker refused the batch that it may have shared with others.
    BatchRefused(RDKafkaErrorCode),
    /// The client reported success without an offset.
    WithoutOffset {
        /// Where the record lies at the earliest, if it lies anywhere.
        from: Offset,
    },
    /// An earlier record of its partition failed, which it must not overtake.
    Behind,
}

/// What comes back from the client with each record.
pub(super) struct Ticket {
    topic: Arc<str>,
    partition: i32,
    bytes: usize,
    sender: RecordSender,
}

/// The sender of a record, which waits for its answer.
struct RecordSender {
    order: OrderedSends,
    answer: oneshot::Sender<ProduceResult>,
}

impl RecordSender {
    /// Fails the record, and with it what is sent behind it. The partitions are
    /// locked meanwhile, so that no record gets past this.
    fn fails(&self, topic: &str, partition: i32) {
        self.order.fail(topic, partition);
    }

    fn hears(self, result: ProduceResult) {
        // Nobody listens any more when the sender's deadline passed.
        let _unheard = self.answer.send(result);
    }
}

/// All partitions that were sent to.
pub(super) struct Windows {
    partitions: Mutex<Partitions>,
    begun: Instant,
    released: SyncSender<()>,
}

#[derive(Default)]
struct Partitions {
    topics: HashMap<Arc<str>, HashMap<i32, PartitionWindow>>,
    waiting: usize,
    /// Partitions whose windows may admit what waits.
    released: VecDeque<(Arc<str>, i32)>,
}

#[derive(Default)]
struct PartitionWindow {
    window: Window,
    queue: VecDeque<(Record, RecordSender)>,
}

impl Windows {
    /// Windows for a new producer, and what rings when some were released.
    pub(super) fn new() -> (Arc<Self>, Receiver<()>) {
        // One ring is enough: the thread looks at all that was released.
        let (released, rings) = sync_channel(1);
        (Arc::new(Self { partitions: Mutex::default(), begun: Instant::now(), released }), rings)
    }

    /// Hands a record over by `send`, or keeps it until the window admits it. Behind
    /// a record of the same `order` that failed, it is given back.
    pub(super) fn send(
        &self,
        order: &OrderedSends,
        topic: &str,
        partition: i32,
        record: &Record,
        send: impl FnOnce(Box<Ticket>) -> Result<(), (KafkaError, Box<Ticket>)>,
    ) -> Result<oneshot::Receiver<ProduceResult>, KafkaError> {
        let (answer, answered) = oneshot::channel();
        let (now, bytes) = (self.now(), record.size());
        let mut partitions = self.locked();
        let sender = RecordSender { order: order.clone(), answer };
        if order.has_failed(topic, partition) {
            sender.hears(Err(ProduceFailure::Behind));
            return Ok(answered);
        }
        let no_room = partitions.waiting >= MAX_WAITING;
        let (topic, of) = partitions.entry(topic, partition);
        if of.queue.is_empty() && of.window.admits(now, bytes) {
            send(Box::new(Ticket { topic, partition, bytes, sender })).map_err(|(error, _)| error)?;
            of.window.handed_over(bytes);
        } else if no_room {
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
        } else {
            of.queue.push_back((record.clone(), sender));
            partitions.waiting += 1;
        }
        Ok(answered)
    }

    /// Takes note of what the client says of a record, and answers its sender.
    pub(super) fn delivered(&self, ticket: Ticket, result: Result<Option<Offset>, RDKafkaErrorCode>) {
        let Ticket { topic, partition, bytes, sender } = ticket;
        let delivery = match result {
            Ok(Some(offset)) => Delivery::Acknowledged(offset),
            Ok(None) => Delivery::WithoutOffset,
            Err(code) if is_refusal(code) => Delivery::Refused,
            Err(_) => Delivery::Failed,
        };
        let mut partitions = self.locked();
        let (name, of) = partitions.entry(&topic, partition);
        let from = of.window.unknown_from();
        let alone = of.window.is_alone();
        of.window.delivered(self.now(), bytes, delivery);
        let mut behind = VecDeque::new();
        match delivery {
            Delivery::Acknowledged(_) if !of.queue.is_empty() => {
                partitions.released.push_back((name, partition));
                let _rung_already = self.released.try_send(());
            }
            Delivery::Acknowledged(_) => {}
            Delivery::WithoutOffset | Delivery::Failed | Delivery::Refused => {
                behind = std::mem::take(&mut of.queue);
                sender.fails(&topic, partition);
                behind.iter().for_each(|(_, sender)| sender.fails(&topic, partition));
            }
        }
        partitions.waiting -= behind.len();
        drop(partitions);
        sender.hears(match result {
            Ok(Some(offset)) => Ok((partition, offset)),
            Ok(None) => Err(ProduceFailure::WithoutOffset { from }),
            Err(code) if delivery == Delivery::Refused && !alone => Err(ProduceFailure::BatchRefused(code)),
            Err(code) => Err(ProduceFailure::Code(code)),
        });
        for (_, sender) in behind {
            sender.hears(Err(ProduceFailure::Behind));
        }
    }

    /// Closes all windows, for a client that no broker knows yet.
    pub(super) fn close(&self) {
        for of in self.locked().topics.values_mut().flat_map(HashMap::values_mut) {
            of.window.close();
        }
    }

    /// Closes the windows of a topic that was made anew: no broker knows this
    /// producer there.
    pub(super) fn close_topic(&self, topic: &str) {
        if let Some(partitions) = self.locked().topics.get_mut(topic) {
            partitions.values_mut().for_each(|of| of.window.close());
        }
    }

    /// Hands over what was released; false when the client has no room for it.
    pub(super) fn release(
        &self,
        send: impl Fn(&str, i32, &Record, Box<Ticket>) -> Result<(), (KafkaError, Box<Ticket>)>,
    ) -> bool {
        let mut partitions = self.locked();
        while let Some((topic, partition)) = partitions.released.pop_front() {
            let now = self.now();
            let of = partitions.entry(&topic, partition).1;
            let mut taken = 0;
            let mut room = true;
            while let Some((record, sender)) = of.queue.pop_front_if(|(record, _)| of.window.admits(now, record.size()))
            {
                let bytes = record.size();
                let ticket = Box::new(Ticket { topic: Arc::clone(&topic), partition, bytes, sender });
                match send(&topic, partition, &record, ticket) {
                    Ok(()) => {
                        of.window.handed_over(bytes);
                        taken += 1;
                    }
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), ticket)) => {
                        of.queue.push_front((record, ticket.sender));
                        room = false;
                        break;
                    }
                    Err((error, ticket)) => {
                        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                        ticket.sender.fails(&topic, partition);
                        ticket.sender.hears(Err(ProduceFailure::Code(code)));
                        taken += 1 + of.queue.len();
                        for (_, sender) in of.queue.drain(..) {
                            sender.fails(&topic, partition);
                            sender.hears(Err(ProduceFailure::Behind));
                        }
                    }
                }
            }
            partitions.waiting -= taken;
            if !room {
                partitions.released.push_front((topic, partition));
                return false;
            }
        }
        true
    }

    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn locked(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock()
    }
}

impl Partitions {
    /// The partition with its topic's shared name.
    fn entry(&mut self, topic: &str, partition: i32) -> (Arc<str>, &mut PartitionWindow) {
        if self.topics.len() >= MAX_TOPICS && !self.topics.contains_key(topic) {
            let idle = |of: &PartitionWindow| of.queue.is_empty() && of.window.in_flight() == 0;
            self.topics.retain(|_, partitions| !partitions.values().all(idle));
        }
        let name = match self.topics.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => topic.into(),
        };
        let of = self.topics.entry(Arc::clone(&name)).or_default().entry(partition).or_default();
        (name, of)
    }
}
