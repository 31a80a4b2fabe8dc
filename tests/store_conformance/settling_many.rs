//! Settles of the size and number that a busy host makes.

use courier::store::{DeliveryFilter, OutcomeRow};
use courier_core::message::Offset;
use courier_core::status::State;

use super::Database;
use super::owner::{GROUP, Owner, at, failed, handled, join, reopened, retrying, waiting};

pub async fn five_thousand_outcomes_are_one_settle(database: Database) {
    let store = database.open().await;
    let mut owner = Owner::new(&store).await;
    let outcomes = (0..5_000).map(|offset| match offset % 10 {
        0 => failed(offset),
        1 => retrying(offset, 1, Some(at(offset))),
        2 => waiting(offset),
        _ => handled(offset),
    });
    owner.settle(5_000, outcomes.collect()).await;
    assert_eq!(owner.totals().await, (500, 0, 500, 0, 3_500, 500));
    assert_eq!(owner.claim_again().await.open.len(), 1_000);
    let open = (0..5_000).filter(|offset| matches!(offset % 10, 1 | 2));
    owner.settle(5_000, open.map(|offset| reopened(handled(offset), 2)).collect()).await;
    assert_eq!(owner.totals().await, (0, 0, 0, 0, 4_500, 500));
    assert_eq!(owner.claim_again().await.next, Offset(5_000));
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 2);
}

/// Two hosts with a partition each, over separately opened stores.
pub async fn two_writers_settle_side_by_side(database: Database) {
    const SETTLES: i64 = 40;
    const ROWS: i64 = 50;
    let mut hosts = Vec::new();
    for partition in 0..2 {
        let store = database.open().await;
        let writer = join(&store, &format!("host-{partition}")).await;
        let mut owner = Owner::of(&store, writer, GROUP, partition).await;
        hosts.push(tokio::spawn(async move {
            for settle in 0..SETTLES {
                let outcomes = (settle * ROWS..(settle + 1) * ROWS).map(|offset| OutcomeRow {
                    message_id: format!("message-{partition}-{offset}"),
                    node: format!("host-{partition}").into(),
                    ..if offset % ROWS == 0 { failed(offset) } else { handled(offset) }
                });
                owner.settle((settle + 1) * ROWS, outcomes.collect()).await;
            }
            owner
        }));
    }
    for host in hosts {
        let mut owner = host.await.expect("the host settles everything");
        assert_eq!(owner.claim_again().await.next, Offset(SETTLES * ROWS));
    }
    let store = database.open().await;
    let totals = store.totals().await.unwrap();
    let sums: Vec<_> = totals.iter().map(|t| (t.group.as_str(), t.handled, t.failed)).collect();
    assert_eq!(sums, [(GROUP, 2 * 40 * 49, 2 * 40)]);
}

pub async fn two_settles_with_one_sequence_are_one(database: Database) {
    let store = database.open().await;
    let owner = Owner::new(&store).await;
    for round in 0..20 {
        let (a, b) = (owner.part(0, vec![handled(round * 2)]), owner.part(0, vec![handled(round * 2 + 1)]));
        let (a, b) = ([a], [b]);
        let both = futures::join!(store.settle(owner.writer, round + 1, &a), store.settle(owner.writer, round + 1, &b));
        assert!(both.0.is_ok() != both.1.is_ok(), "exactly one of them happens: {both:?}");
    }
    assert_eq!(owner.totals().await.4, 20);
    assert_eq!(store.sequence(owner.writer).await.unwrap(), 20);
}

/// The requests of a busy host: several groups and partitions, each with outcomes of
/// every shape, in the partition's own order.
pub async fn many_parts_and_shapes_are_one_settle(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let mut owners = Vec::new();
    for group in ["audit", GROUP] {
        for partition in [3, 1, 2] {
            owners.push(Owner::of(&store, writer, group, partition).await);
        }
    }
    let shapes = |owner: &Owner, next, outcomes: &dyn Fn() -> Vec<OutcomeRow>| {
        let mut part = owner.part(next, outcomes());
        for outcome in &mut part.outcomes {
            outcome.message_id = format!("{}-{}-{}", owner.group, owner.partition, outcome.offset);
        }
        part
    };
    let first: Vec<_> =
        owners.iter().map(|o| shapes(o, 2, &|| vec![handled(1), waiting(3), retrying(0, 1, Some(at(5)))])).collect();
    store.settle(writer, 1, &first).await.unwrap();
    let second: Vec<_> = owners
        .iter()
        .map(|o| shapes(o, 5, &|| vec![retrying(0, 2, None), failed(4), reopened(handled(3), 1), handled(2)]))
        .collect();
    assert!(store.settle(writer, 2, &second).await.unwrap().stale.is_empty());
    for owner in &mut owners {
        let claimed = owner.claim_again().await;
        assert_eq!((claimed.next, claimed.open.len()), (Offset(5), 1));
        assert!(claimed.open[0].held);
        assert_eq!(owner.totals().await, (0, 0, 0, 3, 9, 3));
        let id = format!("{}-{}-4", owner.group, owner.partition);
        let filter = DeliveryFilter { message_id: Some(id), ..Default::default() };
        assert_eq!(owner.listed(&filter, 1).await, [4]);
        assert_eq!(owner.delivery(3).await.map(|row| row.state), Some(State::Handled));
    }
}
