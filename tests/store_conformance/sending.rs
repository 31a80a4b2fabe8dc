//! Messages of senders.

use std::time::Duration;

use bytes::Bytes;
use courier::store::undelivered::UndeliveredFilter;
use courier::store::{
    Accepted, Identity, LeftOut, MessageFilter, NewMessage, NewOutbound, Page, RefusedMessage, RelayResult, Relayed,
    SHARDS, SentBy, SentMessage, SharedStore, StoreError, UnsentMessage,
};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::half::single;
use super::owner::{LEASE, Owner, emission, failed, handled, join};

/// A message that a relay or, while it is held, a direct send will produce.
pub fn message(id: &str, key: Option<&'static [u8]>, held_for: Option<Duration>) -> NewMessage {
    let outbound = NewOutbound { held_for, topic: "order".to_owned(), ..emission(id, key, 7) };
    NewMessage {
        id: id.to_owned(),
        digest: [1; 32],
        key: key.map(Bytes::from_static),
        source: "shop".to_owned(),
        topic: "order".to_owned(),
        type_name: "OrderCreated".to_owned(),
        kind: "event",
        time: Timestamp(5),
        state: State::SendFail,
        reason: Some("not sent yet".to_owned()),
        retrying: true,
        place: None,
        record: Some(outbound.record.clone()),
        outbound: Some(outbound),
        due: None,
        sent_by: None,
    }
}

/// The identity of a [`message`].
pub fn identity(id: &str) -> Identity {
    Identity::new("order", "shop", id)
}

/// Ids of the messages that the relay gets now, over all shards.
pub async fn due(store: &SharedStore, shards: &[(i32, i64)]) -> Vec<String> {
    store.outbound(shards, 1_000, &LeftOut::default()).await.unwrap().into_iter().map(|row| row.message_id).collect()
}

pub async fn an_id_is_accepted_once(database: Database) {
    let store = database.open().await;
    let first = message("m\0-1", Some(b"k\xff"), None);
    let other = NewMessage { digest: [2; 32], ..first.clone() };
    let answers = store.accept(&[first.clone(), message("m-2", None, None)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New]), "{answers:?}");
    let answers = store.accept(&[other, message("m-3", None, None), first.clone()]).await.unwrap();
    let [Accepted::Other, Accepted::New, Accepted::Same(row)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(row.id, "m\u{fffd}-1");
    assert_eq!((row.state, row.retrying, row.place), (State::SendFail, true, None));
    assert_eq!((row.key.clone(), row.record.clone()), (first.key, first.record), "the record is kept while it is owed");
    assert_eq!((row.source.as_str(), row.kind.as_str(), row.time), ("shop", "event", Timestamp(5)));
    assert_eq!(store.message("m\0-1").await.unwrap().as_ref(), Some(&**row));
    assert!(store.message("m-4").await.unwrap().is_none());
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m\u{fffd}-1", "m-2", "m-3"], "each is owed to Kafka once");
}

pub async fn an_id_twice_in_one_batch_is_one_message(database: Database) {
    let store = database.open().await;
    let one = message("m-1", None, None);
    let other = NewMessage { digest: [2; 32], ..one.clone() };
    let answers = store.accept(&[one.clone(), one, other]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::Same(_), Accepted::Other]), "{answers:?}");
}

/// What a direct send hands in after Kafka took it is one statement where all of
/// it is new, and must answer as any other batch where it is not.
pub async fn what_kafka_has_already_is_taken_once(database: Database) {
    let store = database.open().await;
    let taken = |id: &str, offset: i64| NewMessage {
        state: State::Committed,
        reason: None,
        retrying: false,
        place: Some((2, Offset(offset))),
        record: None,
        outbound: None,
        ..message(id, Some(b"k"), None)
    };
    let answers = store.accept(&[taken("m-1", 40), taken("m-2", 41)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New]), "{answers:?}");
    let other = NewMessage { digest: [2; 32], ..taken("m-2", 50) };
    // The answer was lost, and what comes again has company.
    let batch = [taken("m-3", 42), taken("m-1", 49), other, taken("m-3", 48), taken("m-4", 43)];
    let answers = store.accept(&batch).await.unwrap();
    let [Accepted::New, Accepted::Same(again), Accepted::Other, Accepted::Same(twice), Accepted::New] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((again.place, twice.place), (Some((2, Offset(40))), Some((2, Offset(42)))), "the first place stays");
    let half = single("h", Duration::from_secs(60));
    store.prepare_half(&half).await.unwrap();
    let held = &half.messages[0].id;
    let answers = store.accept(&[taken(held, 60), taken("m-5", 44)]).await.unwrap();
    assert!(matches!(&answers[..], [Accepted::Reserved { .. }, Accepted::New]), "{answers:?}");
    let page = Page { cursor: None, limit: 100 };
    let listed = store.messages(&MessageFilter::default(), &page).await.unwrap().items;
    assert_eq!(listed.len(), 5, "{listed:?}");
    assert!(listed.iter().all(|row| row.state == State::Committed && row.place.is_some()), "{listed:?}");
    assert!(store.topics_with_outbound().await.unwrap().is_empty());
}

/// Rows are sent in the order of their insertion: those of a batch keep it also
/// when some of the batch are there already, or take the place of refused ones.
pub async fn the_rows_of_a_batch_keep_its_order_whatever_is_there(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let keyed = |id: &str| message(id, Some(b"k"), None);
    let refused = NewMessage { digest: [3; 32], retrying: false, outbound: None, record: None, ..keyed("m-2") };
    store.accept(&[refused]).await.unwrap();
    store.accept(&[keyed("m-9"), keyed("m-8")]).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-9", "m-8"]);
    let answers = store.accept(&[keyed("m-5"), keyed("m-2"), keyed("m-9"), keyed("m-1")]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New, Accepted::Same(_), Accepted::New]), "{answers:?}");
    assert_eq!(due(&store, &shards).await, ["m-9", "m-8", "m-5", "m-2", "m-1"]);
}

/// A hold that ran out lets the relay send what a direct send is just ending.
pub async fn a_direct_send_and_the_relay_that_end_at_once_leave_one_place(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    for round in 0..20 {
        let batch: Vec<_> = (0..8).map(|number| message(&format!("m-{round:02}-{number}"), None, None)).collect();
        store.accept(&batch).await.unwrap();
        let result = || RelayResult::Taken { partition: 1, offset: Offset(70) };
        let rows = store.outbound(&shards, 100, &LeftOut::default()).await.unwrap();
        let relayed: Vec<_> =
            rows.iter().map(|row| Relayed { id: row.id, shard: row.shard, result: result() }).collect();
        assert_eq!(relayed.len(), 8);
        // In the opposite order: nobody waits for the other in a circle.
        let ended = batch.iter().rev();
        let sent: Vec<_> = ended
            .map(|message| SentMessage { identity: message.identity(), partition: 2, offset: Offset(80) })
            .collect();
        let (directly, by_relay) = tokio::join!(store.sent(&sent), other.relayed(&shards, &relayed));
        directly.unwrap();
        by_relay.unwrap();
        for message in &batch {
            let row = store.message_of(&message.identity()).await.unwrap().unwrap();
            let place = row.place.unwrap();
            assert!(row.state == State::Committed && !row.retrying, "{row:?}");
            assert!([(1, Offset(70)), (2, Offset(80))].contains(&place), "{place:?}");
        }
        assert!(store.outbound(&shards, 100, &LeftOut::default()).await.unwrap().is_empty());
    }
}

pub async fn a_message_sent_directly_is_committed_where_it_is(database: Database) {
    let store = database.open().await;
    store.accept(&[message("m-1", None, Some(LEASE)), message("m-2", None, Some(LEASE))]).await.unwrap();
    let sent = |id: &str, offset| SentMessage { identity: identity(id), partition: 2, offset: Offset(offset) };
    store.sent(&[sent("m-1", 40)]).await.unwrap();
    let row = store.message("m-1").await.unwrap().unwrap();
    assert_eq!((row.state, row.place, row.retrying), (State::Committed, Some((2, Offset(40))), false));
    assert_eq!((row.reason, row.record), (None, None), "its body is in Kafka");
    store.sent(&[sent("m-1", 41)]).await.expect("a second answer is no error");
    assert_eq!(store.message("m-1").await.unwrap().unwrap().place, Some((2, Offset(40))));
    assert_eq!(store.topics_with_outbound().await.unwrap(), ["order"], "the other is still owed");
    store.sent(&[sent("m-2", 42)]).await.unwrap();
    assert!(store.topics_with_outbound().await.unwrap().is_empty());
    assert!(matches!(store.resend(&identity("m-2")).await, Err(StoreError::Conflict(_))));
}

pub async fn a_message_that_was_not_sent_is_the_relays(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let held =
        NewMessage { state: State::Committed, retrying: false, reason: None, ..message("m-1", None, Some(LEASE)) };
    store.accept(&[held]).await.unwrap();
    assert!(due(&store, &shards).await.is_empty());
    let unsent = UnsentMessage { identity: identity("m-1"), reason: "the broker\0 is away".to_owned() };
    store.release_outbound(&[unsent]).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-1"]);
    let row = store.message("m-1").await.unwrap().unwrap();
    assert_eq!((row.state, row.retrying), (State::SendFail, true));
    assert_eq!(row.reason.as_deref(), Some("the broker\u{fffd} is away"));
}

/// A message with its sender's id that Kafka refused was answered with a 4xx, and
/// the relay kept it as undelivered all the same.
pub async fn a_direct_send_that_kafka_refused_is_no_debt(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let held = [message("m-1", None, Some(LEASE)), message("m-2", None, Some(LEASE))];
    store.accept(&held).await.unwrap();
    let body = Bytes::from_static(b"the front");
    let refused =
        |id: &str| RefusedMessage { identity: identity(id), reason: "too\0 large".to_owned(), body: body.clone() };
    store.refuse_outbound(&[refused("m-1"), refused("unknown")]).await.unwrap();
    let row = store.message("m-1").await.unwrap().unwrap();
    assert_eq!((row.state, row.retrying, row.record), (State::SendFail, false, Some(body.clone())));
    assert_eq!(row.reason.as_deref(), Some("too\u{fffd} large"));
    assert!(store.undelivered_totals(&UndeliveredFilter::default()).await.unwrap().is_empty());
    store.release_outbound(&[UnsentMessage { identity: identity("m-2"), reason: "away".to_owned() }]).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-2"], "the relay has only the other");
    // A corrected message is accepted in its place.
    let corrected = NewMessage { digest: [3; 32], ..message("m-1", None, None) };
    let answers = store.accept(&[corrected]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New]), "{answers:?}");
    // A message that the relay sent meanwhile stays.
    store.sent(&[SentMessage { identity: identity("m-1"), partition: 0, offset: Offset(7) }]).await.unwrap();
    store.refuse_outbound(&[refused("m-1")]).await.unwrap();
    assert_eq!(store.message("m-1").await.unwrap().unwrap().place, Some((0, Offset(7))));
}

/// A message may be handled, fail and be dead-lettered before its sender's host
/// stores that it was sent. The dead letter has the same id.
pub async fn a_dead_letter_is_not_taken_for_its_message(database: Database) {
    let store = database.open().await;
    store.accept(&[message("m-1", None, Some(LEASE))]).await.unwrap();
    let mut owner = Owner::new(&store).await;
    let mut dead = failed(0);
    dead.message_id = "m-1".to_owned();
    dead.outbound.push(NewOutbound { listed: false, topic: "dlq".to_owned(), ..emission("m-1", None, 9) });
    owner.settle(1, vec![dead]).await;
    store.sent(&[SentMessage { identity: identity("m-1"), partition: 0, offset: Offset(0) }]).await.unwrap();
    assert_eq!(store.topics_with_outbound().await.unwrap(), ["dlq"]);
    let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-1"]);
}

/// A handler may publish a message under the identity of a message that its sender's host is
/// sending. PostgreSQL took the handler's outbound row for the sender's and deleted it, so
/// that the handler's message never reached Kafka.
pub async fn a_handlers_row_is_not_taken_for_a_senders_message(database: Database) {
    let store = database.open().await;
    store.accept(&[message("m-1", None, Some(LEASE))]).await.unwrap();
    let mut owner = Owner::new(&store).await;
    let mut published = handled(0);
    let group = Some("stock".to_owned());
    let alike = NewOutbound { group, source: "shop".to_owned(), topic: "order".to_owned(), ..emission("m-1", None, 9) };
    published.outbound.push(alike);
    owner.settle(1, vec![published]).await;
    store.sent(&[SentMessage { identity: identity("m-1"), partition: 0, offset: Offset(0) }]).await.unwrap();
    let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
    assert_eq!(due(&store, &shards).await, ["m-1"], "the handler's is still owed");
}

pub async fn a_refused_message_is_not_sent_again(database: Database) {
    let store = database.open().await;
    let refused = NewMessage {
        outbound: None,
        retrying: false,
        record: Some(Bytes::from_static(b"front of the body")),
        reason: Some("too large".to_owned()),
        ..message("m-1", None, None)
    };
    store.accept(&[refused]).await.unwrap();
    let row = store.message("m-1").await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.retrying, row.record),
        (State::SendFail, false, Some(Bytes::from_static(b"front of the body")))
    );
    assert!(matches!(store.resend(&identity("m-1")).await, Err(StoreError::Conflict(_))), "its body is not there");
    assert!(matches!(store.resend(&identity("m-2")).await, Err(StoreError::NotFound(_))));
    assert!(store.topics_with_outbound().await.unwrap().is_empty());
}

pub async fn messages_are_listed_by_what_they_are(database: Database) {
    let store = database.open().await;
    let mut batch = Vec::new();
    for number in 0..25 {
        let mut new = message(&format!("m-{number:02}"), if number % 2 == 0 { Some(b"even") } else { None }, None);
        new.topic = if number % 5 == 0 { "rare".to_owned() } else { "order".to_owned() };
        new.source = format!("source-{}", number % 3);
        if number >= 20 {
            new.outbound = None;
            new.state = State::Committed;
            new.place = Some((1, Offset(number)));
        }
        batch.push(new);
    }
    store.accept(&batch).await.unwrap();
    let listed = async |filter: MessageFilter, limit: u32| {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.messages(&filter, &Page { cursor, limit }).await.unwrap();
            assert!(page.items.len() <= limit as usize && !page.truncated);
            ids.extend(page.items.into_iter().map(|row| row.id[2..].parse::<i64>().unwrap()));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    };
    let none = MessageFilter::default;
    let newest_first = |keep: &dyn Fn(&i64) -> bool| (0..25).rev().filter(|n| keep(n)).collect::<Vec<i64>>();
    assert_eq!(listed(none(), 7).await, newest_first(&|_| true), "taken at one time, and yet each once");
    assert_eq!(listed(none(), 25).await.len(), 25);
    let key = Some(Bytes::from_static(b"even"));
    assert_eq!(listed(MessageFilter { key, ..none() }, 4).await, newest_first(&|n| n % 2 == 0));
    let topic = Some("rare".to_owned());
    assert_eq!(listed(MessageFilter { topic, ..none() }, 4).await, newest_first(&|n| n % 5 == 0));
    let topics = Some(vec!["rare".to_owned(), "unknown".to_owned()]);
    assert_eq!(listed(MessageFilter { topics, ..none() }, 4).await, newest_first(&|n| n % 5 == 0));
    let source = Some("source-1".to_owned());
    assert_eq!(listed(MessageFilter { source, ..none() }, 4).await, newest_first(&|n| n % 3 == 1));
    assert_eq!(listed(MessageFilter { state: Some(State::SendFail), ..none() }, 6).await, newest_first(&|n| *n < 20));
    assert_eq!(listed(MessageFilter { state: Some(State::Committed), ..none() }, 3).await, newest_first(&|n| *n >= 20));
    assert!(listed(MessageFilter { type_name: Some("Other".into()), ..none() }, 3).await.is_empty());
    let now = store.ping().await.unwrap();
    let future = Timestamp(now.0 + 60_000_000);
    assert!(listed(MessageFilter { from: Some(future), ..none() }, 3).await.is_empty());
    assert_eq!(listed(MessageFilter { to: Some(future), ..none() }, 9).await.len(), 25);
}

/// Anybody could erase a refused row whose id can be guessed.
pub async fn a_refused_message_is_replaced_only_by_its_own_sender(database: Database) {
    let store = database.open().await;
    let by = |sender: &str, source_proven| Some(SentBy { sender: sender.to_owned(), source_proven });
    let refused = |id: &str, digest: u8, sent_by: &Option<SentBy>| NewMessage {
        digest: [digest; 32],
        retrying: false,
        outbound: None,
        record: None,
        sent_by: sent_by.clone(),
        ..message(id, None, None)
    };
    let (shop, other, owner) = (by("shop", false), by("other", false), by("owner", true));
    let of = |digest: u8, by: &Option<SentBy>| NewMessage {
        digest: [digest; 32],
        sent_by: by.clone(),
        ..message("m-3", None, None)
    };
    store.accept(&[refused("m-3", 1, &shop)]).await.unwrap();
    // Requests of all senders are joined: with SQLite the corrected message of one let the
    // other's take its place.
    let answers = store.accept(&[of(2, &other), of(3, &shop)]).await.unwrap();
    assert!(matches!(answers[0], Accepted::Other), "{answers:?}");
    assert_eq!(store.message("m-3").await.unwrap().unwrap().sent_by, shop);
    store.accept(&[refused("m-1", 1, &shop), refused("m-2", 1, &shop)]).await.unwrap();
    let row = store.message("m-1").await.unwrap().unwrap();
    assert_eq!(row.sent_by, shop);
    let theirs = NewMessage { digest: [2; 32], sent_by: other.clone(), ..message("m-1", None, None) };
    let answers = store.accept(&[theirs.clone(), refused("m-1", 1, &other)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::Other, Accepted::Other]), "another is told nothing: {answers:?}");
    assert_eq!(store.message("m-1").await.unwrap().unwrap(), row);
    let unnamed = NewMessage { sent_by: None, ..theirs.clone() };
    assert!(matches!(store.accept(&[unnamed]).await.unwrap()[..], [Accepted::Other]));
    let answers = store.accept(&[refused("m-1", 1, &shop)]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::Same(_)]), "{answers:?}");
    let corrected = NewMessage { digest: [3; 32], sent_by: shop.clone(), ..message("m-1", None, None) };
    assert!(matches!(store.accept(&[corrected]).await.unwrap()[..], [Accepted::New]));
    let proven = NewMessage { digest: [2; 32], sent_by: owner.clone(), ..message("m-2", None, None) };
    assert!(matches!(store.accept(&[proven]).await.unwrap()[..], [Accepted::New]), "whose source it is comes first");
    assert_eq!(store.message("m-2").await.unwrap().unwrap().sent_by, owner);
}

/// The key of cached machine code is the same on each host, and different in every
/// other store.
pub async fn a_key_is_made_once_and_shared(database: Database) {
    let store = database.open().await;
    let key = store.host_key("artefacts").await.unwrap();
    assert_eq!(store.host_key("artefacts").await.unwrap(), key);
    assert_eq!(database.open().await.host_key("artefacts").await.unwrap(), key);
    assert_ne!(store.host_key("other").await.unwrap(), key);
}
