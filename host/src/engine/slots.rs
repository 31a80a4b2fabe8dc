//! Divides the instance slots of the pool among the groups.
//!
//! The instances of all groups share one pool of slots. A group that took all
//! slots, with running handlers or idle instances, would stop every other group.
//! So each group has a reserved share that no other group can take, and when the
//! pool is full the longest idle instance is evicted. An attempt waits only for
//! instances that are in a call.
//!
//! Every [`Sandbox`](super::Sandbox) has at most one instance, so the demand of
//! a group is its number of sandboxes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::limits::UNRESERVED_PART;

/// The idle instance of a sandbox.
pub(super) trait Idle: Send + Sync {
    /// When its last call ended, in nanoseconds of the monotonic clock; `None` during
    /// a call and without an instance.
    fn since(&self) -> Option<u64>;

    /// Drops the idle instance, which frees its slots. Does nothing when a call has
    /// taken it meanwhile.
    fn evict(&self);
}

/// The slots of one allocator; clones share them.
#[derive(Clone)]
pub(super) struct SlotPool(Arc<SlotTable>);

struct SlotTable {
    slots: u32,
    state: Mutex<SlotState>,
    /// The number of attempts that wait for a slot.
    waiting: AtomicU32,
    next_seat: AtomicU64,
}

struct SlotState {
    free: u32,
    groups: HashMap<Arc<str>, GroupSlots>,
    /// Free slots that groups below their reserved share may still claim.
    owed: u32,
    /// Idle instances, by seat.
    kept: HashMap<u64, (Arc<str>, Weak<dyn Idle>)>,
}

#[derive(Default)]
struct GroupSlots {
    sandboxes: u32,
    /// Slots of the largest instance that the group has made.
    weight: u32,
    reserved: u32,
    used: u32,
    waiting: u32,
    room: Arc<Notify>,
}

impl GroupSlots {
    fn wanted(&self) -> u32 {
        self.sandboxes.saturating_mul(self.weight.max(1))
    }

    fn owed(&self) -> u32 {
        self.reserved.saturating_sub(self.used)
    }
}

/// Why an attempt got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSlot {
    /// Slots of the pool.
    pub(super) slots: u32,
    /// Slots that the group holds.
    pub(super) held: u32,
    /// Slots that no other group can take.
    pub(super) reserved: u32,
}

impl SlotPool {
    pub(super) fn new(slots: u32) -> Self {
        let slots = slots.max(1);
        let state = SlotState { free: slots, groups: HashMap::new(), owed: 0, kept: HashMap::new() };
        Self(Arc::new(SlotTable {
            slots,
            state: Mutex::new(state),
            waiting: AtomicU32::new(0),
            next_seat: AtomicU64::new(0),
        }))
    }

    /// Adds a sandbox of a group until the returned seat is dropped.
    pub(super) fn join(&self, group: &str, kept: Weak<dyn Idle>) -> Seat {
        let mut state = self.lock();
        let group: Arc<str> = match state.groups.get_key_value(group) {
            Some((known, _)) => Arc::clone(known),
            None => group.into(),
        };
        state.groups.entry(Arc::clone(&group)).or_default().sandboxes += 1;
        let number = self.0.next_seat.fetch_add(1, Ordering::Relaxed);
        state.kept.insert(number, (Arc::clone(&group), kept));
        state.share_out(self.0.slots);
        Seat { pool: self.clone(), group, number }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.state.lock()
    }
}

impl SlotState {
    /// Reserves a share for each group: its whole demand if the pool is large enough,
    /// otherwise an equal part of the slots that are reserved at all.
    fn share_out(&mut self, slots: u32) {
        let all: u64 = self.groups.values().map(|group| u64::from(group.wanted())).sum();
        if all <= u64::from(slots) {
            self.groups.values_mut().for_each(|group| group.reserved = group.wanted());
        } else {
            let mut by_want: Vec<&mut GroupSlots> = self.groups.values_mut().collect();
            by_want.sort_by_key(|group| group.wanted());
            let (mut left, mut free) = (slots - slots / UNRESERVED_PART, slots);
            let count = by_want.len();
            for (at, group) in by_want.into_iter().enumerate() {
                let equal = left / u32::try_from(count - at).unwrap_or(u32::MAX);
                // A share has room for at least one instance.
                let least = group.weight.max(1).min(free);
                group.reserved = equal.min(group.wanted()).max(least.min(group.wanted()));
                left = left.saturating_sub(group.reserved);
                free = free.saturating_sub(group.reserved);
            }
        }
        self.owed = self.groups.values().map(GroupSlots::owed).sum();
    }

    /// Whether a group may take this many slots now.
    fn fits(&self, group: &GroupSlots, weight: u32) -> bool {
        let after = group.reserved.saturating_sub(group.used.saturating_add(weight));
        let within_share = group.used.saturating_add(weight) <= group.reserved;
        let owed_to_others = self.owed - group.owed();
        self.free >= weight && (within_share || self.free - weight >= owed_to_others + after)
    }

    /// Changes how many slots a group holds.
    fn hold(&mut self, group: &str, change: impl FnOnce(u32) -> u32) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let (owed, used) = (group.owed(), group.used);
        group.used = change(used);
        self.owed = self.owed - owed + group.owed();
        self.free = self.free + used - group.used;
    }

    /// The sandboxes whose idle instances a group may evict.
    fn in_the_way(&self, of_group: &str) -> Vec<Arc<dyn Idle>> {
        let above = |name: &str| self.groups.get(name).is_some_and(|group| group.used > group.reserved);
        let kept = self.kept.values().filter(|(group, _)| **group == *of_group || above(group));
        kept.filter_map(|(_, kept)| kept.upgrade()).collect()
    }

    /// Wakes an attempt that may find a slot now, of the group furthest below its
    /// share.
    fn wake(&self) {
        let waiting = self.groups.values().filter(|group| group.waiting > 0);
        let fitting = waiting.filter(|group| self.fits(group, group.weight.max(1)));
        if let Some(group) = fitting.max_by_key(|group| group.owed()) {
            group.room.notify_one();
        }
    }
}

/// The seat of a sandbox in a pool.
pub(super) struct Seat {
    pool: SlotPool,
    group: Arc<str>,
    number: u64,
}

impl Seat {
    /// Whether the seat is in this pool.
    pub(super) fn is_of(&self, pool: &SlotPool) -> bool {
        Arc::ptr_eq(&self.pool.0, &pool.0)
    }

    /// Takes the slots of an instance, and waits at most `within` for them.
    pub(super) async fn take(&self, weight: u32, within: Duration) -> Result<SlotPermit, NoSlot> {
        if let Some(permit) = self.take_now(weight) {
            return Ok(permit);
        }
        let waiting = SlotWaiter::new(self);
        let freed = async {
            loop {
                let notified = waiting.room.notified();
                if let Some(permit) = self.take_now(weight) {
                    return permit;
                }
                notified.await;
            }
        };
        if let Ok(permit) = tokio::time::timeout(within, freed).await {
            return Ok(permit);
        }
        let state = self.pool.lock();
        let (held, reserved) = state.groups.get(&self.group).map_or((0, 0), |group| (group.used, group.reserved));
        Err(NoSlot { slots: self.pool.0.slots, held, reserved })
    }

    /// Takes slots that are free or held by idle instances.
    fn take_now(&self, weight: u32) -> Option<SlotPermit> {
        let weight = weight.clamp(1, self.pool.0.slots);
        loop {
            let kept = {
                let mut state = self.pool.lock();
                let group = state.groups.get_mut(&self.group)?;
                if group.weight < weight {
                    group.weight = weight;
                    state.share_out(self.pool.0.slots);
                }
                let group = state.groups.get(&self.group)?;
                if state.fits(group, weight) {
                    state.hold(&self.group, |used| used + weight);
                    return Some(SlotPermit { pool: self.pool.clone(), group: Arc::clone(&self.group), weight });
                }
                state.in_the_way(&self.group)
            };
            // The lock is released first: a dropped instance frees its slots, which takes
            // the lock.
            let idle = kept.iter().filter_map(|kept| Some((kept.since()?, kept)));
            let (_, oldest) = idle.min_by_key(|(since, _)| *since)?;
            oldest.evict();
        }
    }

    /// Whether the slots of an idle instance are needed, so that it should be dropped.
    pub(super) fn is_wanted(&self) -> bool {
        if self.pool.0.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let state = self.pool.lock();
        state.groups.get(&self.group).is_some_and(|group| group.waiting > 0 || group.used > group.reserved)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.kept.remove(&self.number);
        let Some(group) = state.groups.get_mut(&self.group) else { return };
        group.sandboxes -= 1;
        state.forget_if_gone(&self.group);
        state.share_out(self.pool.0.slots);
    }
}

impl SlotState {
    /// Removes a group that has no sandboxes and no slots.
    fn forget_if_gone(&mut self, group: &str) {
        if self.groups.get(group).is_some_and(|group| group.sandboxes == 0 && group.used == 0) {
            self.groups.remove(group);
        }
    }
}

/// An attempt that waits for a slot.
struct SlotWaiter<'s> {
    seat: &'s Seat,
    room: Arc<Notify>,
}

impl<'s> SlotWaiter<'s> {
    fn new(seat: &'s Seat) -> Self {
        seat.pool.0.waiting.fetch_add(1, Ordering::Relaxed);
        let mut state = seat.pool.lock();
        let group = state.groups.entry(Arc::clone(&seat.group)).or_default();
        group.waiting += 1;
        Self { seat, room: Arc::clone(&group.room) }
    }
}

impl Drop for SlotWaiter<'_> {
    fn drop(&mut self) {
        self.seat.pool.0.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.seat.pool.lock();
        if let Some(group) = state.groups.get_mut(&self.seat.group) {
            group.waiting -= 1;
        }
        // A wake-up that came after the timeout is passed on.
        state.wake();
    }
}

/// The slots of one instance, held while it lives.
pub(super) struct SlotPermit {
    pool: SlotPool,
    group: Arc<str>,
    weight: u32,
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.hold(&self.group, |used| used - self.weight);
        state.forget_if_gone(&self.group);
        if self.pool.0.waiting.load(Ordering::Relaxed) > 0 {
            state.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps a permit until it is evicted.
    #[derive(Default)]
    struct Keeps(Mutex<Option<(u64, SlotPermit)>>);

    impl Idle for Keeps {
        fn since(&self) -> Option<u64> {
            self.0.lock().as_ref().map(|(since, _)| *since)
        }

        fn evict(&self) {
            let permit = self.0.lock().take();
            drop(permit);
        }
    }

    struct Sandboxes(Vec<(Seat, Arc<Keeps>)>);

    impl Sandboxes {
        fn of(pool: &SlotPool, group: &str, count: usize) -> Self {
            let sandbox = |_| {
                let kept = Arc::new(Keeps::default());
                let weak: Weak<dyn Idle> = Arc::downgrade(&kept) as Weak<dyn Idle>;
                (pool.join(group, weak), kept)
            };
            Self((0..count).map(sandbox).collect())
        }

        /// Takes all free slots, without waiting.
        fn take(&self, weight: u32) -> Vec<SlotPermit> {
            self.0.iter().map_while(|(seat, _)| seat.take_now(weight)).collect()
        }

        /// Takes all free slots and keeps them idle.
        fn keep(&self, since: u64) -> usize {
            let kept = self.0.iter().enumerate().map_while(|(at, (seat, kept))| {
                let permit = seat.take_now(1)?;
                *kept.0.lock() = Some((since + at as u64, permit));
                Some(())
            });
            kept.count()
        }

        fn idle(&self) -> Vec<bool> {
            self.0.iter().map(|(_, kept)| kept.since().is_some()).collect()
        }
    }

    #[test]
    fn an_idle_group_gives_its_instances_to_whoever_finds_the_pool_full_oldest_first() {
        let pool = SlotPool::new(8);
        let idle = Sandboxes::of(&pool, "idle", 8);
        assert_eq!(idle.keep(100), 8, "alone it may have them all");
        let busy = Sandboxes::of(&pool, "busy", 8);
        let taken = busy.take(1);
        assert_eq!(taken.len(), 6, "half of the pool is shared out equally, the rest is for who comes first");
        assert_eq!(idle.idle(), [false, false, false, false, false, false, true, true], "the longest idle went first");
        drop(taken);
        assert_eq!(idle.keep(200), 8, "what is free again is taken again");
    }

    #[test]
    fn handlers_that_only_sleep_leave_each_group_its_share() {
        let pool = SlotPool::new(8);
        let (sleeps, waits) = (Sandboxes::of(&pool, "sleeps", 8), Sandboxes::of(&pool, "waits", 8));
        let sleeping = sleeps.take(1);
        assert_eq!(sleeping.len(), 6, "two are reserved for the other group");
        let running = waits.take(1);
        assert_eq!(running.len(), 2);
        assert!(waits.0[7].0.take_now(1).is_none(), "the rest is being used");
        drop(sleeping);
        assert!(waits.0[7].0.take_now(1).is_some(), "and is anybody's once it is not");
        assert_eq!(running.len(), 2);
    }

    #[test]
    fn groups_that_fit_together_have_all_that_they_want() {
        let pool = SlotPool::new(8);
        let (one, other) = (Sandboxes::of(&pool, "one", 3), Sandboxes::of(&pool, "other", 5));
        let (first, second) = (one.take(1), other.take(1));
        assert_eq!((first.len(), second.len()), (3, 5));
    }

    #[test]
    fn an_instance_of_several_memories_counts_for_several() {
        let pool = SlotPool::new(8);
        let heavy = Sandboxes::of(&pool, "heavy", 8);
        let taken = heavy.take(3);
        assert_eq!(taken.len(), 2, "three slots each");
        let light = Sandboxes::of(&pool, "light", 8);
        assert_eq!(light.take(1).len(), 2, "what is left of eight");
        drop(taken);
        assert_eq!(heavy.take(3).len(), 2, "a share is at least one instance");
    }

    #[test]
    fn a_group_that_left_owes_and_is_owed_nothing() {
        let pool = SlotPool::new(4);
        let gone = Sandboxes::of(&pool, "gone", 4);
        let last = gone.take(1).pop();
        drop(gone);
        let stays = Sandboxes::of(&pool, "stays", 4);
        assert_eq!(stays.take(1).len(), 3, "one instance of it still runs");
        drop(last);
        assert_eq!(stays.take(1).len(), 4);
        assert_eq!(pool.lock().groups.len(), 1);
    }

    #[tokio::test]
    async fn an_attempt_waits_for_room_and_takes_it_when_it_comes() {
        let pool = SlotPool::new(1);
        let sandboxes = Sandboxes::of(&pool, "stock", 2);
        let [(first, _), (second, _)] = &sandboxes.0[..] else { unreachable!() };
        let permit = first.take_now(1).unwrap();
        let no_slot = second.take(1, Duration::from_millis(1)).await.err();
        assert_eq!(no_slot, Some(NoSlot { slots: 1, held: 1, reserved: 1 }));
        let (taken, ()) = tokio::join!(second.take(1, Duration::from_secs(60)), async move {
            tokio::task::yield_now().await;
            drop(permit);
        });
        assert!(taken.is_ok());
        assert!(!first.is_wanted());
    }
}
