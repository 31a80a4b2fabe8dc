//! What is left out of the rows that the relay takes, and what it hides.

use std::time::Duration;

use courier::store::{ChosenPartition, LeftOut, NewOutbound, OutboundRow, RelayResult, Relayed, SHARDS, SharedStore};

use super::Database;
use super::owner::{LEASE, Owner, emission, handled};

struct Taking {
    store: SharedStore,
    shards: Vec<(i32, i64)>,
}

impl Taking {
    /// A store with these rows, in this order.
    async fn with(database: &Database, rows: Vec<NewOutbound>) -> Self {
        let store = database.open().await;
        let mut owner = Owner::new(&store).await;
        let shards = store.lease_shards(owner.writer, SHARDS, &[], LEASE).await.unwrap();
        let mut outcome = handled(0);
        outcome.outbound = rows;
        owner.settle(1, vec![outcome]).await;
        Self { store, shards }
    }

    async fn rows(&self) -> Vec<OutboundRow> {
        self.store.outbound(&self.shards, 1_000, &LeftOut::default()).await.unwrap()
    }

    async fn row(&self, id: &str) -> OutboundRow {
        self.rows().await.into_iter().find(|row| row.message_id == id).expect("a row that is due")
    }

    async fn taken(&self, limit: u32, left_out: &LeftOut) -> Vec<String> {
        let rows = self.store.outbound(&self.shards, limit, left_out).await.unwrap();
        assert!(rows.is_sorted_by_key(|row| row.id));
        rows.into_iter().map(|row| row.message_id).collect()
    }

    /// Chooses a partition for rows, and has them tried and due again.
    async fn tried_in(&self, partition: i32, ids: &[&str]) {
        for id in ids {
            let row = self.row(id).await;
            let topic_id = "topic-1".to_owned();
            self.store
                .choose_partitions(&self.shards, &[ChosenPartition { row: row.id, topic_id, partition }])
                .await
                .unwrap();
            let result =
                RelayResult::Later { reason: "timed out".to_owned(), wait: Duration::ZERO, unknown_from: None };
            self.store.relayed(&self.shards, &[Relayed { id: row.id, shard: row.shard, result }]).await.unwrap();
        }
    }
}

fn of(topic: &str, id: &str, key: Option<&'static [u8]>, shard: i32) -> NewOutbound {
    NewOutbound { topic: topic.to_owned(), ..emission(id, key, shard) }
}

fn silent(partitions: &[i32], tried: &[i32]) -> LeftOut {
    let named = |numbers: &[i32]| numbers.iter().map(|number| ("order".to_owned(), *number)).collect();
    LeftOut { partitions: named(partitions), tried: named(tried), ..LeftOut::default() }
}

/// The rows of one partition that did not answer filled each take, oldest first, and
/// nothing else left the host.
pub async fn a_silent_partition_gives_no_row_but_the_one_that_asks_it(database: Database) {
    let names = ["o-1", "o-2", "o-3", "p-1", "p-2"];
    let mut rows: Vec<_> = names.iter().map(|id| of("order", id, None, 1)).collect();
    rows.push(of("order", "untried", None, 1));
    rows.push(of("stock", "other", None, 2));
    let taking = Taking::with(&database, rows).await;
    taking.tried_in(0, &names[..3]).await;
    taking.tried_in(1, &names[3..]).await;
    assert_eq!(taking.taken(3, &LeftOut::default()).await, ["o-1", "o-2", "o-3"]);
    assert_eq!(taking.taken(3, &silent(&[0], &[])).await, ["p-1", "p-2", "untried"]);
    assert_eq!(taking.taken(2, &silent(&[0, 1], &[])).await, ["untried", "other"]);
    assert_eq!(taking.taken(2, &silent(&[0, 1], &[0, 1])).await, ["o-1", "p-1", "untried", "other"]);
    // A topic that waits is not tried by its partitions.
    let left_out = LeftOut { topics: vec!["order".to_owned()], ..silent(&[0, 1], &[0]) };
    assert_eq!(taking.taken(9, &left_out).await, ["untried", "other"]);
}

/// A row that was never tried was taken while an earlier one of its key was left out,
/// and overtook it when the topic or partition was back in that moment.
pub async fn a_row_stays_behind_what_is_left_out_of_its_key(database: Database) {
    let (a, b): (Option<&'static [u8]>, Option<&'static [u8]>) = (Some(b"a"), Some(b"b"));
    let rows = vec![
        of("order", "a-1", a, 1),
        of("order", "b-1", b, 2),
        of("order", "a-2", a, 1),
        of("order", "b-2", b, 2),
        of("stock", "a-3", a, 3),
    ];
    let taking = Taking::with(&database, rows).await;
    taking.tried_in(0, &["a-1"]).await;
    let topic = LeftOut { topics: vec!["order".to_owned()], ..LeftOut::default() };
    assert_eq!(taking.taken(9, &topic).await, ["b-1", "b-2", "a-3"]);
    assert_eq!(taking.taken(9, &silent(&[0], &[])).await, ["b-1", "b-2", "a-3"]);
    assert_eq!(taking.taken(9, &silent(&[0], &[0])).await, ["a-1", "b-1", "b-2", "a-3"]);
    // The key of a row that asks one partition has an earlier row in another.
    taking.tried_in(1, &["a-2", "b-1"]).await;
    assert_eq!(taking.taken(9, &silent(&[0, 1], &[1])).await, ["b-1", "a-3"]);
    assert_eq!(taking.taken(9, &LeftOut::default()).await, ["a-1", "b-1", "a-2", "b-2", "a-3"]);
}

pub async fn what_is_under_way_hides_all_rows_of_its_keys(database: Database) {
    let (a, b): (Option<&'static [u8]>, Option<&'static [u8]>) = (Some(b"a"), Some(b"b"));
    let rows = vec![
        of("order", "a-1", a, 1),
        of("order", "a-2", a, 1),
        of("order", "b-1", b, 1),
        of("order", "none-1", None, 1),
        of("order", "none-2", None, 1),
    ];
    let taking = Taking::with(&database, rows).await;
    let under_way = [taking.row("a-2").await.id, taking.row("none-1").await.id];
    let left_out = LeftOut { under_way: under_way.to_vec(), ..LeftOut::default() };
    assert_eq!(taking.taken(9, &left_out).await, ["b-1", "none-2"]);
    let left_out = LeftOut { tried: vec![("order".to_owned(), 0)], ..left_out };
    assert_eq!(taking.taken(1, &left_out).await, ["b-1"]);
}
