use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::outbound::{TopicId, Undeliverable};

const NOW: Timestamp = Timestamp(0);
const LEASED: Timestamp = Timestamp(10_000_000);

fn row(id: i64, key: Option<&str>) -> Row {
    Row {
        id: RowId(id),
        topic: "order".into(),
        key: key.map(|key| key.as_bytes().into()),
        hash: 0,
        size_bytes: 10,
        chosen: Some((TopicId("topic-1".into()), 0)),
        unknown_from: None,
        tries: 0,
    }
}

/// A pass over rows whose topic is known, and the rows that it produces at once.
fn begun(rows: Vec<Row>) -> (Shard, Vec<i64>) {
    let mut shard = Shard::default();
    let asked = shard.step(NOW, ShardEvent::Taken { rows, leased_until: LEASED });
    assert_eq!(asked, [ShardAction::AskTopic("order".into())]);
    let answer = TopicAnswer::Known { id: TopicId("topic-1".into()), partitions: 1, max_bytes: None };
    let actions = shard.step(NOW, ShardEvent::Topic { topic: Arc::from("order"), answer });
    let produced = actions.iter().map(|action| match action {
        ShardAction::Produce { row, .. } => row.0,
        other => panic!("{other:?}"),
    });
    (shard, produced.collect())
}

fn ends(shard: &mut Shard, row: i64, fate: Fate) -> Vec<ShardAction> {
    shard.step(NOW, ShardEvent::Produced { row: RowId(row), fate })
}

fn acknowledged(offset: i64) -> RowEnd {
    RowEnd::Acknowledged { partition: 0, offset: Offset(offset) }
}

/// One row that took ten seconds kept what Kafka had long acknowledged SEND_FAIL, and
/// a stop in this time sent all of it again.
#[test]
fn each_result_is_stored_as_it_comes() {
    let (mut shard, produced) = begun(vec![row(1, None), row(2, None), row(3, None)]);
    assert_eq!(produced, [1, 2, 3]);
    let settled = ends(&mut shard, 2, Fate::Acknowledged(Offset(7)));
    assert_eq!(settled, [ShardAction::Settle(vec![(RowId(2), acknowledged(7))])]);
    assert_eq!(shard.step(NOW, ShardEvent::Settled { rows: vec![RowId(2)] }), []);
    let settled = ends(&mut shard, 1, Fate::Acknowledged(Offset(8)));
    assert_eq!(settled, [ShardAction::Settle(vec![(RowId(1), acknowledged(8))])]);
    assert_eq!(ends(&mut shard, 1, Fate::Acknowledged(Offset(9))), [], "a row ends once");
    shard.step(NOW, ShardEvent::Settled { rows: vec![RowId(1)] });
    assert!(!shard.is_idle());
    // A stop leaves what is under way, and stores what still ends.
    assert_eq!(shard.step(NOW, ShardEvent::Shutdown), []);
    assert_eq!(ends(&mut shard, 3, Fate::Acknowledged(Offset(10))).len(), 1);
    shard.step(NOW, ShardEvent::Settled { rows: vec![RowId(3)] });
    assert!(shard.is_idle());
}

#[test]
fn rows_behind_one_that_ended_before_it_was_sent_are_left_to_a_later_pass() {
    let large = Row { size_bytes: 200, ..row(1, Some("a")) };
    let mut shard = Shard::default();
    shard
        .step(NOW, ShardEvent::Taken { rows: vec![large, row(2, Some("a")), row(3, Some("b"))], leased_until: LEASED });
    let answer = TopicAnswer::Known { id: TopicId("topic-1".into()), partitions: 1, max_bytes: Some(100) };
    let actions = shard.step(NOW, ShardEvent::Topic { topic: Arc::from("order"), answer });
    assert_eq!(actions[0], ShardAction::Produce { row: RowId(3), partition: 0 });
    let ShardAction::Settle(settled) = &actions[1] else { panic!("{actions:?}") };
    assert!(matches!(&settled[..], [(RowId(1), RowEnd::Undelivered(Undeliverable { code: "too_large", .. }))]));
    shard.step(NOW, ShardEvent::Settled { rows: vec![RowId(1)] });
    ends(&mut shard, 3, Fate::Later("timed out".to_owned()));
    shard.step(NOW, ShardEvent::Settled { rows: vec![RowId(3)] });
    assert!(shard.is_idle(), "the row that is left is taken again");
}

#[test]
fn a_row_waits_longer_each_time() {
    let waits: Vec<u64> = [0, 1, 4, 20]
        .map(|tries| {
            let (mut shard, _) = begun(vec![Row { tries, ..row(1, None) }]);
            let actions = ends(&mut shard, 1, Fate::Later("timed out".to_owned()));
            let [ShardAction::Settle(settled)] = &actions[..] else { panic!("{actions:?}") };
            let RowEnd::Retry(Retry { wait, .. }) = &settled[0].1 else { panic!("{settled:?}") };
            u64::try_from(wait.as_millis()).unwrap()
        })
        .into();
    assert_eq!(waits, [250, 500, 4_000, 5_000]);
}

/// A search that began anew each time never reached the end of a partition that grew.
#[test]
fn a_search_goes_on_where_the_last_one_ended() {
    let unknown = Row { unknown_from: Some(Offset(5)), ..row(1, Some("a")) };
    let mut shard = Shard::default();
    shard.step(NOW, ShardEvent::Taken { rows: vec![unknown, row(2, Some("a"))], leased_until: LEASED });
    let answer = TopicAnswer::Known { id: TopicId("topic-1".into()), partitions: 1, max_bytes: None };
    let actions = shard.step(NOW, ShardEvent::Topic { topic: Arc::from("order"), answer });
    assert_eq!(actions, [ShardAction::LookUp { row: RowId(1), partition: 0, from: Offset(5) }]);
    let actions = shard.step(NOW, ShardEvent::SearchedTo { row: RowId(1), next: Offset(1_005) });
    let [ShardAction::Settle(settled)] = &actions[..] else { panic!("{actions:?}") };
    let (RowId(1), RowEnd::Retry(retry)) = &settled[0] else { panic!("{settled:?}") };
    assert_eq!((retry.wait, retry.unknown_from), (Duration::ZERO, Some(Offset(1_005))));
}
