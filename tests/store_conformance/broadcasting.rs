//! Listeners of broadcasts, and messages that were handled before.

use std::time::Duration;

use courier::store::{ClaimRequest, Extent, HandledBy, Listen, NewMessage, SameTopic, SharedStore, SourceHash};
use courier_core::message::Offset;
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, Owner, TOPIC, handled, join, request};
use super::sending::message;

const HOUR: Duration = Duration::from_secs(3_600);

fn wish(node: &str, forget: Duration, catch_up: bool, high: i64) -> Listen {
    Listen {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        node: node.to_owned(),
        forget,
        catch_up,
        topic_id: "companion-1".to_owned(),
        partitions: vec![Extent { partition: 0, low: Offset(0), high: Offset(high) }],
    }
}

/// Where a listener stands.
async fn next(store: &SharedStore, node: &str) -> Option<Offset> {
    let rows = store.positions().await.unwrap();
    rows.iter().find(|row| row.listener.as_deref() == Some(node)).map(|row| row.next)
}

pub async fn a_listener_begins_at_the_end_and_goes_on_where_it_was(database: Database) {
    let store = database.open().await;
    let first = store.listen(&wish("host-1", HOUR, false, 5)).await.unwrap();
    assert!(first.begun && first.missed.is_empty(), "{first:?}");
    assert_eq!(next(&store, "host-1").await, Some(Offset(5)));
    let again = store.listen(&wish("host-1", HOUR, false, 9)).await.unwrap();
    assert!(!again.begun && again.missed.is_empty(), "{again:?}");
    assert_eq!(next(&store, "host-1").await, Some(Offset(5)), "what came meanwhile is still to be heard");
    // Its position is apart from the group's, and from another node's.
    let writer = join(&store, "host-1").await;
    let own = ClaimRequest {
        listener: Some("host-1".to_owned()),
        topic_id: "companion-1".to_owned(),
        ..request(writer, GROUP, 0)
    };
    let (own, of_group) = (store.claim(&own).await.unwrap(), store.claim(&request(writer, GROUP, 0)).await.unwrap());
    assert_ne!(own.position, of_group.position);
    assert_eq!((own.next, of_group.next), (Offset(5), Offset(0)));
    assert_eq!(next(&store, "host-2").await, None);
}

pub async fn a_listener_away_for_too_long_is_forgotten(database: Database) {
    let store = database.open().await;
    store.listen(&wish("host-1", Duration::ZERO, false, 5)).await.unwrap();
    store.listen(&wish("host-2", HOUR, false, 5)).await.unwrap();
    let forgotten = store.forget_listeners().await.unwrap();
    let nodes: Vec<&str> = forgotten.iter().map(|row| row.node.as_str()).collect();
    assert_eq!(nodes, ["host-1"]);
    assert!(store.forget_listeners().await.unwrap().is_empty(), "once");
    assert_eq!(next(&store, "host-1").await, None, "it is no longer expected");
    assert_eq!(store.still_listening(GROUP, "host-1").await.unwrap(), [TOPIC]);
    assert!(store.still_listening(GROUP, "host-2").await.unwrap().is_empty());
    let back = store.listen(&wish("host-1", HOUR, false, 9)).await.unwrap();
    assert!(back.begun);
    assert_eq!(back.missed, [(0, Offset(5), Offset(9))]);
    let [lost] = &store.lost_ranges(10).await.unwrap()[..] else { panic!("one lost range") };
    assert_eq!((lost.from, lost.to), (Offset(5), Offset(9)));
    assert_eq!(next(&store, "host-1").await, Some(Offset(9)));
}

pub async fn a_listener_that_catches_up_goes_on_where_it_was(database: Database) {
    let store = database.open().await;
    store.listen(&wish("host-1", Duration::ZERO, true, 5)).await.unwrap();
    store.forget_listeners().await.unwrap();
    let back = store.listen(&wish("host-1", HOUR, true, 9)).await.unwrap();
    assert!(back.begun && back.missed.is_empty(), "{back:?}");
    assert_eq!(next(&store, "host-1").await, Some(Offset(5)));
    let ended = store.listen_only("host-1", &[]).await.unwrap();
    assert_eq!(ended.len(), 1, "the node has no such binding any more");
    assert!(store.listen_only("host-1", &[]).await.unwrap().is_empty());
}

pub async fn broadcasts_that_nobody_heard_are_told(database: Database) {
    let store = database.open().await;
    store.listen(&wish("host-1", HOUR, false, 5)).await.unwrap();
    let sent = |id: &str, topic: &str, offset: i64| NewMessage {
        kind: "broadcast",
        topic: topic.to_owned(),
        state: State::Committed,
        reason: None,
        retrying: false,
        place: Some((0, Offset(offset))),
        record: None,
        outbound: None,
        ..message(id, None, None)
    };
    let before = store.ping().await.unwrap();
    store.accept(&[sent("heard", TOPIC, 5), sent("unheard", "nobodys", 5), sent("too early", TOPIC, 4)]).await.unwrap();
    assert!(store.unheard(before, 10).await.unwrap().is_empty(), "nobody has looked yet");
    store.judge_broadcasts(10).await.unwrap();
    let told = store.unheard(before, 10).await.unwrap();
    let mut named: Vec<_> = told.iter().map(|row| (row.id.as_str(), row.topic.as_str())).collect();
    named.sort_unstable();
    assert_eq!(named, [("too early", TOPIC), ("unheard", "nobodys")]);
    assert!(told.iter().all(|row| row.created_at >= before));
    assert_eq!(store.unheard(before, 1).await.unwrap().len(), 1);
    let later = store.ping().await.unwrap().after(HOUR);
    assert!(store.unheard(later, 10).await.unwrap().is_empty());
}

pub async fn what_was_handled_is_found_within_the_window(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![handled(0)]).await;
    let id = store.deliveries(&Default::default(), &courier::store::Page { cursor: None, limit: 10 }).await.unwrap();
    let of = |id: &str, source: &str| SameTopic { id: id.to_owned(), source: SourceHash::of(source) };
    let wanted = [of(&id.items[0].message_id, "shop"), of("another", "shop"), of(&id.items[0].message_id, "other")];
    let century = Duration::from_secs(100 * 365 * 86_400);
    let who = HandledBy { group: GROUP.to_owned(), topic: TOPIC.to_owned(), listener: None };
    let found = async |who: &HandledBy, window| store.handled_within(who, &wanted, window).await.unwrap();
    assert_eq!(found(&who, century).await, [true, false, false], "another source is another message");
    let none = [false; 3];
    assert_eq!(found(&HandledBy { group: "other".to_owned(), ..who.clone() }, century).await, none);
    assert_eq!(found(&HandledBy { topic: "other".to_owned(), ..who.clone() }, century).await, none);
    assert_eq!(found(&HandledBy { listener: Some("host-1".to_owned()), ..who.clone() }, century).await, none);
    assert_eq!(found(&who, Duration::ZERO).await, none);
    // Rows from before sources were kept match any source of their topic.
    database.run("UPDATE delivery SET source_hash = NULL").await;
    assert_eq!(found(&who, century).await, [true, false, true]);
}
