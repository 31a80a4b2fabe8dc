//! A model of brokers and of an idempotent client.
//!
//! The broker accepts any first sequence number of a producer that it does not
//! know. The client sends several requests of a partition at once, repeats them
//! in any order, and, like librdkafka, reports success without an offset for
//! everything before an acknowledged request.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::Identity;
use crate::message::{Offset, Timestamp};
use crate::outbound::window::{Delivery, Window};
use crate::simulation::chance::Chance;

/// Requests of one partition that the client has on the wire at once.
const ON_THE_WIRE: usize = 5;

/// A record in a log: its row, and its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    pub row: i64,
    pub identity: Identity,
    /// The id of the topic that its partition was chosen in.
    pub meant_for: u64,
}

#[derive(Debug, Default)]
pub struct Partition {
    pub log: Vec<Logged>,
    /// The next sequence number of each producer that the broker knows.
    producers: HashMap<u64, u64>,
}

#[derive(Debug)]
pub struct Topic {
    pub id: u64,
    pub exists: bool,
    pub partitions: Vec<Partition>,
    pub max_bytes: usize,
    /// Whether partitions were added, so that keys lie in two of them.
    pub grown: bool,
}

impl Topic {
    pub fn new(id: u64, partitions: usize, max_bytes: usize) -> Self {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Self { id, exists: true, partitions, max_bytes, grown: false }
    }

    /// Forgets what producers sent, as brokers do after a day.
    pub fn forget_producers(&mut self) {
        for partition in &mut self.partitions {
            partition.producers.clear();
        }
    }
}

/// The broker's response to a request.
enum Response {
    Appended(Offset),
    /// The broker has this sequence number already.
    Duplicate,
    /// The broker fails the request for now, and the client tries again.
    NotNow,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    row: i64,
    identity: Identity,
    size: usize,
    meant_for: u64,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Stream {
    window: Window,
    waiting: VecDeque<Request>,
    in_flight: Vec<Request>,
    next_sequence: u64,
}

/// The result of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Delivered(Offset),
    WithoutOffset(Offset),
    TooLarge,
    /// The batch was too large that it lay in with others.
    BatchTooLarge,
    TimedOut,
    Behind,
}

/// The client of one host.
#[derive(Debug)]
pub struct Client {
    producer: u64,
    streams: BTreeMap<(usize, usize), Stream>,
    known: HashMap<usize, u64>,
    /// The passes of rows under way, and where the rows go.
    passes: BTreeMap<i64, (u64, (usize, usize))>,
    /// Partitions in which a record of a pass failed.
    failed: BTreeSet<(u64, (usize, usize))>,
    /// Whether the window applies; a planted fault turns it off.
    windowed: bool,
}

impl Client {
    pub fn new(producer: u64, windowed: bool) -> Self {
        Self {
            producer,
            streams: BTreeMap::new(),
            known: HashMap::new(),
            passes: BTreeMap::new(),
            failed: BTreeSet::new(),
            windowed,
        }
    }

    /// Learns the id of a topic. A window belongs to a topic id: acknowledgements
    /// by a deleted topic say nothing about its successor.
    pub fn learn(&mut self, topic: usize, id: u64) {
        if self.known.insert(topic, id).is_some_and(|known| known != id) {
            for stream in self.streams.iter_mut().filter(|((of, _), _)| *of == topic).map(|(_, stream)| stream) {
                stream.window.close();
            }
        }
    }

    /// Whether nothing is in flight to a topic.
    pub fn is_silent(&self, topic: usize) -> bool {
        self.streams.iter().all(|((of, _), stream)| *of != topic || stream.in_flight.is_empty())
    }

    /// Takes a record that the machine wants produced, unless one of its pass failed
    /// there.
    pub fn send(
        &mut self,
        now: Timestamp,
        to: (usize, usize),
        row: i64,
        identity: Identity,
        size: usize,
        (ordered, chosen): (Option<u64>, Option<u64>),
    ) -> bool {
        if ordered.is_some_and(|pass| self.failed.contains(&(pass, to))) {
            return false;
        }
        if let Some(pass) = ordered {
            self.passes.insert(row, (pass, to));
        }
        let stream = self.streams.entry(to).or_default();
        let meant_for = chosen.or_else(|| self.known.get(&to.0).copied()).unwrap_or(0);
        stream.waiting.push_back(Request { row, identity, size, meant_for, sequence: 0 });
        stream.hand_over(now, self.windowed);
        true
    }

    /// Notes that a record of a pass was not sent.
    pub fn fail(&mut self, to: (usize, usize), pass: u64) {
        self.failed.insert((pass, to));
    }

    /// Lets a random event happen, and notes which passes failed where.
    pub fn work(
        &mut self,
        now: Timestamp,
        topics: &mut [Topic],
        chance: &mut Chance,
        faulty: bool,
    ) -> Vec<(i64, Ended)> {
        let ended = self.happen(now, topics, chance, faulty);
        for (row, end) in &ended {
            if let Some(of) = self.passes.remove(row)
                && !matches!(end, Ended::Delivered(_))
            {
                self.failed.insert(of);
            }
        }
        ended
    }

    /// Lets a random event happen to one partition's requests.
    fn happen(&mut self, now: Timestamp, topics: &mut [Topic], chance: &mut Chance, faulty: bool) -> Vec<(i64, Ended)> {
        let busy: Vec<_> =
            self.streams.iter().filter(|(_, stream)| !stream.in_flight.is_empty()).map(|(to, _)| *to).collect();
        if busy.is_empty() {
            return Vec::new();
        }
        let to = chance.pick(&busy);
        let topic = &mut topics[to.0];
        let (producer, windowed) = (self.producer, self.windowed);
        let Some(stream) = self.streams.get_mut(&to) else { return Vec::new() };
        let mut ended = Vec::new();
        let gone = !topic.exists || to.1 >= topic.partitions.len();
        if gone && chance.percent(10) || faulty && chance.percent(2) {
            // Nothing came through in time: the requests on the wire may arrive.
            let arrives = chance.below(stream.in_flight.len() + 1);
            for request in stream.in_flight.drain(..).collect::<Vec<_>>().into_iter().enumerate() {
                if request.0 < arrives && faulty {
                    append(topic, to.1, producer, request.1);
                }
                stream.window.delivered(now, request.1.size, Delivery::Failed);
                ended.push((request.1.row, Ended::TimedOut));
            }
            ended.extend(stream.waiting.drain(..).map(|request| (request.row, Ended::Behind)));
            // The client begins anew under a higher epoch of its id: brokers
            // that know the id expect the first number, others take any.
            for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if let Some(next) = partition.producers.get_mut(&producer) {
                    *next = 0;
                }
            }
            for stream in self.streams.values_mut() {
                stream.number_anew();
            }
            return ended;
        }
        let index = chance.below(stream.in_flight.len().min(ON_THE_WIRE));
        let request = stream.in_flight[index];
        if faulty && chance.percent(10) {
            return ended; // the request was lost, or refused for now
        }
        // A batch holds what lies behind one another, and is refused as a whole.
        let together = 1 + chance.below(stream.in_flight.len().min(ON_THE_WIRE) - index);
        if stream.size_of(index, together) > topic.max_bytes {
            for request in stream.in_flight.drain(index..index + together).collect::<Vec<_>>() {
                let end = if stream.window.is_alone() { Ended::TooLarge } else { Ended::BatchTooLarge };
                stream.window.delivered(now, request.size, Delivery::Refused);
                ended.push((request.row, end));
            }
            ended.extend(stream.waiting.drain(..).map(|request| (request.row, Ended::Behind)));
            // The records behind it get new numbers under a new epoch.
            stream.number_anew();
            let known = topic.partitions.get_mut(to.1).and_then(|of| of.producers.get_mut(&producer));
            if let Some(next) = known {
                *next = 0;
            }
            stream.hand_over(now, windowed);
            return ended;
        }
        match append(topic, to.1, producer, request) {
            Response::NotNow => {}
            Response::Appended(_) | Response::Duplicate if faulty && chance.percent(10) => {} // the answer was lost
            response => {
                for earlier in stream.in_flight.drain(..=index).collect::<Vec<_>>() {
                    let from = stream.window.unknown_from();
                    let (delivery, end) = match response {
                        Response::Appended(offset) if earlier.sequence == request.sequence => {
                            (Delivery::Acknowledged(offset), Ended::Delivered(offset))
                        }
                        // Success without an offset: for a duplicate, and for everything before
                        // an acknowledged request.
                        _ => (Delivery::WithoutOffset, Ended::WithoutOffset(from)),
                    };
                    stream.window.delivered(now, earlier.size, delivery);
                    ended.push((earlier.row, end));
                    if delivery == Delivery::WithoutOffset {
                        ended.extend(stream.waiting.drain(..).map(|request| (request.row, Ended::Behind)));
                    }
                }
                stream.hand_over(now, windowed);
            }
        }
        if let Some(stream) = self.streams.get_mut(&to) {
            stream.hand_over(now, windowed);
        }
        ended
    }
}

impl Stream {
    /// The bytes of a batch.
    fn size_of(&self, from: usize, count: usize) -> usize {
        self.in_flight[from..from + count].iter().map(|request| request.size).sum()
    }

    fn number_anew(&mut self) {
        for (number, request) in (0..).zip(&mut self.in_flight) {
            request.sequence = number;
        }
        self.next_sequence = self.in_flight.len() as u64;
    }

    fn hand_over(&mut self, now: Timestamp, windowed: bool) {
        while let Some(mut request) = self.waiting.pop_front_if(|next| !windowed || self.window.admits(now, next.size))
        {
            request.sequence = self.next_sequence;
            self.next_sequence += 1;
            self.window.handed_over(request.size);
            self.in_flight.push(request);
        }
    }
}

fn append(topic: &mut Topic, partition: usize, producer: u64, request: Request) -> Response {
    let exists = topic.exists;
    let Some(partition) = topic.partitions.get_mut(partition).filter(|_| exists) else { return Response::NotNow };
    let next = partition.producers.entry(producer).or_insert(request.sequence);
    match request.sequence.cmp(next) {
        std::cmp::Ordering::Less => Response::Duplicate,
        std::cmp::Ordering::Greater => Response::NotNow,
        std::cmp::Ordering::Equal => {
            *next += 1;
            partition.log.push(Logged { row: request.row, identity: request.identity, meant_for: request.meant_for });
            Response::Appended(Offset(i64::try_from(partition.log.len()).unwrap_or(i64::MAX) - 1))
        }
    }
}
