//! The starts of groups, and the owners of partitions.

use courier::store::{ClaimRequest, LostRangeFilter, PositionId, StoreError};
use courier_core::message::Offset;
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, Owner, TOPIC, at, failed, handled, join, key_of, record, request, retrying, tried, waiting};

pub async fn a_topic_is_begun_once(database: Database) {
    let store = database.open().await;
    store.begin(GROUP, TOPIC, "topic-1", &[(0, Offset(5)), (1, Offset(7))]).await.unwrap();
    store.begin(GROUP, TOPIC, "topic-1", &[(0, Offset(50)), (2, Offset(9))]).await.unwrap();
    store.begin("audit", TOPIC, "topic-1", &[(0, Offset(1))]).await.unwrap();
    let positions = store.positions().await.unwrap();
    let found: Vec<_> = positions.iter().map(|p| (p.group.as_str(), p.partition, p.next.0, p.epoch)).collect();
    assert_eq!(found, [("audit", 0, 1, 0), (GROUP, 0, 5, 0), (GROUP, 1, 7, 0)]);
    assert!(positions.iter().all(|p| p.topic == TOPIC && p.incarnation == 0 && p.node.is_none()));
}

pub async fn every_claim_counts_the_epoch_up(database: Database) {
    let store = database.open().await;
    store.begin(GROUP, TOPIC, "topic-1", &[(0, Offset(5))]).await.unwrap();
    let (one, two) = (join(&store, "host-1").await, join(&store, "host-2").await);
    let first = store.claim(&request(one, GROUP, 0)).await.unwrap();
    assert_eq!((first.epoch, first.next, first.incarnation), (1, Offset(5), 0));
    let second = store.claim(&request(two, GROUP, 0)).await.unwrap();
    assert_eq!((second.epoch, second.position), (2, first.position));
    let positions = store.positions().await.unwrap();
    assert_eq!((positions[0].id, positions[0].epoch), (first.position, 2));
    assert_eq!(positions[0].node.as_deref(), Some("host-2"));
}

pub async fn a_partition_without_a_position_starts_at_the_fallback(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let claim = ClaimRequest { fallback: Offset(12), ..request(writer, GROUP, 3) };
    let claimed = store.claim(&claim).await.unwrap();
    assert_eq!((claimed.next, claimed.epoch, claimed.incarnation), (Offset(12), 1, 0));
    assert!(claimed.settled.is_empty() && claimed.open.is_empty());
    assert!(store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap().is_empty());
}

pub async fn a_claim_tells_what_is_settled_and_what_is_open(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    // Decided out of order; 3 is not finished, so that the position stays.
    owner.settle(2, vec![handled(1), handled(0), retrying(2, 1, Some(at(99))), waiting(12)]).await;
    owner.settle(3, vec![handled(9), failed(4), handled(7)]).await;
    let claimed = owner.claim_again().await;
    assert_eq!(claimed.next, Offset(3));
    assert_eq!(claimed.settled, [Offset(4), Offset(7), Offset(9)]);
    assert_eq!(claimed.open.iter().map(|row| row.offset.0).collect::<Vec<_>>(), [2, 12]);
    let (retry, wait) = (&claimed.open[0], &claimed.open[1]);
    assert_eq!((retry.state, retry.next_attempt_at, retry.attempts), (State::HandleFail, Some(at(99)), tried(1)));
    assert_eq!(
        (wait.state, wait.next_attempt_at, wait.attempts.invoked, wait.held),
        (State::Committed, None, 0, false)
    );
    assert_eq!((wait.key.clone(), wait.received_at, wait.asked_at), (Some(key_of(12)), at(12), None));
    assert_eq!(wait.record_bytes, record(12).len());
    assert_eq!(wait.position, claimed.position);

    let wanted = [Offset(12), Offset(4), Offset(2)];
    let records = store.open_records(owner.claimed.position, &wanted).await.unwrap();
    let found: Vec<_> = records.iter().map(|r| r.as_ref().and_then(|r| r.record.clone())).collect();
    assert_eq!(found, [Some(record(12)), None, Some(record(2))]);
    assert!(records[1].is_none(), "a final delivery is not open");
    assert_eq!(records[0].as_ref().map(|r| r.row.offset), Some(Offset(12)));
}

pub async fn another_topic_id_begins_a_new_incarnation(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![handled(0), retrying(1, 1, Some(at(9))), waiting(2), handled(5)]).await;
    let old = owner.part(9, vec![handled(8)]);
    let old_key = owner.key(1);
    let claim = ClaimRequest { topic_id: "topic-2".into(), fallback: Offset(0), ..request(owner.writer, GROUP, 0) };
    let claimed = store.claim(&claim).await.unwrap();
    assert_ne!(claimed.position, owner.claimed.position);
    assert_eq!((claimed.incarnation, claimed.next), (1, Offset(0)));
    assert!(claimed.settled.is_empty() && claimed.open.is_empty(), "nothing of the old topic is in the new one");

    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].group.as_str(), lost[0].topic.as_str(), lost[0].partition), (GROUP, TOPIC, 0));
    assert_eq!((lost[0].from, lost[0].to), (Offset(1), Offset(6)), "from the first open one as far as the group got");
    assert!(!lost[0].why.is_empty());

    let closed = store.delivery(&old_key).await.unwrap().expect("what lay open is not forgotten");
    assert_eq!((closed.state, closed.next_attempt_at, closed.incarnation), (State::HandleFail, None, 0));
    assert_eq!(closed.reason.as_deref(), Some("the topic was created anew"));
    assert!(closed.settled_at.is_some());
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 2, 2));
    assert!(matches!(store.ask(&old_key).await, Err(StoreError::Conflict(_))), "its log is gone");

    assert_eq!(owner.try_settle(&[old]).await.unwrap().stale, [0], "the owner of the old one is fenced");
    owner.claimed = claimed;
    owner.settle(1, vec![handled(0)]).await;
    let positions = store.positions().await.unwrap();
    assert_eq!(positions.iter().map(|p| (p.incarnation, p.next.0)).collect::<Vec<_>>(), [(1, 1)]);
    let again = store.claim(&claim).await.unwrap();
    assert_eq!((again.position, again.incarnation), (owner.claimed.position, 1), "the same topic goes on");
}

pub async fn a_log_that_ends_before_the_position_begins_a_new_incarnation(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(10, (0..10).map(handled).collect()).await;
    let at_end = ClaimRequest { log_end: Offset(10), ..request(owner.writer, GROUP, 0) };
    assert_eq!(store.claim(&at_end).await.unwrap().incarnation, 0, "at the end nothing is missing");
    let short = ClaimRequest { log_end: Offset(9), fallback: Offset(9), ..request(owner.writer, GROUP, 0) };
    let claimed = store.claim(&short).await.unwrap();
    assert_eq!((claimed.incarnation, claimed.next), (1, Offset(9)));
    assert_eq!(store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap().len(), 1);
}

pub async fn an_unknown_topic_id_is_learnt_and_changes_nothing(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let claim = |id: &str| ClaimRequest { topic_id: id.to_owned(), ..request(writer, GROUP, 0) };
    for (id, incarnation) in [("", 0), ("topic-1", 0), ("", 0), ("topic-1", 0), ("topic-2", 1)] {
        assert_eq!(store.claim(&claim(id)).await.unwrap().incarnation, incarnation, "after {id:?}");
    }
}

pub async fn a_lost_range_moves_the_position_under_its_epoch(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let (position, epoch) = (owner.claimed.position, owner.claimed.epoch);
    store.skip_lost(position, epoch, Offset(0), Offset(40), "retention").await.unwrap();
    store.skip_lost(position, epoch, Offset(40), Offset(50), "compaction\0").await.unwrap();
    let older = store.skip_lost(position, epoch - 1, Offset(50), Offset(60), "late").await;
    assert!(matches!(older, Err(StoreError::Fenced(_))));
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    let found: Vec<_> = lost.iter().map(|l| (l.from.0, l.to.0, l.why.as_str())).collect();
    assert_eq!(found, [(40, 50, "compaction\u{fffd}"), (0, 40, "retention")]);
    assert_eq!(store.lost_ranges(&LostRangeFilter::default(), 1).await.unwrap().len(), 1);
    let group = lost[0].group.clone();
    let all = LostRangeFilter::default;
    for (filter, count) in [
        (LostRangeFilter { groups: Some(vec![group]), ..all() }, 2),
        (LostRangeFilter { groups: Some(vec!["another".to_owned()]), ..all() }, 0),
        (LostRangeFilter { topics: Some(vec!["another".to_owned(), lost[0].topic.clone()]), ..all() }, 2),
        (LostRangeFilter { topics: Some(Vec::new()), ..all() }, 0),
        (LostRangeFilter { position: Some(position), ..all() }, 2),
        (LostRangeFilter { position: Some(PositionId(position.0 + 1)), ..all() }, 0),
    ] {
        assert_eq!(store.lost_ranges(&filter, 10).await.unwrap().len(), count, "{filter:?}");
    }
    assert_eq!(owner.claim_again().await.next, Offset(50));
}
