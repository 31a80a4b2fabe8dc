//! The offsets of a replay.

use courier_core::message::{Offset, Timestamp};

use super::body::{PlanRequest, ReplaySpan, wrong};
use crate::api::App;
use crate::api::problem::Problem;
use crate::store::PositionRow;
use crate::store::redrive::{MAX_PLANNED, ReplayRange};

/// The ranges of a replay: below the group's position, because records past it are
/// delivered anyway, and as far as Kafka has them.
pub(super) async fn ranges(app: &App, wanted: &PlanRequest, span: &ReplaySpan) -> Result<Vec<ReplayRange>, Problem> {
    let positions = app.store.positions().await?;
    let positions: Vec<PositionRow> = positions
        .into_iter()
        .filter(|row| row.group == wanted.group && row.topic == span.topic && row.listener.is_none())
        .filter(|row| span.partition.is_none_or(|partition| partition == row.partition))
        .collect();
    if positions.is_empty() {
        let what = span.partition.map_or_else(String::new, |partition| format!(" in partition {partition}"));
        return Err(wrong(format!("the group `{}` has no position in `{}`{what}", wanted.group, span.topic)));
    }
    if positions.len() > 1 && (span.from_offset.is_some() || span.to_offset.is_some()) {
        return Err(wrong("an offset means something in one partition only; name `filter.partition`".to_owned()));
    }
    let mut ranges = Vec::with_capacity(positions.len());
    for position in &positions {
        ranges.push(range(app, wanted, span, position).await?);
    }
    let offsets: i64 =
        ranges.iter().map(|range| range.to.0.saturating_sub(range.from.0).max(0)).fold(0, i64::saturating_add);
    if offsets > i64::from(MAX_PLANNED) {
        return Err(Problem::unprocessable(
            "range too long",
            format!("the range holds {offsets} offsets and a replay {MAX_PLANNED} at most: replay it in parts"),
        ));
    }
    Ok(ranges)
}

async fn range(
    app: &App,
    wanted: &PlanRequest,
    span: &ReplaySpan,
    position: &PositionRow,
) -> Result<ReplayRange, Problem> {
    let (topic, partition) = (&position.topic, position.partition);
    let away = |why: String| Problem::unavailable(format!("Kafka could not be asked: {why}"));
    let (low, high) = app.log.range(topic, partition).await.map_err(away)?;
    let until = position.next.min(high);
    for (name, offset) in [("from_offset", span.from_offset), ("to_offset", span.to_offset)] {
        if let Some(offset) = offset.filter(|offset| *offset < low || *offset > until) {
            return Err(Problem::unprocessable(
                "offset out of range",
                format!(
                    "`filter.{name}` is {offset}; in partition {partition} of `{topic}` it may be {low}, the first that \
                     Kafka has, to {until}, the group's position"
                ),
            ));
        }
    }
    let at = async |time: Option<Timestamp>| match time {
        Some(time) => app.log.offset_at(topic, partition, time).await.map(Some).map_err(away),
        None => Ok(None),
    };
    let from = span.from_offset.max(at(wanted.filter.from).await?).unwrap_or(low).max(low);
    let ends = [span.to_offset, at(wanted.filter.to).await?];
    let to: Offset = ends.into_iter().flatten().min().unwrap_or(until).min(until);
    Ok(ReplayRange { position: position.id, from, to: to.max(from) })
}
