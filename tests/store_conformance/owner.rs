//! An owner of one partition, and outcomes that it settles.

use std::time::Duration;

use bytes::Bytes;
use courier::store::{
    AttemptRow, Becomes, ClaimRequest, Claimed, DeliveryFilter, DeliveryKey, DeliveryRow, Holder, NewOutbound,
    OutcomeRow, Page, Part, Settled, SharedStore, SourceHash, StoreError, WriterId,
};
use courier_core::message::{Attempts, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

pub const LEASE: Duration = Duration::from_secs(60);
pub const TOPIC: &str = "order";
pub const GROUP: &str = "stock";
/// The digest of a version, as long as real ones.
pub const VERSION: &str = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// Kafka's time of every record unless a check says otherwise: 2024-05-01.
pub const RECORD_TIME: Timestamp = Timestamp(1_714_521_600_000_000);

/// A new process.
pub fn holder(name: &str) -> Holder {
    Holder {
        incarnation: format!("{name}-{}", uuid::Uuid::new_v4()),
        boot: "boot".to_owned(),
        pid: 42,
        started: u64::MAX,
    }
}

/// Joins as `node`.
pub async fn join(store: &SharedStore, node: &str) -> WriterId {
    store.join(node, &holder(node), LEASE).await.expect("the name is free").writer
}

/// A claim for `group` on a partition of [`TOPIC`], whose log ends far beyond the checks.
pub fn request(writer: WriterId, group: &str, partition: i32) -> ClaimRequest {
    ClaimRequest {
        writer,
        group: group.to_owned(),
        topic: TOPIC.to_owned(),
        listener: None,
        topic_id: "topic-1".to_owned(),
        partition,
        fallback: Offset(0),
        log_end: Offset(1_000_000),
        unconfirmed: None,
    }
}

/// The owner of one partition.
pub struct Owner {
    pub store: SharedStore,
    pub writer: WriterId,
    pub sequence: i64,
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub claimed: Claimed,
}

impl Owner {
    /// Joins as a new node and claims partition 0 for [`GROUP`].
    pub async fn new(store: &SharedStore) -> Self {
        let writer = join(store, "host-1").await;
        Self::of(store, writer, GROUP, 0).await
    }

    /// Claims a partition for a writer that has settled nothing.
    pub async fn of(store: &SharedStore, writer: WriterId, group: &str, partition: i32) -> Self {
        Self::claim(store, request(writer, group, partition)).await
    }

    /// Claims partition 0 of another topic.
    pub async fn on_topic(store: &SharedStore, writer: WriterId, group: &str, topic: &str) -> Self {
        Self::claim(store, ClaimRequest { topic: topic.to_owned(), ..request(writer, group, 0) }).await
    }

    async fn claim(store: &SharedStore, request: ClaimRequest) -> Self {
        let ClaimRequest { writer, group, topic, partition, .. } = request.clone();
        let claimed = store.claim(&request).await.expect("a claim succeeds");
        let sequence = store.sequence(writer).await.expect("a writer that joined has a sequence");
        Self { store: SharedStore::clone(store), writer, sequence, group, topic, partition, claimed }
    }

    /// Claims the partition again, as after a restart.
    pub async fn claim_again(&mut self) -> &Claimed {
        let request = ClaimRequest { topic: self.topic.clone(), ..request(self.writer, &self.group, self.partition) };
        self.claimed = self.store.claim(&request).await.expect("a claim succeeds");
        &self.claimed
    }

    pub fn part(&self, next: i64, outcomes: Vec<OutcomeRow>) -> Part {
        Part {
            group: self.group.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            position: self.claimed.position,
            epoch: self.claimed.epoch,
            next: Offset(next),
            outcomes,
        }
    }

    /// Settles with the next sequence number, which counts only if it commits.
    pub async fn try_settle(&mut self, parts: &[Part]) -> Result<Settled, StoreError> {
        let settled = self.store.settle(self.writer, self.sequence + 1, parts).await?;
        self.sequence += 1;
        Ok(settled)
    }

    /// Settles outcomes of this partition.
    pub async fn settle(&mut self, next: i64, outcomes: Vec<OutcomeRow>) {
        let parts = [self.part(next, outcomes)];
        let settled = self.try_settle(&parts).await.expect("the settle succeeds");
        assert!(settled.stale.is_empty(), "the owner's epoch is the present one");
    }

    pub fn key(&self, offset: i64) -> DeliveryKey {
        DeliveryKey { position: self.claimed.position, offset: Offset(offset) }
    }

    pub async fn delivery(&self, offset: i64) -> Option<DeliveryRow> {
        self.store.delivery(&self.key(offset)).await.expect("a look-up succeeds")
    }

    pub async fn attempts(&self, offset: i64) -> Vec<AttemptRow> {
        let mut attempts = self.store.attempts(&[self.key(offset)]).await.expect("a look-up succeeds");
        assert_eq!(attempts.len(), 1, "one list for one key");
        attempts.remove(0)
    }

    /// Offsets of the deliveries that match a filter, over all pages.
    pub async fn listed(&self, filter: &DeliveryFilter, limit: u32) -> Vec<i64> {
        let (mut offsets, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.store.deliveries(filter, &Page { cursor, limit }).await.expect("a list succeeds");
            assert!(page.items.len() <= limit as usize, "a page keeps to its limit");
            offsets.extend(page.items.iter().map(|row| row.key.offset.0));
            match page.next {
                Some(next) => cursor = Some(next),
                None => return offsets,
            }
        }
    }

    /// Sums of this owner's group.
    pub async fn totals(&self) -> (u64, u64, u64, u64, u64, u64) {
        let totals = self.store.totals().await.expect("totals succeed");
        let of = totals.into_iter().find(|totals| totals.group == self.group).unwrap_or_default();
        (of.waiting, of.push_fail, of.retrying, of.held, of.handled, of.failed)
    }
}

/// The time at which an offset is settled: later offsets later.
pub fn at(offset: i64) -> Timestamp {
    Timestamp(RECORD_TIME.0 + 1_000_000 + offset * 1_000)
}

fn outcome(offset: i64, to: Becomes) -> OutcomeRow {
    OutcomeRow {
        offset: Offset(offset),
        had_row: false,
        record_time: RECORD_TIME,
        message_id: format!("message-{offset}"),
        source_hash: Some(SourceHash::of("shop")),
        key: Some(key_of(offset)),
        type_name: "OrderCreated".to_owned(),
        node: "host-1".into(),
        received_at: at(offset),
        verdict: None,
        reason: None,
        fingerprint: None,
        version: None,
        started_at: None,
        attempts_so_far: Attempts::default(),
        to,
        attempts: Vec::new(),
        outbound: Vec::new(),
        state_writes: Vec::new(),
    }
}

/// Ten keys in turn.
pub fn key_of(offset: i64) -> Bytes {
    Bytes::from(format!("key-{}", offset % 10))
}

/// As many attempts, of which each counts.
pub fn tried(times: u32) -> Attempts {
    Attempts { invoked: times, used: times }
}

fn invoked(mut outcome: OutcomeRow, times: u32, verdict: Verdict) -> OutcomeRow {
    outcome.attempts_so_far = tried(times);
    outcome.verdict = Some(verdict);
    outcome.version = Some(VERSION.into());
    outcome.started_at = Some(at(outcome.offset.0));
    outcome
}

/// HANDLED at its first attempt.
pub fn handled(offset: i64) -> OutcomeRow {
    let to = Becomes::Final { state: State::Handled, settled_at: at(offset), record: None };
    invoked(outcome(offset, to), 1, Verdict::Success)
}

/// HANDLED at its first attempt, in a group that keeps no rows of those.
pub fn unlisted(offset: i64) -> OutcomeRow {
    let to = Becomes::InHandledSet { settled_at: at(offset + 1) };
    let mut outcome = invoked(outcome(offset, to), 1, Verdict::Success);
    (outcome.message_id, outcome.type_name, outcome.key) = (String::new(), String::new(), None);
    outcome
}

/// Failed for good at its first attempt, with its record.
pub fn failed(offset: i64) -> OutcomeRow {
    let to = Becomes::Final { state: State::HandleFail, settled_at: at(offset), record: Some(record(offset)) };
    failing(invoked(outcome(offset, to), 1, Verdict::Error))
}

/// Parked behind its lane's head, with its record.
pub fn waiting(offset: i64) -> OutcomeRow {
    let to =
        Becomes::Open { state: State::Committed, next_attempt_at: None, held: false, record: Some(record(offset)) };
    outcome(offset, to)
}

/// Failed at attempt `number`; it runs again at `due`, or is held without it. Its
/// first outcome has its record.
pub fn retrying(offset: i64, number: u32, due: Option<Timestamp>) -> OutcomeRow {
    let record = (number == 1).then(|| record(offset));
    let to = Becomes::Open { state: State::HandleFail, next_attempt_at: due, held: due.is_none(), record };
    let row = failing(invoked(outcome(offset, to), number, Verdict::Retry));
    OutcomeRow { had_row: number > 1, ..row }
}

/// Gives a failed outcome its reason and its attempt.
fn failing(mut outcome: OutcomeRow) -> OutcomeRow {
    outcome.reason = Some(format!("attempt {} failed", outcome.attempts_so_far.invoked));
    outcome.fingerprint = Some("feedfacefeedface".to_owned());
    let attempt = attempt(&outcome);
    outcome.attempts.push(attempt);
    outcome
}

/// The attempt of an outcome, with a log.
pub fn attempt(outcome: &OutcomeRow) -> AttemptRow {
    let started_at = outcome.started_at.unwrap_or(outcome.received_at);
    AttemptRow {
        number: outcome.attempts_so_far.invoked,
        counted: true,
        version: outcome.version.clone(),
        node: outcome.node.clone(),
        started_at,
        finished_at: Timestamp(started_at.0 + 500),
        verdict: outcome.verdict.unwrap_or(Verdict::Error),
        reason: outcome.reason.clone(),
        fingerprint: outcome.fingerprint.clone(),
        log: Some(format!("log of attempt {}", outcome.attempts_so_far.invoked)),
    }
}

/// An outcome of a delivery that has an open row.
pub fn reopened(outcome: OutcomeRow, times: u32) -> OutcomeRow {
    OutcomeRow { had_row: true, attempts_so_far: tried(times), ..outcome }
}

/// The encoded record of an offset.
pub fn record(offset: i64) -> Bytes {
    Bytes::from(format!("record \u{0} of {offset}").into_bytes())
}

/// A message that a handler published.
pub fn emission(id: &str, key: Option<&'static [u8]>, shard: i32) -> NewOutbound {
    NewOutbound {
        message_id: id.to_owned(),
        topic: "stock".to_owned(),
        type_name: "StockReserved".to_owned(),
        source: "stock-reserver".to_owned(),
        key: key.map(Bytes::from_static),
        record: Bytes::from(format!("record of {id}")),
        shard,
        held_for: None,
        listed: true,
        group: None,
    }
}
