//! Queries of the console: sessions, minutes, groups of failures, parked lanes,
//! dead letters.

use std::time::Duration;

use bytes::Bytes;
use courier::store::sessions::MAX_SESSIONS_EACH;
use courier::store::{
    Becomes, DeadLetterFilter, FailureFilter, LeftOut, LetterFate, MinuteRow, NewOutbound, PaceRow, Page, RelayResult,
    Relayed, SHARDS,
};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, LEASE, Owner, at, emission, failed, handled, join, reopened, retrying, waiting};

const SOON: Timestamp = Timestamp(i64::MAX / 2);

fn page(limit: u32) -> Page {
    Page { cursor: None, limit }
}

pub async fn a_session_lasts_until_it_ends(database: Database) {
    let store = database.open().await;
    let lifetime = Duration::from_secs(60);
    store.open_session(&[1; 32], "ops", &[2; 32], lifetime).await.unwrap();
    store.open_session(&[3; 32], "ops", &[4; 32], Duration::ZERO).await.unwrap();
    let session = database.open().await.session(&[1; 32]).await.unwrap().expect("another host knows it");
    assert_eq!((session.token.as_str(), &session.bound[..]), ("ops", &[2; 32][..]));
    assert_eq!(session.expires_at.since(session.created_at), lifetime);
    assert_eq!(store.session(&[3; 32]).await.unwrap(), None, "it has ended");
    assert_eq!(store.session(&[5; 32]).await.unwrap(), None);
    assert!(store.close_session(&[1; 32]).await.unwrap());
    assert!(!store.close_session(&[1; 32]).await.unwrap());
    assert_eq!(store.session(&[1; 32]).await.unwrap(), None);
}

pub async fn the_oldest_sessions_of_a_token_end_past_its_bound(database: Database) {
    let store = database.open().await;
    let hash = |number: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        hash
    };
    let lifetime = Duration::from_secs(60);
    store.open_session(&hash(u32::MAX), "shop", &[2; 32], lifetime).await.unwrap();
    for number in 0..=MAX_SESSIONS_EACH {
        store.open_session(&hash(number), "ops", &[2; 32], lifetime).await.unwrap();
    }
    assert_eq!(store.session(&hash(0)).await.unwrap(), None, "the oldest has ended");
    for number in [1, MAX_SESSIONS_EACH, u32::MAX] {
        assert!(store.session(&hash(number)).await.unwrap().is_some(), "{number} lasts");
    }
}

pub async fn minutes_are_summed_over_processes_and_written_again_without_harm(database: Database) {
    let store = database.open().await;
    let (one, two) = (join(&store, "host-1").await, join(&store, "host-2").await);
    let row = |minute: i64, group: &str, handled: u64| MinuteRow {
        minute: Timestamp(minute),
        group: group.into(),
        handled,
        published: 1,
        ..MinuteRow::default()
    };
    let pace = |buckets: &[u64]| PaceRow { group: GROUP.into(), buckets: buckets.to_vec() };
    store.put_minutes(one, &[row(60, GROUP, 5), row(60, "", 0), row(0, GROUP, 9)], &[pace(&[1, 2])]).await.unwrap();
    for _ in 0..2 {
        store.put_minutes(one, &[row(60, GROUP, 7)], &[pace(&[1, 3])]).await.unwrap();
    }
    store.put_minutes(two, &[row(60, GROUP, 1)], &[pace(&[4])]).await.unwrap();
    let minutes = store.minutes(Timestamp(60)).await.unwrap();
    let shown: Vec<_> = minutes.iter().map(|row| (row.group.as_str(), row.handled, row.published)).collect();
    assert_eq!(shown, [("", 0, 1), (GROUP, 8, 2)]);
    let mut paces: Vec<_> = store.paces(Timestamp(0)).await.unwrap().into_iter().map(|pace| pace.buckets).collect();
    paces.sort();
    assert_eq!(paces, [vec![1, 3], vec![4]]);
    assert!(store.paces(SOON).await.unwrap().is_empty());
    store.prune(Duration::from_secs(3_600)).await.unwrap();
    assert!(store.minutes(Timestamp(0)).await.unwrap().is_empty(), "minutes are for some hours");
}

pub async fn failures_are_put_together_by_fingerprint(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut other = failed(3);
    (other.fingerprint, other.reason) = (Some("another".into()), Some("another".into()));
    // What waits behind a head has not failed, also when the head waits for its plugin.
    let mut behind = waiting(24);
    let Becomes::Open { state, .. } = &mut behind.to else { unreachable!() };
    *state = State::PushFail;
    let rows = vec![failed(0), handled(1), failed(2), other, retrying(4, 1, Some(SOON)), waiting(14), behind];
    owner.settle(5, rows).await;
    let found = store.failures(&FailureFilter::default()).await.unwrap();
    assert!(!found.truncated);
    let shown: Vec<_> = found.items.iter().map(|one| (one.count, one.open, one.example.offset)).collect();
    assert_eq!(shown, [(3, 1, Offset(4)), (1, 0, Offset(3))]);
    assert_eq!((found.items[0].first_at, found.items[0].last_at), (at(0), at(4)));
    assert_eq!(found.items[0].reason.as_deref(), Some("attempt 1 failed"));
    assert_eq!(found.items[0].versions.len(), 1);
    let count = async |filter: FailureFilter| {
        store.failures(&filter).await.unwrap().items.iter().map(|one| one.count).collect::<Vec<_>>()
    };
    assert_eq!(count(FailureFilter { from: Some(at(3)), ..FailureFilter::default() }).await, [1, 1]);
    assert_eq!(count(FailureFilter { to: Some(at(3)), ..FailureFilter::default() }).await, [2]);
    assert_eq!(count(FailureFilter { group: Some("none".into()), ..FailureFilter::default() }).await, [0u64; 0]);
    assert_eq!(count(FailureFilter { groups: Some(vec![GROUP.into()]), ..FailureFilter::default() }).await, [3, 1]);
    assert_eq!(count(FailureFilter { topics: Some(vec!["none".into()]), ..FailureFilter::default() }).await, [0u64; 0]);
}

/// Issue 17: the topics were filtered after the limit, so that a neighbour's failures in
/// a shared group hid those that a token may see.
pub async fn failures_of_another_topic_hide_none(database: Database) {
    const NEWER: i64 = 5_001;
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![failed(0)]).await;
    let mut neighbour = Owner::on_topic(&store, owner.writer, GROUP, "refund").await;
    for first in (1..NEWER).step_by(1_000) {
        let past = (first + 1_000).min(NEWER);
        neighbour.settle(past, (first..past).map(failed).collect()).await;
    }
    let found = async |filter: FailureFilter| {
        let found = store.failures(&filter).await.unwrap();
        (found.items.iter().map(|one| one.count).sum::<u64>(), found.truncated)
    };
    assert!(found(FailureFilter::default()).await.1, "there are more than are read");
    let seen = FailureFilter { topics: Some(vec![owner.topic.clone()]), ..FailureFilter::default() };
    assert_eq!(found(seen).await, (1, false));
    let asked = FailureFilter { topic: Some(owner.topic.clone()), ..FailureFilter::default() };
    assert_eq!(found(asked).await, (1, false));
    let other = FailureFilter { type_name: Some("none".into()), ..FailureFilter::default() };
    assert_eq!(found(other).await, (0, false));
    let other = FailureFilter { fingerprint: Some("none".into()), ..FailureFilter::default() };
    assert_eq!(found(other).await, (0, false));
}

pub async fn parked_lanes_are_listed_by_their_heads(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    // Ten keys in turn: 0, 10 and 20 are one lane, and so are 1 and 11.
    let mut rows = vec![retrying(0, 1, Some(SOON)), retrying(1, 1, None), waiting(10), waiting(11), waiting(20)];
    let mut bare = retrying(2, 1, Some(SOON));
    bare.key = None;
    rows.push(bare);
    owner.settle(3, rows).await;
    let first = store.parked(GROUP, None, &page(2)).await.unwrap();
    let shown: Vec<_> = first.items.iter().map(|lane| (lane.head.offset, lane.waiting, lane.held)).collect();
    assert_eq!(shown, [(Offset(0), 2, false), (Offset(1), 1, true)]);
    assert_eq!(first.items[0].record_key, Some(Bytes::from("key-0")));
    assert_eq!((first.items[0].state, first.items[0].next_attempt_at), (State::HandleFail, Some(SOON)));
    let next = store.parked(GROUP, None, &Page { cursor: first.next, limit: 2 }).await.unwrap();
    assert_eq!((next.items.len(), next.items[0].waiting, next.next), (1, 0, None));
    assert!(store.parked("none", None, &page(2)).await.unwrap().items.is_empty());
    assert!(store.parked(GROUP, None, &Page { cursor: Some("x".into()), limit: 2 }).await.is_err());
}

pub async fn a_dead_letter_is_known_with_its_outcome(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let letter = |offset: i64| NewOutbound {
        message_id: format!("message-{offset}"),
        topic: "dlq.order.stock".into(),
        type_name: "OrderCreated".into(),
        source: "shop".into(),
        key: None,
        record: Bytes::from_static(b"record"),
        shard: 0,
        held_for: None,
        listed: false,
        group: Some("stock".to_owned()),
    };
    let given_up = |offset: i64| {
        let mut row = failed(offset);
        row.outbound.push(letter(offset));
        row
    };
    let mut publishes = handled(3);
    publishes.outbound.push(letter(3));
    owner.settle(4, vec![given_up(0), failed(1), given_up(2), publishes]).await;
    let first = store.dead_letters(&DeadLetterFilter::default(), &page(1)).await.unwrap();
    assert_eq!((first.items[0].key.offset, first.items[0].at), (Offset(2), at(2)));
    assert_eq!((first.items[0].topic.as_str(), first.items[0].source_topic.as_str()), ("dlq.order.stock", "order"));
    assert_eq!(first.items[0].reason.as_deref(), Some("attempt 1 failed"));
    let rest = Page { cursor: first.next, limit: 10 };
    let rest = store.dead_letters(&DeadLetterFilter::default(), &rest).await.unwrap();
    assert_eq!((rest.items.len(), rest.items[0].key.offset, rest.next), (1, Offset(0), None));
    // Run again and failed again: two letters were sent.
    store.ask(&owner.key(0)).await.unwrap();
    let mut again = reopened(given_up(0), 2);
    again.attempts[0].number = 2;
    owner.settle(4, vec![again]).await;
    let of_group = DeadLetterFilter { group: Some(GROUP.into()), ..DeadLetterFilter::default() };
    assert_eq!(store.dead_letters(&of_group, &page(10)).await.unwrap().items.len(), 3);
    // Run again and handled: the letter shows that.
    store.ask(&owner.key(2)).await.unwrap();
    owner.settle(4, vec![reopened(handled(2), 2)]).await;
    let letters = store.dead_letters(&of_group, &page(10)).await.unwrap().items;
    let handled_at: Vec<_> = letters.iter().map(|letter| (letter.key.offset.0, letter.handled_at)).collect();
    assert!(handled_at.contains(&(2, Some(at(2)))), "{handled_at:?}");
    assert!(handled_at.iter().all(|(offset, handled)| *offset == 2 || handled.is_none()), "{handled_at:?}");
    for (handled, wanted) in [(true, vec![2]), (false, vec![0, 0])] {
        let filter = DeadLetterFilter { handled: Some(handled), ..DeadLetterFilter::default() };
        let found = store.dead_letters(&filter, &page(10)).await.unwrap().items;
        assert_eq!(found.iter().map(|letter| letter.key.offset.0).collect::<Vec<_>>(), wanted, "handled: {handled}");
    }
    let elsewhere = DeadLetterFilter { topic: Some("other".into()), ..DeadLetterFilter::default() };
    assert!(store.dead_letters(&elsewhere, &page(10)).await.unwrap().items.is_empty());
}

/// Issue 16: letters of two messages with one id, of different sources, shared
/// the fate that is shown.
pub async fn letters_of_one_id_and_two_sources_have_fates_of_their_own(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
    let given_up = |offset: i64, source: &str| {
        let mut row = failed(offset);
        row.message_id = "1".to_owned();
        let letter = NewOutbound {
            topic: "dlq.order.stock".into(),
            source: source.to_owned(),
            listed: false,
            group: Some(GROUP.to_owned()),
            ..emission("1", None, 0)
        };
        row.outbound.push(letter);
        row
    };
    owner.settle(3, vec![given_up(0, "/eu"), given_up(1, "/us"), given_up(2, "")]).await;
    let fates = async || {
        let mut letters = store.dead_letters(&DeadLetterFilter::default(), &page(10)).await.unwrap().items;
        letters.sort_by_key(|letter| letter.key.offset);
        letters.into_iter().map(|letter| letter.fate).collect::<Vec<_>>()
    };
    assert_eq!(fates().await, [LetterFate::Waiting; 3]);
    let mut results = Vec::new();
    for row in store.outbound(&shards, 10, &LeftOut::default()).await.unwrap() {
        let result = match row.source.as_str() {
            "/eu" => RelayResult::Taken { partition: 0, offset: Offset(9) },
            "/us" => RelayResult::Undelivered { code: "too_large", reason: "too large".to_owned() },
            _ => continue,
        };
        results.push(Relayed { id: row.id, shard: row.shard, result });
    }
    assert_eq!(results.len(), 2);
    store.relayed(&shards, &results).await.unwrap();
    assert_eq!(fates().await, [LetterFate::Sent, LetterFate::Undelivered, LetterFate::Waiting]);
}
