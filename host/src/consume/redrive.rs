//! Runs redrives and replays at their rates.
//!
//! One host at a time works on a redrive, under a lease in the store; when it
//! dies another host continues, since the whole state is in the store. The
//! runner invokes no handler: it marks open rows, which the owners of their
//! partitions run like any other rerun, and collects their results.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::causes::{Cause, Causes, NO_BINDING, Subject};
use crate::consume::context::LookError;
use crate::kafka::log_reader::{LogError, LogReader};
use crate::random;
use crate::store::redrive::{DueItem, ItemAsk, MAX_STEP, RedriveId, RedriveLease, ReplayRecord};
use crate::store::{NodeBinding, SharedStore, StoreError, WriterId};

/// Redrives that one host works on at once; the oldest of each group comes
/// first. Enough that the groups with one are seldom more.
const MOST_AT_ONCE: u32 = 32;
/// How long the lease of a silent host lasts.
const LEASE: Duration = Duration::from_secs(6);
/// How often each redrive is worked on.
const TICK: Duration = Duration::from_millis(200);
/// Poll interval while there is no redrive, and the jitter that keeps hosts
/// apart.
const IDLE: Duration = Duration::from_millis(900);
const IDLE_JITTER: Duration = Duration::from_millis(200);
/// Items of one redrive that may be asked for and under way: what waits in its
/// lane is held in its owner's memory. One that ran and waits for a retry is
/// not under way, or else a few that fail would hold up all the others for as
/// long as their schedules last.
const MAX_UNDER_WAY: u64 = 2_000;
/// Items of one redrive that may be asked for and not finished at all: each is
/// an open delivery, of which a partition bears 100,000.
const MAX_OPEN: u64 = 20_000;
/// How long the bindings of the nodes are cached.
const BINDINGS_FRESH: Duration = Duration::from_secs(1);
/// How long the first offset of a log is cached.
const FRESH: Duration = Duration::from_secs(10);
/// Offsets that are read from Kafka in one go.
const MAX_SPAN: i64 = 2_000;

/// Why an item of a replay was not run.
const NO_RECORD: &str = "kafka has no record at this offset";
/// Why a delivery was not run again.
const RECORD_GONE: &str = "its record is no longer in kafka";
/// Why an item of a replay was not run.
const PASSED_OVER: &str = "the binding's `types` pass over messages of its type";

/// Whether the binding of a group (first) to a topic passes over a type.
pub type PassesOver = Box<dyn Fn(&str, &str, &str) -> bool + Send + Sync>;

/// The code of the cause that the store or the log does not answer.
const UNREACHABLE: &str = "unreachable";

/// Why a redrive whose next deliveries nobody would run stands still.
fn nobody_runs(group: &str, topic: &str) -> Cause {
    Cause::new(
        NO_BINDING,
        format!(
            "it waits for a binding: no [[binding]] of a live node reads topic {topic} for group {group}; it goes on at \
             its rate once one does"
        ),
    )
    .with("group", group)
    .with("topic", topic)
}

/// Runs the redrives of this host.
pub struct Runner {
    /// Where they are.
    pub store: SharedStore,
    /// Where records are that have no row.
    pub log: LogReader,
    /// The holder of the leases.
    pub writer: WriterId,
    /// This node's name.
    pub node: Arc<str>,
    /// Wakes the owners on this host, which poll for reruns.
    pub wake: Box<dyn Fn() + Send + Sync>,
    /// Notified when a person starts a redrive.
    pub poke: Arc<Notify>,
    /// Says which types the bindings skip.
    pub passes_over: PassesOver,
    /// Where it says why one stands still.
    pub causes: Causes,
}

/// How many items of a redrive may be asked for now, and of which group they
/// are.
struct Allowance {
    since: Instant,
    items: f64,
    group: Option<String>,
}

/// The cached bindings of the live nodes.
#[derive(Default)]
struct LiveBindings {
    read_at: Option<Instant>,
    all: Vec<NodeBinding>,
}

impl LiveBindings {
    async fn refresh(&mut self, store: &SharedStore) -> Result<(), StoreError> {
        if self.read_at.is_none_or(|at| at.elapsed() >= BINDINGS_FRESH) {
            self.all = store.live_bindings().await?;
            self.read_at = Some(Instant::now());
        }
        Ok(())
    }

    fn of(&self, group: &str, topic: &str) -> Option<&NodeBinding> {
        self.all.iter().find(|binding| binding.group == group && binding.topic == topic)
    }
}

/// The result of a step.
enum RedriveStep {
    /// The redrive moves at its rate.
    Moves,
    /// No node binds the group to the topic of the next deliveries.
    NobodyRuns { group: String, topic: String },
}

impl Runner {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut allowances: HashMap<RedriveId, Allowance> = HashMap::new();
        let (mut lows, mut bindings) = (Lows::default(), LiveBindings::default());
        while !stop.is_cancelled() {
            let leases = match self.store.lease_redrives(self.writer, MOST_AT_ONCE, LEASE).await {
                Ok(leases) => leases,
                Err(error) => {
                    tracing::debug!(%error, "cannot look for redrives");
                    Vec::new()
                }
            };
            allowances.retain(|id, _| leases.iter().any(|lease| lease.id == *id));
            for lease in &leases {
                let allowance = allowances.entry(lease.id).or_insert_with(|| Allowance {
                    since: Instant::now() - TICK,
                    items: 0.0,
                    group: None,
                });
                let subject = Subject::Redrive(lease.id.to_string());
                match self.step(lease, allowance, &mut lows, &mut bindings).await {
                    Ok(RedriveStep::Moves) => self.causes.clear(&subject),
                    Ok(RedriveStep::NobodyRuns { group, topic }) => {
                        self.causes.clear_code(&subject, UNREACHABLE);
                        self.causes.report(subject, nobody_runs(&group, &topic));
                    }
                    Err(error) => self.causes.report(subject, Cause::new(UNREACHABLE, format!("it waits: {error}"))),
                }
            }
            let wait = if leases.is_empty() { IDLE + random::jitter(IDLE_JITTER) } else { TICK };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.poke.notified(), if leases.is_empty() => {}
            }
        }
    }

    /// Collects ended items, and requests as many as the rate and the bounds
    /// allow. Items of a group that no node binds are not requested: they would
    /// run all at once, and not at the redrive's rate, when the group is bound
    /// again.
    async fn step(
        &self,
        lease: &RedriveLease,
        allowance: &mut Allowance,
        lows: &mut Lows,
        bindings: &mut LiveBindings,
    ) -> Result<RedriveStep, LookError> {
        self.store.collect_items(lease).await?;
        if !lease.asks {
            return Ok(RedriveStep::Moves);
        }
        if allowance.group.is_none() {
            allowance.group = self.store.redrive(lease.id).await?.map(|row| row.group);
        }
        let Some(group) = allowance.group.clone() else { return Ok(RedriveStep::Moves) };
        bindings.refresh(&self.store).await?;
        let rate = f64::from(lease.rate);
        // At most one second's worth: a delay is not made up for.
        allowance.items = (allowance.items + rate * allowance.since.elapsed().as_secs_f64()).min(rate.max(1.0));
        allowance.since = Instant::now();
        let mut under_way = lease.running;
        if under_way >= MAX_UNDER_WAY {
            under_way = under_way.saturating_sub(self.store.retrying_items(lease.id).await?);
        }
        let room = MAX_UNDER_WAY.saturating_sub(under_way).min(MAX_OPEN.saturating_sub(lease.running));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let limit = (allowance.items as u64).min(room).min(u64::from(MAX_STEP)) as u32;
        if limit == 0 {
            return Ok(RedriveStep::Moves);
        }
        let due = self.store.due_items(lease.id, limit).await?;
        let Some(first) = due.first() else { return Ok(RedriveStep::Moves) };
        let run = due.iter().take_while(|item| bindings.of(&group, &item.topic).is_some()).count();
        if run == 0 {
            return Ok(RedriveStep::NobodyRuns { group, topic: first.topic.clone() });
        }
        let takes = |topic: &str, type_name: &str| {
            let types = bindings.of(&group, topic).and_then(|binding| binding.types.as_ref());
            types.is_none_or(|types| types.iter().any(|one| one == type_name))
        };
        let asks = self.asks(&due[..run], lows, &takes).await?;
        allowance.items -= asks.len() as f64;
        if self.store.ask_items(lease, &asks).await? > 0 {
            (self.wake)();
        }
        Ok(RedriveStep::Moves)
    }

    /// What is to be done with each item: run it, unless its record is gone;
    /// and where there is no row, with the record that Kafka has.
    async fn asks(
        &self,
        due: &[DueItem],
        lows: &mut Lows,
        takes: &(impl Fn(&str, &str) -> bool + Sync),
    ) -> Result<Vec<(i64, ItemAsk)>, LookError> {
        let mut asks = Vec::with_capacity(due.len());
        let mut rest = due;
        while let Some(first) = rest.first() {
            let low = lows.of(&self.log, &first.kind.log_topic(&first.topic), first.partition).await?;
            let until = first.key.offset.0.saturating_add(MAX_SPAN);
            let same = |item: &DueItem| {
                item.key.position == first.key.position
                    && (first.has_row || item.key.offset.0 < until)
                    && item.has_row == first.has_row
            };
            let (run, later) = rest.split_at(rest.iter().take_while(|item| same(item)).count().max(1));
            rest = later;
            if first.has_row {
                asks.extend(run.iter().map(|item| {
                    let gone = !item.has_record && item.key.offset < low;
                    (item.seq, if gone { ItemAsk::Skip(RECORD_GONE) } else { ItemAsk::Run })
                }));
            } else {
                self.read(run, low, takes, &mut asks).await?;
            }
        }
        Ok(asks)
    }

    /// Reads the records of a run of offsets in one partition. Those of types that
    /// the binding passes over are passed over here as well.
    async fn read(
        &self,
        run: &[DueItem],
        low: Offset,
        takes: &(impl Fn(&str, &str) -> bool + Sync),
        asks: &mut Vec<(i64, ItemAsk)>,
    ) -> Result<(), LookError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let (from, to) = (first.key.offset.max(low), last.key.offset.next());
        let mut found = HashMap::new();
        if from < to {
            let records = self.log.read_range(&first.kind.log_topic(&first.topic), first.partition, from, to).await?;
            found.extend(records);
        }
        for item in run {
            let ask = match found.remove(&item.key.offset) {
                None => ItemAsk::Skip(NO_RECORD),
                Some(record) => {
                    let message = record.to_message_of(first.kind, &first.topic, first.partition, item.key.offset);
                    // This node's binding tells it, or that of another live node.
                    let passes_over = (self.passes_over)(&item.group, &item.topic, &message.type_name);
                    if passes_over || !takes(&item.topic, &message.type_name) {
                        asks.push((item.seq, ItemAsk::Skip(PASSED_OVER)));
                        continue;
                    }
                    ItemAsk::Replay(ReplayRecord {
                        message_id: message.id,
                        key: message.key,
                        type_name: message.type_name,
                        record_time: record.timestamp,
                        node: self.node.to_string(),
                    })
                }
            };
            asks.push((item.seq, ask));
        }
        Ok(())
    }
}

/// The cached first offsets of logs.
#[derive(Default)]
struct Lows(HashMap<(String, i32), (Instant, Offset)>);

impl Lows {
    async fn of(&mut self, log: &LogReader, topic: &str, partition: i32) -> Result<Offset, LogError> {
        let place = (topic.to_owned(), partition);
        if let Some((at, low)) = self.0.get(&place)
            && at.elapsed() < FRESH
        {
            return Ok(*low);
        }
        let low = match log.range(topic, partition).await {
            // A topic that is gone, or has fewer partitions now, has no record.
            Err(LogError::NoTopic(_)) => Offset(i64::MAX),
            range => range?.0,
        };
        self.0.insert(place, (Instant::now(), low));
        Ok(low)
    }
}
