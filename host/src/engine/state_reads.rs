//! Bounds the reads of state that run at once.
//!
//! A read takes one of the store's few sessions. Without a bound, handlers that read
//! state in a loop with a `concurrency` of hundreds take all of them, and the sends and
//! settles of every other group wait for a session until they are refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::clock::{HeldBack, Meter};
use super::{Policy, StateHeld, StateSource, limits};
use crate::turns::{NamedTurns, Turn, Turns};

/// Reads of one group that run at once.
const MAX_STATE_READS_EACH: usize = 2;
/// Reads of all groups that run at once: less than half of the store's ten sessions.
const MAX_STATE_READS: usize = 4;

/// The running reads of a host, by the names of their groups. Clones share them.
#[derive(Clone)]
pub(super) struct StateReads(Arc<Turns>);

impl Default for StateReads {
    fn default() -> Self {
        Self(Arc::new(Turns::new(MAX_STATE_READS_EACH, Some(MAX_STATE_READS))))
    }
}

impl StateReads {
    /// The state of a group, whose reads take their turns among these.
    pub(super) fn of(&self, group: &str, source: Arc<dyn StateSource>) -> GroupState {
        GroupState { source, turns: self.0.of(group) }
    }
}

/// The state of one group.
#[derive(Clone)]
pub(super) struct GroupState {
    source: Arc<dyn StateSource>,
    turns: NamedTurns,
}

impl GroupState {
    /// Reads the value of a key, as [`StateSource::get`] does.
    ///
    /// # Errors
    /// A sentence for the handler.
    pub(super) async fn get(
        &self,
        policy: &Policy,
        meter: &Arc<Meter>,
        key: &str,
        max_age: Option<Duration>,
    ) -> Result<Option<Bytes>, String> {
        let _turn = self.turn(policy, meter).await?;
        self.source.get(&policy.group, key, max_age).await
    }

    /// Reads the amount of the group's state, as [`StateSource::held`] does.
    ///
    /// # Errors
    /// A sentence for the handler.
    pub(super) async fn held(&self, policy: &Policy, meter: &Arc<Meter>) -> Result<StateHeld, String> {
        let _turn = self.turn(policy, meter).await?;
        self.source.held(&policy.group).await
    }

    /// Waits until one more read may run. The wait counts as time for which the call is
    /// throttled, and is bounded as that is.
    async fn turn(&self, policy: &Policy, meter: &Arc<Meter>) -> Result<Turn, String> {
        let may_wait = limits::may_hold(policy.timeout, meter.held());
        let _held = HeldBack::from_now(Arc::clone(meter));
        self.turns.begin(may_wait).await.ok_or_else(|| {
            format!(
                "reads of state wait for each other ({MAX_STATE_READS_EACH} of one group and {MAX_STATE_READS} of all run \
                 at once), and this call waited for its turn as long as it may: read less state, or lower the \
                 `concurrency` of group {}",
                policy.group
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{BoxFuture, join_all};

    use super::*;
    use crate::engine::tests::policy;

    /// Counts the reads that run at once. Those of the group `stuck` never end.
    #[derive(Default)]
    struct Counting {
        running: AtomicUsize,
        most: AtomicUsize,
    }

    impl StateSource for Counting {
        fn get(&self, group: &str, _: &str, _: Option<Duration>) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
            let stuck = group == "stuck";
            Box::pin(async move {
                self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if stuck {
                    std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
                self.running.fetch_sub(1, Ordering::SeqCst);
                Ok(None)
            })
        }

        fn held(&self, _: &str) -> BoxFuture<'_, Result<StateHeld, String>> {
            Box::pin(async { Ok(StateHeld::default()) })
        }
    }

    fn of(group: &str) -> Policy {
        Policy { group: group.to_owned(), ..policy() }
    }

    /// Handlers that read state in a loop, 600 at once, left no session of the store for
    /// the sends of another tenant.
    #[tokio::test]
    async fn reads_of_one_group_and_of_all_are_bounded() {
        let (reads, source) = (StateReads::default(), Arc::new(Counting::default()));
        let policies: Vec<_> = ["busy", "other", "third"].map(of).into_iter().collect();
        let read = async |policy: &Policy| {
            let state = reads.of(&policy.group, Arc::clone(&source) as Arc<dyn StateSource>);
            state.get(policy, &Arc::default(), "k", None).await
        };
        let of_one = join_all((0..600).map(|_| read(&policies[0]))).await;
        assert!(of_one.iter().all(Result::is_ok), "they wait, and are not refused");
        assert_eq!(source.most.swap(0, Ordering::SeqCst), MAX_STATE_READS_EACH);
        let of_all = join_all((0..600).map(|n| read(&policies[n % 3]))).await;
        assert!(of_all.iter().all(Result::is_ok));
        assert_eq!(source.most.load(Ordering::SeqCst), MAX_STATE_READS);
    }

    #[tokio::test]
    async fn a_group_whose_reads_stand_still_keeps_no_other_waiting() {
        let (reads, source) = (StateReads::default(), Arc::new(Counting::default()));
        let (stuck, other) = (of("stuck"), of("other"));
        let of_stuck = reads.of("stuck", Arc::clone(&source) as Arc<dyn StateSource>);
        let of_other = reads.of("other", source);
        let (meter, of_others) = (Arc::default(), Arc::default());
        let stand_still = join_all((0..10).map(|_| of_stuck.get(&stuck, &meter, "k", None)));
        tokio::select! {
            biased;
            _ = stand_still => panic!("they never end"),
            read = of_other.get(&other, &of_others, "k", None) => assert_eq!(read, Ok(None)),
        }
    }

    #[tokio::test]
    async fn the_wait_for_a_turn_is_not_the_calls_own_time_and_ends() {
        let (reads, source) = (StateReads::default(), Arc::new(Counting::default()));
        let stuck = Policy { timeout: Duration::from_millis(2), ..of("stuck") };
        let state = reads.of("stuck", source);
        let (first, late) = (Arc::default(), Arc::<Meter>::default());
        let stand_still = join_all((0..MAX_STATE_READS_EACH).map(|_| state.get(&stuck, &first, "k", None)));
        tokio::select! {
            biased;
            _ = stand_still => panic!("they never end"),
            refused = state.get(&stuck, &late, "k", None) => {
                let why = refused.unwrap_err();
                assert!(why.contains("2 of one group") && why.contains("`concurrency` of group stuck"), "{why}");
            }
        }
        assert!(late.held() >= stuck.timeout * limits::MAX_HELD_TIMEOUTS, "{:?}", late.held());
        assert!(!late.is_held());
    }
}
