//! Undelivered messages: kept whole until a person moves them.

use bytes::Bytes;
use courier::store::undelivered::{NewUndelivered, Repaired, UndeliveredFilter, UndeliveredRow};
use courier::store::{LeftOut, NewOutbound, Page, RelayResult, Relayed, SHARDS, SharedStore, StoreError};

use super::Database;
use super::owner::{LEASE, Owner, emission, handled};
use super::sending::message;

fn page(cursor: Option<String>, limit: u32) -> Page {
    Page { cursor, limit }
}

async fn all(store: &SharedStore, filter: &UndeliveredFilter) -> Vec<UndeliveredRow> {
    store.undelivered(filter, &page(None, 100)).await.unwrap().items
}

/// A store in which three emissions could not be delivered.
async fn three(database: &Database) -> (SharedStore, Vec<(i32, i64)>) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
    let mut outcome = handled(0);
    outcome.outbound = vec![emission("a", Some(b"k"), 1), emission("b", None, 2), emission("c", None, 3)];
    owner.settle(1, vec![outcome]).await;
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let result = RelayResult::Undelivered { code: "too_large", reason: "too \0 large".to_owned() };
    let results: Vec<_> =
        rows.iter().map(|row| Relayed { id: row.id, shard: row.shard, result: result.clone() }).collect();
    store.relayed(&shards, &results).await.unwrap();
    (store, shards)
}

pub async fn what_is_undelivered_keeps_its_whole_content(database: Database) {
    let (store, shards) = three(&database).await;
    assert!(store.outbound(&shards, 10, &LeftOut::default()).await.unwrap().is_empty());
    let first = store.undelivered(&UndeliveredFilter::default(), &page(None, 2)).await.unwrap();
    let rest = store.undelivered(&UndeliveredFilter::default(), &page(first.next.clone(), 2)).await.unwrap();
    let ids: Vec<&str> = first.items.iter().chain(&rest.items).map(|row| row.message_id.as_str()).collect();
    assert_eq!((ids, rest.next), (vec!["c", "b", "a"], None));
    let kept = store.undelivered_one(rest.items[0].id).await.unwrap().unwrap();
    let sent = emission("a", Some(b"k"), 1);
    assert_eq!((kept.record.as_ref(), &kept.key, &kept.topic), (Some(&sent.record), &sent.key, &sent.topic));
    assert_eq!((kept.code.as_str(), kept.tries), ("too_large", 1));
    assert!(kept.reason.starts_with("too ") && kept.created_at <= kept.kept_at);
    let totals = store.undelivered_totals(&UndeliveredFilter::default()).await.unwrap();
    assert_eq!((totals.len(), totals[0].rows, totals[0].is_full()), (1, 3, false));
    let none = UndeliveredFilter { topics: Some(vec!["other".to_owned()]), ..UndeliveredFilter::default() };
    assert!(all(&store, &none).await.is_empty());
    // Retention does not remove them.
    while store.prune(std::time::Duration::ZERO).await.unwrap() {}
    assert_eq!(all(&store, &UndeliveredFilter::default()).await.len(), 3);
}

/// The totals counted rows of groups that the list of the same filter leaves out.
pub async fn undelivered_totals_count_what_their_filter_lists(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
    let of =
        |id: &str, group: Option<&str>| NewOutbound { group: group.map(ToOwned::to_owned), ..emission(id, None, 1) };
    let mut outcome = handled(0);
    outcome.outbound = vec![of("a", Some("stock")), of("b", Some("mail")), of("c", None)];
    owner.settle(1, vec![outcome]).await;
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let result = RelayResult::Undelivered { code: "too_large", reason: "it is too large".to_owned() };
    let results: Vec<_> =
        rows.iter().map(|row| Relayed { id: row.id, shard: row.shard, result: result.clone() }).collect();
    store.relayed(&shards, &results).await.unwrap();
    let any = UndeliveredFilter::default;
    let one = |name: &str| Some(vec![name.to_owned()]);
    for (filter, count) in [
        (any(), 3),
        (UndeliveredFilter { groups: one("stock"), ..any() }, 2),
        (UndeliveredFilter { groups: one("stock"), topics: one("stock"), ..any() }, 2),
        (UndeliveredFilter { topics: one("order"), ..any() }, 0),
        (UndeliveredFilter { group: Some("mail".to_owned()), ..any() }, 1),
    ] {
        let total: i64 = store.undelivered_totals(&filter).await.unwrap().iter().map(|total| total.rows).sum();
        assert_eq!((total, all(&store, &filter).await.len()), (count, count as usize), "{filter:?}");
    }
}

pub async fn what_is_undelivered_is_sent_again_repaired_or_given_up(database: Database) {
    let (store, shards) = three(&database).await;
    let rows = all(&store, &UndeliveredFilter::default()).await;
    store.resend_undelivered(rows[2].id, None).await.unwrap();
    let again = store.resend_undelivered(rows[2].id, None).await;
    assert!(matches!(again, Err(StoreError::NotFound(_))), "{again:?}");
    let repaired = Repaired {
        topic: "elsewhere".to_owned(),
        key: None,
        type_name: "T".to_owned(),
        record: Bytes::from_static(b"mended"),
        shard: 7,
    };
    store.resend_undelivered(rows[1].id, Some(&repaired)).await.unwrap();
    store.give_up_undelivered(rows[0].id, "given up by ops: obsolete").await.unwrap();
    assert!(matches!(store.give_up_undelivered(rows[0].id, "twice").await, Err(StoreError::NotFound(_))));
    assert!(all(&store, &UndeliveredFilter::default()).await.is_empty());
    let owed = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let sent = emission("a", Some(b"k"), 1);
    assert_eq!((owed[0].message_id.as_str(), &owed[0].record, owed[0].tries), ("a", &sent.record, 0));
    assert_eq!((owed[1].topic.as_str(), &owed[1].record[..], owed[1].shard), ("elsewhere", &b"mended"[..], 7));
    let (a, c) = (store.message("a").await.unwrap().unwrap(), store.message("c").await.unwrap().unwrap());
    assert!(a.retrying && !c.retrying);
    assert_eq!(c.reason.as_deref(), Some("given up by ops: obsolete"));
}

pub async fn a_row_of_an_outbox_is_kept_once(database: Database) {
    let store = database.open().await;
    let row = |outbox_row: &str| NewUndelivered {
        shard: 0,
        message_id: "shop:1".to_owned(),
        topic: String::new(),
        type_name: String::new(),
        source: "shop".to_owned(),
        key: Some(Bytes::from_static(&[0xff])),
        record: Bytes::from_static(b"record"),
        outbox: Some(("shop".to_owned(), outbox_row.to_owned())),
        code: "outbox_row".to_owned(),
        reason: "column topic is null".to_owned(),
    };
    store.keep_undelivered(&[row("1"), row("2")]).await.unwrap();
    store.keep_undelivered(&[row("2"), row("3")]).await.unwrap();
    let filter = UndeliveredFilter { outbox: Some("shop".to_owned()), ..UndeliveredFilter::default() };
    let rows: Vec<_> = all(&store, &filter).await.into_iter().map(|row| row.outbox_row).collect();
    assert_eq!(rows, ["3", "2", "1"].map(|row| Some(row.to_owned())));
}

pub async fn topics_that_wait_give_only_rows_that_were_never_tried(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
    let mut outcome = handled(0);
    outcome.outbound = vec![emission("a", None, 1), emission("b", None, 2)];
    owner.settle(1, vec![outcome]).await;
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let result = RelayResult::Later {
        reason: "topic is missing".to_owned(),
        wait: std::time::Duration::ZERO,
        unknown_from: Some(courier_core::message::Offset(5)),
    };
    let tried = Relayed { id: rows[0].id, shard: rows[0].shard, result };
    store.relayed(&shards, &[tried]).await.unwrap();
    let waiting = LeftOut { topics: vec![rows[0].topic.clone()], ..LeftOut::default() };
    let left: Vec<_> = store.outbound(&shards, 10, &waiting).await.unwrap();
    assert_eq!(left.iter().map(|row| row.message_id.as_str()).collect::<Vec<_>>(), ["b"]);
    let back = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let a = back.iter().find(|row| row.message_id == "a").unwrap();
    assert_eq!((a.tries, a.unknown_from.map(|from| from.0)), (1, Some(5)));
}

pub async fn lanes_with_unsent_rows_are_told(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let mut outcome = handled(0);
    outcome.outbound = vec![emission("a", Some(b"k"), 1)];
    owner.settle(1, vec![outcome]).await;
    let topic = emission("a", Some(b"k"), 1).topic;
    let lanes = [
        (topic.clone(), Bytes::from_static(b"other")),
        (topic.clone(), Bytes::from_static(b"k")),
        ("elsewhere".to_owned(), Bytes::from_static(b"k")),
    ];
    assert_eq!(store.unsent_lanes(&lanes).await.unwrap(), [1]);
    assert!(store.unsent_lanes(&[]).await.unwrap().is_empty());
    // Keys of any bytes, also such that begin alike for longer than an index
    // holds of them, and many rows of one.
    const LONG: &[u8] = &[0; 100];
    let batch: Vec<_> = (0..3).map(|number| message(&format!("m-{number}"), Some(LONG), None)).collect();
    store.accept(&batch).await.unwrap();
    store.accept(&[message("keyless", None, None)]).await.unwrap();
    let of = |key: &'static [u8]| ("order".to_owned(), Bytes::from_static(key));
    let lanes = [of(&LONG[..99]), of(LONG), of(&[]), of(LONG), (topic, Bytes::from_static(LONG))];
    assert_eq!(store.unsent_lanes(&lanes).await.unwrap(), [1, 3]);
}
