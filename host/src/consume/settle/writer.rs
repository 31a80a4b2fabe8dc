//! The writer of outcomes: it commits those of all partitions of this host in common transactions.
//!
//! Each owner has at most one batch under way. Batches that arrive during a
//! transaction go into the next one, as [`batcher`](super::batcher) chooses.
//! When the answer to a commit is lost, the writer looks its sequence up before
//! it writes anything again. While the store is away owners get no answer and
//! groups start no handler.
//!
//! A store that hangs answers nothing. So a settle that takes long counts as a
//! store that is away, and an idle writer pings the store.
//!
//! A store that refuses a part for a lasting cause (a permission, a full disk)
//! refuses it again a moment later. Its owner must neither drop the outcomes
//! nor run their handlers again: the part waits with back-off, and its
//! partition with it.
//!
//! A store that knows of fewer settles than it had acknowledged has lost them,
//! and the state of owners and caches is wrong: the host ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use courier_core::status::State;
use courier_core::verdict::Verdict;
use tokio::sync::{mpsc, watch};

use super::batcher::{AfterRefusal, Batcher, NotWritten, SettleRequest, refused_wait};
use crate::causes::{Cause, Causes, Subject};
use crate::said;
use crate::store::{Becomes, OutcomeRow, Part, PositionId, SharedStore, StoreError, WriterId};
use crate::supervise::{self, Task};

/// Interval of transactions while less than a whole one waits. A transaction
/// costs several thread switches and a sync of the disk, for one outcome as for
/// a hundred: a host that wrote as often as it could would spend half of its
/// CPU on that at a tenth of its load. An outcome that comes after a pause does
/// not wait.
const INTERVAL: Duration = Duration::from_millis(2);
/// Capacity of the inbox; each owner sends one batch at a time.
const INBOX: usize = 4_096;
/// The code of the cause that the store refuses outcomes.
const STORE_REFUSES: &str = "store_refuses";
/// The code of the cause that outcomes do not fit the store.
const STORE_MISMATCH: &str = "store_mismatch";
/// First and longest wait after the store did not answer.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the store may take before no more handlers start.
const SLOW: Duration = Duration::from_secs(2);
/// How long a partition whose outcomes did not fit the store is remembered: its
/// owner starts anew later each time within it.
const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// How often an idle writer pings the store.
const PULSE: Duration = Duration::from_secs(1);

/// A handle to the writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Settler {
    inbox: mpsc::Sender<SettleRequest>,
}

impl Settler {
    /// Starts the writer on a thread of its own: a transaction waits for the
    /// store several times, and would wait for other tasks each time otherwise.
    /// `up` is false while the store is away; `wake_relay` is called when
    /// outbound rows are durable.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        store: SharedStore,
        writer: WriterId,
        up: watch::Sender<bool>,
        causes: Causes,
        wake_relay: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (inbox, requests) = mpsc::channel(INBOX);
        let task = OutcomeWriter {
            store,
            writer,
            sequence: 0,
            begun: None,
            faults: HashMap::new(),
            refused: HashSet::new(),
            causes,
            up,
            wake_relay: Box::new(wake_relay),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("settle".into()).spawn(move || {
            let _alive = Indispensable;
            runtime.block_on(supervise::unbroken(Task::Settler, task.run(requests)));
        })?;
        Ok(Self { inbox })
    }

    /// Hands a batch to the writer, which answers it unless the process ends
    /// first.
    pub async fn settle(&self, request: SettleRequest) {
        // The writer ends with the process: a closed inbox means that the runtime
        // shuts down, and then no owner waits for the answer.
        let _ = self.inbox.send(request).await;
    }
}

/// Ends the process when the writer panics. A host without its writer would
/// keep its partitions and its lease and settle nothing; when it ends, other
/// hosts take them over.
struct Indispensable;

impl Drop for Indispensable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the writer of outcomes panicked: the host ends");
            std::process::abort();
        }
    }
}

struct OutcomeWriter {
    store: SharedStore,
    writer: WriterId,
    sequence: i64,
    begun: Option<Instant>,
    /// Positions whose outcomes did not fit the store, with how often in a row
    /// and when last.
    faults: HashMap<PositionId, (u32, Instant)>,
    /// Positions that the store's refusals have stopped.
    refused: HashSet<PositionId>,
    causes: Causes,
    up: watch::Sender<bool>,
    wake_relay: Box<dyn Fn() + Send + Sync>,
}

impl OutcomeWriter {
    async fn run(mut self, mut requests: mpsc::Receiver<SettleRequest>) {
        let mut queue = Batcher::default();
        loop {
            count_stale(queue.take_due(Instant::now()));
            if queue.is_empty() {
                match self.next(&mut requests, queue.next_due()).await {
                    Next::Request(first) => queue.push(first, Instant::now()),
                    Next::Due => continue,
                    Next::End => return,
                }
            }
            self.gather(&mut queue, &mut requests).await;
            let (parts, under_way) = queue.next_transaction(Instant::now());
            let begun = *self.begun.insert(Instant::now());
            let WriteResult { stale, refused } = self.write(&parts).await;
            metrics::histogram!("courier_settle_seconds").record(begun.elapsed().as_secs_f64());
            if parts.iter().any(|part| part.outcomes.iter().any(|row| !row.outbound.is_empty())) {
                (self.wake_relay)();
            }
            count_stale(queue.written(under_way, &stale, refused, Instant::now()));
        }
    }

    /// Adds to the queue what arrives before the next transaction begins.
    async fn gather(&self, queue: &mut Batcher, requests: &mut mpsc::Receiver<SettleRequest>) {
        let due = self.begun.map_or_else(Instant::now, |begun| begun + INTERVAL);
        loop {
            while let Ok(next) = requests.try_recv() {
                queue.push(next, Instant::now());
            }
            let now = Instant::now();
            if queue.is_full(now) || now >= due {
                return;
            }
            match tokio::time::timeout_at(due.into(), requests.recv()).await {
                Ok(Some(next)) => queue.push(next, Instant::now()),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The next request, unless a refused batch is `due` before it. Pings the
    /// store while there is none.
    async fn next(&self, requests: &mut mpsc::Receiver<SettleRequest>, due: Option<Instant>) -> Next {
        loop {
            let pulse = Instant::now() + PULSE;
            let until = due.map_or(pulse, |due| due.min(pulse));
            match tokio::time::timeout_at(until.into(), requests.recv()).await {
                Ok(Some(request)) => return Next::Request(request),
                Ok(None) => return Next::End,
                Err(_) if due.is_some_and(|due| due <= Instant::now()) => return Next::Due,
                Err(_) => match tokio::time::timeout(SLOW, self.store.ping()).await {
                    Ok(Ok(_)) => self.came_up(),
                    Ok(Err(error)) => self.went_away(&error),
                    Err(_) => self.went_away(&format!("no answer within {SLOW:?}")),
                },
            }
        }
    }

    /// Writes the parts that the store takes.
    async fn write(&mut self, parts: &[Part]) -> WriteResult {
        let refused = match self.attempt(parts).await {
            Ok(stale) => return WriteResult { stale, refused: Vec::new() },
            Err(refused) => refused,
        };
        tracing::debug!(%refused, "the store refuses a batch; looking for the part at fault");
        let mut written = WriteResult::default();
        for (at, part) in parts.iter().enumerate() {
            // The store just refused a transaction of this part alone.
            let alone =
                if parts.len() == 1 { Err(refused.clone()) } else { self.attempt(std::slice::from_ref(part)).await };
            let (refused, left) = match alone {
                Ok(found) => {
                    written.stale.extend(found.first().map(|_| at));
                    continue;
                }
                Err(RefusalCause::Data(_)) => match self.bisect(part).await {
                    Ok(is_stale) => {
                        written.stale.extend(is_stale.then_some(at));
                        continue;
                    }
                    Err(refused) => refused,
                },
                Err(refused) => (refused, part.outcomes.clone()),
            };
            metrics::counter!("courier_refused_settles_total", "group" => part.group.clone()).increment(1);
            match refused {
                RefusalCause::Fault(fault) => {
                    // The owner's state and the store differ, and repeating the
                    // settle would never end. Its owner starts anew from the
                    // store, as a fenced one does, with back-off.
                    let place = format!("{}:{}", part.topic, part.partition);
                    let why = format!("what was decided in {place} does not fit what is stored: {fault}");
                    self.causes.report(subject(part), Cause::new(STORE_MISMATCH, why));
                    self.refused.insert(part.position);
                    match self.fault(part.position) {
                        0 => written.stale.push(at),
                        times => {
                            let then = AfterRefusal::FenceAfter(refused_wait(times));
                            written.refused.push(NotWritten { at, left, then });
                        }
                    }
                }
                RefusalCause::Data(why) | RefusalCause::Lasting(why) => {
                    let why = format!(
                        "the store refuses the outcomes of a partition, so that no handler starts there until it takes \
                         them: {why}"
                    );
                    let cause = Cause::new(STORE_REFUSES, why).with("outcomes", left.len()).at_once();
                    self.causes.report(subject(part), cause);
                    self.refused.insert(part.position);
                    written.refused.push(NotWritten { at, left, then: AfterRefusal::Again });
                }
            }
        }
        written
    }

    /// Notes that the outcomes of a position did not fit the store. Returns how
    /// often that happened before in a row.
    fn fault(&mut self, position: PositionId) -> u32 {
        let now = Instant::now();
        self.faults.retain(|_, (_, last)| now.duration_since(*last) < FAULT_WINDOW);
        let (times, last) = self.faults.entry(position).or_insert((0, now));
        let before = *times;
        (*times, *last) = (before.saturating_add(1), now);
        before
    }

    /// Bisects a part until the outcome that the store refuses is alone: it
    /// settles as HANDLE_FAIL, and all others as decided. Returns whether the
    /// part is stale, or why the store refuses it and what is not written.
    async fn bisect(&mut self, part: &Part) -> Result<bool, (RefusalCause, Vec<OutcomeRow>)> {
        let mut work = vec![part.outcomes.clone()];
        while let Some(outcomes) = work.pop() {
            // The position moves with the last outcome only: until then some
            // outcomes below it are not written.
            let next = if work.is_empty() { part.next } else { Offset(0) };
            let piece = Part { outcomes, next, ..part.clone() };
            match self.attempt(std::slice::from_ref(&piece)).await {
                Ok(stale) if !stale.is_empty() => return Ok(true),
                Ok(_) => {}
                Err(refused @ (RefusalCause::Fault(_) | RefusalCause::Lasting(_))) => {
                    let mut left = piece.outcomes;
                    while let Some(next) = work.pop() {
                        left.extend(next);
                    }
                    return Err((refused, left));
                }
                Err(RefusalCause::Data(_)) if piece.outcomes.len() > 1 => {
                    let mut first = piece.outcomes;
                    let second = first.split_off(first.len() / 2);
                    // On a stack the first half must be written first.
                    work.push(second);
                    work.push(first);
                }
                Err(RefusalCause::Data(refused)) => {
                    let Some(culprit) = piece.outcomes.into_iter().next() else { continue };
                    let place = format!("{}:{}:{}", part.topic, part.partition, culprit.offset);
                    tracing::error!(group = part.group, %place, refused, "an outcome could not be stored");
                    work.push(vec![unstorable(culprit, &refused)]);
                }
            }
        }
        Ok(false)
    }

    /// Repeats one settle until the store has it or refuses its data.
    async fn attempt(&mut self, parts: &[Part]) -> Result<Vec<usize>, RefusalCause> {
        let mut wait = RETRY_WAIT.0;
        loop {
            let settled = self.watching(self.store.settle(self.writer, self.sequence + 1, parts));
            let refused = match settled.await {
                Ok(settled) => {
                    self.sequence += 1;
                    self.came_up();
                    self.took(parts);
                    for at in &settled.stale {
                        let part = &parts[*at];
                        count_stale(part.outcomes.len().max(1));
                        let partition = format!("{}:{}", part.topic, part.partition);
                        if let Some(unsaid) = said::again(&format!("{} {partition} stale", part.group)) {
                            tracing::warn!(
                                group = part.group,
                                partition,
                                epoch = part.epoch,
                                outcomes = part.outcomes.len(),
                                unsaid,
                                "stale outcomes refused: a newer owner has the partition"
                            );
                        }
                    }
                    return Ok(settled.stale);
                }
                Err(StoreError::Data(why)) => Some(RefusalCause::Data(why)),
                Err(StoreError::Refused(why)) => Some(RefusalCause::Lasting(why)),
                Err(error) if error.is_transient() => {
                    self.went_away(&error);
                    None
                }
                Err(error) => Some(RefusalCause::Fault(error.to_string())),
            };
            if refused.is_none() {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_WAIT.1);
            }
            // The answer may be lost and not the commit, also in an earlier
            // turn of this loop. What was written under this sequence must not
            // be written twice.
            match self.watching(self.store.sequence(self.writer)).await {
                Ok(sequence) if sequence > self.sequence => {
                    self.sequence = sequence;
                    self.came_up();
                    return Ok(self.not_ours(parts).await);
                }
                Ok(sequence) if sequence < self.sequence => {
                    let why = format!(
                        "the store has lost what it had stored: it stands at settle {sequence}, and this host at {}, as \
                         after a fail-over to a server that lagged behind; a new start goes on from what is there",
                        self.sequence
                    );
                    supervise::give_up(Task::Settler, &why);
                    return Err(RefusalCause::Lasting(why));
                }
                Err(error) if error.is_transient() => {
                    self.went_away(&error);
                    if refused.is_some() {
                        tokio::time::sleep(wait).await;
                    }
                }
                Ok(_) | Err(_) => {
                    if let Some(refused) = refused {
                        return Err(refused);
                    }
                }
            }
        }
    }

    /// Clears the cause of a position that the store had refused.
    fn took(&mut self, parts: &[Part]) {
        if self.refused.is_empty() {
            return;
        }
        for part in parts {
            if self.refused.remove(&part.position) {
                self.causes.clear_code(&subject(part), STORE_REFUSES);
                self.causes.clear_code(&subject(part), STORE_MISMATCH);
            }
        }
    }

    /// The parts that have another owner now, for a commit whose answer was
    /// lost. A part that was written and lost its partition since counts too:
    /// its owner asks Kafka and reads the store again.
    async fn not_ours(&self, parts: &[Part]) -> Vec<usize> {
        let positions = loop {
            match self.store.positions().await {
                Ok(positions) => break positions,
                Err(error) => tracing::debug!(%error, "cannot look who owns the positions"),
            }
            tokio::time::sleep(RETRY_WAIT.1).await;
        };
        let is_ours = |part: &Part| positions.iter().any(|row| row.id == part.position && row.epoch == part.epoch);
        parts.iter().enumerate().filter(|(_, part)| !is_ours(part)).map(|(at, _)| at).collect()
    }

    /// Waits for an answer of the store, and counts it as away when that takes long.
    async fn watching<T>(&self, mut verb: impl Future<Output = T> + Unpin) -> T {
        match tokio::time::timeout(SLOW, &mut verb).await {
            Ok(answer) => answer,
            Err(_) => {
                self.went_away(&format!("no answer within {SLOW:?}"));
                verb.await
            }
        }
    }

    fn went_away(&self, why: &dyn std::fmt::Display) {
        if self.up.send_if_modified(|up| std::mem::replace(up, false)) {
            tracing::warn!(%why, "the store does not take outcomes; waiting");
        }
    }

    fn came_up(&self) {
        if self.up.send_if_modified(|up| !std::mem::replace(up, true)) {
            tracing::info!("the store takes outcomes");
        }
    }
}

/// The subject of the cause that a part is refused.
fn subject(part: &Part) -> Subject {
    Subject::Partition { group: part.group.clone(), topic: part.topic.clone(), partition: part.partition }
}

fn count_stale(outcomes: usize) {
    if outcomes == 0 {
        return;
    }
    metrics::counter!("courier_stale_writes_total").increment(outcomes as u64);
}

/// The result of a transaction.
#[derive(Default)]
struct WriteResult {
    /// The parts that another owner has fenced.
    stale: Vec<usize>,
    /// The parts that are not written completely.
    refused: Vec<NotWritten>,
}

/// What the writer does next.
enum Next {
    /// Add this request.
    Request(SettleRequest),
    /// Retry what was refused.
    Due,
    /// End: there are no owners any more.
    End,
}

/// Why the store refuses parts for good.
#[derive(Clone, Debug, thiserror::Error)]
enum RefusalCause {
    /// A value that it cannot store.
    #[error("{0}")]
    Data(String),
    /// They do not fit the stored rows.
    #[error("{0}")]
    Fault(String),
    /// A cause that a person has to remove.
    #[error("{0}")]
    Lasting(String),
}

/// The outcome that replaces one that the store refuses.
fn unstorable(culprit: OutcomeRow, why: &str) -> OutcomeRow {
    let settled_at = culprit.started_at.unwrap_or(culprit.received_at);
    OutcomeRow {
        verdict: Some(Verdict::Unstorable),
        reason: Some("outcome could not be stored".to_owned()),
        fingerprint: Some(courier_core::verdict::fingerprint(Verdict::Unstorable, why)),
        message_id: culprit.message_id.chars().filter(|c| !c.is_control()).take(255).collect(),
        type_name: culprit.type_name.chars().filter(|c| !c.is_control()).take(255).collect(),
        to: Becomes::Final { state: State::HandleFail, settled_at, record: None },
        attempts: Vec::new(),
        outbound: Vec::new(),
        state_writes: Vec::new(),
        version: culprit.version.map(|version| Arc::from(version.as_ref())),
        ..culprit
    }
}
