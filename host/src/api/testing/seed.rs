//! Rows of a test's world in a real store.
//!
//! The verbs of the store write the rows wherever a test does not care for ids and times.
//! The others are inserted here, since a test that compares a whole response has to choose
//! the ids and times in it.

use std::time::Duration;

use courier_core::message::Offset;
use courier_core::offset_runs::OffsetRuns;
use courier_core::status::State;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::World;
use crate::clock::machine_now;
use crate::store::sqlite::SqliteStore;
use crate::store::{
    AuditStore, DeliveryRow, GroupTotals, HalfRow, HandledAt, Holder, MessageRow, MinuteStore, NodeBindingStore,
    NodeStore, OutboxNoteStore, PluginStore, PositionId, PositionRow, ShardStore, UndeliveredStore, UnheardRow,
    WriterId,
};

/// Longer than any test runs.
const LEASE: Duration = Duration::from_secs(3_600);
/// Microseconds of a day, by which final rows are divided.
const DAY: i64 = 86_400_000_000;

/// Deliveries that the handled set of a position contains.
pub struct HandledSet {
    pub position: PositionId,
    pub offsets: Vec<Offset>,
    pub at: HandledAt,
}

/// Joins the nodes of every test: `host-1`, which serves the API, and `host-2`, which left.
pub async fn join_nodes(store: &SqliteStore) -> WriterId {
    let left = join(store, "host-2").await;
    store.leave(left).await.unwrap();
    join(store, "host-1").await
}

async fn join(store: &SqliteStore, node: &str) -> WriterId {
    let holder = Holder { incarnation: format!("{node} of a test"), boot: String::new(), pid: 1, started: 1 };
    store.join(node, &holder, LEASE).await.unwrap().writer
}

/// Writes the rows of a world by the verbs of the store, as the process `writer`.
pub async fn write_by_verbs(store: &SqliteStore, writer: WriterId, world: &World) {
    if !world.elsewhere.is_empty() {
        join(store, "host-3").await;
        store.keep_bindings("host-3", &world.elsewhere).await.unwrap();
    }
    for version in &world.plugins {
        store.put_version(version).await.unwrap();
        store.activate(&version.plugin, &version.digest, &version.by).await.unwrap();
    }
    store.put_minutes(writer, &world.minutes, &world.paces).await.unwrap();
    store.keep_undelivered(&world.undelivered).await.unwrap();
    for entry in &world.audited {
        store.record_deed(entry).await.unwrap();
    }
    if !world.outboxes.is_empty() {
        let shards = store.lease_shards(writer, 1, &[], LEASE).await.unwrap();
        for note in &world.outboxes {
            store.note_outbox(shards[0], note).await.unwrap();
        }
    }
}

/// Inserts the other rows of a world.
pub async fn insert(db: &SqlitePool, world: &World) {
    let mut tx = db.begin().await.unwrap();
    for position in &world.positions {
        insert_position(&mut tx, position).await;
    }
    for position in &world.lost {
        insert_lost_range(&mut tx, *position).await;
    }
    for message in &world.messages {
        insert_message(&mut tx, message).await;
    }
    for unheard in &world.unheard {
        insert_unheard(&mut tx, unheard).await;
    }
    if !world.deliveries.is_empty() {
        execute(&mut tx, "INSERT OR IGNORE INTO slot (start_at, last_at, rows) VALUES (0, 0, 0)").await;
    }
    for delivery in &world.deliveries {
        insert_delivery(&mut tx, delivery).await;
    }
    for delivery in &world.dead_letters {
        insert_dead_letter(&mut tx, delivery).await;
    }
    for set in &world.handled {
        insert_handled_set(&mut tx, set).await;
    }
    for totals in &world.totals {
        insert_totals(&mut tx, totals).await;
    }
    for half in &world.halves {
        insert_half(&mut tx, half).await;
    }
    tx.commit().await.unwrap();
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.unwrap();
}

/// The number of a group. A new name gets one.
async fn group_id(connection: &mut SqliteConnection, group: &str) -> i64 {
    let insert = sqlx::query("INSERT OR IGNORE INTO consumer_group (name) VALUES (?)").bind(group);
    insert.execute(&mut *connection).await.unwrap();
    let select = sqlx::query_scalar("SELECT id FROM consumer_group WHERE name = ?").bind(group);
    select.fetch_one(connection).await.unwrap()
}

/// The number of a word, which stands for a node or a version in rows.
async fn word_id(connection: &mut SqliteConnection, word: &str) -> i64 {
    let insert = sqlx::query("INSERT OR IGNORE INTO word (text) VALUES (?)").bind(word);
    insert.execute(&mut *connection).await.unwrap();
    let select = sqlx::query_scalar("SELECT id FROM word WHERE text = ?").bind(word);
    select.fetch_one(connection).await.unwrap()
}

async fn optional_word_id(connection: &mut SqliteConnection, word: Option<&str>) -> Option<i64> {
    match word {
        Some(word) => Some(word_id(connection, word).await),
        None => None,
    }
}

async fn insert_position(tx: &mut Transaction<'_, Sqlite>, position: &PositionRow) {
    let group = group_id(tx, &position.group).await;
    let insert = sqlx::query(
        "INSERT INTO position (id, group_id, topic, partition, incarnation, listener, topic_id, next, epoch, writer_id)
         VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, (SELECT writer_id FROM node WHERE name = ?))",
    )
    .bind(position.id.0)
    .bind(group)
    .bind(&position.topic)
    .bind(position.partition)
    .bind(position.incarnation)
    .bind(position.listener.as_deref().unwrap_or_default())
    .bind(position.next.0)
    .bind(position.epoch)
    .bind(&position.node);
    insert.execute(&mut **tx).await.unwrap();
}

/// The number of the position of a delivery. A position that the world does not name gets
/// one, and stands past the delivery.
async fn position_id(tx: &mut Transaction<'_, Sqlite>, group: i64, row: &DeliveryRow) -> i64 {
    let listener = row.listener.as_deref().unwrap_or_default();
    let insert = sqlx::query(
        "INSERT OR IGNORE INTO position (group_id, topic, partition, incarnation, listener, topic_id, next, epoch)
         VALUES (?, ?, ?, ?, ?, '', ?, 1)",
    )
    .bind(group)
    .bind(&row.topic)
    .bind(row.partition)
    .bind(row.incarnation)
    .bind(listener)
    .bind(row.key.offset.0 + 1);
    insert.execute(&mut **tx).await.unwrap();
    let select = sqlx::query_scalar(
        "SELECT id FROM position
         WHERE group_id = ? AND topic = ? AND partition = ? AND incarnation = ? AND listener = ?",
    )
    .bind(group)
    .bind(&row.topic)
    .bind(row.partition)
    .bind(row.incarnation)
    .bind(listener);
    select.fetch_one(&mut **tx).await.unwrap()
}

async fn insert_lost_range(tx: &mut Transaction<'_, Sqlite>, position: PositionId) {
    let insert = sqlx::query(
        "INSERT INTO lost_range (position, from_offset, to_offset, why, found_at) VALUES (?, 3, 9, 'retention', ?)",
    )
    .bind(position.0)
    .bind(machine_now().0);
    insert.execute(&mut **tx).await.unwrap();
}

/// Inserts a message, and what the relay or the clock has still to send of it.
async fn insert_message(tx: &mut Transaction<'_, Sqlite>, row: &MessageRow) {
    let (partition, offset) = row.place.map(|(partition, offset)| (partition, offset.0)).unzip();
    let insert = sqlx::query(
        "INSERT INTO message (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying,
             partition, offset, shard, record, deliver_at, sender, source_proven)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
    )
    .bind(&row.id)
    .bind(row.key.as_deref())
    .bind(&row.source)
    .bind(&row.topic)
    .bind(&row.type_name)
    .bind(&row.kind)
    .bind(row.time.0)
    .bind(row.created_at.0)
    .bind(row.state.code())
    .bind(&row.reason)
    .bind(row.retrying)
    .bind(partition)
    .bind(offset)
    .bind(row.record.as_deref())
    .bind(row.deliver_at.map(|at| at.0))
    .bind(row.sent_by.as_ref().map(|by| &by.sender))
    .bind(row.sent_by.as_ref().map(|by| by.source_proven));
    insert.execute(&mut **tx).await.unwrap();
    if row.retrying {
        let insert = sqlx::query(
            "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                 created_at, record)
             SELECT shard, id, topic, key, type_name, source, ?, 1, 1, created_at, x'' FROM message
             WHERE id = ? AND source = ? AND topic = ?",
        );
        // A resend makes it due.
        insert.bind(i64::MAX).bind(&row.id).bind(&row.source).bind(&row.topic).execute(&mut **tx).await.unwrap();
    }
    if row.deliver_at.is_some() && row.place.is_none() {
        let insert = sqlx::query(
            "INSERT INTO delayed (shard, due, message_id, topic, key, type_name, source, record, published_on)
             SELECT shard, deliver_at, id, topic, key, type_name, source, x'', topic FROM message
             WHERE id = ? AND source = ? AND topic = ?",
        );
        insert.bind(&row.id).bind(&row.source).bind(&row.topic).execute(&mut **tx).await.unwrap();
    }
}

/// Inserts a broadcast that no node was there for.
async fn insert_unheard(tx: &mut Transaction<'_, Sqlite>, row: &UnheardRow) {
    let insert = sqlx::query(
        "INSERT INTO message (id, source, topic, type_name, kind, time, created_at, state, retrying, partition, offset,
             heard)
         VALUES (?, 'shop', ?, 'OrderCreated', 'broadcast', ?3, ?3, ?, 0, 0, 0, 0)",
    )
    .bind(&row.id)
    .bind(&row.topic)
    .bind(row.created_at.0)
    .bind(State::Committed.code());
    insert.execute(&mut **tx).await.unwrap();
}

/// Inserts a final delivery, or an open one if it has not settled. An open one that has no
/// next attempt and does not wait behind another one is held.
async fn insert_delivery(tx: &mut Transaction<'_, Sqlite>, row: &DeliveryRow) {
    let group = group_id(tx, &row.group).await;
    let position = position_id(tx, group, row).await;
    let node = word_id(tx, row.node.as_deref().unwrap_or("host-1")).await;
    let version = optional_word_id(tx, row.version.as_deref()).await;
    let (own_columns, own_values) = match row.settled_at {
        Some(_) => ("day, slot, settled_at", "?, 0, ?"),
        None => ("next_attempt_at, held", "?, ?"),
    };
    let table = if row.settled_at.is_some() { "delivery" } else { "open_delivery" };
    let insert = sqlx::AssertSqlSafe(format!(
        "INSERT INTO {table} ({own_columns}, position, offset, group_id, state, record_time, received_at, started_at,
             number, counted, verdict, node, version, message_id, source_hash, key, type_name, reason, fingerprint)
         VALUES ({own_values}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ));
    let insert = match row.settled_at {
        Some(settled_at) => sqlx::query(insert).bind(row.record_time.0 / DAY).bind(settled_at.0),
        None => {
            let is_held = row.next_attempt_at.is_none() && row.state != State::Committed;
            sqlx::query(insert).bind(row.next_attempt_at.map(|at| at.0)).bind(i64::from(is_held))
        }
    };
    let insert = insert
        .bind(position)
        .bind(row.key.offset.0)
        .bind(group)
        .bind(row.state.code())
        .bind(row.record_time.0)
        .bind(row.received_at.0)
        .bind(row.started_at.map(|at| at.0))
        .bind(row.number)
        .bind(row.counted)
        .bind(row.verdict.map(courier_core::verdict::Verdict::code))
        .bind(node)
        .bind(version)
        .bind(&row.message_id)
        .bind(row.source_hash.map(|hash| hash.0))
        .bind(row.record_key.as_deref())
        .bind(&row.type_name)
        .bind(&row.reason)
        .bind(&row.fingerprint);
    insert.execute(&mut **tx).await.unwrap();
    if let Some(record) = &row.record {
        let insert = sqlx::query("INSERT INTO kept_record (position, offset, record) VALUES (?, ?, ?)");
        insert.bind(position).bind(row.key.offset.0).bind(&record[..]).execute(&mut **tx).await.unwrap();
    }
}

/// Inserts the dead letter of a delivery on `dlq.<topic>.<group>`.
async fn insert_dead_letter(tx: &mut Transaction<'_, Sqlite>, row: &DeliveryRow) {
    let group = group_id(tx, &row.group).await;
    let position = position_id(tx, group, row).await;
    let insert = sqlx::query(
        "INSERT INTO dead_letter (position, offset, number, group_id, topic, at, message_id, key, type_name, reason)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'no')",
    )
    .bind(position)
    .bind(row.key.offset.0)
    .bind(row.number)
    .bind(group)
    .bind(format!("dlq.{}.{}", row.topic, row.group))
    .bind(row.received_at.0)
    .bind(&row.message_id)
    .bind(row.record_key.as_deref())
    .bind(&row.type_name);
    insert.execute(&mut **tx).await.unwrap();
}

async fn insert_handled_set(tx: &mut Transaction<'_, Sqlite>, set: &HandledSet) {
    let mut runs = OffsetRuns::default();
    for offset in &set.offsets {
        runs.insert(*offset);
    }
    let node = word_id(tx, set.at.node.as_deref().unwrap_or("host-1")).await;
    let version = optional_word_id(tx, set.at.version.as_deref()).await;
    let insert = sqlx::query(
        "INSERT INTO handled_set (position, first_offset, last_offset, from_at, to_at, group_id, node, version,
             deliveries, runs)
         VALUES (?1, ?2, ?3, ?4, ?5, (SELECT group_id FROM position WHERE id = ?1), ?6, ?7, ?8, ?9)",
    )
    .bind(set.position.0)
    .bind(runs.first().unwrap().0)
    .bind(runs.last().unwrap().0)
    .bind(set.at.from.0)
    .bind(set.at.to.0)
    .bind(node)
    .bind(version)
    .bind(runs.len().cast_signed())
    .bind(runs.encode().unwrap());
    insert.execute(&mut **tx).await.unwrap();
}

/// Inserts the counters of a group. Its open rows are counted where they are.
async fn insert_totals(tx: &mut Transaction<'_, Sqlite>, totals: &GroupTotals) {
    let (group, node) = (group_id(tx, &totals.group).await, word_id(tx, "host-1").await);
    let insert = sqlx::query("INSERT INTO counter (group_id, node, handled, failed) VALUES (?, ?, ?, ?)")
        .bind(group)
        .bind(node)
        .bind(totals.handled.cast_signed())
        .bind(totals.failed.cast_signed());
    insert.execute(&mut **tx).await.unwrap();
}

async fn insert_half(tx: &mut Transaction<'_, Sqlite>, half: &HalfRow) {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap();
    let insert = sqlx::query(
        "INSERT INTO half_message (id, state, check_url, timeout, created_at, deadline, checks, next_check_at,
             last_answer, reason, ended_at, unreachable_since, sender)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&half.id)
    .bind(half.state.code())
    .bind(&half.check_url)
    .bind(micros(half.timeout))
    .bind(half.created_at.0)
    .bind(half.deadline.0)
    .bind(half.checks)
    .bind(half.next_check_at.map(|at| at.0))
    .bind(&half.last_answer)
    .bind(&half.reason)
    .bind(half.ended_at.map(|at| at.0))
    .bind(half.unreachable_since.map(|at| at.0))
    .bind(&half.sender);
    insert.execute(&mut **tx).await.unwrap();
    for (place, message) in (0_i64..).zip(&half.messages) {
        let insert = sqlx::query(
            "INSERT INTO half_item (half_id, place, message_id, digest, key, source, topic, goes_to, type_name, kind,
                 time, shard)
             VALUES (?1, ?2, ?3, x'', ?4, 'shop', ?5, ?5, ?6, 'event', 0, 0)",
        )
        .bind(&half.id)
        .bind(place)
        .bind(&message.id)
        .bind(message.key.as_deref())
        .bind(&message.topic)
        .bind(&message.type_name);
        insert.execute(&mut **tx).await.unwrap();
    }
}
