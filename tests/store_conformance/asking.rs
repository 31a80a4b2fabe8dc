//! Rerun requests: the one way to run a delivery again.

use std::collections::BTreeSet;
use std::time::Duration;

use courier::store::{AskedLately, ClaimRequest, DeliveryKey, GiveUp, PositionId, StoreError};
use courier_core::message::{Attempts, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::Database;
use super::owner::{GROUP, Owner, at, failed, handled, record, reopened, request, retrying, waiting};

const NEVER: Timestamp = Timestamp(i64::MAX / 2);

pub async fn an_open_delivery_that_is_asked_for_is_due(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![retrying(0, 1, Some(NEVER)), waiting(1)]).await;
    let before = store.ping().await.unwrap();
    store.ask(&owner.key(0)).await.unwrap();
    store.ask(&owner.key(1)).await.unwrap();
    let open = owner.claim_again().await.open.clone();
    assert!(open[0].next_attempt_at.is_some_and(|at| at < NEVER), "the retry is due");
    assert!(open[0].asked_at.is_some_and(|at| at >= before));
    assert_eq!(
        (open[0].state, open[0].attempts),
        (State::HandleFail, Attempts { invoked: 1, used: 0 }),
        "all its attempts are before it"
    );
    assert_eq!((open[1].state, open[1].next_attempt_at), (State::Committed, None), "what waits still waits its turn");
    assert!(open[1].asked_at > open[0].asked_at);
}

pub async fn a_held_delivery_that_is_asked_for_runs(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![retrying(0, 1, None)]).await;
    assert_eq!(owner.totals().await, (0, 0, 0, 1, 0, 0));
    store.ask(&owner.key(0)).await.unwrap();
    let open = &owner.claim_again().await.open[0];
    assert!(!open.held && open.next_attempt_at.is_some());
    assert_eq!(owner.totals().await, (0, 0, 1, 0, 0, 0));
}

pub async fn a_handled_delivery_that_is_asked_for_is_open_again(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![handled(0), handled(1), handled(2)]).await;
    store.ask(&owner.key(1)).await.unwrap();
    assert_eq!(owner.totals().await, (1, 0, 0, 0, 2, 0));
    let row = owner.delivery(1).await.unwrap();
    assert_eq!((row.state, row.settled_at, row.number, row.counted), (State::Committed, None, 1, 0));
    assert!(row.next_attempt_at.is_some());
    let attempts = owner.attempts(1).await;
    assert_eq!(attempts.len(), 1, "its one attempt is not forgotten with its final row");
    assert_eq!((attempts[0].number, attempts[0].verdict, attempts[0].counted), (1, Verdict::Success, true));
    assert_eq!((attempts[0].started_at, attempts[0].finished_at), (at(1), at(1)));

    let claimed = owner.claim_again().await;
    assert_eq!((claimed.next, claimed.open.len()), (Offset(3), 1), "below the position, and yet to be run");
    let read = store.open_records(owner.claimed.position, &[Offset(1)]).await.unwrap();
    assert!(read[0].as_ref().is_some_and(|open| open.record.is_none()), "its record is in Kafka");
    owner.settle(3, vec![reopened(handled(1), 2)]).await;
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 3, 0));
    let numbers: Vec<_> = owner.attempts(1).await.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2]);
}

pub async fn a_failed_delivery_that_is_asked_for_ends_again(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![failed(0), failed(1)]).await;
    store.ask(&owner.key(0)).await.unwrap();
    assert_eq!(owner.totals().await, (0, 0, 1, 0, 0, 1));
    let row = owner.delivery(0).await.unwrap();
    assert_eq!((row.state, row.settled_at), (State::HandleFail, None), "it shows as failed until its next outcome");
    assert!(row.next_attempt_at.is_some(), "and that it is not final");
    let read = store.open_records(owner.claimed.position, &[Offset(0)]).await.unwrap();
    assert_eq!(read[0].as_ref().and_then(|open| open.record.clone()), Some(record(0)));
    let mut again = reopened(failed(0), 2);
    again.attempts[0].number = 2;
    owner.settle(2, vec![again]).await;
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 0, 2));
    let attempts = owner.attempts(0).await;
    assert_eq!(attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(attempts[0].log.as_deref(), Some("log of attempt 1"), "the attempt that was kept is the one shown");
    assert_eq!(owner.delivery(0).await.unwrap().record, Some(record(0)));
}

pub async fn what_cannot_be_asked_for_says_why(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(5, vec![handled(0)]).await;
    assert!(matches!(store.ask(&owner.key(5)).await, Err(StoreError::Conflict(_))), "on its first flight");
    assert!(matches!(store.ask(&owner.key(3)).await, Err(StoreError::NotFound(_))), "never was a delivery");
    let nowhere = DeliveryKey { position: PositionId(987_654_321), offset: Offset(0) };
    assert!(matches!(store.ask(&nowhere).await, Err(StoreError::NotFound(_))));
    let anew = ClaimRequest { topic_id: "topic-2".into(), ..request(owner.writer, GROUP, 0) };
    store.claim(&anew).await.unwrap();
    assert!(matches!(store.ask(&owner.key(0)).await, Err(StoreError::Conflict(_))), "its log is gone");
    assert_eq!(owner.delivery(0).await.map(|row| row.state), Some(State::Handled));
}

/// An owner reads rerun requests by time, a page at a time.
pub async fn wishes_are_read_in_order_and_none_is_passed_over(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(30, (0..30).map(handled).collect()).await;
    let other = Owner::of(&store, owner.writer, GROUP, 1).await;
    let keys: Vec<_> = (0..30).rev().map(|offset| owner.key(offset)).collect();
    let lately = Duration::from_secs(60);
    assert_eq!(store.asked_lately(lately).await.unwrap(), AskedLately::default());
    for result in futures::future::join_all(keys.iter().map(|key| store.ask(key))).await {
        result.unwrap();
    }
    let positions = [other.claimed.position, owner.claimed.position];
    let (mut since, mut seen) = (Timestamp(0), Vec::new());
    loop {
        let page = store.asked(&positions, since, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        assert!(page.is_sorted_by_key(|row| row.asked_at), "oldest first");
        since = last.asked_at.expect("an asked row says when");
        seen.extend(page.iter().map(|row| row.offset.0));
    }
    assert_eq!(seen.len(), 30);
    assert_eq!(store.asked_lately(lately).await.unwrap(), AskedLately { rows: 30, newest: Some(since) });
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (0..30).collect());
    assert!(store.asked(&[other.claimed.position], Timestamp(0), 7).await.unwrap().is_empty());
}

/// A rerun is requested while an attempt runs: its outcome must not hide the
/// request from an owner that reads by time.
pub async fn a_wish_survives_the_outcome_of_a_running_attempt(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![retrying(0, 1, Some(NEVER))]).await;
    store.ask(&owner.key(0)).await.unwrap();
    owner.settle(1, vec![retrying(0, 2, Some(NEVER))]).await;
    let asked = store.asked(&[owner.claimed.position], Timestamp(0), 10).await.unwrap();
    assert_eq!(asked.iter().map(|row| (row.offset, row.attempts.invoked)).collect::<Vec<_>>(), [(Offset(0), 2)]);
}

/// The mark of a given-up delivery is found by its owner, now or at the next claim,
/// and changes nothing else.
pub async fn what_is_given_up_is_marked_for_its_owner(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![retrying(0, 1, None), waiting(1), retrying(2, 1, Some(NEVER))]).await;
    let word = |reason: &str, dead_letter| GiveUp { reason: reason.to_owned(), dead_letter };
    store.give_up(&owner.key(0), &word("entered\u{0} by hand", true)).await.unwrap();
    store.give_up(&owner.key(1), &word("a double", false)).await.unwrap();
    let asked = store.asked(&[owner.claimed.position], Timestamp(0), 10).await.unwrap();
    let marks: Vec<_> = asked.iter().map(|row| (row.offset.0, row.give_up.clone())).collect();
    assert_eq!(marks, [(0, Some(word("entered\u{fffd} by hand", true))), (1, Some(word("a double", false)))]);
    assert_eq!(owner.totals().await, (1, 0, 1, 1, 0, 0), "nothing ends but by its owner");
    let open = owner.claim_again().await.open.clone();
    assert_eq!(open.iter().map(|row| row.give_up.is_some()).collect::<Vec<_>>(), [true, true, false]);
    assert!(open[0].held, "it shows as held until it ends");
    let read = store.open_records(owner.claimed.position, &[Offset(0)]).await.unwrap();
    let read = read[0].as_ref().expect("the row is there");
    assert_eq!((read.row.give_up.as_ref().map(|word| word.dead_letter), &read.record), (Some(true), &Some(record(0))));
    let page = store.open_page(owner.claimed.position, Offset(-1), 10).await.unwrap();
    assert_eq!(page.iter().filter(|row| row.give_up.is_some()).count(), 2);

    // The outcome of an attempt that ran meanwhile leaves the mark.
    owner.settle(3, vec![retrying(0, 2, Some(NEVER))]).await;
    assert!(owner.claim_again().await.open[0].give_up.is_some());
    // A rerun request removes the mark.
    store.ask(&owner.key(0)).await.unwrap();
    let open = owner.claim_again().await.open.clone();
    assert!(open[0].give_up.is_none() && open[1].give_up.is_some());

    let mut ended = reopened(failed(1), 0);
    (ended.verdict, ended.attempts, ended.started_at) = (Some(Verdict::GivenUp), Vec::new(), None);
    owner.settle(3, vec![ended]).await;
    let row = owner.delivery(1).await.unwrap();
    assert_eq!((row.state, row.verdict, row.number), (State::HandleFail, Some(Verdict::GivenUp), 0));
    assert!(owner.attempts(1).await.is_empty());
}

pub async fn what_cannot_be_given_up_says_why(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(5, vec![handled(0), retrying(1, 1, None)]).await;
    let word = GiveUp { reason: "no".to_owned(), dead_letter: false };
    assert!(matches!(store.give_up(&owner.key(0), &word).await, Err(StoreError::Conflict(_))), "final");
    assert!(matches!(store.give_up(&owner.key(5), &word).await, Err(StoreError::Conflict(_))), "on its first flight");
    assert!(matches!(store.give_up(&owner.key(3), &word).await, Err(StoreError::NotFound(_))), "never was a delivery");
    assert!(owner.claim_again().await.open[0].give_up.is_none());
}
