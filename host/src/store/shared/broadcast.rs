//! Listeners and their positions.
//!
//! The listener's row is locked before its positions, and those in the order of their
//! ids, as everywhere.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

use super::dialect::{StatementConnection, StoreDialect};
use super::statement::{SharedRow, Statement};
use super::text::clean;
use crate::store::broadcast::{AWAY_TOO_LONG, NOT_BOUND, SEEN_EVERY, SEEN_PARTS};
use crate::store::{
    DeliveryKey, Extent, Listen, ListenerRow, ListenerStore, Listening, PositionId, StoreError, UnheardRow,
};

/// The end of a statement for the listeners of the group `$1` on the node `$2`.
macro_rules! of_node {
    () => {
        " WHERE group_id = (SELECT id FROM consumer_group WHERE name = $1) AND node = $2"
    };
}

/// The condition under which a listener's `seen_at` is written again: one part in `$3` of
/// its `forget` has passed, or `$4` if that is sooner.
macro_rules! unseen {
    () => {
        "gone_at IS NULL AND seen_at <= courier_now() - CASE WHEN forget / $3 < $4 THEN forget / $3 ELSE $4 END"
    };
}

/// What each dialect writes by itself: the columns of positions and messages differ.
#[async_trait]
pub(in crate::store) trait ListenerDialect: StoreDialect {
    /// Locks the position that a listener `$4` of the group `$1` has in the topic `$2`
    /// and partition `$3`, and returns its id and next offset.
    const LOCK_POSITION: &'static str;
    /// Inserts the position of a listener with the same parameters, Kafka's id `$5` of the
    /// topic and the first offset `$6`.
    const INSERT_POSITION: &'static str;
    /// Lists the broadcasts since `$1` that no listener existed for: id, topic and time.
    const UNHEARD: &'static str;

    /// Makes the open deliveries of a position final, with `why` as their reason.
    async fn close_open(
        connection: &mut Self::Connection,
        group: i64,
        position: PositionId,
        why: &str,
    ) -> Result<(), StoreError>;

    /// Records that a position skipped the offsets from `from` to below `to`.
    async fn record_lost(
        connection: &mut Self::Connection,
        position: PositionId,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError>;

    /// See [`ListenerStore::judge_broadcasts`].
    async fn judge(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError>;
}

#[async_trait]
impl<D: ListenerDialect> ListenerStore for D {
    async fn listen(&self, wish: &Listen) -> Result<Listening, StoreError> {
        D::limited(async {
            let (mut tx, group) = self.begin_for_group(&wish.group).await?;
            let key = ListenerKey { group, topic: &wish.topic, node: &wish.node };
            let lock = key.statement(
                "SELECT gone_at IS NOT NULL OR seen_at + forget <= courier_now() FROM listener
                 WHERE group_id = $1 AND topic = $2 AND node = $3 FOR UPDATE",
            );
            let gone = tx.row(lock).await?.map(|mut row| row.flag()).transpose()?;
            if gone == Some(true) {
                // It may be away for too long without any host having ended it yet.
                end_listener::<D>(&mut tx, key, AWAY_TOO_LONG, None).await?;
            }
            let upsert = key.statement(
                "INSERT INTO listener (group_id, topic, node, registered_at, seen_at, forget)
                 SELECT $1, $2, $3, now.at, now.at, $4 FROM (SELECT courier_now() AS at) AS now WHERE true
                 ON CONFLICT (group_id, topic, node) DO UPDATE SET
                     seen_at = excluded.seen_at, forget = excluded.forget, gone_at = NULL, gone_why = NULL",
            );
            tx.execute(upsert.bind(wish.forget)).await?;
            let mut listening = Listening { begun: gone != Some(false), missed: Vec::new() };
            for extent in &wish.partitions {
                listening.missed.extend(take_position::<D>(&mut tx, group, wish, gone, extent).await?);
            }
            D::commit_writing(tx).await?;
            Ok(listening)
        })
        .await
    }

    async fn still_listening(&self, group: &str, node: &str) -> Result<Vec<String>, StoreError> {
        let of_node = |sql| Statement::new(sql).bind(group).bind(node).bind(SEEN_PARTS).bind(SEEN_EVERY);
        D::limited(async {
            // Checked by a reader first: mostly there is nothing to write.
            let select =
                of_node(concat!("SELECT topic, gone_at IS NOT NULL, ", unseen!(), " FROM listener", of_node!()));
            let (mut gone, mut write) = (Vec::new(), false);
            for mut row in self.read(select).await? {
                let topic = row.text()?;
                if row.flag()? {
                    gone.push(topic);
                }
                write |= row.flag()?;
            }
            if write {
                let update = concat!("UPDATE listener SET seen_at = courier_now()", of_node!(), " AND ", unseen!());
                let mut tx = self.begin_writing().await?;
                tx.execute(of_node(update)).await?;
                D::commit_writing(tx).await?;
            }
            Ok(gone)
        })
        .await
    }

    async fn listen_only(&self, node: &str, keep: &[(String, String)]) -> Result<Vec<ListenerRow>, StoreError> {
        let node = clean(node);
        let kept = |row: &ListenerRow| keep.iter().any(|(group, topic)| row.group == *group && row.topic == *topic);
        D::limited(end_listeners(self, NOT_BOUND, |found| found.row.node == node && !kept(&found.row))).await
    }

    async fn forget_listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        D::limited(end_listeners(self, AWAY_TOO_LONG, |found| found.away_too_long)).await
    }

    async fn listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        Ok(D::limited(all(self)).await?.into_iter().map(|found| found.row).collect())
    }

    async fn judge_broadcasts(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        D::limited(self.judge(limit)).await
    }

    async fn unheard(
        &self,
        since: Timestamp,
        topics: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<UnheardRow>, StoreError> {
        let mut select = Statement::new(D::UNHEARD).bind(since.0);
        if let Some(topics) = topics {
            select.push(" AND topic").push_in(topics);
        }
        select.push(" ORDER BY created_at DESC LIMIT ").push_bind(i64::from(limit));
        let unheard =
            |mut row: SharedRow| Ok(UnheardRow { id: row.text()?, topic: row.text()?, created_at: row.time()? });
        D::limited(self.read(select)).await?.into_iter().map(unheard).collect()
    }
}

/// The key of a listener.
#[derive(Clone, Copy)]
struct ListenerKey<'k> {
    group: i64,
    topic: &'k str,
    node: &'k str,
}

impl<'k> ListenerKey<'k> {
    /// A statement whose first three parameters are the group, topic and node.
    fn statement(self, sql: &'static str) -> Statement<'k> {
        Statement::new(sql).bind(self.group).bind(self.topic).bind(self.node)
    }
}

/// A listener, and whether its node is away for too long.
struct ListenerAway {
    row: ListenerRow,
    group: i64,
    away_too_long: bool,
}

async fn all<D: StoreDialect>(store: &D) -> Result<Vec<ListenerAway>, StoreError> {
    // A node that left has no writer, whatever its lease says.
    let select = Statement::new(
        "SELECT l.group_id, l.seen_at + l.forget <= courier_now(), g.name, l.topic, l.node,
             EXISTS (SELECT 1 FROM node n
                     WHERE n.name = l.node AND n.writer_id IS NOT NULL AND n.lease_until > courier_now()),
             l.registered_at, l.seen_at, l.gone_at, l.gone_why
         FROM listener l JOIN consumer_group g ON g.id = l.group_id ORDER BY g.name, l.topic, l.node",
    );
    let found = |mut row: SharedRow| {
        let (group, away_too_long) = (row.number()?, row.flag()?);
        let listener = ListenerRow {
            group: row.text()?,
            topic: row.text()?,
            node: row.text()?,
            live: row.flag()?,
            registered_at: row.time()?,
            seen_at: row.time()?,
            gone: {
                let (at, why) = (row.time_option()?, row.text_option()?);
                at.map(|at| (at, why.unwrap_or_default()))
            },
        };
        Ok(ListenerAway { row: listener, group, away_too_long })
    };
    store.read(select).await?.into_iter().map(found).collect()
}

/// Gives a listener its position in a partition, and returns the range that it missed.
async fn take_position<D: ListenerDialect>(
    tx: &mut D::Connection,
    group: i64,
    wish: &Listen,
    gone: Option<bool>,
    extent: &Extent,
) -> Result<Option<(i32, Offset, Offset)>, StoreError> {
    let of_listener = |sql| Statement::new(sql).bind(group).bind(&wish.topic).bind(extent.partition).bind(&wish.node);
    let old = tx.row(of_listener(D::LOCK_POSITION)).await?;
    let anew = gone != Some(false) && !(gone == Some(true) && wish.catch_up);
    let Some(mut old) = old else {
        let start = if anew { extent.high } else { extent.low };
        tx.execute(of_listener(D::INSERT_POSITION).bind(&wish.topic_id).bind(start.0)).await?;
        return Ok(None);
    };
    let (position, next) = (PositionId(old.number()?), Offset(old.number()?));
    if !anew || next >= extent.high {
        return Ok(None);
    }
    let update = Statement::new("UPDATE position SET next = $2, heard_from = $2, epoch = epoch + 1 WHERE id = $1");
    tx.execute(update.bind(position.0).bind(extent.high.0)).await?;
    D::record_lost(tx, position, next, extent.high, AWAY_TOO_LONG).await?;
    Ok(Some((extent.partition, next, extent.high)))
}

/// Ends the listeners that `ends` selects among those that have not ended, each in a
/// transaction of its own: one for all would lock positions out of their order.
async fn end_listeners<D: ListenerDialect>(
    store: &D,
    why: &str,
    ends: impl Fn(&ListenerAway) -> bool + Send,
) -> Result<Vec<ListenerRow>, StoreError> {
    let found: Vec<ListenerAway> =
        all(store).await?.into_iter().filter(|found| found.row.gone.is_none() && ends(found)).collect();
    let mut ended = Vec::new();
    for mut found in found {
        let mut tx = store.begin_writing().await?;
        let key = ListenerKey { group: found.group, topic: &found.row.topic, node: &found.row.node };
        // Another host may be ending it too, or the node may be back.
        let ended_at = end_listener::<D>(&mut tx, key, why, Some(found.row.seen_at)).await?;
        D::commit_writing(tx).await?;
        if let Some(at) = ended_at {
            found.row.gone = Some((at, why.to_owned()));
            ended.push(found.row);
        }
    }
    Ok(ended)
}

/// Ends a listener: its epochs are raised, so that what its node still writes is refused,
/// and its open deliveries become final. Returns when it ended. Changes nothing and returns
/// `None` when it had ended before, or its node was seen after `seen_at`.
async fn end_listener<D: ListenerDialect>(
    tx: &mut D::Connection,
    key: ListenerKey<'_>,
    why: &str,
    seen_at: Option<Timestamp>,
) -> Result<Option<Timestamp>, StoreError> {
    let mut update = key.statement(
        "UPDATE listener SET gone_at = courier_now(), gone_why = $4
         WHERE group_id = $1 AND topic = $2 AND node = $3 AND gone_at IS NULL",
    );
    update = update.bind(why);
    if let Some(seen_at) = seen_at {
        update.push(" AND seen_at = ").push_bind(seen_at.0);
    }
    update.push(" RETURNING gone_at");
    let Some(mut ended) = tx.row(update).await? else { return Ok(None) };
    let lock = "SELECT id FROM position WHERE group_id = $1 AND topic = $2 AND listener = $3 ORDER BY id FOR UPDATE";
    for mut position in tx.rows(key.statement(lock)).await? {
        let position = PositionId(position.number()?);
        let update = Statement::new("UPDATE position SET epoch = epoch + 1 WHERE id = $1").bind(position.0);
        tx.execute(update).await?;
        D::close_open(tx, key.group, position, why).await?;
    }
    ended.time().map(Some)
}

/// Refuses a delivery whose listener has ended, since no owner could run it.
pub(in crate::store) async fn refuse_gone_listener(
    connection: &mut impl StatementConnection,
    delivery: &DeliveryKey,
) -> Result<(), StoreError> {
    let select = Statement::new(
        "SELECT l.node FROM position p JOIN listener l
             ON l.group_id = p.group_id AND l.topic = p.topic AND l.node = p.listener
         WHERE p.id = $1 AND l.gone_at IS NOT NULL",
    );
    let Some(mut gone) = connection.row(select.bind(delivery.position.0)).await? else { return Ok(()) };
    let node = gone.text()?;
    Err(StoreError::Conflict(format!("{node:?}, which this broadcast was for, no longer listens")))
}
