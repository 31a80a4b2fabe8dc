//! Delayed messages.

use std::time::Duration;

use bytes::Bytes;
use courier::store::{
    Accepted, DelayedFilter, Due, LeftOut, MessageFilter, MessageRow, NewMessage, Page, RelayResult, Relayed, SHARDS,
    SharedStore, StoreError,
};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::owner::{LEASE, join};
use super::sending::{due, identity, message};

const HOUR: Duration = Duration::from_secs(3_600);

/// A delayed message.
pub fn waiting(id: &str, key: Option<&'static [u8]>, due: Due) -> NewMessage {
    NewMessage { state: State::Committed, reason: None, retrying: false, due: Some(due), ..message(id, key, None) }
}

async fn all_shards(store: &SharedStore) -> Vec<(i32, i64)> {
    let writer = join(store, "host-1").await;
    store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap()
}

async fn row(store: &SharedStore, id: &str) -> MessageRow {
    store.message(id).await.unwrap().unwrap()
}

/// Waits until a message is due by the store's clock.
async fn until_due(store: &SharedStore, shards: &[(i32, i64)]) {
    while let Some(wait) = store.next_due(shards).await.unwrap().filter(|wait| !wait.is_zero()) {
        tokio::time::sleep(wait).await;
    }
}

pub async fn a_delayed_message_waits_and_is_committed(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    assert_eq!(store.next_due(&shards).await.unwrap(), None);
    let before = store.ping().await.unwrap();
    let new = waiting("m-1", Some(b"k\xff"), Due::After(HOUR));
    let answers = store.accept(std::slice::from_ref(&new)).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New]), "{answers:?}");
    let after = store.ping().await.unwrap();
    let seen = row(&store, "m-1").await;
    assert_eq!((seen.state, seen.place, seen.retrying, seen.reason.clone()), (State::Committed, None, false, None));
    assert_eq!(seen.record, new.record, "its body can be shown while it waits");
    let due_at = seen.deliver_at.unwrap();
    assert!(due_at >= before.after(HOUR), "never early");
    assert!(due_at <= after.after(HOUR + Duration::from_millis(1)), "and rounded by less than a millisecond");
    let next = store.next_due(&shards).await.unwrap().unwrap();
    assert!(next <= HOUR && next > HOUR - Duration::from_secs(60), "{next:?}");
    assert_eq!(store.move_due(&shards, None).await.unwrap().rows, 0);
    assert!(due(&store, &shards).await.is_empty() && store.topics_with_outbound().await.unwrap().is_empty());

    let answers = store.accept(&[new.clone(), NewMessage { digest: [9; 32], ..new }]).await.unwrap();
    let [Accepted::Same(again), Accepted::Other] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(**again, seen, "the first answer again");
    let listed = store.messages(&MessageFilter::default(), &Page { cursor: None, limit: 10 }).await.unwrap();
    assert_eq!(listed.items[0].deliver_at, Some(due_at));
}

pub async fn what_is_due_leaves_in_the_order_it_is_due(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    let now = store.ping().await.unwrap();
    let at = |ms: i64| Due::At(Timestamp(now.0 + ms * 1_000));
    let batch = [
        waiting("m-5", Some(b"k"), at(-10)),
        waiting("m-1", Some(b"k"), at(-5_000)),
        waiting("m-3", Some(b"k"), at(-30)),
        waiting("m-4", Some(b"k"), at(-30)),
        waiting("m-2", Some(b"k"), Due::At(Timestamp(now.0 - 31_500))),
        waiting("later", Some(b"k"), Due::After(HOUR)),
    ];
    store.accept(&batch).await.unwrap();
    assert_eq!(store.next_due(&shards).await.unwrap(), Some(Duration::ZERO));
    let moved = store.move_due(&shards, None).await.unwrap();
    assert_eq!(moved.rows, 5);
    assert!(moved.next.is_some_and(|next| next > HOUR / 2), "{moved:?}");
    assert_eq!(due(&store, &shards).await, ["m-1", "m-2", "m-3", "m-4", "m-5"]);
    assert_eq!(row(&store, "m-1").await.state, State::Committed, "it is on its way");
    assert_eq!(store.move_due(&shards, None).await.unwrap().rows, 0, "each moves once");

    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let result = RelayResult::Taken { partition: 3, offset: Offset(7) };
    store.relayed(&shards, &[Relayed { id: rows[0].id, shard: rows[0].shard, result }]).await.unwrap();
    let seen = row(&store, "m-1").await;
    assert_eq!((seen.state, seen.place), (State::Committed, Some((3, Offset(7)))));
    assert_eq!(seen.deliver_at, Some(Timestamp(now.0 - 5_000_000)), "and it is still told when it was due");
}

pub async fn nothing_is_due_early_by_the_stores_clock(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    for wait in [3, 10, 25, 60] {
        store.accept(&[waiting(&format!("m-{wait}"), None, Due::After(Duration::from_millis(wait)))]).await.unwrap();
    }
    let mut left = 4;
    while left > 0 {
        until_due(&store, &shards).await;
        left -= store.move_due(&shards, None).await.unwrap().rows;
        let now = store.ping().await.unwrap();
        for outbound in store.outbound(&shards, 10, &LeftOut::default()).await.unwrap() {
            assert!(row(&store, &outbound.message_id).await.deliver_at.unwrap() <= now, "{}", outbound.message_id);
        }
    }
}

pub async fn an_older_epoch_lets_nothing_go(database: Database) {
    let store = database.open().await;
    let first = join(&store, "host-1").await;
    let old = store.lease_shards(first, SHARDS, &[], Duration::ZERO).await.unwrap();
    store.accept(&[waiting("m-1", None, Due::At(Timestamp(0)))]).await.unwrap();
    let second = join(&store, "host-2").await;
    let shards = store.lease_shards(second, SHARDS, &[], LEASE).await.unwrap();
    assert_eq!(shards.len(), SHARDS as usize, "the leases of the first ran out");
    assert_eq!(store.next_due(&old).await.unwrap(), None);
    assert_eq!(store.move_due(&old, None).await.unwrap().rows, 0);
    assert_eq!(store.move_due(&shards, None).await.unwrap().rows, 1);
}

pub async fn a_message_that_waits_can_be_cancelled(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    let new = waiting("m\0-1", Some(b"k"), Due::After(HOUR));
    store
        .accept(&[new.clone(), waiting("m-2", None, Due::At(Timestamp(0))), message("m-3", None, None)])
        .await
        .unwrap();
    let cancelled = store.cancel(&identity("m\0-1")).await.unwrap();
    assert_eq!((cancelled.state, cancelled.retrying, cancelled.place), (State::SendFail, false, None));
    assert_eq!((cancelled.reason.as_deref(), cancelled.record.clone()), (Some("cancelled"), new.record.clone()));
    assert_eq!(store.next_due(&shards).await.unwrap(), Some(Duration::ZERO));
    assert_eq!(store.cancel(&identity("m\0-1")).await.unwrap(), cancelled, "again, it answers the same");
    assert!(matches!(&store.accept(&[new]).await.unwrap()[..], [Accepted::Same(row)] if **row == cancelled));

    store.move_due(&shards, None).await.unwrap();
    let refused = async |id: &str| match store.cancel(&identity(id)).await {
        Err(StoreError::Conflict(why)) => why,
        other => panic!("{id}: {other:?}"),
    };
    assert!(refused("m-2").await.contains("on its way"), "{}", refused("m-2").await);
    assert!(refused("m-3").await.contains("not a delayed one"));
    assert!(matches!(store.cancel(&identity("m-4")).await, Err(StoreError::NotFound(_))));
    assert_eq!(due(&store, &shards).await, ["m-3", "m-2"], "what was cancelled is not sent");

    // It would be handled before it is due.
    let resent = store.resend(&identity("m\0-1")).await;
    assert!(matches!(&resent, Err(StoreError::Conflict(why)) if why.contains("under another id")), "{resent:?}");
    assert_eq!(due(&store, &shards).await, ["m-3", "m-2"]);
}

/// A cancellation and the move exclude each other: the later one finds nothing.
pub async fn a_message_that_is_just_due_goes_or_is_cancelled(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    let shards = all_shards(&store).await;
    for round in 0..20 {
        let ids: Vec<String> = (0..10).map(|number| format!("m-{round}-{number}")).collect();
        let batch: Vec<NewMessage> = ids.iter().map(|id| waiting(id, None, Due::At(Timestamp(1)))).collect();
        store.accept(&batch).await.unwrap();
        let cancelling = async {
            let mut cancelled = Vec::new();
            for id in &ids {
                match other.cancel(&identity(id)).await {
                    Ok(_) => cancelled.push(id.clone()),
                    Err(StoreError::Conflict(why)) => assert!(why.contains("on its way"), "{why}"),
                    Err(error) => panic!("{error}"),
                }
            }
            cancelled
        };
        let (cancelled, moved) = tokio::join!(cancelling, store.move_due(&shards, None));
        let moved = moved.unwrap().rows as usize + store.move_due(&shards, None).await.unwrap().rows as usize;
        assert_eq!(cancelled.len() + moved, ids.len(), "each went or was cancelled");
        let gone = due(&store, &shards).await;
        assert!(cancelled.iter().all(|id| !gone.contains(id)), "what was cancelled did not go");
    }
}

pub async fn what_is_due_while_kafka_is_away_says_so(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    store.accept(&[waiting("m-1", None, Due::At(Timestamp(0)))]).await.unwrap();
    store.move_due(&shards, Some("kafka\0 is away")).await.unwrap();
    let seen = row(&store, "m-1").await;
    assert_eq!((seen.state, seen.retrying), (State::SendFail, true));
    assert_eq!(seen.reason.as_deref(), Some("kafka\u{fffd} is away"));
    assert_eq!(due(&store, &shards).await, ["m-1"]);
}

pub async fn many_are_moved_in_bounded_steps(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    let batch: Vec<NewMessage> = (0..3_000)
        .map(|number| {
            let mut new = waiting(&format!("m-{number:04}"), None, Due::At(Timestamp(i64::from(number) * 1_000)));
            if let Some(outbound) = &mut new.outbound {
                outbound.shard = number % 64;
            }
            new
        })
        .collect();
    store.accept(&batch).await.unwrap();
    let mut sizes = Vec::new();
    loop {
        let moved = store.move_due(&shards, None).await.unwrap();
        sizes.push(moved.rows);
        if moved.next.is_none() {
            break;
        }
    }
    assert_eq!((sizes.iter().sum::<u32>(), sizes.iter().max()), (3_000, Some(&1_000)), "{sizes:?}");
}

pub async fn delayed_messages_are_listed_by_when_they_are_due(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    let base = store.ping().await.unwrap().after(HOUR).0 / 1_000 * 1_000;
    let batch: Vec<NewMessage> = (0..25)
        .map(|number| {
            let key: Option<&'static [u8]> = if number % 2 == 0 { Some(b"even") } else { None };
            let at = Timestamp(base + (number * 7 % 25) * 1_000);
            let mut new = waiting(&format!("m-{:02}", number * 7 % 25), key, Due::At(at));
            new.topic = if number % 5 == 0 { "rare".to_owned() } else { "order".to_owned() };
            if let Some(outbound) = &mut new.outbound {
                outbound.topic.clone_from(&new.topic);
            }
            new
        })
        .collect();
    store.accept(&batch).await.unwrap();
    let listed = async |filter: DelayedFilter, limit: u32| {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.delayed(&filter, &Page { cursor, limit }).await.unwrap();
            assert!(page.items.len() <= limit as usize && !page.truncated);
            ids.extend(page.items.into_iter().map(|row| row.id[2..].parse::<i64>().unwrap()));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(listed(DelayedFilter::default(), 7).await, (0..25).collect::<Vec<_>>());
    let span = DelayedFilter {
        from: Some(Timestamp(base + 3_000)),
        to: Some(Timestamp(base + 6_000)),
        ..DelayedFilter::default()
    };
    assert_eq!(listed(span, 2).await, [3, 4, 5]);
    let rare = DelayedFilter { topic: Some("rare".to_owned()), ..DelayedFilter::default() };
    assert_eq!(listed(rare, 3).await, [0, 5, 10, 15, 20]);
    let none = DelayedFilter { topics: Some(vec!["other".to_owned()]), ..DelayedFilter::default() };
    assert!(listed(none, 3).await.is_empty());
    let even = DelayedFilter { key: Some(Bytes::from_static(b"even")), ..DelayedFilter::default() };
    assert_eq!(listed(even, 4).await.len(), 13);
    assert!(matches!(
        store.delayed(&DelayedFilter::default(), &Page { cursor: Some("x".to_owned()), limit: 1 }).await,
        Err(StoreError::NotFound(_))
    ));
    store.cancel(&identity("m-03")).await.unwrap();
    assert_eq!(listed(DelayedFilter::default(), 100).await.len(), 24);
    assert!(!shards.is_empty());
}

pub async fn retention_leaves_what_waits_alone(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    store.accept(&[waiting("m-1", None, Due::After(HOUR)), waiting("m-2", None, Due::At(Timestamp(0)))]).await.unwrap();
    store.move_due(&shards, None).await.unwrap();
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let result = RelayResult::Taken { partition: 0, offset: Offset(0) };
    store.relayed(&shards, &[Relayed { id: rows[0].id, shard: rows[0].shard, result }]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    while store.prune(Duration::from_millis(1)).await.unwrap() {}
    assert!(store.message("m-1").await.unwrap().is_some(), "it is not due yet");
    assert!(store.message("m-2").await.unwrap().is_none(), "it was sent, and is old");
}

/// Adds rows that are due in an hour or later, as the store itself would.
async fn fill(database: &Database, count: i64) {
    use sqlx::Connection as _;
    let later = jiff::Timestamp::now().as_microsecond() + 3_600_000_000;
    if database.url.starts_with("sqlite:") {
        let mut raw = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
        sqlx::query(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             INSERT INTO delayed (shard, due, message_id, topic, type_name, source, record, published_on)
             SELECT n % 64, ?2 + n * 1000, 'w-' || (?2 + n), 'order', 'T', '', x'00', 'order' FROM n",
        )
        .bind(count)
        .bind(later)
        .execute(&mut raw)
        .await
        .unwrap();
    } else {
        let mut raw = sqlx::PgConnection::connect(&database.url).await.unwrap();
        sqlx::query(
            "INSERT INTO delayed (shard, due, message_id, topic, type_name, source, record, published_on)
             SELECT n % 64, $2 + n * 1000, 'w-' || ($2::bigint + n), 'order', 'T', '', '\\x00', 'order'
             FROM generate_series(1, $1) AS n",
        )
        .bind(count)
        .bind(later)
        .execute(&mut raw)
        .await
        .unwrap();
    }
}

/// The least time in which one due message was found and moved.
async fn least(store: &SharedStore, shards: &[(i32, i64)], name: &str) -> Duration {
    let mut least = Duration::MAX;
    for number in 0..30 {
        store.accept(&[waiting(&format!("{name}-{number}"), None, Due::At(Timestamp(0)))]).await.unwrap();
        let began = std::time::Instant::now();
        assert_eq!(store.next_due(shards).await.unwrap(), Some(Duration::ZERO));
        assert_eq!(store.move_due(shards, None).await.unwrap().rows, 1);
        least = least.min(began.elapsed());
    }
    least
}

/// The least of many times, since other load only adds to it. Without the index a
/// hundred times as many rows would take a hundred times as long.
pub async fn what_is_due_costs_the_same_however_many_wait(database: Database) {
    let store = database.open().await;
    let shards = all_shards(&store).await;
    fill(&database, 1_000).await;
    let few = least(&store, &shards, "few").await;
    let count = courier_tests::scale(100_000, 1_000_000);
    fill(&database, count).await;
    let many = least(&store, &shards, "many").await;
    println!("one message is moved in {few:?} when 1,000 wait, and in {many:?} when {count} more do");
    assert!(many < few * 5 + Duration::from_millis(5), "{many:?} instead of {few:?}");
}
