//! The one writer of outcomes: group commits over all partitions of this host.
//!
//! Each owner has at most one batch under way, so whatever lies in the inbox
//! while a transaction runs goes into the next ones together, as
//! [`queue`](super::batcher) says. The writer answers only what it knows: an
//! answer to a commit that was lost is looked up in the writer's sequence before
//! anything is written again, and while the store is away the owners hear
//! nothing and the group starts no handler.
//!
//! A store that hangs says nothing at all. So a settle that takes long counts
//! as away until it is answered, and a writer with nothing to write feels the
//! store's pulse.
//!
//! A store that refuses a part for a cause that lasts (a permission, a full
//! disk) refuses it again a moment later. Its owner must neither drop what was
//! decided nor run handlers again for it: the part waits in the queue, ever
//! longer, and its partition with it.
//!
//! A store that knows of fewer settles than it had answered has lost them, and
//! with them what owners and caches here believe: the host ends.

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

/// Time between the beginnings of two transactions while less waits than one
/// takes. One costs several changes of threads and a sync of the disk,
/// for a single outcome as for a hundred, and a host that wrote as often as it
/// could would be half busy with that at a tenth of its load. An outcome that
/// comes after a pause does not wait.
const INTERVAL: Duration = Duration::from_millis(2);
/// Batches that may wait; each owner sends one at a time.
const INBOX: usize = 4_096;
/// Outcomes that the store refuses to take are known by this word.
const STORE_REFUSES: &str = "store-refuses";
/// Outcomes that do not fit what is stored are known by this word.
const STORE_MISMATCH: &str = "store_mismatch";
/// First wait after the store did not answer, and the longest one.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the store may take before no more handlers start.
const SLOW: Duration = Duration::from_secs(2);
/// How long a partition whose outcomes did not fit the store is remembered:
/// when it happens again within it, its owner starts anew later.
const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// How often an idle writer asks whether the store is there.
const PULSE: Duration = Duration::from_secs(1);

/// A handle to the writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Settler {
    inbox: mpsc::Sender<SettleRequest>,
}

impl Settler {
    /// Starts the writer, on a thread of its own: a transaction waits for the
    /// store several times, and must not wait each time for other tasks as well.
    /// `up` is kept false while the store is away, and `wake_relay` is called
    /// when outbound rows became durable.
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

    /// Writes a batch. Once it is accepted here its answer comes, unless the
    /// process ends first.
    pub async fn settle(&self, request: SettleRequest) {
        // The writer lives as long as the process; a closed inbox means that
        // the runtime is going down, and then no answer is wanted.
        let _ = self.inbox.send(request).await;
    }
}

/// Ends the process with the thread that panics. Without its writer a host
/// would keep its partitions and its lease and settle nothing; gone, others take
/// them over, and it may start again.
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
    /// When the newest transaction began.
    begun: Option<Instant>,
    /// Positions whose outcomes did not fit the store, with how often in a row
    /// and when last.
    faults: HashMap<PositionId, (u32, Instant)>,
    /// Positions that stand still for what the store said of their outcomes.
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

    /// Adds to the queue what comes until the next transaction should begin.
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

    /// The next request, unless what was refused is `due` before it; while
    /// there is none the store's pulse is felt.
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

    /// Writes `parts` as far as the store takes them.
    async fn write(&mut self, parts: &[Part]) -> WriteResult {
        let refused = match self.attempt(parts).await {
            Ok(stale) => return WriteResult { stale, refused: Vec::new() },
            Err(refused) => refused,
        };
        tracing::debug!(%refused, "the store refuses a batch; looking for the part at fault");
        let mut written = WriteResult::default();
        for (at, part) in parts.iter().enumerate() {
            // A transaction of one part was just refused.
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
                    // What this owner believes and what is stored differ, and
                    // repeating it would never end. Its owner starts anew from
                    // what is stored, as one that was fenced does; when that
                    // does not help, it does so ever more rarely.
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

    /// Notes that a position's outcomes did not fit the store; answers how often
    /// that happened before, in a row.
    fn fault(&mut self, position: PositionId) -> u32 {
        let now = Instant::now();
        self.faults.retain(|_, (_, last)| now.duration_since(*last) < FAULT_WINDOW);
        let (times, last) = self.faults.entry(position).or_insert((0, now));
        let before = *times;
        (*times, *last) = (before.saturating_add(1), now);
        before
    }

    /// Writes a part in halves until the outcome that the store refuses stands
    /// alone; that one settles as HANDLE_FAIL, and all others as decided.
    /// Answers whether the part is stale, or why the store does not take it
    /// and what of it is not written.
    async fn bisect(&mut self, part: &Part) -> Result<bool, (RefusalCause, Vec<OutcomeRow>)> {
        let mut work = vec![part.outcomes.clone()];
        while let Some(outcomes) = work.pop() {
            // The position moves with the last outcome only: until then some
            // of what lies below it is not written.
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
                    // A stack: the first half must be written first.
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

    /// One settle, repeated until the store has it or refuses its data.
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
            // The answer may have been lost and not the commit, also that of an
            // earlier turn of this loop. What was written under this sequence
            // must not be written twice.
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

    /// What stood still for a refusal of the store goes on.
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

    /// Which parts have another owner now. Which were stale went with the
    /// answer to a commit; one that was written and lost its partition since is
    /// told so too, which makes its owner ask Kafka and read the store again.
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

    /// Waits for an answer of the store, and says so when it takes long.
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

/// What stands still when a part is refused.
fn subject(part: &Part) -> Subject {
    Subject::Partition { group: part.group.clone(), topic: part.topic.clone(), partition: part.partition }
}

fn count_stale(outcomes: usize) {
    if outcomes == 0 {
        return;
    }
    metrics::counter!("courier_stale_writes_total").increment(outcomes as u64);
}

/// What came of a transaction.
#[derive(Default)]
struct WriteResult {
    /// The parts that a newer owner made stale.
    stale: Vec<usize>,
    /// The parts of which something is not written.
    refused: Vec<NotWritten>,
}

/// What the writer does next.
enum Next {
    /// It takes this in.
    Request(SettleRequest),
    /// It tries what was refused.
    Due,
    /// It ends: nobody asks any more.
    End,
}

/// Why the store will not take some parts, however often it is asked.
#[derive(Clone, Debug, thiserror::Error)]
enum RefusalCause {
    /// A value in them.
    #[error("{0}")]
    Data(String),
    /// They do not fit what is stored.
    #[error("{0}")]
    Fault(String),
    /// Something that a person has to mend.
    #[error("{0}")]
    Lasting(String),
}

/// The outcome that stands in for one that the store refuses.
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
