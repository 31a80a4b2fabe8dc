//! What a token may see is part of a list's query: a page is cut by rows in scope
//! alone, and its `next` is of a row in scope.

use courier::store::redrive::{NewRedrive, RedriveFilter};
use courier::store::{
    DeadLetterFilter, DeliveryFilter, Listing, NewOutbound, OutcomeRow, Page, SharedStore, SourceHash,
};
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, Owner, TOPIC, emission, failed, handled, join, key_of, retrying};

const SECRET: &str = "secret";

/// Another tenant's rows before and after the one of the own topic, in the same group.
async fn two_tenants(store: &SharedStore, outcome: impl Fn(i64) -> OutcomeRow) -> (Owner, Owner) {
    let writer = join(store, "host-1").await;
    let mut foreign = Owner::on_topic(store, writer, GROUP, SECRET).await;
    foreign.settle(9, (0..9).map(&outcome).collect()).await;
    let mut own = Owner::of(store, writer, GROUP, 0).await;
    own.settle(5, vec![outcome(4)]).await;
    (foreign, own)
}

fn one() -> Page {
    Page { cursor: None, limit: 1 }
}

fn own_topics() -> Option<Vec<String>> {
    Some(vec![TOPIC.to_owned(), "none".to_owned()])
}

/// A page's rows, and whether another page follows.
fn page_of<T, K>(page: &Listing<T>, key: impl Fn(&T) -> K) -> (Vec<K>, bool) {
    (page.items.iter().map(key).collect(), page.next.is_some() || page.truncated)
}

/// Issue 17: the page of one item was cut before the rows of other topics were taken
/// out, so that its `next` told that another tenant had the key.
pub async fn deliveries_of_other_topics_are_not_told_of(database: Database) {
    let store = database.open().await;
    let (_, own) = two_tenants(&store, failed).await;
    let any = || DeliveryFilter { topics: own_topics(), ..DeliveryFilter::default() };
    let absent = [
        DeliveryFilter { key: Some(key_of(5)), ..any() },
        DeliveryFilter { message_id: Some("message-5".to_owned()), ..any() },
        DeliveryFilter { topic: Some(SECRET.to_owned()), ..any() },
        DeliveryFilter { state: Some(State::Handled), ..any() },
        DeliveryFilter { topics: Some(Vec::new()), ..any() },
    ];
    for filter in absent {
        let page = store.deliveries(&filter, &one()).await.unwrap();
        assert_eq!(page_of(&page, |row| row.key), (Vec::new(), false), "{filter:?}");
    }
    let group = || DeliveryFilter { group: Some(GROUP.to_owned()), ..any() };
    let present = [
        any(),
        group(),
        DeliveryFilter { key: Some(key_of(4)), ..any() },
        DeliveryFilter { message_id: Some("message-4".to_owned()), ..any() },
        DeliveryFilter { type_name: Some("OrderCreated".to_owned()), ..any() },
        DeliveryFilter { state: Some(State::HandleFail), ..group() },
        DeliveryFilter { fingerprint: Some("feedfacefeedface".to_owned()), ..group() },
    ];
    for filter in present {
        let page = store.deliveries(&filter, &one()).await.unwrap();
        assert_eq!(page_of(&page, |row| row.key), (vec![own.key(4)], false), "{filter:?}");
    }
}

/// Issue 17: a page of deliveries of one id was filled by another publisher's.
pub async fn deliveries_of_one_id_are_told_apart_by_their_source(database: Database) {
    let store = database.open().await;
    let of_source = |offset: i64, source: Option<&str>| OutcomeRow {
        message_id: "same".to_owned(),
        source_hash: source.map(SourceHash::of),
        ..handled(offset)
    };
    let mut owner = Owner::new(&store).await;
    let mut rows: Vec<_> = (3..9).map(|offset| of_source(offset, Some("theirs"))).collect();
    rows.extend([of_source(0, Some("theirs")), of_source(1, Some("ours")), of_source(2, None)]);
    owner.settle(9, rows).await;
    let same = || DeliveryFilter { message_id: Some("same".to_owned()), ..DeliveryFilter::default() };
    let ours = DeliveryFilter { source: Some(SourceHash::of("ours")), topic: Some(TOPIC.to_owned()), ..same() };
    assert_eq!(owner.listed(&ours, 1).await, [2, 1], "a row without a source may be of any");
    let page = store.deliveries(&ours, &Page { cursor: None, limit: 2 }).await.unwrap();
    assert_eq!(page_of(&page, |row| row.key), (vec![owner.key(2), owner.key(1)], false));
    let none = DeliveryFilter { topic: Some("none".to_owned()), ..same() };
    assert!(owner.listed(&none, 1).await.is_empty());
}

pub async fn dead_letters_of_other_topics_are_not_told_of(database: Database) {
    let store = database.open().await;
    let given_up = |offset: i64| {
        let mut row = failed(offset);
        let letter = NewOutbound {
            topic: "dlq.stock".to_owned(),
            listed: false,
            group: Some(GROUP.to_owned()),
            ..emission(&row.message_id, None, 0)
        };
        row.outbound.push(letter);
        row
    };
    let (_, own) = two_tenants(&store, given_up).await;
    for topic in [None, Some("dlq.stock".to_owned())] {
        let filter = DeadLetterFilter { source_topics: own_topics(), topic, ..DeadLetterFilter::default() };
        let page = store.dead_letters(&filter, &one()).await.unwrap();
        assert_eq!(page_of(&page, |row| row.key), (vec![own.key(4)], false), "{filter:?}");
    }
    let none = DeadLetterFilter { source_topics: Some(vec!["none".to_owned()]), ..DeadLetterFilter::default() };
    let page = store.dead_letters(&none, &one()).await.unwrap();
    assert_eq!(page_of(&page, |row| row.key), (Vec::new(), false));
}

pub async fn parked_lanes_of_other_topics_are_not_told_of(database: Database) {
    let store = database.open().await;
    let (_, own) = two_tenants(&store, |offset| retrying(offset, 1, None)).await;
    let page = store.parked(GROUP, own_topics().as_deref(), &one()).await.unwrap();
    assert_eq!(page_of(&page, |lane| lane.head), (vec![own.key(4)], false));
    let page = store.parked(GROUP, Some(&[]), &one()).await.unwrap();
    assert_eq!(page_of(&page, |lane| lane.head), (Vec::new(), false));
    assert!(store.parked(GROUP, None, &one()).await.unwrap().next.is_some());
}

pub async fn redrives_of_other_topics_are_not_told_of(database: Database) {
    let store = database.open().await;
    two_tenants(&store, handled).await;
    let plan = async |topic: Option<&str>| {
        let filter = DeliveryFilter {
            group: Some(GROUP.to_owned()),
            topic: topic.map(str::to_owned),
            ..DeliveryFilter::default()
        };
        let plan = NewRedrive { filter, ranges: None, asked_for: "{}".to_owned(), rate: 1, by: "ann".to_owned() };
        store.plan_redrive(&plan).await.unwrap().id
    };
    plan(Some(SECRET)).await;
    let own = plan(Some(TOPIC)).await;
    plan(None).await;
    plan(Some(SECRET)).await;
    let filter = RedriveFilter { groups: Some(vec![GROUP.to_owned()]), topics: own_topics() };
    let page = store.redrives(&filter, &one()).await.unwrap();
    assert_eq!(page_of(&page, |row| row.id), (vec![own], false));
}
