//! Redrives: plans, their states, and the steps in which they are done.

use std::time::Duration;

use courier::store::redrive::{
    ItemAsk, ItemState, MAX_UNFINISHED, MAX_UNFINISHED_EACH, NewRedrive, PLAN_KEPT, RedriveFilter, RedriveItemRow,
    RedriveLease, RedriveRow, RedriveState, RedriveWish, ReplayRange, ReplayRecord,
};
use courier::store::{ClaimRequest, DeliveryFilter, Page, SharedStore, StoreError};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, LEASE, Owner, TOPIC, at, failed, handled, join, key_of, reopened, request, retrying};

const LATER: Timestamp = Timestamp(i64::MAX / 2);

fn of(filter: DeliveryFilter) -> NewRedrive {
    let filter = DeliveryFilter { group: Some(GROUP.to_owned()), ..filter };
    NewRedrive { filter, ranges: None, asked_for: "{}".to_owned(), rate: 500, by: "ann".to_owned() }
}

async fn plan(store: &SharedStore, filter: DeliveryFilter) -> RedriveRow {
    store.plan_redrive(&of(filter)).await.expect("a plan is made")
}

async fn items(store: &SharedStore, row: &RedriveRow) -> Vec<RedriveItemRow> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.redrive_items(row.id, &Page { cursor, limit: 3 }).await.expect("a list succeeds");
        items.extend(page.items);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return items,
        }
    }
}

async fn offsets(store: &SharedStore, filter: DeliveryFilter) -> Vec<i64> {
    let row = plan(store, filter).await;
    let items = items(store, &row).await;
    assert_eq!(row.matched, items.len() as u64);
    items.iter().map(|item| item.key.offset.0).collect()
}

async fn run(store: &SharedStore, owner: &Owner, row: &RedriveRow) -> RedriveLease {
    store.wish_redrive(row.id, RedriveWish::Run).await.expect("it runs");
    lease(store, owner).await
}

async fn lease(store: &SharedStore, owner: &Owner) -> RedriveLease {
    let mut leases = store.lease_redrives(owner.writer, 4, LEASE).await.expect("a lease is had");
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

/// Requests the next items.
async fn ask(store: &SharedStore, lease: &RedriveLease, limit: u32) -> u64 {
    let due = store.due_items(lease.id, limit).await.expect("items are told");
    let asks: Vec<_> = due.iter().map(|item| (item.seq, ItemAsk::Run)).collect();
    store.ask_items(lease, &asks).await.expect("they are asked for")
}

pub async fn a_plan_is_what_matches_now(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(8, vec![failed(0), handled(1), failed(2), retrying(3, 1, Some(LATER)), handled(4), failed(12)]).await;
    let mut other = Owner::of(&store, join(&store, "host-2").await, "audit", 0).await;
    other.settle(1, vec![failed(0)]).await;

    assert_eq!(offsets(&store, DeliveryFilter::default()).await, [0, 2, 3, 12], "what failed, oldest first");
    let state = |state| DeliveryFilter { state: Some(state), ..DeliveryFilter::default() };
    assert_eq!(offsets(&store, state(State::HandleFail)).await, [0, 2, 3, 12]);
    assert_eq!(offsets(&store, state(State::Handled)).await, [1, 4]);
    assert_eq!(offsets(&store, state(State::PushFail)).await, [0; 0]);
    let filters = [
        (DeliveryFilter { key: Some(key_of(2)), ..DeliveryFilter::default() }, vec![2, 12]),
        (DeliveryFilter { topic: Some(TOPIC.to_owned()), ..DeliveryFilter::default() }, vec![0, 2, 3, 12]),
        (DeliveryFilter { topic: Some("other".to_owned()), ..DeliveryFilter::default() }, vec![]),
        (DeliveryFilter { type_name: Some("OrderCreated".to_owned()), ..DeliveryFilter::default() }, vec![0, 2, 3, 12]),
        (DeliveryFilter { type_name: Some("X".to_owned()), ..DeliveryFilter::default() }, vec![]),
        (
            DeliveryFilter { fingerprint: Some("feedfacefeedface".to_owned()), ..DeliveryFilter::default() },
            vec![0, 2, 3, 12],
        ),
        (DeliveryFilter { message_id: Some("message-2".to_owned()), ..DeliveryFilter::default() }, vec![2]),
        (DeliveryFilter { from: Some(at(2)), to: Some(at(4)), ..DeliveryFilter::default() }, vec![2, 3]),
    ];
    for (filter, expected) in filters {
        assert_eq!(offsets(&store, filter.clone()).await, expected, "{filter:?}");
    }

    let row = plan(&store, DeliveryFilter::default()).await;
    assert_eq!((row.state, row.group.as_str(), row.by.as_str(), row.rate), (RedriveState::Planned, GROUP, "ann", 500));
    owner.settle(20, vec![failed(13)]).await;
    assert_eq!(items(&store, &row).await.len(), 4, "a plan is a snapshot");
    let item = &items(&store, &row).await[1];
    assert_eq!((item.message_id.as_deref(), item.topic.as_str(), item.partition), (Some("message-2"), TOPIC, 0));
    assert_eq!((item.state, item.asked_at), (ItemState::Waiting, None));
    assert!(store.lease_redrives(owner.writer, 4, LEASE).await.unwrap().is_empty(), "a plan alone is no work");
}

pub async fn a_redrive_goes_through_its_states_and_no_others(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![failed(0), failed(1)]).await;
    let row = plan(&store, DeliveryFilter::default()).await;
    let wish = async |wish| store.wish_redrive(row.id, wish).await.map(|row| row.state);
    assert!(matches!(wish(RedriveWish::Pause).await, Err(StoreError::Conflict(_))), "it does not run");
    assert_eq!(wish(RedriveWish::Run).await.unwrap(), RedriveState::Running);
    assert_eq!(wish(RedriveWish::Run).await.unwrap(), RedriveState::Running, "twice is once");
    assert_eq!(wish(RedriveWish::Pause).await.unwrap(), RedriveState::Paused);
    assert!(store.lease_redrives(owner.writer, 4, LEASE).await.unwrap().is_empty(), "nothing is under way");
    assert_eq!(wish(RedriveWish::Run).await.unwrap(), RedriveState::Running);
    let lease = lease(&store, &owner).await;
    assert_eq!(ask(&store, &lease, 10).await, 2);
    owner.claim_again().await;
    let again = |offset| reopened(handled(offset), 2);
    owner.settle(2, vec![again(0), again(1)]).await;
    store.collect_items(&lease).await.unwrap();
    let done = store.redrive(row.id).await.unwrap().unwrap();
    assert_eq!((done.state, done.handled, done.running), (RedriveState::Done, 2, 0));
    assert!(done.started_at.is_some() && done.finished_at >= done.started_at);
    for refused in [RedriveWish::Run, RedriveWish::Pause, RedriveWish::Cancel] {
        assert!(matches!(wish(refused).await, Err(StoreError::Conflict(_))), "{refused:?} when it is done");
    }
    let nothing = plan(&store, DeliveryFilter { topic: Some("none".to_owned()), ..DeliveryFilter::default() }).await;
    let lease = run(&store, &owner, &nothing).await;
    store.collect_items(&lease).await.unwrap();
    assert_eq!(store.redrive(nothing.id).await.unwrap().map(|row| row.state), Some(RedriveState::Done));
}

pub async fn items_are_asked_for_under_the_lease_and_end_with_their_deliveries(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner
        .settle(6, vec![failed(0), failed(1), failed(2), handled(3), retrying(4, 1, Some(LATER)), retrying(5, 1, None)])
        .await;
    let row = plan(&store, DeliveryFilter::default()).await;
    let first = run(&store, &owner, &row).await;
    assert_eq!(ask(&store, &first, 2).await, 2);
    let open = owner.claim_again().await.open.clone();
    let due: Vec<_> = open.iter().filter(|row| row.asked_at.is_some()).map(|row| row.offset.0).collect();
    assert_eq!(due, [0, 1]);
    assert!(open.iter().take(2).all(|row| row.state == State::HandleFail && row.next_attempt_at == row.asked_at));
    assert_eq!(owner.totals().await, (0, 0, 3, 1, 1, 1));
    assert_eq!(ask(&store, &first, 10).await, 3);
    assert_eq!(ask(&store, &first, 10).await, 0, "nothing is asked for twice");
    store.collect_items(&first).await.unwrap();
    assert_eq!(store.redrive(row.id).await.unwrap().map(|row| row.running), Some(5));

    let mut bad = reopened(failed(1), 2);
    bad.attempts[0].number = 2;
    let mut held = retrying(5, 2, None);
    held.attempts[0].number = 2;
    owner.claim_again().await;
    owner.settle(6, vec![reopened(handled(0), 2), bad, reopened(handled(2), 2), reopened(handled(4), 2), held]).await;
    store.collect_items(&first).await.unwrap();
    let results: Vec<_> = items(&store, &row).await.iter().map(|item| (item.key.offset.0, item.state)).collect();
    use ItemState::{HandleFail, Handled};
    assert_eq!(results, [(0, Handled), (1, HandleFail), (2, Handled), (4, Handled), (5, HandleFail)]);
    let items = items(&store, &row).await;
    assert_eq!(items[1].reason.as_deref(), Some("attempt 1 failed"));
    assert!(items.iter().all(|item| item.asked_at.is_some() && item.finished_at.is_some()));
    let row = store.redrive(row.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.handled, row.failed, row.skipped), (RedriveState::Done, 3, 2, 0));
    assert_eq!(owner.delivery(3).await.map(|row| row.number), Some(1), "what was not planned is left alone");
    let numbers: Vec<_> = owner.attempts(1).await.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2]);
}

pub async fn what_changed_since_the_plan_is_skipped_with_a_reason(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(4, vec![failed(0), failed(1), failed(2), retrying(3, 1, Some(LATER))]).await;
    let row = plan(&store, DeliveryFilter::default()).await;
    store.ask(&owner.key(0)).await.unwrap();
    store.ask(&owner.key(1)).await.unwrap();
    owner.claim_again().await;
    owner.settle(4, vec![reopened(handled(1), 2), reopened(handled(3), 2)]).await;
    let lease = run(&store, &owner, &row).await;
    assert_eq!(ask(&store, &lease, 10).await, 1);
    let seen: Vec<_> = items(&store, &row).await.iter().map(|item| (item.state, item.reason.is_some())).collect();
    let skipped = (ItemState::Skipped, true);
    assert_eq!(seen, [skipped, skipped, (ItemState::Running, false), skipped]);

    let second = plan(&store, DeliveryFilter { state: Some(State::Handled), ..DeliveryFilter::default() }).await;
    let anew = ClaimRequest { topic_id: "topic-2".into(), ..request(owner.writer, GROUP, 0) };
    store.claim(&anew).await.unwrap();
    store.wish_redrive(second.id, RedriveWish::Run).await.unwrap();
    let leases = store.lease_redrives(owner.writer, 4, LEASE).await.unwrap();
    let lease = leases.iter().find(|lease| lease.id == second.id).unwrap();
    assert_eq!(ask(&store, lease, 10).await, 0);
    let items = items(&store, &second).await;
    assert!(items.iter().all(|item| item.reason.as_deref().is_some_and(|why| why.contains("anew"))), "{items:?}");
}

pub async fn a_cancelled_redrive_skips_what_waits_and_finishes_what_runs(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(5, (0..5).map(failed).collect()).await;
    let row = plan(&store, DeliveryFilter::default()).await;
    let first = run(&store, &owner, &row).await;
    assert_eq!(ask(&store, &first, 2).await, 2);
    let cancelled = store.wish_redrive(row.id, RedriveWish::Cancel).await.unwrap();
    assert_eq!((cancelled.state, cancelled.skipped, cancelled.running), (RedriveState::Cancelled, 3, 2));
    assert_eq!(ask(&store, &first, 10).await, 0);
    let second = lease(&store, &owner).await;
    assert!(!second.asks && second.epoch == first.epoch, "what runs is still followed");
    owner.claim_again().await;
    owner.settle(5, vec![reopened(handled(0), 2), reopened(handled(1), 2)]).await;
    store.collect_items(&second).await.unwrap();
    let row = store.redrive(row.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.handled, row.skipped, row.running), (RedriveState::Cancelled, 2, 3, 0));
    let waiting = items(&store, &row).await;
    assert!(waiting[4].reason.as_deref().is_some_and(|why| why.contains("cancelled")), "{waiting:?}");
    assert!(store.lease_redrives(owner.writer, 4, LEASE).await.unwrap().is_empty());
    // Another plan takes the rest.
    assert_eq!(offsets(&store, DeliveryFilter::default()).await, [2, 3, 4]);
}

/// Issue 17: four slow redrives of one group kept the redrives of all others waiting
/// until they ended.
pub async fn redrives_of_one_group_keep_no_other_group_waiting(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, (0..3).map(failed).collect()).await;
    let mut other = Owner::of(&store, owner.writer, "audit", 0).await;
    other.settle(1, vec![failed(0)]).await;
    let mut slow = Vec::new();
    for offset in 0..3 {
        let row =
            plan(&store, DeliveryFilter { message_id: Some(format!("message-{offset}")), ..DeliveryFilter::default() })
                .await;
        store.wish_redrive(row.id, RedriveWish::Run).await.unwrap();
        slow.push(row.id);
    }
    let leased = async || {
        let leases = store.lease_redrives(owner.writer, 2, LEASE).await.unwrap();
        let mut ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable_by_key(|id| id.0);
        ids
    };
    assert_eq!(leased().await, slow[..2], "while it is alone it has all places");
    let of_audit = DeliveryFilter { group: Some("audit".to_owned()), ..DeliveryFilter::default() };
    let late = store.plan_redrive(&NewRedrive { filter: of_audit, ..of(DeliveryFilter::default()) }).await.unwrap();
    store.wish_redrive(late.id, RedriveWish::Run).await.unwrap();
    assert_eq!(leased().await, [slow[0], late.id]);
}

pub async fn a_redrive_of_a_dead_host_is_taken_over_where_it_was(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(4, (0..4).map(failed).collect()).await;
    let row = plan(&store, DeliveryFilter::default()).await;
    store.wish_redrive(row.id, RedriveWish::Run).await.unwrap();
    let first = store.lease_redrives(owner.writer, 4, LEASE).await.unwrap().remove(0);
    assert_eq!(ask(&store, &first, 1).await, 1);
    let heir = join(&store, "host-2").await;
    assert!(store.lease_redrives(heir, 4, LEASE).await.unwrap().is_empty(), "its holder lives");
    // It renews its lease once more, and then never again.
    let last = store.lease_redrives(owner.writer, 4, Duration::from_millis(100)).await.unwrap().remove(0);
    assert_eq!(last.epoch, first.epoch);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = store.lease_redrives(heir, 4, LEASE).await.unwrap().remove(0);
    assert_eq!((second.id, second.epoch, second.running), (row.id, first.epoch + 1, 1));
    assert_eq!(ask(&store, &first, 10).await, 0, "an older lease asks for nothing");
    assert_eq!(ask(&store, &second, 10).await, 3);
    owner.claim_again().await;
    owner.settle(4, (0..4).map(|offset| reopened(handled(offset), 2)).collect()).await;
    store.collect_items(&first).await.unwrap();
    assert_eq!(store.redrive(row.id).await.unwrap().map(|row| row.running), Some(4), "nor does it write results");
    store.collect_items(&second).await.unwrap();
    let row = store.redrive(row.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.handled, row.node.as_deref()), (RedriveState::Done, 4, Some("host-2")));
}

pub async fn what_waits_for_a_retry_is_told_from_what_is_under_way(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![failed(0), failed(1), failed(2)]).await;
    let row = plan(&store, DeliveryFilter::default()).await;
    let lease = run(&store, &owner, &row).await;
    assert_eq!(ask(&store, &lease, 10).await, 3);
    assert_eq!(store.retrying_items(row.id).await.unwrap(), 0, "all of them are to run now");
    owner.claim_again().await;
    owner.settle(3, vec![retrying(0, 2, Some(LATER)), reopened(handled(1), 2)]).await;
    assert_eq!(store.retrying_items(row.id).await.unwrap(), 1);
    store.collect_items(&lease).await.unwrap();
    assert_eq!(store.redrive(row.id).await.unwrap().map(|row| (row.running, row.handled)), Some((2, 1)));
}

pub async fn a_replay_opens_what_has_no_row_and_skips_holes(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(10, vec![handled(2), failed(3), retrying(4, 1, Some(LATER))]).await;
    let position = owner.claimed.position;
    let ranges = vec![ReplayRange { position, from: Offset(1), to: Offset(6) }];
    let row = store.plan_redrive(&NewRedrive { ranges: Some(ranges), ..of(DeliveryFilter::default()) }).await.unwrap();
    assert_eq!((row.matched, row.replay), (5, true));
    let lease = run(&store, &owner, &row).await;
    let due = store.due_items(row.id, 10).await.unwrap();
    let seen: Vec<_> = due.iter().map(|item| (item.key.offset.0, item.has_row, item.has_record)).collect();
    assert_eq!(seen, [(1, false, false), (2, true, false), (3, true, true), (4, true, true), (5, false, false)]);
    let record = ReplayRecord {
        message_id: "message\0-1".to_owned(),
        key: Some(key_of(1)),
        type_name: "OrderCreated".to_owned(),
        record_time: at(1),
        node: "host-9".to_owned(),
    };
    let asks: Vec<_> = due
        .iter()
        .map(|item| match item.key.offset.0 {
            1 => (item.seq, ItemAsk::Replay(record.clone())),
            5 => (item.seq, ItemAsk::Skip("kafka has no record at this offset")),
            _ => (item.seq, ItemAsk::Run),
        })
        .collect();
    assert_eq!(store.ask_items(&lease, &asks).await.unwrap(), 3);
    let seen: Vec<_> = items(&store, &row).await.iter().map(|item| item.state).collect();
    use ItemState::{Running, Skipped};
    assert_eq!(seen, [Running, Running, Running, Skipped, Skipped], "what waits for a retry runs anyway");
    let claimed = owner.claim_again().await;
    assert_eq!(claimed.next, Offset(10), "a replay never moves the position");
    let opened = &claimed.open[0];
    assert_eq!((opened.offset, opened.state, opened.attempts.invoked), (Offset(1), State::Committed, 0));
    assert!(opened.next_attempt_at.is_some() && opened.key == Some(key_of(1)));
    assert_eq!(owner.totals().await, (2, 0, 2, 0, 0, 0));
    let mut first = handled(1);
    first.had_row = true;
    owner.settle(10, vec![first, reopened(handled(2), 2), reopened(handled(3), 2)]).await;
    store.collect_items(&lease).await.unwrap();
    let row = store.redrive(row.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.handled, row.skipped), (RedriveState::Done, 3, 2));
    assert_eq!(owner.totals().await, (0, 0, 1, 0, 3, 0));
}

pub async fn redrives_are_listed_newest_first_and_forgotten_in_time(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![failed(0), failed(1)]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(plan(&store, DeliveryFilter::default()).await.id);
    }
    let listed = async |groups: Option<&[String]>| {
        let filter = RedriveFilter { groups: groups.map(<[String]>::to_vec), topics: None };
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.redrives(&filter, &Page { cursor, limit: 2 }).await.unwrap();
            seen.extend(page.items.iter().map(|row| row.id));
            match page.next {
                Some(next) => cursor = Some(next),
                None => return seen,
            }
        }
    };
    ids.reverse();
    assert_eq!(listed(None).await, ids);
    assert_eq!(listed(Some(&[GROUP.to_owned()])).await, ids);
    assert!(listed(Some(&["audit".to_owned()])).await.is_empty());
    assert!(matches!(
        store.redrives(&RedriveFilter::default(), &Page { cursor: Some("x".into()), limit: 1 }).await,
        Err(StoreError::NotFound(_))
    ));
    let dropped = plan(&store, DeliveryFilter::default()).await.id;
    store.wish_redrive(dropped, RedriveWish::Cancel).await.unwrap();
    assert_eq!(listed(None).await, ids, "a plan that was dropped before it ran is no redrive");
    assert!(store.redrive(dropped).await.unwrap().is_some(), "who knows its number finds it");
    store.wish_redrive(ids[0], RedriveWish::Run).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    while store.prune(Duration::from_millis(1)).await.unwrap() {}
    while store.prune(Duration::from_millis(1)).await.unwrap() {}
    assert_eq!(listed(None).await, [ids[0]], "one that runs stays");
}

/// Issue 17: the plans that one operator made and never ran filled the store with 1.3
/// million items.
pub async fn a_group_has_a_bounded_number_of_redrives_that_did_not_end(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![failed(0), failed(1)]).await;
    let mut other = Owner::of(&store, owner.writer, "audit", 0).await;
    other.settle(1, vec![failed(0)]).await;
    let mut rows = Vec::new();
    for _ in 0..MAX_UNFINISHED_EACH {
        rows.push(plan(&store, DeliveryFilter::default()).await);
    }
    let refused = async || match store.plan_redrive(&of(DeliveryFilter::default())).await {
        Err(StoreError::Conflict(why)) => {
            assert!(why.contains("has 20 redrives of this token") && why.contains("cancel"), "{why}")
        }
        other => panic!("{other:?}"),
    };
    refused().await;
    store.wish_redrive(rows[0].id, RedriveWish::Run).await.unwrap();
    refused().await;
    store.wish_redrive(rows[0].id, RedriveWish::Pause).await.unwrap();
    refused().await;
    let of_audit = DeliveryFilter { group: Some("audit".to_owned()), ..DeliveryFilter::default() };
    store.plan_redrive(&NewRedrive { filter: of_audit, ..of(DeliveryFilter::default()) }).await.unwrap();

    let dropped = store.wish_redrive(rows[1].id, RedriveWish::Cancel).await.unwrap();
    assert_eq!((dropped.state, dropped.matched, dropped.skipped), (RedriveState::Cancelled, 2, 2));
    assert!(items(&store, &dropped).await.is_empty(), "plans that are made and dropped leave no items");
    plan(&store, DeliveryFilter::default()).await;
    refused().await;
}

/// The operators of two tenants of one group shared its 20 plans, so that one of them
/// could leave the other none.
pub async fn no_token_has_all_the_redrives_of_a_group(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![failed(0)]).await;
    let by = |token: &str| NewRedrive { by: token.to_owned(), ..of(DeliveryFilter::default()) };
    for at in 0..MAX_UNFINISHED {
        let token = if at < MAX_UNFINISHED_EACH { "alpha" } else { "bravo" };
        store.plan_redrive(&by(token)).await.unwrap();
    }
    for (token, told) in [("alpha", "has 20 redrives of this token"), ("carol", "has 40 redrives that")] {
        let refused = store.plan_redrive(&by(token)).await;
        assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains(told)), "{refused:?}");
    }
}

pub async fn a_plan_that_nobody_runs_is_forgotten_after_a_day(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![failed(0), failed(1)]).await;
    let mut rows = Vec::new();
    for _ in 0..5 {
        rows.push(plan(&store, DeliveryFilter::default()).await);
    }
    let [fresh, old, dropped, running, paused] = rows.try_into().expect("five plans");
    store.wish_redrive(dropped.id, RedriveWish::Cancel).await.unwrap();
    store.wish_redrive(running.id, RedriveWish::Run).await.unwrap();
    store.wish_redrive(paused.id, RedriveWish::Run).await.unwrap();
    store.wish_redrive(paused.id, RedriveWish::Pause).await.unwrap();
    for row in [&old, &dropped, &running, &paused] {
        planned_a_day_ago(&database, row).await;
    }
    let retention = 30 * PLAN_KEPT;
    while store.prune(retention).await.unwrap() {}
    while store.prune(retention).await.unwrap() {}
    for row in [&old, &dropped] {
        assert_eq!(store.redrive(row.id).await.unwrap(), None);
        assert!(items(&store, row).await.is_empty());
        assert!(matches!(store.wish_redrive(row.id, RedriveWish::Run).await, Err(StoreError::NotFound(_))));
    }
    for row in [&fresh, &running, &paused] {
        assert!(store.redrive(row.id).await.unwrap().is_some());
        assert_eq!(items(&store, row).await.len(), 2);
    }
}

async fn planned_a_day_ago(database: &Database, row: &RedriveRow) {
    use sqlx::Connection as _;
    let age = i64::try_from(PLAN_KEPT.as_micros()).unwrap() + 1;
    if database.url.starts_with("sqlite:") {
        let mut raw = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
        let earlier = sqlx::query("UPDATE redrive SET created_at = created_at - ?2 WHERE id = ?1");
        earlier.bind(row.id.0).bind(age).execute(&mut raw).await.unwrap();
    } else {
        let mut raw = sqlx::PgConnection::connect(&database.url).await.unwrap();
        let earlier = sqlx::query("UPDATE redrive SET created_at = created_at - $2 WHERE id = $1");
        earlier.bind(row.id.0).bind(age).execute(&mut raw).await.unwrap();
    }
}
