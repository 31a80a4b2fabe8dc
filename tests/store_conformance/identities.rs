//! Messages that share an id: topic, source and id together identify a message.

use courier::store::{
    Accepted, Identity, LeftOut, MAX_SAME_ID, MessageFilter, NewMessage, NewOutbound, Page, RelayResult, Relayed,
    SHARDS, SentMessage, UnsentMessage,
};
use courier_core::message::Offset;
use courier_core::status::State;

use super::Database;
use super::delayed::waiting;
use super::owner::{LEASE, join};
use super::sending::message;

/// A message of this id from a source, on a topic.
fn of(id: &str, source: &str, topic: &str) -> NewMessage {
    let plain = message(id, Some(b"k"), None);
    let outbound =
        plain.outbound.clone().map(|row| NewOutbound { source: source.to_owned(), topic: topic.to_owned(), ..row });
    NewMessage { source: source.to_owned(), topic: topic.to_owned(), outbound, ..plain }
}

/// Issue 17: a sender of 100 messages under one id hid the message of that id from
/// its own sender, who could neither read nor cancel it.
pub async fn messages_of_an_id_are_found_on_their_topic_among_many_others(database: Database) {
    let store = database.open().await;
    store.accept(&[of("1", "shop", "order")]).await.unwrap();
    let others: Vec<_> = (0..MAX_SAME_ID).map(|at| of("1", &format!("s-{at}"), "elsewhere")).collect();
    store.accept(&others).await.unwrap();
    let found = store.messages_with_id("1", Some(&["order".to_owned()])).await.unwrap();
    assert_eq!(found.iter().map(|row| row.source.as_str()).collect::<Vec<_>>(), ["shop"]);
    assert_eq!(store.messages_with_id("1", None).await.unwrap().len(), MAX_SAME_ID as usize);
    assert!(store.messages_with_id("1", Some(&[])).await.unwrap().is_empty());
}

/// Issue 16: HTTP answered 409 to the other source.
pub async fn one_id_of_two_sources_is_two_messages(database: Database) {
    let store = database.open().await;
    let [eu, us] = ["/eu", "/us"].map(|source| of("1", source, "order"));
    let other = NewMessage { digest: [2; 32], ..us.clone() };
    let answers = store.accept(&[eu.clone(), us.clone(), other, eu.clone()]).await.unwrap();
    let [Accepted::New, Accepted::New, Accepted::Other, Accepted::Same(again)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(again.identity(), eu.identity());
    let both = store.messages_with_id("1", None).await.unwrap();
    assert_eq!(both.iter().map(|row| row.source.as_str()).collect::<Vec<_>>(), ["/us", "/eu"], "newest first");
    // The state of one does not affect the other.
    let sent = SentMessage { identity: eu.identity(), partition: 0, offset: Offset(7) };
    store.sent(&[sent]).await.unwrap();
    store.release_outbound(&[UnsentMessage { identity: us.identity(), reason: "away".to_owned() }]).await.unwrap();
    let of = async |message: &NewMessage| store.message_of(&message.identity()).await.unwrap().unwrap();
    assert_eq!((of(&eu).await.state, of(&eu).await.place), (State::Committed, Some((0, Offset(7)))));
    assert_eq!((of(&us).await.state, of(&us).await.retrying), (State::SendFail, true));
    let ended = store.ended(&[eu.identity(), us.identity()]).await.unwrap();
    assert_eq!(ended, [Some(State::Committed), None]);
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.identity()).collect::<Vec<_>>(), [us.identity()]);
    let result = RelayResult::Undelivered { code: "too_large", reason: "too large".to_owned() };
    store.relayed(&shards, &[Relayed { id: rows[0].id, shard: rows[0].shard, result }]).await.unwrap();
    assert_eq!((of(&us).await.state, of(&us).await.retrying), (State::SendFail, false));
    assert_eq!(of(&eu).await.place, Some((0, Offset(7))));
    store.resend(&us.identity()).await.unwrap();
    assert_eq!(store.outbound(&shards, 10, &LeftOut::default()).await.unwrap()[0].identity(), us.identity());
}

pub async fn one_id_on_two_topics_is_two_messages(database: Database) {
    let store = database.open().await;
    let soon = |topic: &str| {
        let due = courier::store::Due::After(std::time::Duration::from_secs(3_600));
        let plain = waiting("1", None, due);
        let outbound = plain.outbound.clone().map(|row| NewOutbound { topic: topic.to_owned(), ..row });
        NewMessage { topic: topic.to_owned(), outbound, ..plain }
    };
    let [order, stock] = ["order", "stock"].map(soon);
    let answers = store.accept(&[order.clone(), stock.clone()]).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New, Accepted::New]), "{answers:?}");
    // One is cancelled, and the other goes on waiting.
    let cancelled = store.cancel(&order.identity()).await.unwrap();
    assert_eq!((cancelled.topic.as_str(), cancelled.state), ("order", State::SendFail));
    let other = store.message_of(&stock.identity()).await.unwrap().unwrap();
    assert_eq!((other.state, other.record.is_some()), (State::Committed, true));
    let listed = store.delayed(&Default::default(), &Page { cursor: None, limit: 10 }).await.unwrap().items;
    assert_eq!(listed.iter().map(|row| row.topic.as_str()).collect::<Vec<_>>(), ["stock"]);
}

/// Issue 16: of two outboxes with row id 1 the second row was SEND_FAIL, deleted
/// at its source, and its body kept nowhere.
pub async fn two_outboxes_with_one_row_id_send_both(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let [shop, billing] = ["shop", "billing"].map(|outbox| of("1", outbox, "order"));
    let answers = store.take_outbox(shards[3], std::slice::from_ref(&shop)).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New]), "{answers:?}");
    let second = NewMessage { digest: [2; 32], ..billing };
    let answers = store.take_outbox(shards[4], std::slice::from_ref(&second)).await.unwrap();
    assert!(matches!(answers[..], [Accepted::New]), "{answers:?}");
    let owed = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    assert_eq!(owed.iter().map(|row| row.source.as_str()).collect::<Vec<_>>(), ["shop", "billing"]);
}

/// A broadcast lies in the companion of the topic that it was published on, and its
/// row in the messages names that topic.
pub async fn a_broadcast_that_is_sent_again_goes_to_its_companion(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let plain = of("b", "shop", "order");
    let outbound = plain.outbound.clone().map(|row| NewOutbound { topic: "order.broadcast".to_owned(), ..row });
    let broadcast = NewMessage { kind: "broadcast", outbound, ..plain };
    store.accept(std::slice::from_ref(&broadcast)).await.unwrap();
    let told = async |result: RelayResult| {
        let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.topic.as_str(), row.identity()), ("order.broadcast", broadcast.identity()));
        store.relayed(&shards, &[Relayed { id: row.id, shard: row.shard, result }]).await.unwrap();
        let rows = store.messages_with_id("b", None).await.unwrap();
        assert_eq!(rows.len(), 1, "no row of its companion: {rows:?}");
    };
    told(RelayResult::Later { reason: "away".to_owned(), wait: std::time::Duration::ZERO, unknown_from: None }).await;
    told(RelayResult::Undelivered { code: "too_large", reason: "too large".to_owned() }).await;
    store.resend(&broadcast.identity()).await.unwrap();
    told(RelayResult::Taken { partition: 0, offset: Offset(1) }).await;
    let row = store.message_of(&broadcast.identity()).await.unwrap().unwrap();
    assert_eq!((row.state, row.place, row.kind.as_str()), (State::Committed, Some((0, Offset(1))), "broadcast"));
}

pub async fn messages_of_one_id_are_listed_without_loss(database: Database) {
    let store = database.open().await;
    let sources: Vec<String> = (0..5).map(|number| format!("source-{number}")).collect();
    let batch: Vec<NewMessage> = sources.iter().map(|source| of("1", source, "order")).collect();
    store.accept(&batch).await.unwrap();
    database.run("UPDATE message SET created_at = 5").await;
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.messages(&MessageFilter::default(), &Page { cursor, limit: 2 }).await.unwrap();
        found.extend(page.items.into_iter().map(|row| row.source));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    found.sort_unstable();
    assert_eq!(found, sources, "taken at one time under one id, and yet each once");
    let none = Identity::new("order", "source-9", "1");
    assert_eq!(store.message_of(&none).await.unwrap(), None);
}
