//! The relay: shards, their leases, and the results of rows.

use std::time::Duration;

use courier::store::StoreError;
use courier::store::{ChosenPartition, LeftOut, NewOutbound, OutboundRow, RelayResult, Relayed, SHARDS, SharedStore};
use courier_core::message::Offset;
use courier_core::status::State;

use super::Database;
use super::owner::{LEASE, Owner, emission, handled, holder, join};
use super::sending::{due, identity, message};

const MINUTE: Duration = Duration::from_secs(60);

fn all_shards() -> Vec<i32> {
    (0..i32::try_from(SHARDS).unwrap()).collect()
}

fn numbers(shards: &[(i32, i64)]) -> Vec<i32> {
    let mut numbers: Vec<i32> = shards.iter().map(|(shard, _)| *shard).collect();
    numbers.sort_unstable();
    numbers
}

fn taken(row: &OutboundRow, offset: i64) -> Relayed {
    let result = RelayResult::Taken { partition: row.partition.unwrap_or(0), offset: Offset(offset) };
    Relayed { id: row.id, shard: row.shard, result }
}

fn later(row: &OutboundRow, wait: Duration) -> Relayed {
    Relayed {
        id: row.id,
        shard: row.shard,
        result: RelayResult::Later { reason: "broker\0 away".into(), wait, unknown_from: None },
    }
}

fn refused(row: &OutboundRow) -> Relayed {
    Relayed {
        id: row.id,
        shard: row.shard,
        result: RelayResult::Undelivered { code: "too_large", reason: "too large".into() },
    }
}

async fn rows(store: &SharedStore, shards: &[(i32, i64)]) -> Vec<OutboundRow> {
    store.outbound(shards, 1_000, &LeftOut::default()).await.unwrap()
}

pub async fn shards_are_leased_to_one_writer_at_a_time(database: Database) {
    let store = database.open().await;
    let (a, b) = (join(&store, "a").await, join(&store, "b").await);
    let first = store.lease_shards(a, SHARDS, &[], MINUTE).await.unwrap();
    assert_eq!(numbers(&first), all_shards());
    assert!(store.lease_shards(b, SHARDS, &[], MINUTE).await.unwrap().is_empty());
    let mut again = store.lease_shards(a, SHARDS, &[], MINUTE).await.unwrap();
    again.sort_unstable();
    let mut same = first.clone();
    same.sort_unstable();
    assert_eq!(again, same, "renewing keeps the epochs");

    let kept = store.lease_shards(a, SHARDS / 2, &[31, 60], MINUTE).await.unwrap();
    assert_eq!((kept.len(), kept.last().unwrap().0), (33, 60), "a shard with rows under way is kept for now");
    let kept = store.lease_shards(a, SHARDS / 2, &[], MINUTE).await.unwrap();
    let got = store.lease_shards(b, SHARDS / 2, &[], MINUTE).await.unwrap();
    assert_eq!((kept.len(), got.len()), (32, 32));
    let mut both = [numbers(&kept), numbers(&got)].concat();
    both.sort_unstable();
    assert_eq!(both, all_shards(), "each shard has one holder");
    for (shard, epoch) in &got {
        let before = first.iter().find(|(number, _)| number == shard).unwrap().1;
        assert!(*epoch > before, "a new holder has a new epoch");
    }

    store.lease_shards(b, SHARDS / 2, &[], Duration::ZERO).await.unwrap();
    let taken_over = store.lease_shards(a, SHARDS, &[], MINUTE).await.unwrap();
    assert_eq!(numbers(&taken_over), all_shards(), "leases that ran out are free");
    assert!(store.lease_shards(b, SHARDS, &[], MINUTE).await.unwrap().is_empty());
}

pub async fn a_dead_nodes_shards_are_free_at_once(database: Database) {
    let store = database.open().await;
    let dead = holder("dead");
    let a = store.join("a", &dead, LEASE).await.unwrap().writer;
    let before = store.lease_shards(a, SHARDS, &[], MINUTE).await.unwrap();
    store.evict("a", &dead).await.unwrap();
    let again = join(&store, "a").await;
    let after = store.lease_shards(again, SHARDS, &[], MINUTE).await.unwrap();
    assert_eq!(numbers(&after), all_shards());
    assert!(after.iter().map(|(_, epoch)| epoch).min() > before.iter().map(|(_, epoch)| epoch).min());
    store.leave(again).await.unwrap();
    let b = join(&store, "b").await;
    assert_eq!(store.lease_shards(b, SHARDS, &[], MINUTE).await.unwrap().len(), 64);
}

pub async fn rows_leave_in_order_and_a_waiting_one_hides_its_key(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let shards = store.lease_shards(owner.writer, SHARDS, &[], MINUTE).await.unwrap();
    let mut outcome = handled(0);
    let other_topic = NewOutbound { topic: "other".to_owned(), ..emission("a-other", Some(b"a"), 1) };
    outcome.outbound = vec![
        emission("a-1", Some(b"a"), 1),
        emission("b-1", Some(b"b"), 2),
        emission("none-1", None, 3),
        emission("a-2", Some(b"a"), 1),
        other_topic,
    ];
    let mut next = handled(1);
    next.outbound = vec![emission("none-2", None, 3), emission("b-2", Some(b"b"), 2)];
    owner.settle(2, vec![outcome, next]).await;
    let found = rows(&store, &shards).await;
    let ids: Vec<_> = found.iter().map(|row| row.message_id.as_str()).collect();
    assert_eq!(ids, ["a-1", "b-1", "none-1", "a-2", "a-other", "none-2", "b-2"]);
    assert!(found.is_sorted_by_key(|row| row.id));
    assert_eq!(found[0].record, "record of a-1");
    assert_eq!(store.outbound(&shards, 2, &LeftOut::default()).await.unwrap().len(), 2);
    let some: Vec<_> = shards.iter().copied().filter(|(shard, _)| *shard == 2).collect();
    assert_eq!(due(&store, &some).await, ["b-1", "b-2"], "only leased shards");

    store.relayed(&shards, &[later(&found[0], MINUTE), later(&found[2], MINUTE), taken(&found[1], 5)]).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["a-other", "none-2", "b-2"], "a-2 may not overtake a-1");
    let waiting = store.message("a-1").await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.retrying), (State::SendFail, true));
    assert_eq!(waiting.reason.as_deref(), Some("broker\u{fffd} away"));
    store.resend(&waiting.identity()).await.unwrap();
    assert_eq!(due(&store, &shards).await.len(), 5, "somebody asked, so that it need not wait");
    store.relayed(&shards, &[later(&found[0], Duration::ZERO)]).await.unwrap();
    let again = rows(&store, &shards).await;
    assert_eq!(
        again.iter().map(|row| row.message_id.as_str()).collect::<Vec<_>>(),
        ["a-1", "a-2", "a-other", "none-2", "b-2"]
    );
    assert_eq!((again[0].tries, again[1].tries), (2, 0));
}

pub async fn a_chosen_partition_stays_and_an_old_epoch_chooses_nothing(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let old = store.lease_shards(owner.writer, SHARDS, &[], MINUTE).await.unwrap();
    let mut outcome = handled(0);
    outcome.outbound = vec![emission("a", None, 1), emission("b", None, 2)];
    owner.settle(1, vec![outcome]).await;
    let found = rows(&store, &old).await;
    assert_eq!(found[0].partition, None);
    let choice = |row: &OutboundRow, topic_id: &str, partition| ChosenPartition {
        row: row.id,
        topic_id: topic_id.to_owned(),
        partition,
    };
    store.choose_partitions(&old, &[choice(&found[0], "first", 4)]).await.unwrap();
    store.choose_partitions(&old, &[choice(&found[0], "first", 5)]).await.unwrap();
    assert_eq!(rows(&store, &old).await[0].partition, Some(4), "it may be in Kafka there");
    store.choose_partitions(&old, &[choice(&found[0], "made anew", 1)]).await.unwrap();
    let row = rows(&store, &old).await.remove(0);
    assert_eq!((row.partition, row.topic_id.as_str()), (Some(1), "made anew"), "the old topic is gone");

    store.lease_shards(owner.writer, 0, &[], MINUTE).await.unwrap();
    let other = join(&store, "host-2").await;
    let new = store.lease_shards(other, SHARDS, &[], MINUTE).await.unwrap();
    let late = store.choose_partitions(&old, &[choice(&found[1], "made anew", 9)]).await;
    assert!(matches!(late, Err(StoreError::Fenced(_))), "{late:?}");
    assert!(rows(&store, &old).await.is_empty(), "an older epoch is given nothing");
    assert_eq!(rows(&store, &new).await.iter().map(|row| row.partition).collect::<Vec<_>>(), [Some(1), None]);
}

pub async fn what_an_older_epoch_relayed_is_left_alone(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let old = store.lease_shards(owner.writer, SHARDS, &[], MINUTE).await.unwrap();
    let mut outcome = handled(0);
    outcome.outbound = vec![emission("a", None, 1), emission("b", None, 2), emission("c", None, 3)];
    owner.settle(1, vec![outcome]).await;
    let found = rows(&store, &old).await;
    store.lease_shards(owner.writer, 0, &[], MINUTE).await.unwrap();
    let other = join(&store, "host-2").await;
    let new = store.lease_shards(other, SHARDS, &[], MINUTE).await.unwrap();
    store.relayed(&old, &[taken(&found[0], 1), refused(&found[1]), later(&found[2], MINUTE)]).await.unwrap();
    assert_eq!(due(&store, &new).await, ["a", "b", "c"]);
    assert!(store.message("a").await.unwrap().is_none());
    store.relayed(&new, &[taken(&found[0], 2)]).await.unwrap();
    assert_eq!(due(&store, &new).await, ["b", "c"]);
}

pub async fn an_emission_is_listed_once_kafka_has_it(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let shards = store.lease_shards(owner.writer, SHARDS, &[], MINUTE).await.unwrap();
    let mut outcome = handled(0);
    let dead_letter = NewOutbound { listed: false, ..emission("dead", None, 2) };
    outcome.outbound = vec![emission("a", Some(b"k"), 1), dead_letter];
    owner.settle(1, vec![outcome]).await;
    assert!(store.message("a").await.unwrap().is_none());
    let found = rows(&store, &shards).await;
    store.relayed(&shards, &[taken(&found[0], 8), taken(&found[1], 3)]).await.unwrap();
    let row = store.message("a").await.unwrap().unwrap();
    assert_eq!((row.state, row.place, row.record), (State::Committed, Some((0, Offset(8))), None));
    assert_eq!(
        (row.topic.as_str(), row.type_name.as_str(), row.source.as_str()),
        ("stock", "StockReserved", "stock-reserver")
    );
    assert_eq!((row.kind.as_str(), row.key.as_deref()), ("event", Some(b"k".as_slice())));
    assert!(store.message("dead").await.unwrap().is_none(), "dead letters are not messages that people sent");
    assert!(store.topics_with_outbound().await.unwrap().is_empty());
    store.relayed(&shards, &[taken(&found[0], 9)]).await.expect("an answer that comes twice is no error");
    assert_eq!(store.message("a").await.unwrap().unwrap().place, Some((0, Offset(8))));
}

pub async fn a_row_that_kafka_refuses_can_be_resent(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], MINUTE).await.unwrap();
    store.accept(&[message("m-1", Some(b"k"), None), message("m-2", Some(b"k"), None)]).await.unwrap();
    let found = rows(&store, &shards).await;
    store.relayed(&shards, &[refused(&found[0])]).await.unwrap();
    let row = store.message("m-1").await.unwrap().unwrap();
    assert_eq!((row.state, row.retrying, row.reason.as_deref()), (State::SendFail, false, Some("too large")));
    assert_eq!(row.record.as_deref(), Some(b"record of m-1".as_slice()), "its body moved to the message");
    assert_eq!(due(&store, &shards).await, ["m-2"], "its key goes on");

    store.resend(&identity("m-1")).await.unwrap();
    assert!(store.message("m-1").await.unwrap().unwrap().retrying);
    let again = rows(&store, &shards).await;
    assert_eq!(again.iter().map(|row| row.message_id.as_str()).collect::<Vec<_>>(), ["m-2", "m-1"]);
    assert_eq!((again[1].shard, again[1].record.as_ref()), (7, b"record of m-1".as_slice()));
    store.relayed(&shards, &[taken(&again[1], 3)]).await.unwrap();
    assert_eq!(store.message("m-1").await.unwrap().unwrap().state, State::Committed);

    // A resend by a person releases a row that waits for a later try.
    store.relayed(&shards, &[later(&found[1], MINUTE)]).await.unwrap();
    assert!(due(&store, &shards).await.is_empty());
    store.resend(&identity("m-2")).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-2"]);
}

pub async fn a_row_held_for_a_direct_send_is_not_relayed(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], MINUTE).await.unwrap();
    let batch = [
        message("held", Some(b"k"), Some(MINUTE)),
        message("behind", Some(b"k"), None),
        message("other", Some(b"l"), None),
        message("ran-out", Some(b"m"), Some(Duration::ZERO)),
    ];
    store.accept(&batch).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["other", "ran-out"]);
}
