//! Rows of senders' outboxes, and what may replace an undelivered one.

use bytes::Bytes;
use courier::store::{Accepted, NewMessage, OutboxCause, OutboxCount, OutboxNote, SHARDS, StoreError};
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::Database;
use super::owner::{LEASE, join};
use super::sending::{due, identity, message};

fn refused(id: &str, digest: u8) -> NewMessage {
    NewMessage {
        digest: [digest; 32],
        reason: Some("body: is no object".to_owned()),
        retrying: false,
        record: Some(Bytes::from_static(b"front")),
        outbound: None,
        ..message(id, None, None)
    }
}

pub async fn rows_of_an_outbox_are_taken_under_the_epoch_of_its_shard(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let shard = shards[7];
    let rows = [message("m-1", Some(b"k"), None), message("m-2", Some(b"k"), None)];
    let answers = store.take_outbox(shard, &rows).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New]), "{answers:?}");
    let answers = store.take_outbox(shard, &rows).await.unwrap();
    assert!(matches!(answers[..], [Accepted::Same(_), Accepted::Same(_)]), "{answers:?}");
    let old = (shard.0, shard.1 - 1);
    let late = store.take_outbox(old, &[message("m-3", Some(b"k"), None)]).await;
    assert!(matches!(late, Err(StoreError::Fenced(_))), "{late:?}");
    let note = OutboxNote { name: "shop".to_owned(), node: "host-1".to_owned(), ..OutboxNote::default() };
    assert!(matches!(store.note_outbox(old, &note).await, Err(StoreError::Fenced(_))));
    assert!(store.outboxes().await.unwrap().is_empty());
    assert_eq!(due(&store, &shards).await, ["m-1", "m-2"], "what an older epoch hands in is not taken");
}

pub async fn what_has_ended_is_told(database: Database) {
    let store = database.open().await;
    store.accept(&[message("owed", None, None), refused("refused", 1)]).await.unwrap();
    let ended = store.ended(&["owed", "refused", "forgotten"].map(identity)).await.unwrap();
    let expected = [None, Some(State::SendFail), Some(State::Committed)];
    assert_eq!(ended, expected, "retention forgets only what has ended");
}

pub async fn what_is_noted_of_an_outbox_is_told_with_its_cause(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shard = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap()[3];
    let cause = |code: &str| OutboxCause { code: code.to_owned(), fields: [("table".into(), "t\"x".into())].into() };
    let note = OutboxNote {
        name: "shop".to_owned(),
        node: "host-1".to_owned(),
        why: Some("gone\0".to_owned()),
        pending: Some(9),
        oldest_at: Some(Timestamp(4)),
        cause: Some(cause("outbox_table_missing")),
    };
    let told = async |note: &OutboxNote| {
        store.note_outbox(shard, note).await.unwrap();
        let rows = store.outboxes().await.unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        row.clone()
    };
    let first = told(&note).await;
    assert_eq!((first.name.as_str(), first.node.as_str(), first.shard), ("shop", "host-1", shard.0));
    assert_eq!((first.cause.as_ref(), first.pending, first.oldest_at), (note.cause.as_ref(), Some(9), note.oldest_at));
    assert!(first.noted_at.0 > 0 && first.since == Some(first.noted_at));
    let again = told(&note).await;
    assert!(again.noted_at > first.noted_at && again.since == first.since, "the same cause goes on");
    let other = told(&OutboxNote { cause: Some(cause("outbox_column")), ..note.clone() }).await;
    assert_eq!(other.since, Some(other.noted_at), "another cause begins anew");
    let well = told(&OutboxNote { why: None, pending: None, oldest_at: None, cause: None, ..note }).await;
    assert_eq!((&well.why, well.pending, well.oldest_at, well.cause, well.since), (&None, None, None, None, None));
}

pub async fn rows_of_an_outbox_are_counted_once(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shard = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap()[3];
    let id = |id: &'static [u8]| Some(Bytes::from_static(id));
    let count = |rows: &[(i64, Option<Bytes>)]| OutboxCount {
        name: "shop".to_owned(),
        node: "host-1".to_owned(),
        relayed: 5,
        refused: 1,
        rows: rows.to_vec(),
    };
    assert!(store.counted_rows("shop").await.unwrap().is_empty());
    let first = [(1, id(b"m-1\xff")), (2, None)];
    assert!(store.count_outbox(shard, &count(&first)).await.unwrap());
    assert!(!store.count_outbox(shard, &count(&first)).await.unwrap(), "the same rows once more add nothing");
    assert_eq!(store.counted_rows("shop").await.unwrap(), first);
    let old = (shard.0, shard.1 - 1);
    let late = store.count_outbox(old, &count(&[(3, id(b"m-3"))])).await;
    assert!(matches!(late, Err(StoreError::Fenced(_))), "{late:?}");
    assert!(store.count_outbox(shard, &count(&[(3, id(b"m-3"))])).await.unwrap());
    let note = OutboxNote { name: "shop".to_owned(), node: "host-1".to_owned(), ..OutboxNote::default() };
    store.note_outbox(shard, &note).await.unwrap();
    let rows = store.outboxes().await.unwrap();
    assert_eq!((rows[0].relayed, rows[0].refused), (10, 2), "a note leaves the numbers as they are");
    assert_eq!(store.counted_rows("shop").await.unwrap(), [(3, id(b"m-3"))]);
}

pub async fn a_refused_message_makes_room_for_a_corrected_one(database: Database) {
    let store = database.open().await;
    store.accept(&[refused("m-1", 1), refused("m-2", 1), refused("m-3", 1)]).await.unwrap();
    // The same row once more gets the same result.
    let answers = store.accept(&[refused("m-1", 1)]).await.unwrap();
    assert!(matches!(&answers[..], [Accepted::Same(row)] if !row.retrying), "{answers:?}");
    // Another refused row takes its place, and so does a valid one, even with the
    // same content: the rules may have changed.
    let corrected = NewMessage { digest: [2; 32], ..message("m-2", None, None) };
    let answers = store.accept(&[refused("m-1", 2), corrected, message("m-3", None, None)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New, Accepted::New]), "{answers:?}");
    let row = store.message("m-2").await.unwrap().unwrap();
    assert_eq!((row.state, row.retrying), (State::SendFail, true));
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-2", "m-3"]);
    // A row that is owed keeps its id.
    let answers = store.accept(&[refused("m-2", 7)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::Other]), "{answers:?}");
}
