//! The simulated world: two hosts that relay one shard by turns, the store, and
//! the faults.

mod ends;
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::host::{Host, Pass, Stored, Told};
use super::kafka::{Client, Ended, Topic};
use super::{Bug, Identity};
use crate::message::{Offset, Timestamp};
use crate::outbound::{Choice, Fate, Row, RowId, Shard, ShardAction, ShardEvent, TopicAnswer, TopicId};
use crate::simulation::chance::Chance;

const TOPICS: usize = 3;
const KEYS: usize = 4;
const LEASE: i64 = 2_000_000;
/// Microseconds after which brokers forget a silent producer, far longer than an
/// acknowledgement keeps a window open.
const SILENCE: i64 = 24 * 3_600_000_000;
/// Steps with faults, and the most steps after them until all debts are paid.
const FAULTY_STEPS: u64 = 400;
const CALM_STEPS: u64 = 60_000;
/// Rows a pass takes at most, and passes of a host at a time.
const TAKE: usize = 8;
const PASSES: usize = 3;
/// Offsets that one search reads.
const SEARCHED: usize = 2;

pub struct World {
    chance: Chance,
    bug: Option<Bug>,
    now: i64,
    steps: u64,
    topics: Vec<Topic>,
    /// Logs of topics that were deleted, with their ids.
    past: Vec<(usize, Topic)>,
    ids: u64,
    producers: u64,
    hosts: Vec<Host>,
    // The store.
    outbound: BTreeMap<i64, Stored>,
    undelivered: BTreeSet<i64>,
    paid: BTreeSet<i64>,
    epoch: u64,
    holder: Option<usize>,
    lease_until: i64,
    next_row: i64,
    debts: i64,
    /// The smallest limit in bytes that a topic had, by which a refusal is judged.
    smallest_limit: usize,
    /// Rows that a topic refused once, alone or with their batch. They are sent again,
    /// by another host when theirs died before that was stored, and a batch behind
    /// them may have arrived before.
    refused: BTreeSet<i64>,
    /// The first rule that was broken while actions were carried out.
    broken: Option<String>,
    /// The key of each row that was ever added.
    keys: BTreeMap<i64, Option<usize>>,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut chance = Chance::new(seed);
        let topics = (0..TOPICS).map(|id| Topic::new(id as u64 + 1, 1 + chance.below(3), 100)).collect();
        let windowed = bug != Some(Bug::SeveralInFlightBeforeTheFirst);
        let hosts = (0..2).map(|host| Host::new(Client::new(host + 1, windowed)));
        let debts = 10 + i64::try_from(chance.below(40)).unwrap_or(0);
        Self {
            bug,
            now: 0,
            steps: 0,
            topics,
            past: Vec::new(),
            ids: 100,
            producers: 10,
            hosts: hosts.collect(),
            outbound: BTreeMap::new(),
            undelivered: BTreeSet::new(),
            paid: BTreeSet::new(),
            epoch: 0,
            holder: None,
            lease_until: 0,
            next_row: 1,
            debts,
            smallest_limit: 100,
            refused: BTreeSet::new(),
            broken: None,
            keys: BTreeMap::new(),
            chance,
        }
    }

    /// Runs the schedule to its end; the error is the rule that it broke.
    pub fn run(&mut self) -> Result<(), String> {
        while self.steps < FAULTY_STEPS {
            self.step(true)?;
        }
        for topic in 0..TOPICS {
            if !self.topics[topic].exists {
                self.recreate(topic);
            }
        }
        for host in &mut self.hosts {
            host.frozen_until = 0;
        }
        while !self.outbound.is_empty() || self.next_row <= self.debts {
            if self.steps > FAULTY_STEPS + CALM_STEPS {
                return Err(format!(
                    "{} debts stand still, the first of them {:?}",
                    self.outbound.len(),
                    self.outbound.first_key_value()
                ));
            }
            self.step(false)?;
        }
        self.check_orders()?;
        let lost: Vec<i64> =
            (1..=self.debts).filter(|row| !self.paid.contains(row) && !self.undelivered.contains(row)).collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("debts {lost:?} were dropped")) }
    }

    fn step(&mut self, faulty: bool) -> Result<(), String> {
        self.steps += 1;
        self.now += self.chance.between(1_000, 60_000);
        if faulty {
            self.misfortune();
        }
        if self.next_row <= self.debts && self.chance.percent(30) {
            self.owe();
        }
        let host = self.chance.below(self.hosts.len());
        if self.hosts[host].frozen_until > self.now {
            return Ok(());
        }
        self.lease(host);
        for _ in 0..self.chance.below(6) {
            self.hand_over(host);
        }
        let ended = {
            let World { hosts, topics, chance, now, .. } = self;
            hosts[host].client.work(Timestamp(*now), topics, chance, faulty)
        };
        for (row, end) in ended {
            let fate = match end {
                Ended::Delivered(offset) => Fate::Acknowledged(offset),
                Ended::WithoutOffset(from) if self.bug == Some(Bug::BelievesSuccessWithoutOffset) => {
                    Fate::Acknowledged(from)
                }
                Ended::WithoutOffset(from) => Fate::Unknown(from),
                Ended::TooLarge => {
                    self.refused.insert(row);
                    Fate::Refused("too large".to_owned())
                }
                Ended::BatchTooLarge if self.bug == Some(Bug::BatchRefusalBelieved) => {
                    Fate::Refused("too large".to_owned())
                }
                Ended::BatchTooLarge => {
                    self.refused.insert(row);
                    Fate::Later("too large together".to_owned())
                }
                Ended::TimedOut => Fate::Later("timed out".to_owned()),
                Ended::Behind => Fate::Later("behind".to_owned()),
            };
            if let Some((pass, _)) = self.hosts[host].row(row) {
                self.tell(host, pass, ShardEvent::Produced { row: RowId(row), fate });
            }
        }
        for _ in 0..2 {
            let due = self.hosts[host].told.iter().position(|(at, ..)| *at <= self.now);
            if let Some(due) = due {
                let (_, pass, told) = self.hosts[host].told.remove(due);
                self.answer(host, pass, told, faulty)?;
            }
        }
        if self.hosts[host].passes.len() < PASSES && self.holds(host) {
            self.take(host);
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    fn misfortune(&mut self) {
        if self.chance.percent(3) {
            let topic = self.chance.below(TOPICS);
            match self.chance.below(6) {
                0 => self.topics[topic].exists = false,
                1 | 2 => self.recreate(topic),
                // Brokers forget a producer that was silent for long.
                3 if self.hosts.iter().all(|host| host.client.is_silent(topic)) => {
                    self.now += SILENCE;
                    self.topics[topic].forget_producers();
                }
                4 => {
                    let limit = 40 + self.chance.below(80);
                    self.topics[topic].max_bytes = limit;
                    self.smallest_limit = self.smallest_limit.min(limit);
                }
                _ if self.topics[topic].exists => {
                    self.topics[topic].grown = true;
                    self.topics[topic].partitions.push(Default::default());
                }
                _ => {}
            }
        }
        if self.chance.percent(2) {
            let host = self.chance.below(self.hosts.len());
            self.hosts[host].frozen_until = self.now + self.chance.between(100_000, 2 * LEASE);
        }
        if self.chance.percent(1) {
            // A host dies; its successor has another client and knows nothing.
            let host = self.chance.below(self.hosts.len());
            self.producers += 1;
            let windowed = self.bug != Some(Bug::SeveralInFlightBeforeTheFirst);
            let begun = self.hosts[host].begun;
            self.hosts[host] = Host { begun, ..Host::new(Client::new(self.producers, windowed)) };
        }
    }

    fn recreate(&mut self, topic: usize) {
        self.ids += 1;
        let new = Topic::new(self.ids, 1 + self.chance.below(4), self.topics[topic].max_bytes);
        let old = std::mem::replace(&mut self.topics[topic], new);
        self.past.push((topic, old));
    }

    fn owe(&mut self) {
        let key = (!self.chance.percent(20)).then(|| self.chance.below(KEYS));
        let identity = Identity { id: self.chance.below(3), source: self.next_row };
        let size = if self.chance.percent(5) { 200 } else { 10 + self.chance.below(40) };
        let topic = self.chance.below(TOPICS);
        let row = Stored { topic, key, identity, size, chosen: None, unknown_from: None, tries: 0, held_until: 0 };
        self.keys.insert(self.next_row, key);
        self.outbound.insert(self.next_row, row);
        self.next_row += 1;
    }

    /// Renews the lease of a host, or takes one that has run out.
    fn lease(&mut self, host: usize) {
        if self.holder == Some(host) && self.hosts[host].epoch == self.epoch {
            if self.now + LEASE / 2 > self.lease_until {
                self.lease_until = self.now + LEASE;
                self.hosts[host].leased_until = self.lease_until;
                let leased_until = self.until(self.lease_until);
                for pass in self.hosts[host].passes.keys().copied().collect::<Vec<_>>() {
                    self.tell(host, pass, ShardEvent::Renewed { leased_until });
                }
            }
        } else if self.now >= self.lease_until && self.hosts[host].passes.is_empty() {
            self.epoch += 1;
            self.holder = Some(host);
            self.lease_until = self.now + LEASE;
            self.hosts[host].epoch = self.epoch;
            self.hosts[host].leased_until = self.lease_until;
        }
    }

    fn until(&self, lease: i64) -> Timestamp {
        Timestamp(if self.bug == Some(Bug::LeaseCheckedOnlyAtTheStart) { i64::MAX } else { lease })
    }

    fn holds(&self, host: usize) -> bool {
        self.hosts[host].epoch == self.epoch && self.now < self.hosts[host].leased_until
    }

    /// Takes rows as the store returns them: a waiting row hides the rows behind it, and
    /// one under way all rows of its key.
    fn take(&mut self, host: usize) {
        let mut hidden = BTreeSet::new();
        let under_way: BTreeSet<i64> =
            self.hosts[host].passes.values().flat_map(|pass| pass.shard.rows().map(|row| row.0)).collect();
        if self.bug != Some(Bug::TakenBesideItsKey) {
            let keys = under_way.iter().filter_map(|id| self.outbound.get(id));
            hidden.extend(keys.filter_map(|row| Some((row.topic, row.key?))));
        }
        let mut rows = Vec::new();
        for (id, row) in &self.outbound {
            let waits = row.held_until > self.now;
            if let Some(key) = row.key.filter(|_| self.bug != Some(Bug::ResentBeforeARowAhead)) {
                if waits {
                    hidden.insert((row.topic, key));
                }
                if hidden.contains(&(row.topic, key)) {
                    continue;
                }
            }
            if waits || under_way.contains(id) || self.bug == Some(Bug::RowSkippedOnNull) && row.key.is_none() {
                continue;
            }
            rows.push((*id, row.clone()));
            if rows.len() == TAKE {
                break;
            }
        }
        if rows.is_empty() {
            return;
        }
        let taken = rows.iter().map(|(id, row)| Row {
            id: RowId(*id),
            topic: row.topic.to_string().into(),
            key: row.key.map(|key| key.to_string().into_bytes().into()),
            hash: u32::try_from(row.key.unwrap_or(row.identity.id) * 7 + 3).unwrap_or(0),
            size_bytes: row.size,
            chosen: row.chosen.clone(),
            unknown_from: row.unknown_from,
            tries: row.tries,
        });
        let taken = taken.collect();
        let leased_until = self.until(self.hosts[host].leased_until);
        let taker = &mut self.hosts[host];
        taker.begun += 1;
        let rows = rows.into_iter().map(|(id, row)| (id, (row, 0))).collect();
        taker.passes.insert(taker.begun, Pass { shard: Shard::default(), rows });
        let pass = taker.begun;
        self.tell(host, pass, ShardEvent::Taken { rows: taken, leased_until });
    }

    /// Hands an event to the machine of a pass, and carries out its actions.
    fn tell(&mut self, host: usize, number: u64, event: ShardEvent) {
        let Some(pass) = self.hosts[host].passes.get_mut(&number) else { return };
        let actions = pass.shard.step(Timestamp(self.now), event);
        pass.rows.retain(|row, _| pass.shard.has(RowId(*row)));
        if pass.shard.is_idle() {
            self.hosts[host].passes.remove(&number);
        }
        for action in actions {
            let told = match action {
                ShardAction::AskTopic(topic) => Told::Topic(topic.parse().unwrap_or(0)),
                ShardAction::StoreChoices(choices) => Told::StoreChoices(choices),
                ShardAction::LookUp { row, partition, from } => Told::LookUp { row, partition, from },
                ShardAction::Settle(ends) => Told::Settle(ends),
                ShardAction::Produce { row, partition } => {
                    self.hosts[host].sends.push_back((number, row.0, partition));
                    continue;
                }
            };
            let at = self.now + self.chance.between(0, 400_000);
            self.hosts[host].told.push((at, number, told));
        }
    }

    /// Hands the next row to the client, which may have failed an earlier one by now.
    fn hand_over(&mut self, host: usize) {
        let sender = &mut self.hosts[host];
        let Some((pass, row, partition)) = sender.sends.pop_front() else { return };
        let (now, is_leased) = (Timestamp(self.now), self.now < sender.leased_until);
        let Some((_, (stored, at))) = sender.row(row) else { return };
        *at = partition;
        let to = (stored.topic, usize::try_from(partition).unwrap_or(0));
        let (identity, size) = (stored.identity, stored.size);
        if !is_leased && self.bug == Some(Bug::LeaseCheckedOnlyAtTheStart) {
            self.broken = Some(format!("row {row} was produced without a lease"));
        }
        let ordered = (self.bug != Some(Bug::SentBehindAFailure)).then_some(pass);
        // The topic that its partition was chosen in: another pass may know a newer one.
        let chosen = self.outbound.get(&row).and_then(|row| row.chosen.as_ref()?.0.0.parse().ok());
        if !(is_leased && sender.client.send(now, to, row, identity, size, (ordered, chosen))) {
            sender.client.fail(to, pass);
            let fate = Fate::Later("not now".to_owned());
            self.tell(host, pass, ShardEvent::Produced { row: RowId(row), fate });
        }
    }

    fn answer(&mut self, host: usize, pass: u64, told: Told, faulty: bool) -> Result<(), String> {
        let fenced = self.hosts[host].epoch != self.epoch;
        match told {
            Told::Topic(topic) => {
                let of = &self.topics[topic];
                if of.exists {
                    self.hosts[host].client.learn(topic, of.id);
                }
                let answer = if !of.exists || faulty && self.chance.percent(5) {
                    TopicAnswer::Unknown("does not exist".to_owned())
                } else {
                    let told = if self.bug == Some(Bug::ChoiceKeptOverARecreation) {
                        String::new()
                    } else {
                        of.id.to_string()
                    };
                    TopicAnswer::Known {
                        id: TopicId(told.into()),
                        partitions: i32::try_from(of.partitions.len()).unwrap_or(1),
                        max_bytes: self.chance.percent(50).then_some(of.max_bytes),
                    }
                };
                self.tell(host, pass, ShardEvent::Topic { topic: Arc::from(topic.to_string()), answer });
            }
            Told::StoreChoices(choices) => {
                if fenced {
                    self.tell(host, pass, ShardEvent::LeaseLost);
                    return Ok(());
                }
                for Choice { row, topic_id, partition } in choices {
                    if let Some(stored) = self.outbound.get_mut(&row.0) {
                        stored.chosen = Some((topic_id, partition));
                        stored.unknown_from = None;
                    }
                }
                self.tell(host, pass, ShardEvent::ChoicesStored);
            }
            Told::LookUp { row, partition, from } => {
                let Some((_, (stored, at))) = self.hosts[host].row(row.0) else { return Ok(()) };
                *at = partition;
                let topic = &self.topics[stored.topic];
                let of = topic.partitions.get(usize::try_from(partition).unwrap_or(0)).filter(|_| topic.exists);
                let Some(of) = of else {
                    self.tell(host, pass, ShardEvent::NotLookedUp { row, reason: "no such topic".to_owned() });
                    return Ok(());
                };
                let wanted = stored.identity;
                let by_id = self.bug == Some(Bug::IdentityByIdAlone);
                let same = |identity: Identity| if by_id { identity.id == wanted.id } else { identity == wanted };
                let first = usize::try_from(from.0).unwrap_or(0);
                let behind = of.log.iter().enumerate().skip(first).take(SEARCHED);
                let found = behind.filter(|(_, logged)| same(logged.identity)).map(|(place, _)| place).next();
                let found = found.map(|place| Offset(i64::try_from(place).unwrap_or(0)));
                let event = match found {
                    None if of.log.len() > first + SEARCHED => {
                        let next = if self.bug == Some(Bug::SearchBegunAnew) { first } else { first + SEARCHED };
                        ShardEvent::SearchedTo { row, next: Offset(i64::try_from(next).unwrap_or(0)) }
                    }
                    found => ShardEvent::LookedUp { row, found },
                };
                self.tell(host, pass, event);
            }
            Told::Settle(ends) => {
                if faulty && self.chance.percent(10) {
                    let at = self.now + self.chance.between(0, 400_000);
                    self.hosts[host].told.push((at, pass, Told::Settle(ends)));
                    return Ok(());
                }
                let rows = ends.iter().map(|(row, _)| *row).collect();
                if !fenced {
                    for (row, end) in ends {
                        self.settle(row.0, end)?;
                    }
                }
                self.tell(host, pass, ShardEvent::Settled { rows });
            }
        }
        Ok(())
    }
}
