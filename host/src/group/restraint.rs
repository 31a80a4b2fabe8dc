//! Holds back the groups that are behind, for those that keep up.
//!
//! The kernel shares the processors out between the groups' guests. But what
//! the host does for a group (fetching, owning, settling) is everybody's, and
//! once the processors are full each step of every message waits for its turn:
//! a group that has more to do than it can makes all the others late, though
//! there is time enough for them. So while some groups keep up with little,
//! those that are behind get a share of processor time, which shrinks until a
//! part of the processors' time is left over and grows while more is. They lose
//! little by it, and the others are hardly later than alone.
//!
//! While all are behind, or want as much as is theirs, nobody is held and they
//! share alike.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::kafka::partition::Budget;
use crate::processors::{Processors, Threads, count};

/// Time between two looks. The counters of the system have steps of 10 ms.
const LOOK: Duration = Duration::from_millis(250);
/// The part of its time that one processor should have left over. Of several it
/// is less, by the root of their number: what waits for one may run on another
/// (square-root staffing, Halfin and Whitt 1981).
const SPARE: f64 = 0.22;
/// Shares grow while more than this is left over besides.
const MORE: f64 = 0.06;
/// How fast shares shrink by what is missing, and by how much they grow at a
/// look.
const SHRINK: f64 = 2.0;
const GROW: f64 = 1.1;
/// A share is at least this part of what the group used when it was free: what
/// keeps the processors busy may be other programs.
const LEAST: f64 = 0.1;
/// A group is behind when it may take no more records in hand, or has more than
/// it ends in so long. Twice as many as may run at once are always few.
const BEHIND: Duration = Duration::from_secs(1);
const FEW: usize = 2;
/// A group keeps up with little when its guests use no more than this part of
/// what would be its own if all shared alike. What the host does for it comes
/// on top.
const LITTLE: f64 = 0.7;
/// A group is at work for so long after something ended.
const AT_WORK: Duration = Duration::from_secs(2);
/// A group whose guests use less of a processor is not worth holding back.
const IDLE: f64 = 0.02;

/// The groups of this node.
#[derive(Clone, Default)]
pub struct Restraints(Arc<Mutex<Vec<Weak<Member>>>>);

/// A group, as far as it concerns the others.
#[derive(Debug)]
pub struct Member {
    name: String,
    /// Attempts that may run at once.
    concurrency: usize,
    /// How fast its attempts may be.
    pub pace: Pace,
    /// What it has in its hands.
    pub budget: Arc<Budget>,
    /// The threads that run its guests.
    pub threads: Threads,
}

impl Restraints {
    /// Takes a group in, as long as somebody has it.
    #[must_use]
    pub fn join(&self, name: &str, concurrency: usize) -> Arc<Member> {
        let member = Arc::new(Member {
            name: name.to_owned(),
            concurrency,
            pace: Pace::default(),
            budget: Arc::default(),
            threads: Threads::default(),
        });
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        member
    }

    fn members(&self) -> Vec<Arc<Member>> {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter_map(Weak::upgrade).collect()
    }

    /// Looks at the groups again and again, and holds them or lets them go.
    pub async fn keep(self) {
        let mut processors = Processors::default();
        let mut watched: Vec<Watched> = Vec::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // First those that left: what is watched is held by this task too.
            watched.retain_mut(Watched::stays);
            for member in self.members() {
                if !watched.iter().any(|one| Arc::ptr_eq(&one.member, &member)) {
                    watched.push(Watched::new(member));
                }
            }
            let sights: Vec<Sight> = watched.iter_mut().map(Watched::look).collect();
            // Without the counters of the system nobody is held.
            let (busy, all) = (processors.busy().unwrap_or(0.0), count());
            let wants = sights.iter().map(Sight::wants).collect();
            let little = LITTLE * fair_share(wants, all);
            let some_keep_up = sights.iter().any(|sight| sight.works && !sight.is_behind && sight.used <= little);
            let most = 1.0 - SPARE / all.sqrt();
            for (one, sight) in watched.iter_mut().zip(sights) {
                let concerns = some_keep_up && sight.is_behind;
                one.hold(if concerns { next(one.held, sight.used, busy, most) } else { None });
            }
        }
    }
}

/// A group, and what was seen of it before.
struct Watched {
    member: Arc<Member>,
    at: Instant,
    ended: u64,
    used: Duration,
    /// When something was seen to have ended.
    worked: Option<Instant>,
    cost: Cost,
    held: Option<Held>,
}

/// What a look at a group shows.
#[derive(Clone, Copy, Debug)]
struct Sight {
    /// Whether anything ended lately.
    works: bool,
    is_behind: bool,
    /// Processors that its guests kept busy.
    used: f64,
}

impl Sight {
    /// Processors that the group would take if it could. One that stands still,
    /// because it is paused for instance, takes none, whatever waits for it.
    fn wants(&self) -> f64 {
        if self.works && self.is_behind { f64::INFINITY } else { self.used }
    }
}

impl Watched {
    fn new(member: Arc<Member>) -> Self {
        let used = member.threads.used();
        let (begun, ended) = member.pace.so_far();
        let cost = Cost { begun, used, average: 0.0 };
        Self { member, at: Instant::now(), ended, used, worked: None, cost, held: None }
    }

    /// Whether the group is still there. One that left is held no more.
    fn stays(&mut self) -> bool {
        let stays = Arc::strong_count(&self.member) > 1;
        if !stays {
            self.hold(None);
        }
        stays
    }

    fn look(&mut self) -> Sight {
        let (now, used) = (Instant::now(), self.member.threads.used());
        let (begun, ended) = self.member.pace.so_far();
        let passed = now.duration_since(self.at).max(Duration::from_millis(1)).as_secs_f64();
        let (since, used_since) = (ended - self.ended, used.saturating_sub(self.used));
        if since > 0 {
            self.worked = Some(now);
        }
        self.cost.note(begun, used);
        (self.at, self.ended, self.used) = (now, ended, used);
        let (budget, few) = (&self.member.budget, FEW * self.member.concurrency);
        let (in_hand, a_while) = (budget.records(), since as f64 / passed * BEHIND.as_secs_f64());
        Sight {
            works: self.worked.is_some_and(|at| now.duration_since(at) < AT_WORK),
            is_behind: budget.is_used_up() || in_hand > few && in_hand as f64 > a_while,
            used: used_since.as_secs_f64() / passed,
        }
    }

    fn hold(&mut self, held: Option<Held>) {
        if self.held.is_some() != held.is_some() {
            let group = &self.member.name;
            tracing::debug!(group, held = held.is_some(), "a group that is behind is held back or let go");
            metrics::gauge!("courier_held_back", "group" => group.clone()).set(if held.is_some() { 1.0 } else { 0.0 });
        }
        if self.held.is_some() || held.is_some() {
            self.member.pace.set(held.map(|held| Duration::from_secs_f64(self.cost.average / held.share)));
        }
        self.held = held;
    }
}

/// What an attempt of a group costs, in seconds of a processor.
struct Cost {
    begun: u64,
    used: Duration,
    average: f64,
}

impl Cost {
    /// Attempts that began by now, and what the threads used. Long ones may
    /// begin in one look and cost in the next, so that it is an average.
    fn note(&mut self, begun: u64, used: Duration) {
        let attempts = begun - self.begun;
        if attempts == 0 {
            return;
        }
        let cost = used.saturating_sub(self.used).as_secs_f64() / attempts as f64;
        let is_first = self.average == 0.0;
        self.average = if is_first { cost } else { self.average * 0.75 + cost * 0.25 };
        (self.begun, self.used) = (begun, used);
    }
}

/// What a group is held to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    /// Processors that its guests used before it was held.
    free: f64,
    /// Processors that they may use.
    share: f64,
}

/// What a group that is behind is held to next, while the processors are `busy`
/// of the `most` that they should be.
fn next(held: Option<Held>, used: f64, busy: f64, most: f64) -> Option<Held> {
    let shrunk = |share: f64| share * (1.0 - SHRINK * (busy - most)).max(0.1);
    match held {
        None if busy > most && used > IDLE => Some(Held { free: used, share: shrunk(used) }),
        None => None,
        Some(Held { free, share }) if busy > most => Some(Held { free, share: shrunk(share).max(free * LEAST) }),
        Some(Held { free, share }) if busy < most - MORE => {
            let share = share * GROW;
            // What it does not use by far is no bound.
            (share < free.max(used * 2.0)).then_some(Held { free, share })
        }
        held => held,
    }
}

/// What is each one's own of the `processors`, where who wants less leaves the
/// rest to the others (max-min fairness).
fn fair_share(mut wants: Vec<f64>, processors: f64) -> f64 {
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

    #[test]
    fn a_share_shrinks_until_there_is_air_and_grows_until_there_is_none() {
        let most = 0.8;
        let next = |held, used, busy| super::next(held, used, busy, most);
        assert_eq!(next(None, 0.5, most), None, "there is enough for all");
        assert_eq!(next(None, 0.0, 1.0), None, "it is not at fault");
        let first = next(None, 0.5, 1.0).unwrap();
        assert!(first.free == 0.5 && first.share < 0.5, "{first:?}");
        assert_eq!(next(Some(first), 0.4, most), Some(first), "as it should be");
        assert!(next(Some(first), 0.4, 0.9).unwrap().share > next(Some(first), 0.4, 1.0).unwrap().share);
        let mut held = first;
        for _ in 0..20 {
            held = next(Some(held), held.share, 1.0).unwrap();
        }
        assert_eq!(held.share, 0.5 * LEAST, "others may be at fault");
        let mut looks = 0;
        let mut grown = Some(held);
        while let Some(held) = grown {
            looks += 1;
            assert!(looks < 40, "it is let go once the rest is for it: {held:?}");
            grown = next(Some(held), held.share.min(0.3), 0.5);
        }
    }

    #[test]
    fn who_wants_little_leaves_the_rest_to_the_others() {
        let (shares, all) = (|wants: &[f64]| fair_share(wants.to_vec(), 1.0), f64::INFINITY);
        assert_eq!(shares(&[]), all);
        assert_eq!(shares(&[0.2, 0.3]), all, "there is enough");
        assert_eq!(shares(&[all]), 1.0);
        assert_eq!(shares(&[all, 0.2]), 0.8);
        assert_eq!(shares(&[0.9, all]), 0.5);
        assert_eq!(shares(&[0.0, all, 0.0, 0.25, all]), 0.375);
    }

    #[test]
    fn an_attempt_costs_what_the_threads_used_for_it() {
        let mut cost = Cost { begun: 0, used: Duration::ZERO, average: 0.0 };
        cost.note(0, Duration::from_secs(1));
        assert_eq!(cost.average, 0.0, "nothing began");
        cost.note(10, Duration::from_secs(2));
        assert_eq!(cost.average, 0.2, "what was used until then is theirs");
        cost.note(11, Duration::from_millis(2_400));
        assert_eq!(cost.average, 0.25, "it moves slowly");
    }

    #[tokio::test]
    async fn a_group_is_behind_with_more_than_it_can_do_in_a_while() {
        let restraints = Restraints::default();
        let member = restraints.join("group", 8);
        let mut watched = Watched::new(Arc::clone(&restraints.members()[0]));
        assert!(!watched.look().works);
        member.pace.ended(3);
        let sight = watched.look();
        assert!(sight.works && !sight.is_behind, "{sight:?}");
        assert!(watched.stays());
        drop(member);
        assert!(!watched.stays(), "nobody else has it");
        drop(watched);
        assert!(restraints.members().is_empty(), "it has left");
    }
}
