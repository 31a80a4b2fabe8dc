//! Records of open deliveries that are copied before Kafka removes them.

use bytes::Bytes;
use courier::store::{Becomes, Copies, Endangered, OutcomeRow, SharedStore, StoreError};
use courier_core::message::{Offset, Timestamp};
use courier_core::retention::NearEnd;

use super::Database;
use super::owner::{Owner, RECORD_TIME, failed, handled, record, waiting};

/// An open delivery without its record.
fn bare(offset: i64, record_time: i64) -> OutcomeRow {
    let mut row = waiting(offset);
    row.record_time = Timestamp(record_time);
    if let Becomes::Open { record, .. } = &mut row.to {
        *record = None;
    }
    row
}

fn near(from: i64, below: i64, recorded_until: Option<i64>) -> NearEnd {
    NearEnd { from: Offset(from), below: Offset(below), recorded_until: recorded_until.map(Timestamp) }
}

fn copy(offset: i64, bytes: usize) -> (Offset, Bytes) {
    (Offset(offset), Bytes::from(vec![b'r'; bytes]))
}

async fn offsets(store: &SharedStore, owner: &Owner, near: &NearEnd) -> Vec<i64> {
    let found = store.endangered(owner.claimed.position, near, 100).await.unwrap();
    assert_eq!(found.count, found.first.len() as u64);
    found.first.iter().map(|offset| offset.0).collect()
}

async fn stored(store: &SharedStore, owner: &Owner, offset: i64) -> Option<usize> {
    let found = store.open_records(owner.claimed.position, &[Offset(offset)]).await.unwrap().remove(0);
    found.expect("it is open").record.map(|record| record.len())
}

/// Only records that the store does not have are in danger, by time or by offset.
pub async fn rows_without_records_near_their_end_are_told(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let rows = vec![bare(0, 100), waiting(1), bare(2, 900), bare(3, 200), handled(4), bare(5, 300)];
    owner.settle(6, rows).await;
    let told = async |from, below, until| offsets(&store, &owner, &near(from, below, until)).await;
    assert!(told(0, 0, None).await.is_empty(), "nothing is near");
    assert_eq!(told(0, 0, Some(200)).await, [0, 3]);
    assert_eq!(told(0, 3, None).await, [0, 2]);
    assert_eq!(told(0, 1, Some(300)).await, [0, 3, 5]);
    assert_eq!(told(3, 4, Some(200)).await, [3], "what is gone is in no danger any more");
    let found = store.endangered(owner.claimed.position, &near(0, 6, None), 2).await.unwrap();
    let expected =
        Endangered { first: vec![Offset(0), Offset(2)], count: 4, last: Some(Offset(5)), oldest: Some(Timestamp(100)) };
    assert_eq!(found, expected);
}

/// Copies have their own bound. A record that does not fit is left out with all
/// records behind it.
pub async fn records_are_copied_up_to_a_bound_of_their_own(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let rows = (0..5).map(|offset| bare(offset, RECORD_TIME.0)).chain([waiting(5)]).collect();
    owner.settle(6, rows).await;
    let (position, epoch) = (owner.claimed.position, owner.claimed.epoch);
    let records: Vec<_> = (0..5).map(|offset| copy(offset, 10)).collect();
    assert_eq!(store.copy_records(position, epoch, &records[..2], 35).await.unwrap(), 2);
    assert_eq!(store.copies(position).await.unwrap(), Copies { count: 2, bytes: 20 });
    assert_eq!(store.copy_records(position, epoch, &records[2..], 35).await.unwrap(), 1, "30 of 35 bytes");
    assert_eq!(offsets(&store, &owner, &near(0, 6, None)).await, [3, 4]);
    assert_eq!(stored(&store, &owner, 2).await, Some(10));
    assert_eq!(stored(&store, &owner, 3).await, None);
    // A row that has its record since it was parked, or that is closed, needs no
    // copy and takes nothing of the bound.
    let others = [copy(5, 30), copy(77, 1)];
    assert_eq!(store.copy_records(position, epoch, &others, 70).await.unwrap(), 2);
    assert_eq!(stored(&store, &owner, 5).await, Some(record(5).len()));
    assert_eq!(store.copies(position).await.unwrap(), Copies { count: 3, bytes: 30 });
    // The next owner counts only records that were kept when they were parked.
    let sizes: Vec<usize> = owner.claim_again().await.open.iter().map(|row| row.record_bytes).collect();
    assert_eq!(sizes, [0, 0, 0, 0, 0, record(5).len()]);
}

/// A copy is removed with its delivery, or becomes the record of its failure.
pub async fn a_copy_ends_with_its_delivery(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(2, vec![bare(0, RECORD_TIME.0), bare(1, RECORD_TIME.0)]).await;
    let (position, epoch) = (owner.claimed.position, owner.claimed.epoch);
    store.copy_records(position, epoch, &[copy(0, 10), copy(1, 20)], 100).await.unwrap();
    let mut failure = failed(1);
    if let Becomes::Final { record, .. } = &mut failure.to {
        *record = None;
    }
    let had_row = |row: OutcomeRow| OutcomeRow { had_row: true, ..row };
    owner.settle(2, vec![had_row(handled(0)), had_row(failure)]).await;
    assert_eq!(store.copies(position).await.unwrap(), Copies::default());
    let kept = owner.delivery(1).await.and_then(|row| row.record);
    assert_eq!(kept.map(|record| record.len()), Some(20));
}

pub async fn an_older_epoch_copies_nothing(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![bare(0, RECORD_TIME.0)]).await;
    let (position, epoch) = (owner.claimed.position, owner.claimed.epoch);
    owner.claim_again().await;
    let refused = store.copy_records(position, epoch, &[copy(0, 10)], 100).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    assert_eq!(stored(&store, &owner, 0).await, None);
    store.copy_records(position, epoch + 1, &[copy(0, 10)], 100).await.unwrap();
    assert_eq!(stored(&store, &owner, 0).await, Some(10));
}
