//! Settling: one transaction makes the outcomes of a batch durable.
//!
//! The order within it is that of the other dialect: the writer's sequence, the positions under
//! their epochs, the check of open rows, and then the writes. SQLite has one writer, so that
//! whatever was read stays true until the commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{Arguments, Row, SqliteConnection};

use super::SqliteStore;
use super::bulk::Bulk;
use super::columns::{expect_rows, json, now};
use super::error::{commit_fault, fault};
use super::handled_sets;
use super::script::Script;
use super::settle_open::{Owned, check_open_rows, remove_finished, write_open};
use super::settle_rows::{Line, write_attempts, write_final, write_records};
use super::slots::Slots;
use crate::store::shared::text::clean;
use crate::store::{Becomes, OutcomeRow, Part, SettleStore, Settled, StoreError, WriterId};

#[async_trait]
impl SettleStore for SqliteStore {
    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError> {
        self.words.learn(&self.connections, words_of(parts)).await?;
        let (mut tx, head) = self.connections.write_after(head(writer, sequence, parts)?).await?;
        let [advanced, positions, slots] = head.as_slice() else {
            return Err(StoreError::Bug(format!("the head of a settle has {} answers", head.len())));
        };
        if advanced.changed != 1 {
            return Err(not_in_turn(&mut tx, writer, sequence).await?);
        }
        let (owned, stale) = owned(&positions.rows, parts)?;
        let slots = Slots::of(&slots.rows)?;
        for part in &owned {
            check_open_rows(&mut tx, part).await?;
        }
        let mut lines = Vec::new();
        for part in &owned {
            let mut messages = remove_finished(&mut tx, part).await?;
            for outcome in &part.part.outcomes {
                let message = messages.remove(&outcome.offset);
                lines.push(Line { message, ..Line::new(part.part.position, part.group, outcome, &self.words)? });
            }
        }
        let mut sets = Vec::new();
        for part in &owned {
            sets.extend(handled_sets::rows_of(part.part, part.group, &self.words)?);
        }
        let mut sums = Script::default();
        let moved = move_positions(&mut sums, &owned)?;
        count(&mut sums, &lines)?;
        let answers = write_final(&mut tx, sums, &lines, &slots).await?;
        expect_rows("moving positions", moved, answers.first().map_or(0, |answer| answer.changed))?;
        handled_sets::append(&mut tx, &sets).await?;
        write_open(&mut tx, &lines).await?;
        write_records(&mut tx, &lines).await?;
        write_attempts(&mut tx, &lines, &self.words).await?;
        super::accept::write_outbound(
            &mut tx,
            lines.iter().flat_map(|line| line.outcome.outbound.iter()).map(|row| (row, super::accept::Origin::Handler)),
        )
        .await?;
        super::troubles::write_dead_letters(&mut tx, &lines).await?;
        write_state_values(&mut tx, &lines).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(Settled { stale })
    }

    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError> {
        // Read on the writing connection: after a commit whose answer was lost, its transaction
        // has to end before the sequence is read.
        let mut tx = self.connections.write().await?;
        let sequence: Option<i64> = sqlx::query_scalar("SELECT sequence FROM writer WHERE id = ?")
            .bind(writer.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(fault)?;
        sequence.ok_or_else(|| StoreError::NotFound(format!("there is no writer {}", writer.0)))
    }
}

/// The nodes and versions that the parts name.
fn words_of(parts: &[Part]) -> impl Iterator<Item = &str> + Send {
    parts.iter().flat_map(|part| &part.outcomes).flat_map(|outcome| {
        let attempts = outcome.attempts.iter().flat_map(|a| [Some(&*a.node), a.version.as_deref()]);
        [Some(&*outcome.node), outcome.version.as_deref()].into_iter().chain(attempts).flatten()
    })
}

/// Raises the writer's sequence, in the transaction that it numbers, so that the sequence tells
/// whether a commit without an answer took place; then reads what the outcomes are checked
/// against.
fn head(writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Script, StoreError> {
    let mut head = Script::default();
    head.push("UPDATE writer SET sequence = sequence + 1 WHERE id = ? AND sequence = ?");
    head.bind(writer.0)?;
    head.bind(sequence - 1)?;
    head.push(
        "SELECT id, epoch, group_id, EXISTS (SELECT 1 FROM open_delivery WHERE position = id)
         FROM position WHERE id IN (SELECT value FROM json_each(?))",
    );
    head.bind(json(&parts.iter().map(|part| part.position.0).collect::<BTreeSet<_>>())?)?;
    let settled_at = |outcome: &OutcomeRow| match outcome.to {
        Becomes::Final { settled_at, .. } => Some(settled_at),
        Becomes::Open { .. } | Becomes::InHandledSet { .. } => None,
    };
    let oldest = parts.iter().flat_map(|part| &part.outcomes).filter_map(settled_at).min();
    Slots::ask(&mut head, oldest.unwrap_or(Timestamp(i64::MAX)))?;
    Ok(head)
}

/// The error for a sequence that was not raised.
async fn not_in_turn(tx: &mut SqliteConnection, writer: WriterId, sequence: i64) -> Result<StoreError, StoreError> {
    let at: Option<i64> = sqlx::query_scalar("SELECT sequence FROM writer WHERE id = ?")
        .bind(writer.0)
        .fetch_optional(tx)
        .await
        .map_err(fault)?;
    Ok(match at {
        None => StoreError::Fenced(format!("there is no writer {}", writer.0)),
        Some(at) => StoreError::Bug(format!("writer {} settles as {sequence} but stands at {at}", writer.0)),
    })
}

/// Splits the parts into those whose epoch is the present one and those that are stale.
fn owned<'p>(positions: &[SqliteRow], parts: &'p [Part]) -> Result<(Vec<Owned<'p>>, Vec<usize>), StoreError> {
    let mut present = HashMap::with_capacity(positions.len());
    for row in positions {
        let (id, epoch, group, has_open) = read4(row)?;
        present.insert(id, (epoch, group, has_open != 0));
    }
    let (mut owned, mut stale) = (Vec::with_capacity(parts.len()), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        match present.get(&part.position.0) {
            Some(&(epoch, group, has_open)) if epoch == part.epoch => owned.push(Owned { part, group, has_open }),
            _ => stale.push(index),
        }
    }
    Ok((owned, stale))
}

fn read4(row: &SqliteRow) -> Result<(i64, i64, i64, i64), StoreError> {
    let at = |index: usize| row.try_get::<i64, _>(index).map_err(fault);
    Ok((at(0)?, at(1)?, at(2)?, at(3)?))
}

/// Writes the state values of successes in the order in which they were decided, so that the last
/// one of a key stays.
async fn write_state_values(tx: &mut SqliteConnection, lines: &[Line<'_>]) -> Result<(), StoreError> {
    const PUT: Bulk = Bulk {
        insert: "INSERT INTO state_value (group_id, key, value, written_at)",
        columns: 4,
        then: "ON CONFLICT (group_id, key) DO UPDATE SET value = excluded.value, written_at = excluded.written_at",
    };
    let written_at = now().0;
    let mut last = BTreeMap::new();
    for line in lines {
        for (key, value) in &line.outcome.state_writes {
            last.insert((line.group, clean(key)), value.as_ref());
        }
    }
    let put: Vec<_> = last.iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect();
    PUT.run(tx, &put, |arguments, ((group, key), value)| {
        arguments.add(*group)?;
        arguments.add(key.as_ref())?;
        arguments.add(value.as_ref())?;
        arguments.add(written_at)
    })
    .await?;
    for ((group, key), _) in last.iter().filter(|(_, value)| value.is_none()) {
        // Nothing to delete is no error, since the handler wants no row.
        sqlx::query("DELETE FROM state_value WHERE group_id = ? AND key = ?")
            .bind(group)
            .bind(key.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    Ok(())
}

/// Moves the positions forward, never back, since a claim may have skipped further. Returns how
/// many.
fn move_positions(script: &mut Script, owned: &[Owned<'_>]) -> Result<usize, StoreError> {
    let mut moves: BTreeMap<i64, i64> = BTreeMap::new();
    for Owned { part, .. } in owned {
        let next = moves.entry(part.position.0).or_insert(part.next.0);
        *next = part.next.0.max(*next);
    }
    let moves: Vec<_> = moves.into_iter().collect();
    script.push(
        "UPDATE position SET next = max(next, m.value ->> 1) FROM json_each(?) m WHERE position.id = m.value ->> 0",
    );
    script.bind(json(&moves)?)?;
    Ok(moves.len())
}

/// Adds the deliveries that ended to the groups' counters.
fn count(script: &mut Script, lines: &[Line<'_>]) -> Result<(), StoreError> {
    let mut sums: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for line in lines {
        let ended = match line.outcome.to {
            Becomes::Final { state, .. } => Some(state),
            Becomes::InHandledSet { .. } => Some(State::Handled),
            Becomes::Open { .. } => None,
        };
        if let Some(state) = ended {
            let (handled, failed) = sums.entry((line.group, line.node)).or_default();
            if state == State::Handled { *handled += 1 } else { *failed += 1 }
        }
    }
    let sums: Vec<_> = sums.iter().map(|((group, node), (handled, failed))| [group, node, handled, failed]).collect();
    script.push(
        "INSERT INTO counter (group_id, node, handled, failed)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE TRUE
         ON CONFLICT (group_id, node) DO UPDATE
         SET handled = handled + excluded.handled, failed = failed + excluded.failed",
    );
    script.bind(json(&sums)?)
}
