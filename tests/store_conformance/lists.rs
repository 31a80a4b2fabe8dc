//! Lists, look-ups, retention and pauses.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use courier::store::{Becomes, DeliveryFilter, OutcomeRow, Page};
use courier_core::message::{Attempts, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::Database;
use super::owner::{
    GROUP, Owner, RECORD_TIME, at, attempt, failed, handled, join, key_of, record, reopened, retrying, waiting,
};

fn any() -> DeliveryFilter {
    DeliveryFilter::default()
}

/// A final outcome that is settled at a given time.
fn settled_at(outcome: OutcomeRow, time: Timestamp) -> OutcomeRow {
    let to = match outcome.to {
        Becomes::Final { state, record, .. } => Becomes::Final { state, settled_at: time, record },
        open => open,
    };
    OutcomeRow { to, ..outcome }
}

pub async fn pages_go_through_ties_without_loss(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let mut all = Vec::new();
    for partition in 0..2 {
        let mut owner = Owner::of(&store, writer, GROUP, partition).await;
        // Everything at one time, over days of the record and both tables.
        let outcomes = (0..40).map(|offset| {
            let outcome = if offset % 4 == 0 { waiting(offset) } else { settled_at(handled(offset), at(0)) };
            let record_time = Timestamp(RECORD_TIME.0 + (offset % 3) * 86_400_000_000);
            OutcomeRow { received_at: at(0), record_time, ..outcome }
        });
        owner.settle(40, outcomes.collect()).await;
        all.extend((0..40).map(|offset| (owner.claimed.position, Offset(offset))));
    }
    for filter in [any(), DeliveryFilter { group: Some(GROUP.into()), ..any() }] {
        for limit in [1, 7, 80, 1_000] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = store.deliveries(&filter, &Page { cursor, limit }).await.unwrap();
                assert!(page.items.len() <= limit as usize);
                seen.extend(page.items.iter().map(|row| (row.key.position, row.key.offset)));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), all.len(), "with pages of {limit}");
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all.iter().copied().collect());
        }
    }
}

pub async fn open_and_final_deliveries_are_one_list(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(6, vec![handled(0), waiting(1), failed(2), retrying(3, 1, None), handled(4), waiting(5)]).await;
    for limit in [1, 4, 100] {
        assert_eq!(owner.listed(&any(), limit).await, [5, 4, 3, 2, 1, 0], "newest first");
    }
    let page = store.deliveries(&any(), &Page { cursor: None, limit: 3 }).await.unwrap();
    assert!(page.next.is_some() && !page.truncated);
    let states: Vec<_> = page.items.iter().map(|row| (row.state, row.settled_at)).collect();
    assert_eq!(states, [(State::Committed, None), (State::Handled, Some(at(4))), (State::HandleFail, None)]);
    let wrong = Page { cursor: Some("no such cursor".into()), limit: 3 };
    assert!(store.deliveries(&any(), &wrong).await.is_err_and(|error| !error.is_transient()));
}

pub async fn filters_find_what_they_name(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let mut owner = Owner::of(&store, writer, GROUP, 0).await;
    let mut typed = handled(6);
    typed.type_name = "OrderPaid".to_owned();
    typed.key = None;
    let outcomes =
        vec![handled(0), waiting(1), failed(2), retrying(3, 1, None), handled(4), failed(5), typed, handled(10)];
    owner.settle(11, outcomes).await;
    let mut other = Owner::of(&store, writer, "audit", 0).await;
    other.settle(1, vec![OutcomeRow { fingerprint: Some("other".into()), ..failed(0) }]).await;

    let stock = || DeliveryFilter { group: Some(GROUP.to_owned()), ..any() };
    let state = |state| DeliveryFilter { state: Some(state), ..stock() };
    let alike = || Some("feedfacefeedface".to_owned());
    let cases: [(DeliveryFilter, &[i64]); 20] = [
        (stock(), &[10, 6, 5, 4, 3, 2, 1, 0]),
        (state(State::Handled), &[10, 6, 4, 0]),
        (state(State::HandleFail), &[5, 3, 2]),
        (state(State::Committed), &[1]),
        (state(State::PushFail), &[]),
        (state(State::SendFail), &[]),
        (DeliveryFilter { state: Some(State::HandleFail), ..any() }, &[5, 3, 2, 0]),
        (DeliveryFilter { fingerprint: alike(), ..stock() }, &[5, 3, 2]),
        (DeliveryFilter { fingerprint: alike(), ..any() }, &[5, 3, 2]),
        (DeliveryFilter { fingerprint: alike(), state: Some(State::Handled), ..any() }, &[]),
        (DeliveryFilter { key: Some(key_of(0)), ..stock() }, &[10, 0]),
        (DeliveryFilter { key: Some(key_of(0)), ..any() }, &[10, 0, 0]),
        (DeliveryFilter { key: Some(key_of(0)), state: Some(State::HandleFail), ..any() }, &[0]),
        (DeliveryFilter { message_id: Some("message-3".into()), ..any() }, &[3]),
        (DeliveryFilter { message_id: Some("message-0".into()), group: Some("audit".into()), ..any() }, &[0]),
        (DeliveryFilter { type_name: Some("OrderPaid".into()), ..any() }, &[6]),
        (DeliveryFilter { topic: Some("another".into()), ..any() }, &[]),
        (DeliveryFilter { from: Some(at(3)), to: Some(at(6)), ..stock() }, &[5, 4, 3]),
        (DeliveryFilter { groups: Some(vec!["audit".into(), "none".into()]), ..any() }, &[0]),
        (DeliveryFilter { groups: Some(vec![]), ..any() }, &[]),
    ];
    for (filter, expected) in cases {
        for limit in [1, 2, 100] {
            let mut found = owner.listed(&filter, limit).await;
            // Two groups settled an offset 0 at one time.
            found.sort_unstable_by_key(|offset| std::cmp::Reverse(*offset));
            assert_eq!(found, expected, "{filter:?} in pages of {limit}");
        }
    }
}

pub async fn a_delivery_is_found_with_its_record(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![handled(0), failed(1), waiting(2)]).await;
    let records: Vec<_> = [owner.delivery(0).await, owner.delivery(1).await, owner.delivery(2).await]
        .into_iter()
        .map(|row| row.expect("it was settled").record)
        .collect();
    assert_eq!(records, [None, Some(record(1)), Some(record(2))]);
    assert!(owner.delivery(3).await.is_none());
    let page = store.deliveries(&any(), &Page { cursor: None, limit: 10 }).await.unwrap();
    assert!(page.items.iter().all(|row| row.record.is_none()), "a list carries no records");
}

/// More rows than one scan reads come before the rare ones. A page may then be
/// short, but following the cursors finds all of them.
pub async fn rare_rows_are_found_behind_many_others(database: Database) {
    const ROWS: i64 = 60_000;
    const BATCH: i64 = 4_000;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    for batch in 0..ROWS / BATCH {
        let outcomes = (batch * BATCH..(batch + 1) * BATCH).map(|offset| OutcomeRow {
            type_name: if offset < 3 { "Rare".to_owned() } else { "Common".to_owned() },
            ..handled(offset)
        });
        owner.settle((batch + 1) * BATCH, outcomes.collect()).await;
    }
    let filter = DeliveryFilter { group: Some(GROUP.into()), type_name: Some("Rare".into()), ..any() };
    let page = store.deliveries(&filter, &Page { cursor: None, limit: 10 }).await.unwrap();
    assert!(page.truncated || page.items.len() == 3, "what is missing is said to be missing");
    assert_eq!(owner.listed(&filter, 10).await, [2, 1, 0]);
    let common = DeliveryFilter { type_name: Some("Common".into()), ..filter };
    let page = store.deliveries(&common, &Page { cursor: None, limit: 10 }).await.unwrap();
    assert!(page.items.len() == 10 && !page.truncated, "a full page is missing nothing");
}

pub async fn the_one_attempt_of_a_success_is_told(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let duplicate = OutcomeRow {
        verdict: Some(Verdict::Duplicate),
        attempts_so_far: Attempts::default(),
        started_at: None,
        version: None,
        ..handled(1)
    };
    let mut logged = handled(2);
    logged.attempts.push(attempt(&logged));
    owner.settle(5, vec![handled(0), duplicate, logged, failed(3), waiting(4)]).await;
    let keys: Vec<_> = [4, 0, 1, 2, 3, 0, 99].map(|offset| owner.key(offset)).to_vec();
    let attempts = store.attempts(&keys).await.unwrap();
    assert_eq!(attempts.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0, 1, 1, 1, 0], "in the order of the keys");
    let told = &attempts[1][0];
    assert_eq!((told.number, told.verdict, told.counted), (1, Verdict::Success, true));
    assert_eq!((told.started_at, told.finished_at, &*told.node), (at(0), at(0), "host-1"));
    assert_eq!((told.version.as_deref(), told.log.as_deref()), (Some(super::owner::VERSION), None));
    assert_eq!(attempts[3][0].log.as_deref(), Some("log of attempt 1"), "an attempt that is kept is not told twice");
    assert_eq!(attempts[4][0].reason.as_deref(), Some("attempt 1 failed"));
    assert!(store.attempts(&[]).await.unwrap().is_empty());
}

pub async fn retention_removes_the_old_and_keeps_the_open(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let now = store.ping().await.unwrap();
    let young = |offset| OutcomeRow { record_time: now, received_at: now, ..settled_at(handled(offset), now) };
    let outcomes = vec![handled(0), failed(1), waiting(2), retrying(3, 1, None), young(4), failed(5), waiting(6)];
    owner.settle(7, outcomes).await;
    owner.settle(7, vec![reopened(handled(6), 1)]).await;
    store.ask(&owner.key(5)).await.unwrap();
    let mut calls = 0;
    while store.prune(Duration::from_secs(3_600)).await.unwrap() {
        calls += 1;
        assert!(calls < 100, "retention comes to an end");
    }
    let mut left = owner.listed(&any(), 10).await;
    left.sort_unstable();
    assert_eq!(left, [2, 3, 4, 5], "what is open stays however old it is");
    assert!(owner.attempts(1).await.is_empty());
    assert_eq!(owner.attempts(3).await.len(), 1);
    assert_eq!(owner.delivery(2).await.unwrap().record, Some(record(2)));
    assert_eq!(owner.totals().await.5, 0, "what is forgotten is not failed now");
    let claimed = owner.claim_again().await;
    assert_eq!((claimed.next, claimed.open.len()), (Offset(7), 3));
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 2, "a live writer is kept");
}

pub async fn pauses_are_kept_until_they_are_lifted(database: Database) {
    let store = database.open().await;
    store.set_paused(GROUP, None).await.expect("what is not paused can be resumed");
    store.set_paused(GROUP, Some("ann: stock is\0 wrong")).await.unwrap();
    store.set_paused("audit", Some("bob")).await.unwrap();
    store.set_paused("audit", Some("bob again")).await.unwrap();
    let mut paused = store.paused().await.unwrap();
    paused.sort();
    assert_eq!(
        paused,
        [("audit".to_owned(), "bob again".to_owned()), (GROUP.to_owned(), "ann: stock is\u{fffd} wrong".to_owned())]
    );
    store.set_paused(GROUP, None).await.unwrap();
    assert_eq!(store.paused().await.unwrap().len(), 1);
}

/// A restart: everything is read from the database again, including interned names.
pub async fn a_new_opening_sees_everything(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![handled(0), retrying(1, 1, Some(at(9)))]).await;
    let seen = (owner.delivery(0).await, owner.attempts(1).await);
    drop(std::mem::replace(&mut owner.store, database.open().await));
    drop(store);
    assert_eq!((owner.delivery(0).await, owner.attempts(1).await), seen);
    assert_eq!(seen.0.and_then(|row| row.record_key), Some(Bytes::from_static(b"key-0")));
    assert_eq!(owner.claim_again().await.next, Offset(2));
    owner.settle(3, vec![handled(2), reopened(handled(1), 2)]).await;
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 3, 0));
}
