//! Holds back the groups that are behind, for those that keep up.
//!
//! The kernel shares the processors out between the groups' guests. But what
//! the host does for a group (fetching, owning, settling) is everybody's, and
//! once the processors are full each step of every message waits for its turn:
//! a group that has more to do than it can makes all the others late, though
//! there is time enough for them. So while some groups keep up with little,
//! each of those that are behind may use no more than a share of processor
//! time, the same for all. The share shrinks until a part of the processors'
//! time is left over, and grows while more is.
//!
//! While all are behind, or want as much as is theirs, the share grows until it
//! bounds nobody, and they have alike what there is.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cpu_bucket::{CpuBucket, SoFar};
use super::cpu_load::{CpuLoad, CpuLoadMeter, Threads};
use crate::consume::attempt::binding::RunningBinding;
use crate::kafka::buffered::Budget;

/// Time between two looks. The counters of the system have steps of 10 ms.
const LOOK: Duration = Duration::from_millis(250);
/// The part of its time that one processor should have left over. Of several it
/// is less, by the root of their number: what waits for one may run on another
/// (square-root staffing, Halfin and Whitt 1981).
const SPARE: f64 = 0.22;
/// The share grows while more than this is left over besides.
const MORE: f64 = 0.06;
/// How fast the share shrinks by what is missing, and by how much it grows at a
/// look, also when it is for nobody.
const SHRINK: f64 = 2.0;
const GROW: f64 = 1.1;
const RISE: f64 = 2.0;
/// The share is at least this part of what each group that is behind would have
/// if those that keep up wanted nothing.
const LEAST: f64 = 0.05;
/// It does not shrink while this process uses less of the processors: then other
/// programs keep them busy, and would take what is left over.
const OURS: f64 = 0.25;
/// It is given up when no attempt waited for its turn at so many looks, one
/// after the other. Not for the others' air alone: all that the groups may run
/// at once would go on in the same moment, and take that air away for as long
/// as it lasts.
const UNUSED: u32 = 8;
/// A group seems behind when it may take no more records in hand, or has more
/// in hand than it ends in so long. Twice as many as may run at once are always
/// few, unless its guests use more than an equal part of the processors.
const BEHIND: Duration = Duration::from_millis(500);
const FEW: usize = 2;
/// One that kept up is behind once it seems so at up to so many looks, as many as
/// it kept up before, and one that was behind has to keep up for as long.
const PATIENCE: u32 = 4;
/// A group keeps up with little when its guests use no more than this part of
/// what would be its own if all shared alike. What the host does for it comes
/// on top.
const LITTLE: f64 = 0.7;
/// A group is at work for so long after something ended, or its guests used the
/// processor, or an attempt waited for its turn. One that is not, because it is
/// paused for instance, is not behind, whatever waits for it.
const AT_WORK: Duration = Duration::from_secs(2);
/// The others leave some air for so long after it was: what comes once in a while
/// is not to come too late each time.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Guests that use less of a processor are not worth holding back.
const IDLE: f64 = 0.02;

/// The groups of this node.
#[derive(Clone, Default)]
pub struct FairnessController(Arc<Mutex<Vec<Weak<GroupUsage>>>>);

/// A group, as far as it concerns the others.
pub struct GroupUsage {
    name: String,
    bindings: Vec<Arc<RunningBinding>>,
    /// How fast its attempts may be.
    pub pace: Arc<CpuBucket>,
    /// What it has in its hands.
    pub budget: Arc<Budget>,
    /// The threads that run its guests.
    pub threads: Threads,
}

impl GroupUsage {
    /// Deliveries that it has to end: those that came and are not durable, or, if
    /// they are more, those that have their turn. Among these are some that came
    /// long ago, and broadcasts.
    fn in_hand(&self) -> usize {
        let turns = self.bindings.iter().map(|bound| bound.turns.standing()).sum();
        self.budget.records().max(turns)
    }

    /// Attempts that may run at once.
    fn concurrency(&self) -> usize {
        self.bindings.iter().map(|bound| bound.binding.concurrency).sum()
    }
}

impl FairnessController {
    /// Takes a group in, as long as somebody has it. It keeps no record of more
    /// than `max_record` bytes.
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

    /// Looks at the groups again and again, and holds them or lets them go.
    pub async fn keep(self) {
        let mut processors = CpuLoadMeter::default();
        let mut watched: Vec<GroupMonitor> = Vec::new();
        let (mut level, mut equal) = (None, f64::INFINITY);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // First those that left: what is watched is held by this task too.
            watched.retain_mut(GroupMonitor::stays);
            for member in self.members() {
                if !watched.iter().any(|one| Arc::ptr_eq(&one.member, &member)) {
                    watched.push(GroupMonitor::new(member));
                }
            }
            let sights: Vec<Sample> = watched.iter_mut().map(|one| one.look(equal)).collect();
            // Without the counters of the system nobody is held.
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

/// A group, and what was seen of it before.
struct GroupMonitor {
    member: Arc<GroupUsage>,
    at: Instant,
    so_far: SoFar,
    used: Duration,
    /// Processors that its guests kept busy lately.
    lately: f64,
    /// When it was seen at work.
    worked: Option<Instant>,
    standing: BacklogDetector,
    cost: AttemptCost,
    is_held: bool,
}

/// What a look at a group shows.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Whether it did anything lately.
    works: bool,
    is_behind: bool,
    /// Processors that its guests kept busy lately.
    used: f64,
    /// Whether an attempt waits for its turn.
    waits: bool,
}

impl GroupMonitor {
    fn new(member: Arc<GroupUsage>) -> Self {
        let (used, so_far) = (member.threads.used(), member.pace.so_far());
        let cost = AttemptCost { so_far, used, average: Duration::ZERO };
        let standing = BacklogDetector::default();
        Self { member, at: Instant::now(), so_far, used, lately: 0.0, worked: None, standing, cost, is_held: false }
    }

    /// Whether the group is still there. One that left is held no more.
    fn stays(&mut self) -> bool {
        let stays = Arc::strong_count(&self.member) > 1;
        if !stays {
            self.hold(None);
        }
        stays
    }

    /// Looks at the group, of which an `equal` part would be so many processors.
    fn look(&mut self, equal: f64) -> Sample {
        let (now, used, so_far) = (Instant::now(), self.member.threads.used(), self.member.pace.so_far());
        let passed = now.duration_since(self.at).max(Duration::from_millis(1)).as_secs_f64();
        let ended = so_far.ended - self.so_far.ended;
        let processors = used.saturating_sub(self.used).as_secs_f64() / passed;
        let waits = so_far.waits > self.so_far.waits;
        // A look is so short that one long attempt fills it.
        self.lately = (self.lately + processors) / 2.0;
        self.cost.note(so_far, used);
        (self.at, self.so_far, self.used) = (now, so_far, used);
        if ended > 0 || waits || processors > IDLE {
            self.worked = Some(now);
        }
        let was_at_work = |within| self.worked.is_some_and(|at| now.duration_since(at) < within);
        let a_while = ended as f64 / passed * BEHIND.as_secs_f64();
        let in_hand = self.member.in_hand();
        // Held, it uses little because it is.
        let are_few = in_hand <= FEW * self.member.concurrency() && self.lately <= equal && !self.is_held;
        let seems_behind = self.member.budget.is_used_up() || !are_few && in_hand as f64 > a_while;
        if was_at_work(AT_WORK) {
            self.standing.note(seems_behind)
        } else {
            self.standing.rest()
        }
        let (works, is_behind) = (was_at_work(REMEMBERED), self.standing.is_behind);
        Sample { works, is_behind, used: self.lately, waits }
    }

    fn hold(&mut self, share: Option<f64>) {
        if self.is_held != share.is_some() {
            self.is_held = share.is_some();
            let group = &self.member.name;
            tracing::debug!(group, held = self.is_held, "a group that is behind is held back or let go");
            metrics::gauge!("courier_held_back", "group" => group.clone()).set(if self.is_held { 1.0 } else { 0.0 });
        }
        self.member.pace.set(share, self.cost.average);
    }
}

/// Whether a group is behind, which it is not for one look.
#[derive(Debug, Default)]
struct BacklogDetector {
    is_behind: bool,
    /// Looks at which it kept up, less those at which it seemed behind.
    credit: u32,
}

impl BacklogDetector {
    /// One that was at work before is trusted to keep up.
    fn rest(&mut self) {
        if self.is_behind || self.credit > 0 {
            *self = Self { is_behind: false, credit: PATIENCE };
        }
    }

    fn note(&mut self, seems_behind: bool) {
        self.credit = if seems_behind { self.credit.saturating_sub(1) } else { (self.credit + 1).min(PATIENCE) };
        self.is_behind = match self.credit {
            0 => true,
            PATIENCE => false,
            _ => self.is_behind,
        };
    }
}

/// What an attempt of a group costs besides what it pays while it runs.
struct AttemptCost {
    so_far: SoFar,
    used: Duration,
    average: Duration,
}

impl AttemptCost {
    /// What began by now, and what the threads used. Long attempts may begin in
    /// one look and cost in the next, so that it is an average.
    fn note(&mut self, so_far: SoFar, used: Duration) {
        let attempts = so_far.begun - self.so_far.begun;
        if attempts == 0 {
            return;
        }
        let paid = so_far.paid.saturating_sub(self.so_far.paid);
        let cost = used.saturating_sub(self.used).saturating_sub(paid).as_secs_f64() / attempts as f64;
        let average = self.average.as_secs_f64();
        let average = if self.average.is_zero() { cost } else { average * 0.75 + cost * 0.25 };
        (self.so_far, self.used, self.average) = (so_far, used, Duration::from_secs_f64(average));
    }
}

/// What those that are behind are held to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CpuLimit {
    /// Processors that the guests of each may use.
    share: f64,
    /// Looks since an attempt waited for its turn.
    unused: u32,
}

/// What those that are behind are held to next, if to anything.
fn next(level: Option<CpuLimit>, sights: &[Sample], load: CpuLoad) -> Option<CpuLimit> {
    let fair = fair_share(sights, load.count);
    let behind = || sights.iter().filter(|sight| sight.is_behind);
    let keep_up = || sights.iter().filter(|sight| sight.works && !sight.is_behind);
    let some_keep_up = keep_up().any(|sight| sight.used <= LITTLE * fair);
    // What one that keeps up uses of the others' is not asked of those behind.
    let is_ours = load.own > OURS && !keep_up().any(|sight| sight.used > fair);
    let most = 1.0 - SPARE / load.count.max(1.0).sqrt();
    let is_too_much = some_keep_up && is_ours && load.busy > most;
    let least = LEAST * load.count / behind().count().max(1) as f64;
    let shrunk = |share: f64| (share * (1.0 - SHRINK * (load.busy - most)).max(0.1)).max(least);
    let Some(CpuLimit { share, unused }) = level else {
        let most_used = behind().map(|sight| sight.used).fold(0.0, f64::max);
        return (is_too_much && most_used > IDLE).then(|| CpuLimit { share: shrunk(most_used), unused: 0 });
    };
    let share = if is_too_much {
        shrunk(share)
    } else if !some_keep_up {
        share * RISE
    } else if load.busy < most - MORE || !is_ours {
        share * GROW
    } else {
        share
    };
    let unused = if behind().any(|sight| sight.waits) { 0 } else { unused + 1 };
    (unused < UNUSED).then_some(CpuLimit { share: share.min(load.count), unused })
}

/// What is each one's own of the `consume/fairness/cpu_load`, where who wants less leaves the
/// rest to the others (max-min fairness). Who is behind wants all there is.
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
    const MOST: f64 = 1.0 - SPARE;

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
        assert_eq!(level.share, LEAST, "it may not be enough");
        for _ in 0..80 {
            level = next(Some(level), &sights, load(0.5)).expect("its attempts wait: let go, all would go on at once");
        }
        assert_eq!(level.share, 1.0);
    }

    #[test]
    fn who_is_behind_later_has_the_same_share() {
        let level = next(None, &sights(&[0.6, 0.01]), load(1.0)).unwrap();
        let least = (0..40).fold(level, |level, _| next(Some(level), &sights(&[0.6, 0.01]), load(1.0)).unwrap());
        assert_eq!(least.share, LEAST / 2.0, "they have it together");
        assert_eq!(next(None, &sights(&[0.01]), load(1.0)), None, "it is not at fault");
        assert_eq!(next(None, &sights(&[]), load(1.0)), None);
    }

    #[test]
    fn what_others_keep_busy_is_not_left_to_them() {
        let (sights, busy) = (sights(&[0.2]), CpuLoad { count: 1.0, busy: 1.0, own: OURS });
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
        assert_eq!(next(Some(level), &sights, load(1.0)).unwrap().share, level.share * RISE);
        sights[1] = Sample::default();
        assert_eq!(next(None, &sights, load(1.0)), None, "the other does nothing");
    }

    #[test]
    fn a_share_that_is_no_bound_is_given_up() {
        let (mut sights, mut level) = (sights(&[0.1]), CpuLimit { share: 0.2, unused: 0 });
        sights[0].waits = false;
        for _ in 1..UNUSED {
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
        let mut cost = AttemptCost { so_far: SoFar::default(), used: Duration::ZERO, average: Duration::ZERO };
        let mut after = |begun, used, paid| {
            let paid = Duration::from_millis(paid);
            cost.note(SoFar { begun, paid, ..SoFar::default() }, Duration::from_millis(used));
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
