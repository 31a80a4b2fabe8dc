//! Moving positions, and reading open rows in order.

use courier::store::seek::SeekMove;
use courier::store::{LostRangeFilter, PositionId, StoreError};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, Owner, failed, handled, reopened, retrying, waiting};

const LATER: Timestamp = Timestamp(i64::MAX / 2);

pub async fn a_seek_backward_runs_again_what_lies_between(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let ahead = vec![handled(0), failed(1), handled(2), retrying(3, 1, Some(LATER)), waiting(13), handled(7)];
    owner.settle(5, ahead).await;
    let position = owner.claimed.position;
    let before = store.seek(&[SeekMove { position, to: Offset(1) }], "a seek").await.unwrap();
    assert_eq!(before, [Offset(5)]);
    assert_eq!(store.epochs(&[position]).await.unwrap(), [(position, owner.claimed.epoch + 1)]);
    let stale = owner.part(6, vec![handled(5)]);
    let settled = owner.try_settle(&[stale]).await.unwrap();
    assert_eq!(settled.stale, [0], "what the owner of before still writes is refused");

    let claimed = owner.claim_again().await;
    assert_eq!(claimed.next, Offset(1));
    assert_eq!(claimed.settled, [Offset(7)], "what was ahead of the position stays settled");
    let open: Vec<_> = claimed.open.iter().map(|row| (row.offset.0, row.state, row.attempts.invoked)).collect();
    use State::{Committed, HandleFail};
    assert_eq!(open, [(1, HandleFail, 1), (2, Committed, 1), (3, HandleFail, 1), (13, Committed, 0)]);
    assert!(claimed.open[0].next_attempt_at.is_some() && claimed.open[1].next_attempt_at.is_some());
    assert_eq!(owner.totals().await, (2, 0, 2, 0, 2, 0));
    owner.settle(4, vec![reopened(handled(2), 2)]).await;
    let numbers: Vec<_> = owner.attempts(2).await.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2], "attempts are appended");
    assert!(store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap().is_empty());
}

pub async fn a_seek_forward_records_what_it_skips(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(3, vec![handled(0), retrying(1, 1, Some(LATER)), handled(2), handled(6)]).await;
    let position = owner.claimed.position;
    store.seek(&[SeekMove { position, to: Offset(9) }], "skipped by a seek").await.unwrap();
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].from, lost[0].to, lost[0].why.as_str()), (Offset(3), Offset(9), "skipped by a seek"));
    let claimed = owner.claim_again().await;
    assert_eq!((claimed.next, claimed.open.len()), (Offset(9), 1), "what was received stays open");
    // To its present offset: nothing is skipped, and nothing runs again.
    store.seek(&[SeekMove { position, to: Offset(9) }], "nowhere").await.unwrap();
    assert_eq!(store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap().len(), 1);
}

pub async fn what_a_seek_skipped_is_not_lost_once_it_is_sought_again(database: Database) {
    let store = database.open().await;
    let owner = Owner::new(&store).await;
    let position = owner.claimed.position;
    for to in [9, 6, 12, 10] {
        store.seek(&[SeekMove { position, to: Offset(to) }], "a seek").await.unwrap();
    }
    let lost = store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap();
    let mut ranges: Vec<_> = lost.iter().map(|range| (range.from.0, range.to.0)).collect();
    ranges.sort_unstable();
    assert_eq!(ranges, [(0, 6), (6, 10)]);
    store.seek(&[SeekMove { position, to: Offset(0) }], "a seek").await.unwrap();
    assert!(store.lost_ranges(&LostRangeFilter::default(), 10).await.unwrap().is_empty());
}

pub async fn a_seek_moves_all_positions_or_none(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(4, (0..4).map(handled).collect()).await;
    let other = Owner::of(&store, owner.writer, GROUP, 1).await;
    let moves = [
        SeekMove { position: owner.claimed.position, to: Offset(2) },
        SeekMove { position: PositionId(987_654_321), to: Offset(0) },
    ];
    assert!(matches!(store.seek(&moves, "a seek").await, Err(StoreError::NotFound(_))));
    assert_eq!(owner.claim_again().await.next, Offset(4));
    let moves = [
        SeekMove { position: other.claimed.position, to: Offset(5) },
        SeekMove { position: owner.claimed.position, to: Offset(2) },
    ];
    assert_eq!(store.seek(&moves, "a seek").await.unwrap(), [Offset(0), Offset(4)]);
    let claimed = owner.claim_again().await;
    assert_eq!((claimed.next, claimed.open.len()), (Offset(2), 2));
}

pub async fn open_rows_are_walked_by_the_page(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    owner.settle(7, (0..7).map(waiting).collect()).await;
    let (mut seen, mut after) = (Vec::new(), Offset(-1));
    loop {
        let page = store.open_page(owner.claimed.position, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.offset;
        seen.extend(page.iter().map(|row| row.offset.0));
    }
    assert_eq!(seen, (0..7).collect::<Vec<_>>());
}
