//! Moving a group's positions: where Kafka says that one may go, and the move.
//!
//! Owners on any host notice that their epoch is over and claim again from
//! where the position is then.

use courier_core::message::{Offset, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::kafka::log_reader::{LogError, LogReader};
use crate::rfc3339;
use crate::store::seek::SeekMove;
use crate::store::{PositionRow, SharedStore, StoreError};

/// A request to move a group's positions in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekRequest {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    /// The target.
    pub to: SeekTo,
}

/// The target of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// This offset.
    Offset(Offset),
    /// The first record that Kafka has.
    Earliest,
    /// The offset after the last record.
    Latest,
    /// The first record at or after a time.
    Time(Timestamp),
}

/// A position that was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Sought)]
pub struct MovedPosition {
    /// The partition.
    pub partition: i32,
    /// The position before.
    #[schema(value_type = i64)]
    pub from: Offset,
    /// The position now.
    #[schema(value_type = i64)]
    pub to: Offset,
}

/// Why positions were not moved.
#[derive(Debug, thiserror::Error)]
pub enum SeekError {
    /// The group has no such position, or the topic no such partition.
    #[error("{0}")]
    NoPosition(String),
    /// Kafka has no record at the offset that was asked for.
    #[error("{0}")]
    OutOfRange(String),
    /// Kafka cannot be asked now.
    #[error("{0}")]
    KafkaAway(String),
    /// The store did not move them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Moves the positions, all or none.
pub async fn seek(store: &SharedStore, log: &LogReader, seek: &SeekRequest) -> Result<Vec<MovedPosition>, SeekError> {
    let positions: Vec<PositionRow> = store
        .positions()
        .await?
        .into_iter()
        // Broadcasts are each node's own, and end by broadcast_forget.
        .filter(|row| row.group == seek.group && row.topic == seek.topic && row.listener.is_none())
        .filter(|row| seek.partition.is_none_or(|partition| partition == row.partition))
        .collect();
    if positions.is_empty() {
        let what = seek.partition.map_or_else(String::new, |partition| format!(" in partition {partition}"));
        return Err(SeekError::NoPosition(format!(
            "the group `{}` has no position in `{}`{what} yet: it gets one when a host first reads it",
            seek.group, seek.topic
        )));
    }
    let mut moves = Vec::with_capacity(positions.len());
    for position in &positions {
        let to = resolve(log, seek.to, position).await?;
        moves.push(SeekMove { position: position.id, to });
    }
    let before = store.seek(&moves, &format!("skipped by a seek to {}", words(seek.to))).await?;
    let sought = positions.iter().zip(moves).zip(before);
    Ok(sought.map(|((row, moved), from)| MovedPosition { partition: row.partition, from, to: moved.to }).collect())
}

/// The offset that is meant, which Kafka must have.
async fn resolve(log: &LogReader, to: SeekTo, position: &PositionRow) -> Result<Offset, SeekError> {
    let (topic, partition) = (&position.topic, position.partition);
    let (low, high) = log.range(topic, partition).await.map_err(|error| unanswered(&error))?;
    match to {
        SeekTo::Earliest => Ok(low),
        SeekTo::Latest => Ok(high),
        SeekTo::Time(time) => {
            let found = log.offset_at(topic, partition, time).await.map_err(|error| unanswered(&error))?;
            Ok(found.clamp(low, high))
        }
        SeekTo::Offset(offset) if offset < low || offset > high => Err(SeekError::OutOfRange(format!(
            "`to` is {offset}; in partition {partition} of `{topic}` it may be {low}, the first that Kafka has, to \
             {high}, the end"
        ))),
        SeekTo::Offset(offset) => Ok(offset),
    }
}

fn unanswered(error: &LogError) -> SeekError {
    match error {
        LogError::NoTopic(_) => SeekError::NoPosition(error.to_string()),
        LogError::Unavailable(_) | LogError::Refused { .. } => SeekError::KafkaAway(error.to_string()),
    }
}

fn words(to: SeekTo) -> String {
    match to {
        SeekTo::Offset(offset) => format!("offset {offset}"),
        SeekTo::Earliest => "the earliest record".to_owned(),
        SeekTo::Latest => "the latest record".to_owned(),
        SeekTo::Time(time) => format!("the time {}", rfc3339::format(time)),
    }
}
