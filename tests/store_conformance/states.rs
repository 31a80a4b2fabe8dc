//! The states of a delivery: the transitions that the store makes and refuses.

use courier::store::{Becomes, OutcomeRow};
use courier_core::message::{Attempts, Timestamp};
use courier_core::status::State;

use super::Database;
use super::owner::{Owner, at, failed, handled, reopened, retrying, waiting};

const LATER: Timestamp = Timestamp(i64::MAX / 2);

/// The state of a delivery, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// COMMITTED: in its first attempt, without a row.
    Flying,
    /// COMMITTED: parked behind its lane's head.
    Parked,
    /// PUSH_FAIL: it could not run.
    PushedBack,
    /// HANDLE_FAIL, and it is tried again.
    Retrying,
    /// HANDLE_FAIL for good.
    Failed,
    /// HANDLED.
    Handled,
}

const STANDS: [Stand; 6] =
    [Stand::Flying, Stand::Parked, Stand::PushedBack, Stand::Retrying, Stand::Failed, Stand::Handled];

impl Stand {
    fn state(self) -> State {
        match self {
            Self::Flying | Self::Parked => State::Committed,
            Self::PushedBack => State::PushFail,
            Self::Retrying | Self::Failed => State::HandleFail,
            Self::Handled => State::Handled,
        }
    }

    fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Handled)
    }

    /// The outcome that leads to this state from the first attempt.
    fn outcome(self, offset: i64) -> Option<OutcomeRow> {
        Some(match self {
            Self::Flying => return None,
            Self::Parked => waiting(offset),
            Self::PushedBack => pushed_back(waiting(offset)),
            Self::Retrying => retrying(offset, 1, Some(LATER)),
            Self::Failed => failed(offset),
            Self::Handled => handled(offset),
        })
    }
}

fn pushed_back(mut outcome: OutcomeRow) -> OutcomeRow {
    let record = match outcome.to {
        Becomes::Open { record, .. } | Becomes::Final { record, .. } => record,
        Becomes::InHandledSet { .. } => None,
    };
    outcome.to = Becomes::Open { state: State::PushFail, next_attempt_at: Some(LATER), held: false, record };
    outcome
}

/// An outcome by which a delivery is in `state`, even if no delivery could be.
fn becoming(state: State, offset: i64, had_row: bool) -> Vec<OutcomeRow> {
    let open = Becomes::Open { state, next_attempt_at: Some(LATER), held: false, record: None };
    let ended = Becomes::Final { state, settled_at: at(offset), record: None };
    let plain = OutcomeRow { had_row, attempts_so_far: Attempts { invoked: 2, used: 0 }, ..waiting(offset) };
    match state {
        State::Handled => vec![OutcomeRow { to: ended, ..plain }],
        State::HandleFail => vec![OutcomeRow { to: open, ..plain.clone() }, OutcomeRow { to: ended, ..plain }],
        _ => vec![OutcomeRow { to: open, ..plain }],
    }
}

/// A settle makes every allowed transition and refuses every other. A final state
/// changes only when a person requests it.
pub async fn every_arrow_is_taken_or_refused(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut offset = 0;
    let (mut taken, mut refused) = (Vec::new(), 0);
    for stand in STANDS {
        for to in State::ALL {
            for variant in 0..becoming(to, 0, false).len() {
                offset += 1;
                if let Some(outcome) = stand.outcome(offset) {
                    owner.settle(0, vec![outcome]).await;
                }
                let had_row = stand != Stand::Flying && !stand.is_final();
                let outcome = becoming(to, offset, had_row).swap_remove(variant);
                let part = owner.part(0, vec![outcome]);
                let result = owner.try_settle(&[part]).await;
                let parks = stand == Stand::Flying && to == State::Committed;
                let may = !stand.is_final() && (parks || stand.state().delivery_may_become(to));
                assert_eq!(result.is_ok(), may, "{stand:?} to {to}: {result:?}");
                let seen = owner.delivery(offset).await.map(|row| row.state);
                if may {
                    assert_eq!(seen, Some(to), "{stand:?} to {to}");
                    taken.push((stand.state(), to));
                } else {
                    let before = (stand != Stand::Flying).then_some(stand.state());
                    assert_eq!(seen, before, "{stand:?} to {to} is refused and changes nothing");
                    refused += 1;
                }
            }
        }
    }
    // A person's request: the only way out of a final state.
    for (stand, to) in [(Stand::Handled, State::Committed), (Stand::Failed, State::HandleFail)] {
        offset += 1;
        owner.settle(0, stand.outcome(offset).into_iter().collect()).await;
        store.ask(&owner.key(offset)).await.unwrap();
        let row = owner.delivery(offset).await.unwrap();
        assert_eq!((row.state, row.settled_at, row.next_attempt_at.is_some()), (to, None, true));
        assert!(stand.state().delivery_may_become(to));
        taken.push((stand.state(), to));
        owner.claim_again().await;
        owner.settle(0, vec![reopened(handled(offset), 2)]).await;
    }
    for from in State::ALL {
        for to in State::ALL {
            let may = from.delivery_may_become(to);
            assert!(!may || taken.contains(&(from, to)), "the arrow {from} to {to} was not taken");
        }
    }
    assert_eq!(refused, 19, "and nothing else is");
}
