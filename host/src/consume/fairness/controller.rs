//! Limits the CPU of groups with a backlog, so that groups that keep up stay fast.
//!
//! The kernel divides the CPUs among the guests of all groups. The host's own
//! work for a group (fetching, owning, settling) runs on threads that all
//! groups share, and once the CPUs are saturated every step of every message
//! waits for them: a group with a backlog then delays all the others. While
//! some groups keep up on little CPU, each group with a backlog is therefore
//! limited to the same number of CPUs. The limit shrinks until the CPUs have
//! headroom again, and grows while they have more than that.
//!
//! While every group has a backlog, or uses its equal part, the limit grows
//! until it limits nobody, and the kernel divides the CPUs alone.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cpu_bucket::{BucketCounts, CpuBucket};
use super::cpu_load::{CpuLoad, CpuLoadMeter, Threads};
use crate::consume::attempt::binding::RunningBinding;
use crate::kafka::buffered::Budget;

/// Time between two samples. The kernel counts in steps of 10 ms.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Headroom of one CPU, as a fraction. Several CPUs need less each, by the root
/// of their number, since work that waits for one may run on another
/// (square-root staffing, Halfin and Whitt 1981).
const SPARE_OF_ONE_CPU: f64 = 0.22;
/// The limit grows only while the headroom is larger by this; with less the limit oscillates.
const HEADROOM_DEADBAND: f64 = 0.06;
/// How fast the limit shrinks with the missing headroom, and its growth at each
/// sample, also while no group needs the headroom.
const SHRINK_FACTOR: f64 = 2.0;
const GROWTH: f64 = 1.1;
const GROWTH_WHEN_UNNEEDED: f64 = 2.0;
/// Lower bound of the limit, as a fraction of an equal split of the CPUs among
/// the groups with a backlog.
const MIN_SHARE: f64 = 0.05;
/// The limit does not shrink while this process uses less than this fraction of
/// the CPUs: other programs keep them busy then, and would take the headroom.
const MIN_OWN_LOAD: f64 = 0.25;
/// The limit is lifted after this many samples in which no attempt waited.
/// Lifting it earlier would release every waiting attempt at once and use up
/// the headroom.
const MAX_UNUSED_SAMPLES: u32 = 8;
/// A sample shows a backlog when the memory budget of the group is used up, or
/// when it holds more deliveries than it ends within this time. Twice as many
/// as it may run at once are no backlog, unless its guests use more than an
/// equal part of the CPUs.
const BACKLOG_WINDOW: Duration = Duration::from_millis(500);
const FEW_PER_WORKER: usize = 2;
/// Hysteresis: a group changes between keeping up and having a backlog after
/// this many consecutive samples.
const HYSTERESIS_SAMPLES: u32 = 4;
/// A group keeps up on little CPU while its guests use no more than this
/// fraction of its fair share. The host's own work for it comes on top.
const LITTLE_OF_FAIR_SHARE: f64 = 0.7;
/// A group counts as active for this long after an attempt ended or waited, or
/// its guests used a CPU. A group that is not active, such as a paused one, has
/// no backlog, whatever waits for it.
const ACTIVE_WINDOW: Duration = Duration::from_secs(2);
/// Headroom is kept for a group for this long after it was active: a message
/// that comes now and then would be late each time otherwise.
const RECENT_WINDOW: Duration = Duration::from_secs(30);
/// Guests that use fewer CPUs than this are never limited.
const IDLE_CPUS: f64 = 0.02;

/// The groups of this node.
#[derive(Clone, Default)]
pub struct FairnessController(Arc<Mutex<Vec<Weak<GroupUsage>>>>);

/// What the controller knows of a group and may limit.
pub struct GroupUsage {
    name: String,
    bindings: Vec<Arc<RunningBinding>>,
    /// Limits the CPU of its attempts.
    pub pace: Arc<CpuBucket>,
    /// The memory of its records.
    pub budget: Arc<Budget>,
    /// The threads that run its guests.
    pub threads: Threads,
}

impl GroupUsage {
    /// Deliveries that are not ended: records whose outcome is not durable, or,
    /// if more, deliveries in the ready queue, which holds reruns and
    /// broadcasts too.
    fn buffered(&self) -> usize {
        let ready = self.bindings.iter().map(|bound| bound.ready.queued()).sum();
        self.budget.records().max(ready)
    }

    /// Attempts that may run at once.
    fn concurrency(&self) -> usize {
        self.bindings.iter().map(|bound| bound.binding.concurrency).sum()
    }
}

impl FairnessController {
    /// Adds a group until its `GroupUsage` is dropped. It keeps no record of
    /// more than `max_record` bytes.
    #[must_use]
    pub fn join(&self, name: &str, bindings: Vec<Arc<RunningBinding>>, max_record: usize) -> Arc<GroupUsage> {
        let member = Arc::new(GroupUsage {
            name: name.to_owned(),
            bindings,
            pace: Arc::default(),
            budget: Arc::new(Budget::new(max_record)),
            threads: Threads::default(),
        });
        let mut members = self.0.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        member
    }

    fn members(&self) -> Vec<Arc<GroupUsage>> {
        let members = self.0.lock();
        members.iter().filter_map(Weak::upgrade).collect()
    }

    /// Samples the groups for ever, and limits those with a backlog.
    pub async fn keep(self) {
        let mut processors = CpuLoadMeter::default();
        let mut watched: Vec<GroupMonitor> = Vec::new();
        let (mut level, mut equal) = (None, f64::INFINITY);
        let mut looks = tokio::time::interval(SAMPLE_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // Groups that left go first: a monitor keeps its group alive.
            watched.retain_mut(GroupMonitor::stays);
            for member in self.members() {
                if !watched.iter().any(|one| Arc::ptr_eq(&one.member, &member)) {
                    watched.push(GroupMonitor::new(member));
                }
            }
            let sights: Vec<Sample> = watched.iter_mut().map(|one| one.look(equal)).collect();
            // Without the kernel's counters no group is limited.
            level = processors.load().and_then(|load| {
                equal = load.count / sights.iter().filter(|sight| sight.works).count().max(1) as f64;
                next(level, &sights, load)
            });
            for (one, sight) in watched.iter_mut().zip(sights) {
                one.hold(level.filter(|_| sight.is_behind).map(|level| level.share));
            }
        }
    }
}

/// A group and its previous sample.
struct GroupMonitor {
    member: Arc<GroupUsage>,
    at: Instant,
    counts: BucketCounts,
    used: Duration,
    /// Processors that its guests kept busy lately.
    lately: f64,
    /// When it was last active.
    worked: Option<Instant>,
    standing: BacklogDetector,
    cost: AttemptCost,
    is_held: bool,
}

/// What is measured of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Whether it was active lately.
    works: bool,
    is_behind: bool,
    /// Processors that its guests kept busy lately.
    used: f64,
    /// Whether an attempt had to wait for CPU.
    waits: bool,
}

impl GroupMonitor {
    fn new(member: Arc<GroupUsage>) -> Self {
        let (used, counts) = (member.threads.used(), member.pace.counts());
        let cost = AttemptCost { counts, used, average: Duration::ZERO };
        let standing = BacklogDetector::default();
        Self { member, at: Instant::now(), counts, used, lately: 0.0, worked: None, standing, cost, is_held: false }
    }

    /// Whether the group is still there; the limit of one that left is lifted.
    fn stays(&mut self) -> bool {
        let stays = Arc::strong_count(&self.member) > 1;
        if !stays {
            self.hold(None);
        }
        stays
    }

    /// Samples the group; an `equal` split gives each group this many CPUs.
    fn look(&mut self, equal: f64) -> Sample {
        let (now, used, counts) = (Instant::now(), self.member.threads.used(), self.member.pace.counts());
        let passed = now.duration_since(self.at).max(Duration::from_millis(1)).as_secs_f64();
        let ended = counts.ended - self.counts.ended;
        let processors = used.saturating_sub(self.used).as_secs_f64() / passed;
        let waits = counts.waits > self.counts.waits;
        // A sample is so short that one long attempt fills it.
        self.lately = (self.lately + processors) / 2.0;
        self.cost.note(counts, used);
        (self.at, self.counts, self.used) = (now, counts, used);
        if ended > 0 || waits || processors > IDLE_CPUS {
            self.worked = Some(now);
        }
        let was_at_work = |within| self.worked.is_some_and(|at| now.duration_since(at) < within);
        let a_while = ended as f64 / passed * BACKLOG_WINDOW.as_secs_f64();
        let buffered = self.member.buffered();
        // A limited group uses little because it is limited.
        let are_few = buffered <= FEW_PER_WORKER * self.member.concurrency() && self.lately <= equal && !self.is_held;
        let seems_behind = self.member.budget.is_used_up() || !are_few && buffered as f64 > a_while;
        if was_at_work(ACTIVE_WINDOW) {
            self.standing.note(seems_behind)
        } else {
            self.standing.rest()
        }
        let (works, is_behind) = (was_at_work(RECENT_WINDOW), self.standing.is_behind);
        Sample { works, is_behind, used: self.lately, waits }
    }

    fn hold(&mut self, share: Option<f64>) {
        if self.is_held != share.is_some() {
            self.is_held = share.is_some();
            let group = &self.member.name;
            tracing::debug!(group, held = self.is_held, "the CPU limit of a group was set or lifted");
            metrics::gauge!("courier_held_back", "group" => group.clone()).set(if self.is_held { 1.0 } else { 0.0 });
        }
        self.member.pace.set(share, self.cost.average);
    }
}

/// Judges whether a group has a backlog, with hysteresis.
#[derive(Debug, Default)]
struct BacklogDetector {
    is_behind: bool,
    /// Samples in which it kept up, less those that showed a backlog.
    credit: u32,
}

impl BacklogDetector {
    /// A group that was active before is trusted to keep up.
    fn rest(&mut self) {
        if self.is_behind || self.credit > 0 {
            *self = Self { is_behind: false, credit: HYSTERESIS_SAMPLES };
        }
    }

    fn note(&mut self, seems_behind: bool) {
        self.credit =
            if seems_behind { self.credit.saturating_sub(1) } else { (self.credit + 1).min(HYSTERESIS_SAMPLES) };
        self.is_behind = match self.credit {
            0 => true,
            HYSTERESIS_SAMPLES => false,
            _ => self.is_behind,
        };
    }
}

/// The CPU time that an attempt costs beyond what is charged while it runs.
struct AttemptCost {
    counts: BucketCounts,
    used: Duration,
    average: Duration,
}

impl AttemptCost {
    /// Notes how many attempts began and what the threads used. A long attempt
    /// may begin in one sample and cost in the next, so the cost is averaged.
    fn note(&mut self, counts: BucketCounts, used: Duration) {
        let attempts = counts.begun - self.counts.begun;
        if attempts == 0 {
            return;
        }
        let paid = counts.paid.saturating_sub(self.counts.paid);
        let cost = used.saturating_sub(self.used).saturating_sub(paid).as_secs_f64() / attempts as f64;
        let average = self.average.as_secs_f64();
        let average = if self.average.is_zero() { cost } else { average * 0.75 + cost * 0.25 };
        (self.counts, self.used, self.average) = (counts, used, Duration::from_secs_f64(average));
    }
}

/// The limit of each group with a backlog.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CpuLimit {
    /// Processors that the guests of each may use.
    share: f64,
    /// Samples since an attempt had to wait.
    unused: u32,
}

/// The next limit, or none.
fn next(level: Option<CpuLimit>, sights: &[Sample], load: CpuLoad) -> Option<CpuLimit> {
    let fair = fair_share(sights, load.count);
    let behind = || sights.iter().filter(|sight| sight.is_behind);
    let keep_up = || sights.iter().filter(|sight| sight.works && !sight.is_behind);
    let some_keep_up = keep_up().any(|sight| sight.used <= LITTLE_OF_FAIR_SHARE * fair);
    // What a group that keeps up uses beyond its fair share is not taken from the others.
    let is_ours = load.own > MIN_OWN_LOAD && !keep_up().any(|sight| sight.used > fair);
    let most = 1.0 - SPARE_OF_ONE_CPU / load.count.max(1.0).sqrt();
    let is_too_much = some_keep_up && is_ours && load.busy > most;
    let least = MIN_SHARE * load.count / behind().count().max(1) as f64;
    let shrunk = |share: f64| (share * (1.0 - SHRINK_FACTOR * (load.busy - most)).max(0.1)).max(least);
    let Some(CpuLimit { share, unused }) = level else {
        let most_used = behind().map(|sight| sight.used).fold(0.0, f64::max);
        return (is_too_much && most_used > IDLE_CPUS).then(|| CpuLimit { share: shrunk(most_used), unused: 0 });
    };
    let share = if is_too_much {
        shrunk(share)
    } else if !some_keep_up {
        share * GROWTH_WHEN_UNNEEDED
    } else if load.busy < most - HEADROOM_DEADBAND || !is_ours {
        share * GROWTH
    } else {
        share
    };
    let unused = if behind().any(|sight| sight.waits) { 0 } else { unused + 1 };
    (unused < MAX_UNUSED_SAMPLES).then_some(CpuLimit { share: share.min(load.count), unused })
}

/// The fair share of one group in CPUs: a group that wants less leaves the rest
/// to the others (max-min fairness), and a group with a backlog wants all.
fn fair_share(sights: &[Sample], processors: f64) -> f64 {
    let wants = |sight: &Sample| if sight.is_behind { f64::INFINITY } else { sight.used };
    let mut wants: Vec<f64> = sights.iter().map(wants).collect();
    wants.sort_by(f64::total_cmp);
    let mut left = processors;
    for (at, want) in wants.iter().enumerate() {
        let share = left / (wants.len() - at) as f64;
        if *want > share {
            return share;
        }
        left -= want;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that keeps up with a little, and those that are behind and use so much.
    fn sights(used: &[f64]) -> Vec<Sample> {
        let behind = used.iter().map(|used| Sample { works: true, is_behind: true, used: *used, waits: true });
        behind.chain([Sample { works: true, used: 0.1, ..Sample::default() }]).collect()
    }

    fn load(busy: f64) -> CpuLoad {
        CpuLoad { count: 1.0, busy, own: busy }
    }

    /// How busy one processor should be.
    const MOST: f64 = 1.0 - SPARE_OF_ONE_CPU;

    #[test]
    fn the_share_shrinks_until_there_is_air_and_grows_until_there_is_none() {
        let sights = sights(&[0.5]);
        assert_eq!(next(None, &sights, load(MOST)), None, "there is enough for all");
        let first = next(None, &sights, load(1.0)).unwrap();
        assert!(first.share < 0.5, "{first:?}");
        assert_eq!(next(Some(first), &sights, load(MOST)), Some(first), "as it should be");
        let share = |busy| next(Some(first), &sights, load(busy)).unwrap().share;
        assert!(share(0.9) > share(1.0) && share(0.5) > first.share);
        let mut level = first;
        for _ in 0..40 {
            level = next(Some(level), &sights, load(1.0)).unwrap();
        }
        assert_eq!(level.share, MIN_SHARE, "it may not be enough");
        for _ in 0..80 {
            level = next(Some(level), &sights, load(0.5)).expect("its attempts wait: let go, all would go on at once");
        }
        assert_eq!(level.share, 1.0);
    }

    #[test]
    fn who_is_behind_later_has_the_same_share() {
        let level = next(None, &sights(&[0.6, 0.01]), load(1.0)).unwrap();
        let least = (0..40).fold(level, |level, _| next(Some(level), &sights(&[0.6, 0.01]), load(1.0)).unwrap());
        assert_eq!(least.share, MIN_SHARE / 2.0, "they have it together");
        assert_eq!(next(None, &sights(&[0.01]), load(1.0)), None, "it is not at fault");
        assert_eq!(next(None, &sights(&[]), load(1.0)), None);
    }

    #[test]
    fn what_others_keep_busy_is_not_left_to_them() {
        let (sights, busy) = (sights(&[0.2]), CpuLoad { count: 1.0, busy: 1.0, own: MIN_OWN_LOAD });
        assert_eq!(next(None, &sights, busy), None);
        let level = CpuLimit { share: 0.1, unused: 0 };
        assert!(next(Some(level), &sights, busy).unwrap().share > level.share);
    }

    #[test]
    fn when_none_keeps_up_with_little_they_have_alike_what_there_is() {
        let mut sights = sights(&[0.4]);
        sights[1].used = 0.45;
        assert_eq!(next(None, &sights, load(1.0)), None, "it has what is its own");
        sights.push(Sample { used: 0.01, ..sights[1] });
        assert!(next(None, &sights, load(1.0)).is_some(), "another keeps up with little");
        sights[1].used = 0.55;
        assert_eq!(next(None, &sights, load(1.0)), None, "what is missing is not with those that are behind");
        let level = CpuLimit { share: 0.1, unused: 0 };
        assert!(next(Some(level), &sights, load(1.0)).unwrap().share > level.share);
        sights.pop();
        sights[1].used = 0.3;
        let level = next(None, &sights, load(1.0)).unwrap();
        sights[1].is_behind = true;
        assert_eq!(next(Some(level), &sights, load(1.0)).unwrap().share, level.share * GROWTH_WHEN_UNNEEDED);
        sights[1] = Sample::default();
        assert_eq!(next(None, &sights, load(1.0)), None, "the other does nothing");
    }

    #[test]
    fn a_share_that_is_no_bound_is_given_up() {
        let (mut sights, mut level) = (sights(&[0.1]), CpuLimit { share: 0.2, unused: 0 });
        sights[0].waits = false;
        for _ in 1..MAX_UNUSED_SAMPLES {
            level = next(Some(level), &sights, load(0.5)).expect("it may be by chance");
        }
        assert_eq!(next(Some(level), &sights, load(0.5)), None);
        sights[0].waits = true;
        assert_eq!(next(Some(level), &sights, load(0.5)).map(|level| level.unused), Some(0), "one waits");
    }

    #[test]
    fn nobody_is_behind_for_one_look() {
        let mut standing = BacklogDetector::default();
        let after = |standing: &mut BacklogDetector, seems_behind: &[bool]| {
            seems_behind.iter().for_each(|seems| standing.note(*seems));
            standing.is_behind
        };
        assert!(after(&mut standing, &[true]), "a new one is what it seems");
        assert!(after(&mut standing, &[false, false, false]), "it kept up for a moment");
        assert!(!after(&mut standing, &[false]));
        assert!(!after(&mut standing, &[true, true, true, false, true]), "it was behind for a moment");
        assert!(after(&mut standing, &[true, true, true]));
        standing.rest();
        standing.note(true);
        assert!(!standing.is_behind, "it kept up before");
    }

    #[test]
    fn who_wants_little_leaves_the_rest_to_the_others() {
        let all = f64::INFINITY;
        let shares = |wants: &[f64]| {
            let sight = |want: &f64| Sample { is_behind: want.is_infinite(), used: *want, ..Sample::default() };
            fair_share(&wants.iter().map(sight).collect::<Vec<_>>(), 1.0)
        };
        assert_eq!(shares(&[]), all);
        assert_eq!(shares(&[0.2, 0.3]), all, "there is enough");
        assert_eq!(shares(&[all]), 1.0);
        assert_eq!(shares(&[all, 0.2]), 0.8);
        assert_eq!(shares(&[0.9, all]), 0.5);
        assert_eq!(shares(&[0.0, all, 0.0, 0.25, all]), 0.375);
    }

    #[test]
    fn an_attempt_costs_what_the_threads_used_for_it() {
        let mut cost = AttemptCost { counts: BucketCounts::default(), used: Duration::ZERO, average: Duration::ZERO };
        let mut after = |begun, used, paid| {
            let paid = Duration::from_millis(paid);
            cost.note(BucketCounts { begun, paid, ..BucketCounts::default() }, Duration::from_millis(used));
            cost.average.as_millis()
        };
        assert_eq!(after(0, 1_000, 0), 0, "nothing began");
        assert_eq!(after(10, 2_000, 0), 200, "what was used until then is theirs");
        assert_eq!(after(11, 2_400, 0), 250, "it moves slowly");
        assert_eq!(after(12, 3_000, 350), 250, "what it paid is paid");
    }

    #[tokio::test]
    async fn a_group_is_behind_with_more_than_it_can_do_in_a_while() {
        let restraints = FairnessController::default();
        let member = restraints.join("group", Vec::new(), usize::MAX);
        let mut watched = GroupMonitor::new(Arc::clone(&restraints.members()[0]));
        assert!(!watched.look(1.0).works);
        member.pace.ended(3);
        let sight = watched.look(1.0);
        assert!(sight.works && !sight.is_behind, "{sight:?}");
        assert!(watched.stays());
        drop(member);
        assert!(!watched.stays(), "nobody else has it");
        drop(watched);
        assert!(restraints.members().is_empty(), "it has left");
    }
}
