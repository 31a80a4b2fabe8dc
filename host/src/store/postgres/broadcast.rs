//! Listeners and their positions.
//!
//! The listener's row is locked before its positions, and those in the order of their
//! ids, as everywhere.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use sqlx::postgres::{PgConnection, PgRow};

use super::claim::close_open;
use super::columns::PgRowExt;
use super::error::at_statement;
use super::positions::insert_lost;
use super::{PostgresStore, bounded, commit, micros};
use crate::store::broadcast::{AWAY_TOO_LONG, NOT_BOUND, SEEN_EVERY, SEEN_PARTS, UNHEARD};
use crate::store::shared::text::clean;
use crate::store::{DeliveryKey, Extent, Listen, ListenerRow, ListenerStore, Listening, StoreError, UnheardRow};

#[async_trait]
impl ListenerStore for PostgresStore {
    async fn listen(&self, wish: &Listen) -> Result<Listening, StoreError> {
        bounded(listen(self, wish)).await
    }

    async fn still_listening(&self, group: &str, node: &str) -> Result<Vec<String>, StoreError> {
        bounded(still_listening(self, group, node)).await
    }

    async fn listen_only(&self, node: &str, keep: &[(String, String)]) -> Result<Vec<ListenerRow>, StoreError> {
        let node = clean(node);
        let kept = |row: &ListenerRow| keep.iter().any(|(group, topic)| row.group == *group && row.topic == *topic);
        bounded(end_listeners(self, NOT_BOUND, |found| found.row.node == node && !kept(&found.row))).await
    }

    async fn forget_listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        bounded(end_listeners(self, AWAY_TOO_LONG, |found| found.away_too_long)).await
    }

    async fn listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        let all = async { Ok(all(self).await?.into_iter().map(|found| found.row).collect()) };
        bounded(all).await
    }

    async fn judge_broadcasts(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        bounded(judge(self, limit)).await
    }

    async fn unheard(
        &self,
        since: Timestamp,
        topics: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<UnheardRow>, StoreError> {
        bounded(unheard(self, since, topics, limit)).await
    }
}

/// A listener, and whether its node is away for too long.
struct ListenerAway {
    row: ListenerRow,
    group: i32,
    away_too_long: bool,
}

async fn all(store: &PostgresStore) -> Result<Vec<ListenerAway>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.group_id, l.seen_at + l.forget <= courier_now() AS away_too_long, g.name, l.topic, l.node,
             EXISTS (SELECT FROM node n WHERE n.name = l.node AND n.lease_until > courier_now()) AS live,
             l.registered_at, l.seen_at, l.gone_at, l.gone_why
         FROM listener l JOIN consumer_group g ON g.id = l.group_id ORDER BY g.name, l.topic, l.node",
    )
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(found).collect()
}

fn found(row: &PgRow) -> Result<ListenerAway, StoreError> {
    let why: Option<String> = row.take("gone_why")?;
    let listener = ListenerRow {
        group: row.take("name")?,
        topic: row.take("topic")?,
        node: row.take("node")?,
        live: row.take("live")?,
        registered_at: row.time("registered_at")?,
        seen_at: row.time("seen_at")?,
        gone: row.time_opt("gone_at")?.map(|at| (at, why.unwrap_or_default())),
    };
    Ok(ListenerAway { row: listener, group: row.take("group_id")?, away_too_long: row.take("away_too_long")? })
}

async fn still_listening(store: &PostgresStore, group: &str, node: &str) -> Result<Vec<String>, StoreError> {
    let group = store.groups.id(&store.pool, group).await?;
    let rows = sqlx::query(
        "WITH seen AS (
             UPDATE listener SET seen_at = courier_now() WHERE group_id = $1 AND node = $2 AND gone_at IS NULL
             AND seen_at <= courier_now() - least(forget / $3, $4)
         )
         SELECT topic FROM listener WHERE group_id = $1 AND node = $2 AND gone_at IS NOT NULL",
    )
    .bind(group)
    .bind(clean(node))
    .bind(SEEN_PARTS)
    .bind(micros(SEEN_EVERY))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.take("topic")).collect()
}

async fn listen(store: &PostgresStore, wish: &Listen) -> Result<Listening, StoreError> {
    let group = store.groups.id(&store.pool, &wish.group).await?;
    let mut tx = store.begin_tx().await?;
    let gone = sqlx::query(
        "SELECT gone_at IS NOT NULL OR seen_at + forget <= courier_now() AS gone FROM listener
         WHERE group_id = $1 AND topic = $2 AND node = $3 FOR UPDATE",
    )
    .bind(group)
    .bind(clean(&wish.topic))
    .bind(clean(&wish.node))
    .fetch_optional(&mut *tx)
    .await
    .map_err(at_statement)?;
    let gone: Option<bool> = gone.map(|row| row.take("gone")).transpose()?;
    if gone == Some(true) {
        // It may be away for too long without any host having ended it yet.
        end_listener(&mut tx, group, &wish.topic, &wish.node, AWAY_TOO_LONG, Expected::Whatever).await?;
    }
    sqlx::query(
        "INSERT INTO listener (group_id, topic, node, registered_at, seen_at, forget)
         SELECT $1, $2, $3, now.at, now.at, $4 FROM (SELECT courier_now() AS at) AS now
         ON CONFLICT (group_id, topic, node) DO UPDATE SET
             seen_at = excluded.seen_at, forget = excluded.forget, gone_at = NULL, gone_why = NULL",
    )
    .bind(group)
    .bind(clean(&wish.topic))
    .bind(clean(&wish.node))
    .bind(micros(wish.forget))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut listening = Listening { begun: gone != Some(false), missed: Vec::new() };
    for extent in &wish.partitions {
        listening.missed.extend(take_place(&mut tx, group, wish, gone, extent).await?);
    }
    commit(tx).await?;
    Ok(listening)
}

/// Gives a listener its position in a partition, and returns the range that it missed.
async fn take_place(
    tx: &mut PgConnection,
    group: i32,
    wish: &Listen,
    gone: Option<bool>,
    extent: &Extent,
) -> Result<Option<(i32, Offset, Offset)>, StoreError> {
    let old = sqlx::query(
        "SELECT id, next FROM position
         WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4 AND current FOR UPDATE",
    )
    .bind(group)
    .bind(clean(&wish.topic))
    .bind(extent.partition)
    .bind(clean(&wish.node))
    .fetch_optional(&mut *tx)
    .await
    .map_err(at_statement)?;
    let anew = gone != Some(false) && !(gone == Some(true) && wish.catch_up);
    let Some(old) = old else {
        let start = if anew { extent.high } else { extent.low };
        sqlx::query(
            "INSERT INTO position (group_id, topic, incarnation, partition, listener, topic_id, next, heard_from, epoch,
                 current)
             VALUES ($1, $2, (SELECT coalesce(max(incarnation) + 1, 0) FROM position
                              WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4),
                     $3, $4, $5, $6, $6, 0, true)",
        )
        .bind(group)
        .bind(clean(&wish.topic))
        .bind(extent.partition)
        .bind(clean(&wish.node))
        .bind(clean(&wish.topic_id))
        .bind(start.0)
        .execute(tx)
        .await
        .map_err(at_statement)?;
        return Ok(None);
    };
    let (id, next): (i64, Offset) = (old.take("id")?, old.offset("next")?);
    if !anew || next >= extent.high {
        return Ok(None);
    }
    sqlx::query("UPDATE position SET next = $2, heard_from = $2, epoch = epoch + 1 WHERE id = $1")
        .bind(id)
        .bind(extent.high.0)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    insert_lost(tx, id, next.0, extent.high.0, AWAY_TOO_LONG).await?;
    Ok(Some((extent.partition, next, extent.high)))
}

/// Ends the listeners that `ends` selects among those that have not ended.
async fn end_listeners(
    store: &PostgresStore,
    why: &str,
    ends: impl Fn(&ListenerAway) -> bool + Send,
) -> Result<Vec<ListenerRow>, StoreError> {
    let found: Vec<ListenerAway> =
        all(store).await?.into_iter().filter(|found| found.row.gone.is_none() && ends(found)).collect();
    let mut ended = Vec::new();
    for mut found in found {
        let mut tx = store.begin_tx().await?;
        // Another host may be ending it too, or the node may be back.
        let seen_at = Expected::SeenAt(found.row.seen_at);
        if end_listener(&mut tx, found.group, &found.row.topic, &found.row.node, why, seen_at).await? {
            found.row.gone = Some((found.row.seen_at, why.to_owned()));
            ended.push(found.row);
        }
        commit(tx).await?;
    }
    Ok(ended)
}

/// What has to hold for a listener to be ended.
#[derive(Clone, Copy)]
enum Expected {
    /// Nothing: the caller has locked its row.
    Whatever,
    /// Its node was not seen after this time.
    SeenAt(Timestamp),
}

/// Ends a listener: its epochs are raised, so that what its node still writes is refused,
/// and its open deliveries become final. Returns false and changes nothing when it is not
/// as expected.
async fn end_listener(
    tx: &mut PgConnection,
    group: i32,
    topic: &str,
    node: &str,
    why: &str,
    expected: Expected,
) -> Result<bool, StoreError> {
    let seen_at = match expected {
        Expected::Whatever => None,
        Expected::SeenAt(at) => Some(at.0),
    };
    let done = sqlx::query(
        "UPDATE listener SET gone_at = courier_now(), gone_why = $4
         WHERE group_id = $1 AND topic = $2 AND node = $3 AND gone_at IS NULL AND ($5::bigint IS NULL OR seen_at = $5)",
    )
    .bind(group)
    .bind(clean(topic))
    .bind(clean(node))
    .bind(why)
    .bind(seen_at)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let positions = sqlx::query(
        "SELECT id FROM position WHERE group_id = $1 AND topic = $2 AND listener = $3 ORDER BY id FOR UPDATE",
    )
    .bind(group)
    .bind(clean(topic))
    .bind(clean(node))
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    for position in &positions {
        let id: i64 = position.take("id")?;
        sqlx::query("UPDATE position SET epoch = epoch + 1 WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
        close_open(tx, group, id, None, why).await?;
    }
    Ok(true)
}

async fn judge(store: &PostgresStore, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
    // A listener without a position in the partition begins at its first offset, since the
    // partition was added after the listener.
    let rows = sqlx::query(
        "WITH due AS (
             SELECT id, source, topic, partition, kafka_offset FROM message
             WHERE kind = 'broadcast' AND heard IS NULL AND state = 2 AND partition IS NOT NULL
             ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED
         ), judged AS (
             SELECT d.id, d.source, d.topic, EXISTS (
                 SELECT FROM listener l LEFT JOIN position p
                     ON p.group_id = l.group_id AND p.topic = l.topic AND p.listener = l.node
                         AND p.partition = d.partition AND p.current
                 WHERE l.topic = d.topic AND coalesce(p.heard_from, 0) <= d.kafka_offset
                     AND (l.gone_at IS NULL OR p.next > d.kafka_offset)) AS heard
             FROM due d
         )
         UPDATE message m SET heard = j.heard, reason = CASE WHEN j.heard THEN m.reason ELSE $2 END
         FROM judged j WHERE m.id = j.id AND m.source = j.source AND m.topic = j.topic RETURNING m.id, m.topic, j.heard",
    )
    .bind(i64::from(limit))
    .bind(UNHEARD)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let mut unheard = Vec::new();
    for row in &rows {
        if !row.take::<bool>("heard")? {
            unheard.push((row.take("id")?, row.take("topic")?));
        }
    }
    Ok(unheard)
}

async fn unheard(
    store: &PostgresStore,
    since: Timestamp,
    topics: Option<&[String]>,
    limit: u32,
) -> Result<Vec<UnheardRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, topic, created_at FROM message
         WHERE heard = false AND created_at >= $1 AND ($3::text[] IS NULL OR topic = ANY($3))
         ORDER BY created_at DESC LIMIT $2",
    )
    .bind(since.0)
    .bind(i64::from(limit))
    .bind(topics)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter()
        .map(|row| {
            Ok(UnheardRow { id: row.take("id")?, topic: row.take("topic")?, created_at: row.time("created_at")? })
        })
        .collect()
}

/// Refuses a delivery whose listener has ended, since no owner could run it.
pub(super) async fn refuse_gone_listener(tx: &mut PgConnection, delivery: &DeliveryKey) -> Result<(), StoreError> {
    let gone = sqlx::query(
        "SELECT l.node FROM position p JOIN listener l
             ON l.group_id = p.group_id AND l.topic = p.topic AND l.node = p.listener
         WHERE p.id = $1 AND l.gone_at IS NOT NULL",
    )
    .bind(delivery.position.0)
    .fetch_optional(tx)
    .await
    .map_err(at_statement)?;
    let Some(row) = gone else { return Ok(()) };
    let node: String = row.take("node")?;
    Err(StoreError::Conflict(format!("{node:?}, which this broadcast was for, no longer listens")))
}
