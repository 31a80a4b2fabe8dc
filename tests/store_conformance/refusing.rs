//! Refusals of the store for a lasting cause, and what it must keep meanwhile.

use std::time::Duration;

use courier::store::StoreError;
use courier_core::message::Offset;

use super::Database;
use super::owner::{Owner, failed, handled};

const HOUR: Duration = Duration::from_secs(3_600);

/// No change of the rows by the caller would help: it has to wait until a person
/// mends the store, and may drop nothing until then.
pub async fn a_refusal_that_lasts_is_told_from_the_data(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(1, vec![failed(0)]).await;
    database.execute("ALTER TABLE attempt RENAME TO attempt_elsewhere").await;
    let parts = [owner.part(2, vec![failed(1)])];
    for _ in 0..3 {
        let refused = owner.try_settle(&parts).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    assert_eq!(store.sequence(owner.writer).await.unwrap(), owner.sequence, "nothing of it was written");
    // Writes that do not need the table go on.
    owner.settle(1, vec![handled(2)]).await;
    database.execute("ALTER TABLE attempt_elsewhere RENAME TO attempt").await;
    owner.try_settle(&parts).await.expect("the same rows are taken once the store is mended");
    assert!(owner.delivery(1).await.is_some());
}

pub async fn a_store_that_takes_writes_says_so(database: Database) {
    let store = database.open().await;
    let owner = Owner::new(&store).await;
    for _ in 0..3 {
        store.ping().await.expect("it takes writes");
    }
    assert_eq!(store.weaknesses().await.unwrap(), []);
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 0, "to ask leaves nothing behind");
}

/// Only these rows tell the claim after a restart that the records above the
/// position are settled.
pub async fn what_is_settled_above_the_position_outlives_retention(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    // Offset 0 still runs, and those behind it ended long ago.
    owner.settle(0, vec![handled(1), failed(2)]).await;
    while store.prune(HOUR).await.unwrap() {}
    assert_eq!(owner.claim_again().await.settled, [Offset(1), Offset(2)]);
    owner.settle(3, vec![handled(0)]).await;
    while store.prune(HOUR).await.unwrap() {}
    assert_eq!(owner.claim_again().await.settled, []);
    assert!(owner.listed(&courier::store::DeliveryFilter::default(), 10).await.is_empty(), "now they may go");
}
