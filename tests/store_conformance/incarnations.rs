//! Topics that change under their groups: created anew, shorter, with fewer
//! partitions or with more.

use courier::store::incarnations::{LOG_LOST_ITS_END, PARTITION_GONE};
use courier::store::seek::SeekMove;
use courier::store::{
    ClaimRequest, Growth, LostRangeFilter, OlderPartition, SeenLogEnd, SharedStore, StoreError, TopicOfGroup,
};
use courier_core::message::Offset;
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, Owner, TOPIC, at, handled, join, key_of, record, reopened, request, retrying, waiting};

fn topic(topic_id: &str) -> TopicOfGroup<'_> {
    TopicOfGroup { group: GROUP, topic: TOPIC, topic_id }
}

pub async fn a_log_that_lost_its_end_goes_on_at_its_end(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(10, vec![handled(0), retrying(2, 1, Some(at(9))), waiting(6), handled(7), handled(9)]).await;
    owner.settle(10, vec![waiting(8)]).await;
    let (old_of_2, old_of_8) = (owner.key(2), owner.key(8));
    let stale = owner.part(11, vec![handled(10)]);
    let short = ClaimRequest { log_end: Offset(7), ..request(owner.writer, GROUP, 0) };
    let claimed = store.claim(&short).await.unwrap();
    assert_eq!((claimed.incarnation, claimed.next), (1, Offset(7)), "what is left of the log does not run again");
    assert!(claimed.settled.is_empty());
    assert_eq!(claimed.open.iter().map(|row| row.offset.0).collect::<Vec<_>>(), [2, 6]);
    assert!(claimed.open.iter().all(|row| row.position == claimed.position));
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    assert_eq!(lost.iter().map(|range| (range.from.0, range.to.0)).collect::<Vec<_>>(), [(7, 10)]);
    assert!(lost[0].why.contains("lost its end"), "{}", lost[0].why);

    let ended = store.delivery(&old_of_8).await.unwrap().expect("what was lost is not forgotten");
    assert_eq!((ended.state, ended.reason.as_deref()), (State::HandleFail, Some(LOG_LOST_ITS_END)));
    assert!(store.delivery(&old_of_2).await.unwrap().is_none());
    assert_eq!(owner.try_settle(&[stale]).await.unwrap().stale, [0]);

    // Open deliveries go on with their records and attempts.
    owner.claimed = claimed;
    let records = store.open_records(owner.claimed.position, &[Offset(2)]).await.unwrap();
    assert_eq!(records[0].as_ref().and_then(|found| found.record.clone()), Some(record(2)));
    assert_eq!(owner.attempts(2).await.len(), 1);
    owner.settle(8, vec![reopened(handled(2), 2), reopened(handled(6), 1), handled(7)]).await;
    assert_eq!(owner.attempts(2).await.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 6, 1));
}

pub async fn what_ran_before_kafka_told_of_a_new_topic_is_listed(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(8, (0..8).map(handled).collect()).await;
    let anew =
        ClaimRequest { topic_id: "topic-2".into(), unconfirmed: Some(Offset(5)), ..request(owner.writer, GROUP, 0) };
    let claimed = store.claim(&anew).await.unwrap();
    assert_eq!((claimed.incarnation, claimed.next), (1, Offset(0)));
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    assert_eq!((lost[0].from, lost[0].to), (Offset(5), Offset(8)));
    assert!(lost[0].why.contains("created anew") && lost[0].why.contains("5 to 8"), "{}", lost[0].why);
}

/// Issue 16: the lost range of a topic that was deleted with unhandled records
/// was shorter than what was lost.
pub async fn the_range_lost_with_a_topic_reaches_to_its_last_known_end(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let hears = ClaimRequest { listener: Some("host-1".into()), ..request(owner.writer, GROUP, 0) };
    store.claim(&hears).await.unwrap();
    owner.settle(4, vec![handled(0), handled(1), handled(2), handled(3)]).await;
    let seen = |log_topic: &str, topic_id: &str, end| SeenLogEnd {
        log_topic: log_topic.to_owned(),
        partition: 0,
        topic_id: topic_id.to_owned(),
        end: Offset(end),
    };
    for ends in [
        vec![seen(TOPIC, "topic-1", 30), seen("order.broadcast", "topic-1", 7)],
        vec![seen(TOPIC, "topic-1", 40), seen(TOPIC, "topic-2", 950)],
        vec![seen(TOPIC, "topic-1", 20), SeenLogEnd { partition: 1, ..seen(TOPIC, "topic-1", 800) }],
    ] {
        store.keep_log_ends(&ends).await.unwrap();
    }
    // Retention leaves them while a group stands there, and no others.
    while store.prune(std::time::Duration::ZERO).await.unwrap() {}
    let anew = |claim: ClaimRequest| ClaimRequest { topic_id: "topic-2".into(), log_end: Offset(5), ..claim };
    store.claim(&anew(request(owner.writer, GROUP, 0))).await.unwrap();
    store.claim(&anew(hears)).await.unwrap();
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    let ranges: Vec<_> = lost.iter().map(|range| (range.listener.as_deref(), range.from.0, range.to.0)).collect();
    assert_eq!(ranges, [(Some("host-1"), 0, 7), (None, 4, 40)]);
    assert_eq!(lost[1].position, Some(owner.claimed.position), "its deliveries are those of the old topic");

    // A log that lost its end begins to grow from there.
    let short =
        |end| ClaimRequest { topic_id: "topic-2".into(), log_end: Offset(end), ..request(owner.writer, GROUP, 0) };
    store.keep_log_ends(&[seen(TOPIC, "topic-2", 900)]).await.unwrap();
    let claimed = store.claim(&short(900)).await.unwrap();
    store.seek(&[SeekMove { position: claimed.position, to: Offset(700) }], "a seek").await.unwrap();
    store.claim(&short(600)).await.unwrap();
    let lost = store.lost_ranges(&LostRangeFilter::default(), 1).await.unwrap();
    assert_eq!((lost[0].from, lost[0].to), (Offset(600), Offset(900)));
    store.claim(&short(500)).await.unwrap();
    let lost = store.lost_ranges(&LostRangeFilter::default(), 1).await.unwrap();
    assert_eq!((lost[0].from, lost[0].to), (Offset(500), Offset(600)));
}

pub async fn partitions_that_a_new_topic_does_not_have_are_ended(database: Database) {
    let store = database.open().await;
    let mut first = Owner::new(&store).await;
    let mut second = Owner::of(&store, first.writer, GROUP, 1).await;
    let listener = ClaimRequest { listener: Some("host-1".into()), ..request(first.writer, GROUP, 2) };
    store.claim(&listener).await.unwrap();
    first.settle(2, vec![handled(0), waiting(1)]).await;
    second.sequence = first.sequence;
    second.settle(4, vec![handled(0), retrying(1, 1, Some(at(9))), waiting(11), handled(3)]).await;
    let (waits, ran) = (second.key(1), second.key(0));
    assert!(store.end_vanished(&topic("topic-1"), None, 1).await.unwrap().is_empty(), "it is the same topic");
    assert!(store.end_vanished(&topic("topic-2"), None, 2).await.unwrap().is_empty(), "it has both partitions");
    assert_eq!(store.end_vanished(&topic("topic-2"), None, 1).await.unwrap(), [1]);
    assert!(store.end_vanished(&topic("topic-2"), None, 1).await.unwrap().is_empty(), "that is done");

    let ended = store.delivery(&waits).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.next_attempt_at), (State::HandleFail, None));
    assert_eq!(ended.reason.as_deref(), Some(PARTITION_GONE));
    assert_eq!(second.totals().await, (1, 0, 0, 0, 3, 2));
    for key in [waits, ran] {
        assert!(matches!(store.ask(&key).await, Err(StoreError::Conflict(_))), "nobody could run it");
    }
    let late = second.part(9, vec![handled(8)]);
    assert_eq!(second.try_settle(&[late]).await.unwrap().stale, [0], "its owner is fenced");
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    assert_eq!((lost.len(), lost[0].partition, lost[0].from, lost[0].to), (1, 1, Offset(1), Offset(12)));
    let positions = store.positions().await.unwrap();
    assert_eq!(positions.iter().filter(|row| row.listener.is_none()).map(|row| row.partition).collect::<Vec<_>>(), [0]);

    // Partitions are added to the new topic: its partition 1 is another one.
    let again = ClaimRequest { topic_id: "topic-2".into(), fallback: Offset(3), ..request(second.writer, GROUP, 1) };
    let claimed = store.claim(&again).await.unwrap();
    assert_eq!((claimed.incarnation, claimed.next), (1, Offset(3)));
    assert!(claimed.open.is_empty() && claimed.epoch > second.claimed.epoch);
    assert_eq!(store.claim(&again).await.unwrap().position, claimed.position);
    assert!(matches!(store.ask(&ran).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.end_vanished(&topic("topic-2"), Some("host-1"), 1).await.unwrap(), [2], "listeners apart");
}

async fn growth(store: &SharedStore, partition: i32) -> Growth {
    store.growth(&topic("topic-1"), partition).await.unwrap()
}

pub async fn a_partition_that_was_added_waits_for_the_older_ones(database: Database) {
    let store = database.open().await;
    assert_eq!(growth(&store, 0).await, Growth::New);
    store.begin(GROUP, TOPIC, "topic-1", &[(0, Offset(0)), (1, Offset(5))]).await.unwrap();
    assert_eq!(growth(&store, 1).await, Growth::Passed(Vec::new()), "it was there");
    assert_eq!(store.growth(&topic("topic-2"), 2).await.unwrap(), Growth::Passed(Vec::new()), "created anew");
    assert_eq!(growth(&store, 3).await, Growth::Unseen(vec![0, 1]));
    store.keep_growth(&topic("topic-1"), 2, 4, &[(0, Offset(3)), (1, Offset(5))]).await.unwrap();
    // Another host sees them later, when the older partitions hold more.
    store.keep_growth(&topic("topic-1"), 2, 4, &[(0, Offset(70)), (1, Offset(70))]).await.unwrap();
    let behind = |next| OlderPartition { partition: 0, next: Offset(next), log_end: Offset(3) };
    for added in [2, 3] {
        assert_eq!(growth(&store, added).await, Growth::Behind(vec![behind(0)]));
    }
    let writer = join(&store, "host-1").await;
    let mut owner = Owner::of(&store, writer, GROUP, 0).await;
    owner.settle(2, vec![handled(0), retrying(1, 1, Some(at(9)))]).await;
    assert_eq!(growth(&store, 2).await, Growth::Behind(vec![behind(2)]));
    // The position passes parked rows; the key's first delivery still runs first.
    owner.settle(5, vec![handled(2), waiting(4)]).await;
    assert_eq!(growth(&store, 2).await, Growth::Passed(vec![key_of(1)]), "4 is not from before the growth");
    let added = Owner::of(&store, owner.writer, GROUP, 2).await;
    assert_eq!(growth(&store, 2).await, Growth::Passed(vec![key_of(1)]), "also for the next owner");
    assert_eq!(added.claimed.next, Offset(0));
    owner.settle(5, vec![reopened(handled(1), 2)]).await;
    assert_eq!(growth(&store, 2).await, Growth::Passed(Vec::new()));
    // The topic grows once more.
    assert_eq!(growth(&store, 4).await, Growth::Unseen(vec![0, 1, 2]));
}

pub async fn the_id_of_an_earlier_topic_is_no_new_topic(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let claim = |id: &str, partition| ClaimRequest { topic_id: id.to_owned(), ..request(writer, GROUP, partition) };
    store.claim(&claim("topic-1", 0)).await.unwrap();
    let second = store.claim(&claim("topic-2", 0)).await.unwrap();
    store.claim(&claim("topic-2", 1)).await.unwrap();
    // A broker that lags behind reports the topic before.
    assert!(matches!(store.claim(&claim("topic-1", 0)).await, Err(StoreError::Unavailable(_))));
    assert!(store.end_vanished(&topic("topic-1"), None, 1).await.unwrap().is_empty());
    assert_eq!(store.claim(&claim("topic-2", 0)).await.unwrap().position, second.position);
    assert_eq!(store.claim(&claim("topic-3", 0)).await.unwrap().incarnation, 2);
}
