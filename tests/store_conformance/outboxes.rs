//! Rows of senders' outboxes, and what makes room for what.

use bytes::Bytes;
use courier::store::{Accepted, NewMessage, OutboxNote, SHARDS, StoreError};
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
    let shards = store.lease_shards(writer, SHARDS, LEASE).await.unwrap();
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

pub async fn notes_of_an_outbox_add_up(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shard = store.lease_shards(writer, SHARDS, LEASE).await.unwrap()[3];
    let note = OutboxNote {
        name: "shop".to_owned(),
        node: "host-1".to_owned(),
        why: Some("gone\0".to_owned()),
        pending: Some(9),
        oldest_at: Some(Timestamp(4)),
        relayed: 5,
        refused: 1,
    };
    store.note_outbox(shard, &note).await.unwrap();
    store.note_outbox(shard, &OutboxNote { why: None, pending: None, oldest_at: None, ..note }).await.unwrap();
    let rows = store.outboxes().await.unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.name.as_str(), row.node.as_str(), row.shard), ("shop", "host-1", shard.0));
    assert_eq!((&row.why, row.pending, row.oldest_at, row.relayed, row.refused), (&None, None, None, 10, 2));
    assert!(row.noted_at.0 > 0);
}

pub async fn a_refused_message_makes_room_for_a_corrected_one(database: Database) {
    let store = database.open().await;
    store.accept(&[refused("m-1", 1), refused("m-2", 1), refused("m-3", 1)]).await.unwrap();
    // The same once more is told so again.
    let answers = store.accept(&[refused("m-1", 1)]).await.unwrap();
    assert!(matches!(&answers[..], [Accepted::Same(row)] if !row.retrying), "{answers:?}");
    // Another that is refused takes its place, and so does one that is right,
    // with the same content too: what was asked of it may have changed.
    let corrected = NewMessage { digest: [2; 32], ..message("m-2", None, None) };
    let answers = store.accept(&[refused("m-1", 2), corrected, message("m-3", None, None)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New, Accepted::New]), "{answers:?}");
    let row = store.message("m-2").await.unwrap().unwrap();
    assert_eq!((row.state, row.retrying), (State::SendFail, true));
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, LEASE).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-2", "m-3"]);
    // What is owed keeps its id.
    let answers = store.accept(&[refused("m-2", 7)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::Other]), "{answers:?}");
}
