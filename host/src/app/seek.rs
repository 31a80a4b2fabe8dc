//! Moving a group's positions: where Kafka says that one may go, and the move.
//!
//! Owners on any host notice that their epoch is over and claim again from
//! where the position is then.

use courier_core::message::Offset;

use crate::api::ports::{MovedPosition, SeekRequest, SeekTo};
use crate::api::problem::Problem;
use crate::kafka::log_reader::{LogError, LogReader};
use crate::store::seek::SeekMove;
use crate::store::{PositionRow, SharedStore};

/// Moves the positions, all or none.
pub async fn seek(store: &SharedStore, log: &LogReader, seek: &SeekRequest) -> Result<Vec<MovedPosition>, Problem> {
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
        return Err(Problem::conflict(format!(
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
async fn resolve(log: &LogReader, to: SeekTo, position: &PositionRow) -> Result<Offset, Problem> {
    let (topic, partition) = (&position.topic, position.partition);
    let (low, high) = log.range(topic, partition).await.map_err(|error| unanswered(&error))?;
    match to {
        SeekTo::Earliest => Ok(low),
        SeekTo::Latest => Ok(high),
        SeekTo::Time(time) => {
            let found = log.offset_at(topic, partition, time).await.map_err(|error| unanswered(&error))?;
            Ok(found.clamp(low, high))
        }
        SeekTo::Offset(offset) if offset < low || offset > high => Err(Problem::unprocessable(
            "offset out of range",
            format!(
                "`to` is {offset}; in partition {partition} of `{topic}` it may be {low}, the first that Kafka has, to \
                 {high}, the end"
            ),
        )),
        SeekTo::Offset(offset) => Ok(offset),
    }
}

fn unanswered(error: &LogError) -> Problem {
    match error {
        LogError::NoTopic(_) => Problem::conflict(error.to_string()),
        LogError::Unavailable(_) | LogError::Refused { .. } => Problem::unavailable(error.to_string()),
    }
}

fn words(to: SeekTo) -> String {
    match to {
        SeekTo::Offset(offset) => format!("offset {offset}"),
        SeekTo::Earliest => "the earliest record".to_owned(),
        SeekTo::Latest => "the latest record".to_owned(),
        SeekTo::Time(time) => format!("the time {}", crate::rfc3339::format(time)),
    }
}
