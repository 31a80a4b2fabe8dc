//! `GET /v1/deliveries/{id}`: one delivery with its attempts.

use axum::Json;
use axum::extract::State;

use super::flight::{self, RecordPlace};
use super::id;
use super::in_set;
use super::lost;
use super::view::{self, DeliveryView};
use crate::api::App;
use crate::api::auth::{As, Caller, Viewer};
use crate::api::groups::runs;
use crate::api::lost_ranges;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::api::shown::ShownKey;
use crate::store::{DeliveryKey, LostRangeFilter, MAX_PAGE, PositionRow};

/// A delivery with its attempts.
#[utoipa::path(
    get,
    path = "/v1/deliveries/{id}",
    tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, description = "The delivery", body = DeliveryView), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(text): Segment,
    params: Params,
) -> Result<Json<DeliveryView>, Problem> {
    params.none()?;
    find(&app, &caller, &text).await.map(Json)
}

/// A delivery that the caller may see: from its row, from the handled set of its
/// position, before its first outcome, or lost before it was handled.
pub(super) async fn find(app: &App, caller: &Caller, text: &str) -> Result<DeliveryView, Problem> {
    let key = id::read(text)?;
    // Positions are read first: a delivery that settles in between then has a row.
    let positions = app.store.positions().await?;
    let row = app.store.delivery(&key).await?;
    let row = row.filter(|row| caller.sees_group(&row.group) && caller.sees_topic(&row.topic));
    if let Some(row) = row {
        let found = view::with_attempts(app, vec![row]).await?;
        return found.into_iter().next().ok_or_else(|| id::unknown(text));
    }
    let position = positions.iter().find(|position| {
        position.id == key.position && caller.sees_group(&position.group) && caller.sees_topic(&position.topic)
    });
    let Some(position) = position else {
        return lost_delivery(app, caller, key).await?.ok_or_else(|| id::unknown(text));
    };
    if let Some(handled) = app.store.handled_at(&[key]).await?.pop().flatten() {
        return Ok(in_set::view(app, position, key.offset, &handled).await);
    }
    if let Some(flies) = flying(app, position, key).await? {
        return Ok(flies);
    }
    lost_delivery(app, caller, key).await?.ok_or_else(|| id::unknown(text))
}

/// A delivery whose record Kafka lost: its place is all that is known of it.
async fn lost_delivery(app: &App, caller: &Caller, key: DeliveryKey) -> Result<Option<DeliveryView>, Problem> {
    let filter = LostRangeFilter { position: Some(key.position), ..lost_ranges::of(caller) };
    let ranges = app.store.lost_ranges(&filter, MAX_PAGE).await?;
    let of_key = ranges.iter().find(|range| (range.from..range.to).contains(&key.offset));
    Ok(of_key.and_then(|range| {
        let message_id = format!("{}:{}:{}", range.topic, range.partition, key.offset);
        lost::view(range, key.offset, &message_id, ShownKey::new(None), "")
    }))
}

/// A delivery without a row, if its record exists and is not handled yet.
async fn flying(app: &App, position: &PositionRow, key: DeliveryKey) -> Result<Option<DeliveryView>, Problem> {
    if position.next > key.offset {
        return Ok(None);
    }
    let place = RecordPlace {
        topic: position.topic.clone(),
        kind: flight::kind_of(position.listener.as_ref()),
        partition: position.partition,
        offset: key.offset,
    };
    let Some(message) = place.read(app).await.map_err(Problem::unavailable)? else { return Ok(None) };
    let bindings = runs::bound(app).await?;
    let flies = flight::is_bound(&bindings, position, &message.type_name);
    let shown_key = ShownKey::new(message.key.as_deref());
    Ok(flies.then(|| flight::view(position, key.offset, &message.id, shown_key, &message.type_name)))
}
