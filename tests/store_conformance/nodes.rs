//! Names of nodes are leases.

use std::time::Duration;

use courier::store::{NodeBinding, StoreError};

use super::Database;
use super::owner::{LEASE, holder};

pub async fn a_name_is_held_by_one_process_at_a_time(database: Database) {
    let store = database.open().await;
    assert!(store.holder("host-1").await.unwrap().is_none());
    let (first, second) = (holder("first"), holder("second"));
    let joined = store.join("host-1", &first, LEASE).await.unwrap();
    assert_eq!(store.sequence(joined.writer).await.unwrap(), 0);
    let (held_by, until) = store.holder("host-1").await.unwrap().unwrap();
    assert_eq!(held_by, first);
    assert!(until > joined.now);

    assert!(matches!(store.join("host-1", &second, LEASE).await, Err(StoreError::Fenced(_))));
    store.join("host-2", &second, LEASE).await.expect("another name is free");
    store.renew(joined.writer, LEASE).await.unwrap();

    store.leave(joined.writer).await.unwrap();
    assert!(store.holder("host-1").await.unwrap().is_none());
    assert!(matches!(store.renew(joined.writer, LEASE).await, Err(StoreError::Fenced(_))));
    let after = store.join("host-1", &second, LEASE).await.expect("a name that was left is free at once");
    assert_ne!(after.writer, joined.writer);
    store.leave(joined.writer).await.expect("leaving twice is nothing new");
    assert!(store.holder("host-1").await.unwrap().is_some(), "the late leave took nothing from the new holder");
}

pub async fn a_lease_that_ran_out_is_free(database: Database) {
    let store = database.open().await;
    let first = store.join("host-1", &holder("first"), Duration::ZERO).await.unwrap();
    assert!(store.holder("host-1").await.unwrap().is_none());
    store.renew(first.writer, Duration::ZERO).await.expect("nobody took the name yet");
    store.join("host-1", &holder("second"), LEASE).await.expect("the lease ran out");
    assert!(matches!(store.renew(first.writer, LEASE).await, Err(StoreError::Fenced(_))));
}

pub async fn a_dead_holder_is_evicted_only_while_it_holds(database: Database) {
    let store = database.open().await;
    let (first, second, third) = (holder("first"), holder("second"), holder("third"));
    let joined = store.join("host-1", &first, LEASE).await.unwrap();
    assert!(matches!(store.evict("host-1", &second).await, Err(StoreError::Conflict(_))));
    store.evict("host-1", &first).await.unwrap();
    assert!(store.holder("host-1").await.unwrap().is_none());
    assert!(matches!(store.renew(joined.writer, LEASE).await, Err(StoreError::Fenced(_))));
    store.join("host-1", &second, LEASE).await.expect("an evicted name is free at once");
    assert!(matches!(store.evict("host-1", &first).await, Err(StoreError::Conflict(_))));
    assert!(matches!(store.join("host-1", &third, LEASE).await, Err(StoreError::Fenced(_))));
}

pub async fn nodes_are_listed_live_ones_first(database: Database) {
    let store = database.open().await;
    let gone = store.join("a", &holder("a"), LEASE).await.unwrap();
    store.join("b", &holder("b"), LEASE).await.unwrap();
    store.join("c", &holder("c"), LEASE).await.unwrap();
    store.leave(gone.writer).await.unwrap();
    let nodes = store.nodes().await.unwrap();
    let listed: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.live)).collect();
    assert_eq!(listed, [("b", true), ("c", true), ("a", false)]);
    assert!(store.ping().await.unwrap() >= gone.now);
}

/// With PostgreSQL a node that stopped was shown as gone since 1970 and forgotten within a
/// minute, and with SQLite it was listed for ever.
pub async fn a_node_that_left_is_listed_until_retention_forgets_it(database: Database) {
    let store = database.open().await;
    let gone = store.join("a", &holder("a"), LEASE).await.unwrap();
    store.join("b", &holder("b"), LEASE).await.unwrap();
    store.leave(gone.writer).await.unwrap();
    let listed = async || store.nodes().await.unwrap().into_iter().map(|node| node.name).collect::<Vec<_>>();
    let left = store.nodes().await.unwrap().pop().unwrap();
    assert_eq!(left.name, "a");
    assert!(left.lease_until >= gone.now && left.lease_until <= store.ping().await.unwrap(), "{left:?}");
    while store.prune(Duration::from_secs(3_600)).await.unwrap() {}
    assert_eq!(listed().await, ["b", "a"]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    while store.prune(Duration::from_millis(1)).await.unwrap() {}
    assert_eq!(listed().await, ["b"]);
}

/// The bindings of a node count while its lease is valid.
pub async fn what_live_nodes_bind_is_told(database: Database) {
    let store = database.open().await;
    let first = store.join("a", &holder("a"), LEASE).await.unwrap();
    store.join("b", &holder("b"), LEASE).await.unwrap();
    let binding = |group: &str, topic: &str, types: Option<&[&str]>| NodeBinding {
        group: group.to_owned(),
        topic: topic.to_owned(),
        types: types.map(|types| types.iter().map(ToString::to_string).collect()),
    };
    let (stock, mail) = (binding("stock", "order", None), binding("mail", "order", Some(&["OrderCreated"])));
    store.keep_bindings("a", &[stock.clone(), mail.clone()]).await.unwrap();
    store.keep_bindings("b", std::slice::from_ref(&stock)).await.unwrap();
    assert_eq!(store.live_bindings().await.unwrap(), [mail.clone(), stock.clone()]);
    store.keep_bindings("a", std::slice::from_ref(&mail)).await.unwrap();
    assert_eq!(store.live_bindings().await.unwrap(), [mail, stock.clone()], "what b binds stays");
    store.leave(first.writer).await.unwrap();
    assert_eq!(store.live_bindings().await.unwrap(), [stock], "a has left");
    store.keep_bindings("b", &[]).await.unwrap();
    assert_eq!(store.live_bindings().await.unwrap(), []);
}
