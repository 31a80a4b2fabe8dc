//! Outcomes become durable together and once, under the present epoch.

use std::time::Duration;

use bytes::Bytes;
use courier::store::{Becomes, DeliveryFilter, OutcomeRow, SourceHash, StateUsage, StoreError};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::Database;
use super::owner::{
    GROUP, Owner, RECORD_TIME, TOPIC, VERSION, at, emission, failed, handled, join, key_of, record, reopened, retrying,
    waiting,
};

pub async fn a_settle_advances_the_sequence_by_exactly_one(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![handled(0)]).await;
    owner.settle(1, vec![]).await;
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 2);
    for wrong in [2, 4, 0] {
        let result = store.settle(owner.writer, wrong, &[owner.part(2, vec![handled(1)])]).await;
        assert!(matches!(result, Err(StoreError::Bug(_))), "{wrong}: {result:?}");
    }
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 2);
    assert!(owner.delivery(1).await.is_none());
}

/// The answer to the commit is lost: the host reads the sequence, and repeats only
/// a settle that did not happen.
pub async fn a_settle_repeated_after_a_lost_answer_writes_nothing_twice(database: Database) {
    let store = database.open().await;
    let owner = Owner::new(&store).await;
    let parts = [owner.part(2, vec![handled(0), failed(1)])];
    store.settle(owner.writer, 1, &parts).await.unwrap();
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 1, "it happened");
    assert!(store.settle(owner.writer, 1, &parts).await.is_err(), "and cannot happen again");
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 1, 1));
    assert_eq!(owner.attempts(1).await.len(), 1);
    assert_eq!(owner.listed(&Default::default(), 10).await, [1, 0]);
}

pub async fn parts_of_an_older_epoch_are_left_out_and_reported(database: Database) {
    let store = database.open().await;
    let (old_writer, new_writer) = (join(&store, "host-1").await, join(&store, "host-2").await);
    let mut old = Owner::of(&store, old_writer, GROUP, 0).await;
    let kept = Owner::of(&store, old_writer, GROUP, 1).await;
    let mut new = Owner::of(&store, new_writer, GROUP, 0).await;
    let mut stale = handled(0);
    stale.outbound.push(emission("stale", None, 1));
    stale.state_writes.push(("stale".to_owned(), Some(Bytes::from_static(b"1"))));
    let mut retry = retrying(1, 1, None);
    retry.state_writes.clear();
    let parts = [old.part(2, vec![stale, retry]), kept.part(1, vec![handled(0)]), old.part(3, vec![waiting(2)])];
    assert_eq!(old.try_settle(&parts).await.unwrap().stale, [0, 2]);
    assert_eq!(store.sequence(old_writer).await.unwrap(), 1);

    assert!(kept.delivery(0).await.is_some(), "what the writer still owns is written");
    assert!(old.delivery(0).await.is_none() && old.delivery(1).await.is_none());
    assert!(store.topics_with_outbound().await.unwrap().is_empty());
    assert_eq!(store.state_get(GROUP, "stale").await.unwrap(), None);
    assert_eq!(old.totals().await, (0, 0, 0, 0, 1, 0));
    new.settle(1, vec![handled(0)]).await;
    assert_eq!(new.claim_again().await.next, Offset(1));
}

/// A part of an older epoch is refused even beside a part of the present epoch of
/// the same position.
pub async fn parts_of_two_epochs_of_a_position_are_told_apart(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let older = owner.part(2, vec![handled(0), failed(1)]);
    owner.claim_again().await;
    let present = owner.part(1, vec![failed(0)]);
    assert_eq!(owner.try_settle(&[older, present]).await.unwrap().stale, [0]);
    assert_eq!(owner.delivery(0).await.map(|row| row.state), Some(State::HandleFail));
    assert!(owner.delivery(1).await.is_none());
    assert_eq!(owner.claim_again().await.next, Offset(1));
}

/// A batch may come in pieces, and its owner may end between two of them: the next
/// claim knows what is written above the position, and does not run or write it
/// again.
pub async fn a_piece_before_its_position_is_known_to_the_next_claim(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(0, vec![handled(0), failed(1), retrying(2, 1, Some(at(50)))]).await;
    let rest = owner.part(5, vec![waiting(3), handled(4)]);
    let claimed = owner.claim_again().await;
    assert_eq!((claimed.next, claimed.settled.as_slice()), (Offset(0), &[Offset(0), Offset(1)][..]));
    assert_eq!(claimed.open.iter().map(|row| row.offset).collect::<Vec<_>>(), [Offset(2)]);
    assert_eq!(owner.try_settle(&[rest]).await.unwrap().stale, [0], "the rest is the older owner's");
    owner.settle(5, vec![waiting(3), handled(4)]).await;
    assert_eq!(owner.claim_again().await.next, Offset(5));
    assert_eq!(owner.totals().await.4, 2, "each is counted once");
}

pub async fn an_outcome_must_know_whether_it_has_an_open_row(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut first = handled(0);
    first.state_writes.push(("key".to_owned(), Some(Bytes::from_static(b"1"))));
    let wrong = [
        owner.part(9, vec![first.clone(), reopened(handled(5), 2)]),
        owner.part(9, vec![first.clone(), OutcomeRow { had_row: true, ..waiting(5) }]),
    ];
    for part in wrong {
        let result = owner.try_settle(&[part]).await;
        assert!(matches!(result, Err(StoreError::Bug(_))), "no row is there: {result:?}");
    }
    owner.settle(2, vec![waiting(1)]).await;
    for part in [owner.part(9, vec![first.clone(), handled(1)]), owner.part(9, vec![first, waiting(1)])] {
        let result = owner.try_settle(&[part]).await;
        assert!(matches!(result, Err(StoreError::Bug(_))), "a row is there: {result:?}");
    }
    assert!(owner.delivery(0).await.is_none(), "nothing of a refused settle is written");
    assert_eq!(store.state_get(GROUP, "key").await.unwrap(), None);
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 1);
    assert_eq!(owner.claim_again().await.next, Offset(2));
    owner.settle(3, vec![handled(0), handled(2)]).await;
    assert_eq!(owner.delivery(1).await.map(|row| row.state), Some(State::Committed), "a row between others stays");
    assert_eq!(owner.claim_again().await.next, Offset(3));
}

pub async fn a_delivery_cannot_end_twice(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![handled(0)]).await;
    let again = owner.part(1, vec![failed(0)]);
    let result = owner.try_settle(&[again]).await;
    assert!(matches!(result, Err(StoreError::Bug(_))), "{result:?}");
    assert_eq!(owner.delivery(0).await.map(|row| row.state), Some(State::Handled));
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 1, 0));
}

pub async fn a_retry_keeps_its_record_and_counts_on(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![retrying(0, 1, Some(at(50)))]).await;
    owner.settle(1, vec![retrying(0, 2, Some(at(70)))]).await;
    let row = owner.delivery(0).await.unwrap();
    assert_eq!((row.state, row.next_attempt_at, row.settled_at), (State::HandleFail, Some(at(70)), None));
    assert_eq!((row.number, row.counted, row.verdict), (2, 2, Some(Verdict::Retry)));
    assert_eq!(row.reason.as_deref(), Some("attempt 2 failed"));
    assert_eq!(row.record, Some(record(0)), "the second outcome brought none and kept it");
    owner.settle(1, vec![reopened(handled(0), 3)]).await;

    let row = owner.delivery(0).await.unwrap();
    assert_eq!((row.state, row.number, row.next_attempt_at), (State::Handled, 3, None));
    assert_eq!(row.settled_at, Some(at(0)));
    let attempts = owner.attempts(0).await;
    assert_eq!(
        attempts.iter().map(|a| (a.number, a.verdict)).collect::<Vec<_>>(),
        [(1, Verdict::Retry), (2, Verdict::Retry), (3, Verdict::Success)]
    );
    assert_eq!(attempts[0].log.as_deref(), Some("log of attempt 1"));
    assert!(owner.claim_again().await.open.is_empty());
}

pub async fn a_failure_keeps_its_record_and_a_success_drops_it(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![waiting(0), waiting(1), waiting(2)]).await;
    let without_record = |offset| {
        let to = Becomes::Final { state: State::HandleFail, settled_at: at(offset), record: None };
        OutcomeRow { to, ..reopened(failed(offset), 1) }
    };
    owner.settle(5, vec![reopened(handled(0), 1), without_record(1), failed(3), reopened(failed(2), 1)]).await;
    assert_eq!(owner.delivery(0).await.unwrap().record, None);
    assert_eq!(owner.delivery(1).await.unwrap().record, Some(record(1)), "the open row's record stays with it");
    assert_eq!(owner.delivery(2).await.unwrap().record, Some(record(2)));
    assert_eq!(owner.delivery(3).await.unwrap().record, Some(record(3)));
}

/// Kafka removed the record of a parked delivery, and nothing but its coordinates is known
/// when it ends: the final row had an id made of those, no type and no time.
pub async fn what_ends_without_its_record_keeps_the_message_of_its_row(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![retrying(0, 1, Some(at(50))), waiting(1)]).await;
    let unknown = |offset| {
        let to = Becomes::Final { state: State::HandleFail, settled_at: at(60), record: None };
        OutcomeRow {
            to,
            record_time: Timestamp(0),
            message_id: format!("order:0:{offset}"),
            source_hash: Some(SourceHash::of("kafka")),
            type_name: String::new(),
            key: None,
            received_at: Timestamp(0),
            attempts: Vec::new(),
            ..reopened(failed(offset), 1)
        }
    };
    owner.settle(2, vec![unknown(0), unknown(1)]).await;
    for offset in [0, 1] {
        let row = owner.delivery(offset).await.unwrap();
        assert_eq!((row.state, row.settled_at), (State::HandleFail, Some(at(60))));
        assert_eq!((row.message_id, row.type_name.as_str()), (format!("message-{offset}"), "OrderCreated"));
        assert_eq!((row.record_time, row.received_at), (RECORD_TIME, at(offset)));
        assert_eq!(row.record_key, Some(key_of(offset)));
        let by_id = DeliveryFilter { message_id: Some(format!("message-{offset}")), ..DeliveryFilter::default() };
        assert_eq!(owner.listed(&by_id, 10).await, [offset]);
    }
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 0, 2));
}

pub async fn the_position_never_goes_back(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(7, vec![handled(6)]).await;
    owner.settle(3, vec![handled(2)]).await;
    assert_eq!(owner.claim_again().await.next, Offset(7));
}

pub async fn text_with_nul_and_keys_of_any_bytes_are_stored(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let key = Bytes::from_static(&[0xff, 0x00, 0xfe, b'k']);
    let mut broken = failed(0);
    broken.reason = Some("a\0b \u{1f980}".to_owned());
    broken.message_id = "id\0".to_owned();
    broken.type_name = "Ty\0pe".to_owned();
    broken.key = Some(key.clone());
    broken.attempts[0].log = Some("\0".to_owned());
    broken.attempts[0].reason = Some("\0\0".to_owned());
    let empty = OutcomeRow { key: Some(Bytes::new()), ..handled(1) };
    let none = OutcomeRow { key: None, ..retrying(2, 1, None) };
    broken.state_writes.push(("k\0".to_owned(), Some(Bytes::from_static(b"\0"))));
    owner.settle(3, vec![broken, empty, none]).await;

    let row = owner.delivery(0).await.unwrap();
    assert_eq!(row.reason.as_deref(), Some("a\u{fffd}b \u{1f980}"));
    assert_eq!((row.message_id.as_str(), row.type_name.as_str()), ("id\u{fffd}", "Ty\u{fffd}pe"));
    assert_eq!(row.record_key, Some(key.clone()));
    assert_eq!(owner.delivery(1).await.unwrap().record_key, Some(Bytes::new()), "an empty key is not an absent one");
    assert_eq!(owner.delivery(2).await.unwrap().record_key, None);
    let attempts = owner.attempts(0).await;
    assert_eq!(
        (attempts[0].log.as_deref(), attempts[0].reason.as_deref()),
        (Some("\u{fffd}"), Some("\u{fffd}\u{fffd}"))
    );
    assert_eq!(store.state_get(GROUP, "k\0").await.unwrap(), Some(Bytes::from_static(b"\0")));
    let by_key = courier::store::DeliveryFilter { key: Some(key), ..Default::default() };
    assert_eq!(owner.listed(&by_key, 10).await, [0]);
    let by_id = courier::store::DeliveryFilter { message_id: Some("id\0".to_owned()), ..Default::default() };
    assert_eq!(owner.listed(&by_id, 10).await, [0]);
}

pub async fn effects_commit_with_the_outcome_or_not_at_all(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let with_effects = |id: &str| {
        let mut outcome = handled(0);
        outcome.outbound.push(emission(id, Some(b"k"), 3));
        outcome.state_writes.push(("seen".to_owned(), Some(Bytes::from_static(b"yes"))));
        outcome
    };
    let refused = owner.part(2, vec![with_effects("lost"), reopened(handled(1), 2)]);
    assert!(owner.try_settle(&[refused]).await.is_err());
    assert_eq!(store.state_get(GROUP, "seen").await.unwrap(), None);
    assert!(store.topics_with_outbound().await.unwrap().is_empty());

    owner.settle(1, vec![with_effects("kept")]).await;
    assert_eq!(store.state_get(GROUP, "seen").await.unwrap(), Some(Bytes::from_static(b"yes")));
    assert_eq!(store.state_get("another", "seen").await.unwrap(), None, "state belongs to a group");
    assert_eq!(store.topics_with_outbound().await.unwrap(), ["stock"]);
    let row = owner.delivery(0).await.unwrap();
    assert_eq!((row.group.as_str(), row.topic.as_str(), row.partition, row.incarnation), (GROUP, TOPIC, 0, 0));
    assert_eq!((row.message_id.as_str(), row.type_name.as_str()), ("message-0", "OrderCreated"));
    assert_eq!((row.node.as_deref(), row.version.as_deref()), (Some("host-1"), Some(VERSION)));
    assert_eq!((row.record_time, row.received_at, row.started_at), (RECORD_TIME, at(0), Some(at(0))));
    assert_eq!((row.record_key, row.fingerprint, row.reason), (Some(key_of(0)), None, None));
}

pub async fn the_last_state_write_of_a_key_stays(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let writing = |offset, writes: &[(&str, Option<&'static [u8]>)]| {
        let writes = writes.iter().map(|(key, value)| ((*key).to_owned(), value.map(Bytes::from_static)));
        OutcomeRow { state_writes: writes.collect(), ..handled(offset) }
    };
    owner
        .settle(
            2,
            vec![
                writing(0, &[("a", Some(b"1")), ("a", Some(b"2")), ("b", Some(b"")), ("c", Some(b"1"))]),
                writing(1, &[("a", Some(b"3"))]),
            ],
        )
        .await;
    assert_eq!(store.state_get(GROUP, "a").await.unwrap(), Some(Bytes::from_static(b"3")));
    assert_eq!(store.state_get(GROUP, "b").await.unwrap(), Some(Bytes::new()), "an empty value is a value");
    owner
        .settle(
            4,
            vec![
                writing(2, &[("a", Some(b"4")), ("a", None), ("x", None)]),
                writing(3, &[("c", None), ("c", Some(b"2"))]),
            ],
        )
        .await;
    assert_eq!(store.state_get(GROUP, "a").await.unwrap(), None);
    assert_eq!(store.state_get(GROUP, "c").await.unwrap(), Some(Bytes::from_static(b"2")));
}

/// The amount of a group's state was not known, and it was kept for ever.
pub async fn what_the_state_of_a_group_holds_is_counted_and_forgotten(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let writing = |offset, writes: &[(&str, Option<&'static [u8]>)]| {
        let writes = writes.iter().map(|(key, value)| ((*key).to_owned(), value.map(Bytes::from_static)));
        OutcomeRow { state_writes: writes.collect(), ..handled(offset) }
    };
    let holds = async || {
        let StateUsage { keys, bytes } = store.state_usage(GROUP).await.unwrap();
        (keys, bytes)
    };
    assert_eq!(holds().await, (0, 0));
    owner.settle(1, vec![writing(0, &[("a", Some(b"12345")), ("é", Some(b"")), ("c", Some(b"1"))])]).await;
    assert_eq!(holds().await, (3, 10), "bytes of keys and values");
    owner.settle(2, vec![writing(1, &[("a", Some(b"1")), ("c", None), ("never", None)])]).await;
    assert_eq!(holds().await, (2, 4));
    owner.settle(3, vec![writing(2, &[("a", None), ("c", Some(b"123"))])]).await;
    assert_eq!(holds().await, (2, 6));
    let (day, now) = (Duration::from_secs(86_400), Duration::ZERO);
    assert!(!store.forget_state(GROUP, day).await.unwrap());
    assert_eq!(holds().await, (2, 6));
    assert_eq!(store.state_value(GROUP, "c", Some(day)).await.unwrap(), Some(Bytes::from_static(b"123")));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(store.state_value(GROUP, "c", Some(now)).await.unwrap(), None, "too old, though it is still there");
    assert!(!store.forget_state(GROUP, now).await.unwrap());
    assert_eq!(holds().await, (0, 0));
    assert_eq!(store.state_get(GROUP, "c").await.unwrap(), None);
}

pub async fn totals_count_what_is_open_and_what_has_ended(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut push_fail = waiting(4);
    push_fail.verdict = Some(Verdict::NoPlugin);
    push_fail.to = Becomes::Open { state: State::PushFail, next_attempt_at: Some(at(9)), held: false, record: None };
    let open = vec![waiting(0), waiting(1), retrying(2, 1, Some(at(9))), retrying(3, 1, None), push_fail];
    owner.settle(5, open).await;
    owner.settle(9, vec![handled(5), handled(6), handled(7), failed(8)]).await;
    assert_eq!(owner.totals().await, (2, 1, 1, 1, 3, 1));
    owner.settle(9, vec![reopened(handled(2), 2), reopened(failed(0), 1)]).await;
    assert_eq!(owner.totals().await, (1, 1, 0, 1, 4, 2));
    assert_eq!(owner.delivery(4).await.unwrap().record, None, "only its coordinates are kept");
    let unread = store.open_records(owner.claimed.position, &[Offset(4)]).await.unwrap();
    assert!(unread[0].as_ref().is_some_and(|open| open.record.is_none() && open.row.record_bytes == 0));
}
