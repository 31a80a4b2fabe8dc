//! Handled sets: deliveries that were HANDLED at the first attempt and have a bit
//! in place of a row.

use courier::store::handled_sets::WINDOW;
use courier::store::redrive::{ItemAsk, NewRedrive, RedriveWish, ReplayRange, ReplayRecord};
use courier::store::seek::SeekMove;
use courier::store::{DeliveryFilter, DeliveryKey, GiveUp, HandledAt, OutcomeRow, StoreError};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::owner::{
    GROUP, LEASE, Owner, RECORD_TIME, TOPIC, at, failed, handled, key_of, reopened, retrying, unlisted, waiting,
};

const LATER: Timestamp = Timestamp(i64::MAX / 2);

/// When and where these offsets were handled, by the owner's set.
async fn told(owner: &Owner, offsets: impl IntoIterator<Item = i64>) -> Vec<Option<HandledAt>> {
    let keys: Vec<DeliveryKey> = offsets.into_iter().map(|offset| owner.key(offset)).collect();
    owner.store.handled_at(&keys).await.expect("a look-up succeeds")
}

/// The offsets below `end` that are in the owner's set.
async fn in_set(owner: &Owner, end: i64) -> Vec<i64> {
    let told = told(owner, 0..end).await;
    (0..end).zip(told).filter_map(|(offset, found)| found.map(|_| offset)).collect()
}

pub async fn what_is_handled_at_once_has_a_bit_and_no_row(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    assert!(store.groups_with_sets(None).await.unwrap().is_empty());
    owner.settle(3, vec![unlisted(0), unlisted(1), failed(2), unlisted(4), unlisted(7)]).await;
    assert_eq!(in_set(&owner, 10).await, [0, 1, 4, 7]);
    assert_eq!(owner.listed(&Default::default(), 10).await, [2], "only the failed one has a row");
    let found = told(&owner, [4]).await.remove(0).unwrap();
    assert_eq!((found.node.as_deref(), found.version.as_deref()), (Some("host-1"), Some(super::owner::VERSION)));
    assert!(found.from <= at(4) && at(5) <= found.to, "its time lies in its window: {found:?}");
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 4, 1));
    assert_eq!(store.groups_with_sets(None).await.unwrap(), [GROUP]);
    let of = async |topic: &str| store.groups_with_sets(Some(&[topic.to_owned()])).await.unwrap();
    assert_eq!(of(TOPIC).await, [GROUP]);
    assert!(of("of-nobody").await.is_empty(), "who sees other topics alone hears nothing of the group");
    let nobody = DeliveryKey { position: courier::store::PositionId(987_654), offset: Offset(1) };
    assert_eq!(store.handled_at(&[nobody]).await.unwrap(), [None]);
}

/// Issue 21: the set is written in each settle's transaction, also above the
/// position, so that nothing settled runs again after a crash.
pub async fn a_claim_learns_what_the_sets_hold_above_the_position(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![unlisted(0), unlisted(1), retrying(3, 1, Some(LATER)), unlisted(5), handled(6)]).await;
    // Far apart, and each in its own settle.
    owner.settle(2, vec![unlisted(4), unlisted(70_000)]).await;
    owner.settle(2, vec![waiting(13), unlisted(200_000)]).await;
    let claimed = owner.claim_again().await;
    let settled: Vec<i64> = claimed.settled.iter().map(|offset| offset.0).collect();
    assert_eq!(settled, [4, 5, 6, 70_000, 200_000]);
    let open: Vec<i64> = claimed.open.iter().map(|row| row.offset.0).collect();
    assert_eq!(open, [3, 13], "an open row is none of them");
    owner.settle(14, vec![unlisted(2)]).await;
    let claimed = owner.claim_again().await;
    let settled: Vec<i64> = claimed.settled.iter().map(|offset| offset.0).collect();
    assert_eq!(settled, [70_000, 200_000], "what lies below the position is not told");
}

pub async fn nothing_of_a_settle_that_failed_is_in_a_set(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![unlisted(0), waiting(3)]).await;
    // A bit for an open row is a fault of the owner.
    let wrong = owner.part(5, vec![unlisted(1), unlisted(3)]);
    assert!(matches!(owner.try_settle(&[wrong]).await, Err(StoreError::Bug(_))));
    assert_eq!(in_set(&owner, 10).await, [0]);
    let retried = OutcomeRow { had_row: true, ..unlisted(3) };
    let wrong = owner.part(5, vec![retried]);
    assert!(matches!(owner.try_settle(&[wrong]).await, Err(StoreError::Bug(_))), "a retried one keeps its row");
    // A fenced owner's set is not written either.
    let stale = owner.part(5, vec![unlisted(1)]);
    owner.claim_again().await;
    assert_eq!(owner.try_settle(&[stale]).await.unwrap().stale, [0]);
    assert_eq!(in_set(&owner, 10).await, [0]);
    assert_eq!(owner.totals().await.4, 1);
}

pub async fn segments_of_a_minute_that_is_over_are_joined(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    for offset in 0..60 {
        let mut settled = vec![unlisted(2 * offset + 1)];
        settled.extend((offset > 0).then(|| unlisted(2 * offset)));
        owner.settle(0, settled).await;
    }
    let before = told(&owner, 0..121).await;
    let claimed = owner.claim_again().await.settled.clone();
    let mut rounds = 0;
    while store.compact_sets().await.unwrap() {
        rounds += 1;
        assert!(rounds < 10, "it comes to an end");
    }
    assert!(rounds > 0);
    assert_eq!(owner.claim_again().await.settled, claimed);
    for (offset, (before, after)) in before.into_iter().zip(told(&owner, 0..121).await).enumerate() {
        assert_eq!(before.is_some(), after.is_some(), "offset {offset}");
        let Some((before, after)) = before.zip(after) else { continue };
        assert_eq!((after.node, after.version), (before.node, before.version));
        assert!(after.from <= before.from && before.to <= after.to, "a window only grows");
        assert!(after.to.since(after.from) < 2 * WINDOW);
    }
    database.execute("DELETE FROM handled_set WHERE first_offset <> 1").await;
    assert_eq!(in_set(&owner, 121).await.len(), 119, "one segment holds them all");
    // A delivery settled now belongs to a minute that is not over.
    let now = store.ping().await.unwrap();
    let mut young = unlisted(500);
    young.to = courier::store::Becomes::InHandledSet { settled_at: now };
    young.started_at = Some(now);
    owner.settle(0, vec![young]).await;
    assert!(!store.compact_sets().await.unwrap());
}

/// After a seek backward, the records in between are received as if for the first
/// time.
pub async fn a_seek_backward_takes_bits_back(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(8, (0..8).map(unlisted).chain([unlisted(9)]).collect()).await;
    let position = owner.claimed.position;
    assert_eq!(store.seek(&[SeekMove { position, to: Offset(3) }], "a seek").await.unwrap(), [Offset(8)]);
    let claimed = owner.claim_again().await;
    assert_eq!((claimed.next, claimed.open.len()), (Offset(3), 0));
    assert_eq!(claimed.settled, [Offset(9)], "what was ahead of the position stays settled");
    assert_eq!(in_set(&owner, 12).await, [0, 1, 2, 9]);
    assert_eq!(owner.totals().await.4, 4);
    owner.settle(10, (3..9).map(unlisted).collect()).await;
    assert_eq!(in_set(&owner, 12).await, (0..10).collect::<Vec<_>>());
    assert_eq!(owner.totals().await.4, 10);
}

/// What was replayed has a row and a bit. A seek back subtracted it twice, so that the sum
/// went below nothing, and with SQLite no group's totals could be read.
pub async fn a_seek_over_what_was_replayed_counts_it_once(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![unlisted(0)]).await;
    replay(&owner, 0).await;
    assert_eq!(owner.totals().await, (1, 0, 0, 0, 0, 0), "what runs again is handled no more");
    let seek = [SeekMove { position: owner.claimed.position, to: Offset(0) }];
    store.seek(&seek, "a seek").await.unwrap();
    assert_eq!(owner.totals().await.4, 0);
    owner.claim_again().await;
    owner.settle(1, vec![reopened(handled(0), 2)]).await;
    assert_eq!(owner.totals().await.4, 1);
    store.seek(&seek, "a seek").await.unwrap();
    assert_eq!(owner.totals().await.4, 0);
}

/// Plans and runs the replay of one offset.
async fn replay(owner: &Owner, offset: i64) {
    let range = ReplayRange { position: owner.claimed.position, from: Offset(offset), to: Offset(offset + 1) };
    let plan = NewRedrive {
        filter: DeliveryFilter { group: Some(GROUP.to_owned()), ..DeliveryFilter::default() },
        ranges: Some(vec![range]),
        asked_for: "{}".to_owned(),
        rate: 500,
        by: "ann".to_owned(),
    };
    let planned = owner.store.plan_redrive(&plan).await.unwrap();
    owner.store.wish_redrive(planned.id, RedriveWish::Run).await.unwrap();
    let lease = owner.store.lease_redrives(owner.writer, 4, LEASE).await.unwrap().remove(0);
    let record = ReplayRecord {
        message_id: format!("message-{offset}"),
        key: Some(key_of(offset)),
        type_name: "OrderCreated".to_owned(),
        record_time: RECORD_TIME,
        node: "host-1".to_owned(),
    };
    assert_eq!(owner.store.ask_items(&lease, &[(1, ItemAsk::Replay(record))]).await.unwrap(), 1);
}

pub async fn retention_forgets_sets_below_their_position(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(4, (0..4).map(unlisted).collect()).await;
    owner.settle(4, vec![unlisted(6)]).await;
    let now = store.ping().await.unwrap();
    let mut young = unlisted(7);
    (young.to, young.started_at) = (courier::store::Becomes::InHandledSet { settled_at: now }, Some(now));
    owner.settle(4, vec![young]).await;
    while store.prune(std::time::Duration::from_secs(3_600)).await.unwrap() {}
    assert_eq!(in_set(&owner, 10).await, [6, 7], "a claim learns from what is above the position");
    owner.settle(8, vec![unlisted(4), unlisted(5)]).await;
    while store.prune(std::time::Duration::from_secs(3_600)).await.unwrap() {}
    assert_eq!(in_set(&owner, 10).await, [7], "what is young stays");
    assert_eq!(owner.totals().await.4, 8, "what was handled stays counted");
}

/// A delivery handled without a row runs again by its time, and counts once.
pub async fn a_redrive_takes_what_has_only_a_bit(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(5, vec![unlisted(0), unlisted(1), handled(2), failed(3), unlisted(4), unlisted(8)]).await;
    let filter = DeliveryFilter {
        group: Some(GROUP.to_owned()),
        state: Some(State::Handled),
        from: Some(at(0)),
        ..DeliveryFilter::default()
    };
    let plan = |filter: &DeliveryFilter| NewRedrive {
        filter: filter.clone(),
        ranges: None,
        asked_for: "{}".to_owned(),
        rate: 500,
        by: "ann".to_owned(),
    };
    let matched = async |filter: DeliveryFilter| store.plan_redrive(&plan(&filter)).await.unwrap().matched;
    assert_eq!(matched(filter.clone()).await, 4, "those with and without a row, below the position");
    assert_eq!(matched(DeliveryFilter { from: Some(at(1_000)), ..filter.clone() }).await, 0);
    assert_eq!(matched(DeliveryFilter { key: Some(key_of(2)), ..filter.clone() }).await, 1, "no key is kept");
    let redrive = store.plan_redrive(&plan(&filter)).await.unwrap();
    store.wish_redrive(redrive.id, RedriveWish::Run).await.unwrap();
    let lease = store.lease_redrives(owner.writer, 4, LEASE).await.unwrap().remove(0);
    let due = store.due_items(lease.id, 10).await.unwrap();
    let asks: Vec<_> = due
        .iter()
        .map(|item| {
            let record = ReplayRecord {
                message_id: format!("message-{}", item.key.offset),
                key: Some(key_of(item.key.offset.0)),
                type_name: "OrderCreated".to_owned(),
                record_time: RECORD_TIME,
                node: "host-1".to_owned(),
            };
            (item.seq, if item.has_row { ItemAsk::Run } else { ItemAsk::Replay(record) })
        })
        .collect();
    assert_eq!(store.ask_items(&lease, &asks).await.unwrap(), 4);
    assert_eq!(owner.totals().await, (4, 0, 0, 0, 1, 1), "what runs again is handled no more; offset 8 still is");
    let claimed = owner.claim_again().await;
    let open: Vec<_> = claimed.open.iter().map(|row| (row.offset.0, row.attempts.invoked)).collect();
    assert_eq!(open, [(0, 1), (1, 1), (2, 1), (4, 1)], "their invocations go on");
    owner.settle(5, [0, 1, 2, 4].map(|offset| reopened(handled(offset), 2)).to_vec()).await;
    let attempts = owner.attempts(1).await;
    assert_eq!(attempts.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(attempts[0].version.as_deref(), Some(super::owner::VERSION));
    assert_eq!(owner.totals().await.4, 5);
    assert_eq!(owner.delivery(1).await.map(|row| row.number), Some(2), "a row goes before its bit");
    store.collect_items(&lease).await.unwrap();
    assert_eq!(store.redrive(redrive.id).await.unwrap().unwrap().handled, 4);
    assert_eq!(matched(filter).await, 4, "each once");
}

/// A delivery whose key was not kept has no lane to run in.
pub async fn what_has_only_a_bit_is_not_asked_for_by_its_id(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![unlisted(0), unlisted(7)]).await;
    let give_up = GiveUp { reason: "obsolete".to_owned(), dead_letter: false };
    for offset in [0, 7] {
        let asked = store.ask(&owner.key(offset)).await;
        assert!(matches!(&asked, Err(StoreError::Conflict(why)) if why.contains("from_offset")), "{asked:?}");
        let given_up = store.give_up(&owner.key(offset), &give_up).await;
        assert!(matches!(given_up, Err(StoreError::Conflict(_))), "{given_up:?}");
    }
    assert!(matches!(store.ask(&owner.key(5)).await, Err(StoreError::Conflict(_))), "its first flight is not over");
}
