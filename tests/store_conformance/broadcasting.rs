//! Listeners of broadcasts, and deduplication.

use std::time::Duration;

use courier::store::{
    AddressWish, ClaimRequest, Extent, HandledBy, Listen, LostRangeFilter, NewMessage, SameTopic, SharedStore,
    SourceHash,
};
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

/// A host's view of a service's addresses.
fn addresses(node: &str, service: &str, addresses: &[&str], lease: Duration) -> AddressWish {
    AddressWish {
        group: GROUP.to_owned(),
        service: service.to_owned(),
        node: node.to_owned(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        lease,
    }
}

const SERVICE: &str = "stock.internal:80";
const BOTH: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];

pub async fn addresses_are_shared_among_the_hosts_of_a_service(database: Database) {
    let store = database.open().await;
    let one = addresses("host-1", SERVICE, &BOTH, HOUR);
    let two = addresses("host-2", SERVICE, &BOTH, HOUR);
    let all = store.hold_addresses(&one).await.unwrap();
    assert_eq!((all.held, all.surplus), (BOTH.map(ToOwned::to_owned).to_vec(), vec![]));
    let none = store.hold_addresses(&two).await.unwrap();
    assert!(none.held.is_empty() && none.surplus.is_empty(), "nothing is taken from a host that is there: {none:?}");
    let half = store.hold_addresses(&one).await.unwrap();
    assert_eq!((half.held.len(), half.surplus.len()), (1, 1), "{half:?}");
    assert!(store.hold_addresses(&two).await.unwrap().held.is_empty(), "it still drains");
    store.release_addresses(GROUP, SERVICE, "host-2", &half.surplus).await.unwrap();
    assert!(store.hold_addresses(&two).await.unwrap().held.is_empty(), "only its holder lets go of it");
    store.release_addresses(GROUP, SERVICE, "host-1", &half.surplus).await.unwrap();
    assert_eq!(store.hold_addresses(&two).await.unwrap().held, half.surplus);
    let again = store.hold_addresses(&one).await.unwrap();
    assert_eq!((&again.held, again.surplus.len()), (&half.held, 0), "nothing moves any more");
    let leases = store.address_leases().await.unwrap();
    let found: Vec<_> = leases.iter().map(|lease| (lease.address.as_str(), lease.group.as_str(), lease.live)).collect();
    assert_eq!(found, BOTH.map(|address| (address, GROUP, true)));
    let of_two = leases.iter().find(|lease| lease.node == "host-2").map(|lease| &lease.address);
    assert_eq!(of_two, half.surplus.first());
    // A host that stops gives up all its addresses at once.
    store.release_addresses(GROUP, SERVICE, "host-1", &[]).await.unwrap();
    assert_eq!(store.hold_addresses(&two).await.unwrap().held, BOTH);
}

pub async fn an_address_whose_lease_is_over_goes_to_another_host(database: Database) {
    let store = database.open().await;
    let dead = addresses("host-1", SERVICE, &BOTH, Duration::ZERO);
    assert_eq!(store.hold_addresses(&dead).await.unwrap().held, BOTH);
    assert!(store.address_leases().await.unwrap().iter().all(|lease| lease.node == "host-1" && !lease.live));
    let two = addresses("host-2", SERVICE, &BOTH, HOUR);
    assert_eq!(store.hold_addresses(&two).await.unwrap().held, BOTH, "a dead host takes part in nothing");
    assert!(store.hold_addresses(&dead).await.unwrap().held.is_empty(), "it finds them taken when it is back");
    // An address that the name no longer has is given up.
    let fewer = store.hold_addresses(&addresses("host-2", SERVICE, &BOTH[..1], HOUR)).await.unwrap();
    assert_eq!((fewer.held, fewer.surplus), (vec![BOTH[0].to_owned()], vec![BOTH[1].to_owned()]));
}

pub async fn the_addresses_of_two_services_are_apart(database: Database) {
    let store = database.open().await;
    let other = "price.internal:80";
    store.hold_addresses(&addresses("host-1", SERVICE, &BOTH, HOUR)).await.unwrap();
    let held = store.hold_addresses(&addresses("host-2", other, &BOTH, HOUR)).await.unwrap().held;
    assert_eq!(held, BOTH, "the same pods may be behind two names");
    store.release_addresses(GROUP, other, "host-2", &[]).await.unwrap();
    let left = store.address_leases().await.unwrap();
    assert!(left.len() == 2 && left.iter().all(|lease| lease.node == "host-1"), "{left:?}");
}

/// The position of a listener.
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
    let [lost] = &store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap()[..] else {
        panic!("one lost range")
    };
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

/// A broadcast that is in Kafka.
fn sent(id: &str, topic: &str, offset: i64) -> NewMessage {
    NewMessage {
        kind: "broadcast",
        topic: topic.to_owned(),
        state: State::Committed,
        reason: None,
        retrying: false,
        place: Some((0, Offset(offset))),
        record: None,
        outbound: None,
        ..message(id, None, None)
    }
}

pub async fn broadcasts_that_nobody_heard_are_told(database: Database) {
    let store = database.open().await;
    store.listen(&wish("host-1", HOUR, false, 5)).await.unwrap();
    let before = store.ping().await.unwrap();
    store.accept(&[sent("heard", TOPIC, 5), sent("unheard", "nobodys", 5), sent("too early", TOPIC, 4)]).await.unwrap();
    assert!(store.unheard(before, None, 10).await.unwrap().is_empty(), "nobody has looked yet");
    store.judge_broadcasts(10).await.unwrap();
    let told = store.unheard(before, None, 10).await.unwrap();
    let mut named: Vec<_> = told.iter().map(|row| (row.id.as_str(), row.topic.as_str())).collect();
    named.sort_unstable();
    assert_eq!(named, [("too early", TOPIC), ("unheard", "nobodys")]);
    assert!(told.iter().all(|row| row.created_at >= before));
    assert_eq!(store.unheard(before, None, 1).await.unwrap().len(), 1);
    let of = async |topic: &str| store.unheard(before, Some(&[topic.to_owned()]), 10).await.unwrap().len();
    let named = told.iter().filter(|row| row.topic == told[0].topic).count();
    assert_eq!((of(&told[0].topic).await, of("another").await), (named, 0));
    let later = store.ping().await.unwrap().after(HOUR);
    assert!(store.unheard(later, None, 10).await.unwrap().is_empty());
}

/// On SQLite, what a listener that ended had heard of a former topic hid that nobody heard a
/// broadcast of the topic that was created anew.
pub async fn what_was_heard_of_a_former_topic_does_not_count(database: Database) {
    let store = database.open().await;
    store.listen(&wish("host-1", HOUR, false, 5)).await.unwrap();
    let writer = join(&store, "host-1").await;
    let of_former = ClaimRequest {
        listener: Some("host-1".to_owned()),
        topic_id: "companion-1".to_owned(),
        ..request(writer, GROUP, 0)
    };
    let former = store.claim(&of_former).await.unwrap();
    store.skip_lost(former.position, former.epoch, former.next, Offset(50), "it was skipped").await.unwrap();
    let anew = ClaimRequest { topic_id: "companion-2".to_owned(), log_end: Offset(8), ..of_former };
    assert_eq!(store.claim(&anew).await.unwrap().next, Offset(0));
    let ended = store.listen_only("host-1", &[]).await.unwrap();
    let ended_at = ended[0].gone.as_ref().expect("it has ended").0;
    assert_eq!(store.listeners().await.unwrap()[0].gone.as_ref().map(|gone| gone.0), Some(ended_at));

    let before = store.ping().await.unwrap();
    store.accept(&[sent("unheard", TOPIC, 10)]).await.unwrap();
    store.judge_broadcasts(10).await.unwrap();
    assert_eq!(store.unheard(before, None, 10).await.unwrap().len(), 1);
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
    // Rows written before sources were stored match any source of their topic.
    database.run("UPDATE delivery SET source_hash = NULL").await;
    assert_eq!(found(&who, century).await, [true, false, true]);
}
