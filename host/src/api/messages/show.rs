//! `GET /v1/messages/{id}`: one message with its deliveries and attempts.
//!
//! A message that was sent through Courier has a row. A message that another
//! producer put on Kafka is found by its deliveries or, before any of them has a
//! row, by the id `topic:partition:offset` of a record without an id. The body
//! comes from the store while the store keeps it, otherwise from Kafka.
//!
//! An id may repeat on other topics and from other sources: the newest message
//! is shown, and the others are named beside it.
//!
//! A delivery before its first outcome has no row. It is shown while its group's
//! position has not passed the message; positions are read before rows, so that a
//! delivery that settles in between is not missed.

use axum::Json;
use axum::extract::State;
use courier_core::message::{Kind, Message, Offset};
use courier_core::status::State as DeliveryState;
use serde::Serialize;
use utoipa::ToSchema;

use super::unhandled;
use super::view::{Contents, MessageView, PlaceView, kept};
use super::which::{MessageSelector, is_of};
use crate::api::App;
use crate::api::auth::{As, Caller, Viewer};
use crate::api::deliveries::flight::{self, RecordPlace};
use crate::api::deliveries::in_set::{self, NotRecordedView};
use crate::api::deliveries::lost;
use crate::api::deliveries::view::{self, DeliveryView};
use crate::api::groups::runs;
use crate::api::lost_ranges;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::rfc3339;
use crate::store::{
    DeliveryFilter, DeliveryKey, DeliveryRow, HandledAt, LostRangeFilter, MAX_PAGE, MessageRow, Page, PositionRow,
    SourceHash, StoreError,
};

/// The detail of a message whose record the log does not have.
const GONE: &str = "Kafka no longer has this record";

/// Deliveries that are read for the record of one message. A broadcast may have hundreds,
/// and each that keeps its record keeps the same one.
const MAX_KEPT_READ: usize = 20;

/// The response for an id.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MessageAnswer {
    /// The message.
    Message(Box<MessageView>),
    /// Nothing is recorded of the id, and a handled message might have no row.
    NotRecorded(NotRecordedView),
}

/// A message with its body, its deliveries and their attempts. For an unknown id the
/// response is NOT_RECORDED while groups keep no row of deliveries that they handled
/// at the first attempt, and 404 otherwise.
#[utoipa::path(
    get,
    path = "/v1/messages/{id}",
    tag = "messages",
    params(
        ("id" = String, Path, description = "The message's id, percent-encoded"),
        ("topic" = Option<String>, Query, description = "Its topic, where the id repeats"),
        ("source" = Option<String>, Query, description = "Its source, where the id repeats; empty for an unknown one")
    ),
    responses((status = 200, description = "The message; or, where groups keep no row of what they handled, that nothing is recorded of the id", body = MessageAnswer), Problems)
)]
pub(in crate::api) async fn show(
    State(app): State<App>,
    caller: As<Viewer>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<MessageAnswer>, Problem> {
    let which = MessageSelector::read(id, params)?;
    let id = which.id.clone();
    let positions = app.store.positions().await?;
    let mut messages = which.rows(&app, &caller).await?.into_iter();
    let row = messages.next();
    let others: Vec<MessageRow> = messages.collect();
    let all = visible_rows(&app, &caller, &which, row.as_ref()).await?;
    let (rows, foreign): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|delivery| row.as_ref().is_none_or(|row| is_of(delivery, row)));
    let named = by_coordinates(&id, &positions, &caller);
    let place = match &row {
        Some(row) => place_of_row(row),
        None => newest(&rows).or_else(|| named.clone()),
    };
    // A direct send whose acknowledgement was lost has deliveries already.
    let place = place.or_else(|| newest(&rows));
    let (here, mut elsewhere): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| Some(place_of(row)) == place);
    elsewhere.extend(foreign);
    let in_sets = match &place {
        Some(place) => in_sets(&app, &caller, &positions, place).await?,
        None => Vec::new(),
    };
    let described = describe(&app, &id, row.as_ref(), place.as_ref(), &here).await;
    let mut message = match (described, &place, in_sets.first()) {
        // Kafka has dropped the record, but a handled set knows its place.
        (Err(problem), Some(place), Some((_, handled))) if problem.status == 404 => of_place(&id, place, handled),
        (Err(problem), ..) if problem.status == 404 => {
            let groups = in_set::groups(&app, &caller).await?;
            let is_recorded = groups.is_empty();
            return if is_recorded {
                Err(problem)
            } else {
                Ok(Json(MessageAnswer::NotRecorded(NotRecordedView::of(&id, groups))))
            };
        }
        (described, ..) => described?,
    };
    let type_name = message.type_name.clone().unwrap_or_default();
    let mut deliveries = view::with_attempts(&app, here).await?;
    if let Some(place) = &place {
        for (position, handled) in &in_sets {
            // The set may be of an earlier topic of this name, unless the record at
            // the place is this message.
            let is_this = message.body_missing.is_none() || position.incarnation == 0;
            if is_this && !deliveries.iter().any(|delivery| is_of_position(delivery, position)) {
                let mut delivery = in_set::of(position, place.offset, handled, None);
                let of_message = (message.id.clone(), message.key.clone(), message.type_name.clone());
                (delivery.message_id, delivery.key, delivery.type_name) = of_message;
                delivery.not_recorded.retain(|member| !in_set::OF_THE_RECORD.contains(member));
                deliveries.push(delivery);
            }
        }
        if let Some(row) = row.as_ref().filter(|_| message.body_missing.as_deref() == Some(GONE)) {
            add_lost(&app, &caller, place, row, &message, &mut deliveries).await?;
        }
        add_flying(&app, &caller, place, &positions, (&message, &type_name), &mut deliveries).await?;
    }
    deliveries.sort_by(|one, other| (&one.group, one.listener()).cmp(&(&other.group, other.listener())));
    if deliveries.is_empty() {
        let of_whom = std::iter::once((message.topic.as_str(), type_name.as_str()));
        message.warning = unhandled::warnings(&app, &caller, of_whom).await.pop().flatten();
    }
    message.deliveries = Some(deliveries);
    let hidden = hidden(&app, named, place.as_ref()).await;
    message.also = also(&others, &elsewhere, hidden);
    Ok(Json(MessageAnswer::Message(Box::new(message))))
}

/// The place that the id names, if another record is shown and there is one at it: a
/// sender may choose any id, also one that names the record of somebody else.
async fn hidden(app: &App, named: Option<RecordPlace>, shown: Option<&RecordPlace>) -> Option<RecordPlace> {
    let named = named.filter(|named| shown != Some(named))?;
    matches!(named.read(app).await, Ok(Some(_))).then_some(named)
}

/// Adds the deliveries of the groups that have not handled the message yet.
async fn add_flying(
    app: &App,
    caller: &Caller,
    place: &RecordPlace,
    positions: &[PositionRow],
    (message, type_name): (&MessageView, &str),
    deliveries: &mut Vec<DeliveryView>,
) -> Result<(), Problem> {
    let flying = flight::not_passed(positions, place).filter(|position| caller.sees_group(&position.group));
    let flying: Vec<&PositionRow> = flying.collect();
    if flying.is_empty() {
        // Most messages have been passed by all groups, and need no look at the bindings.
        return Ok(());
    }
    let bindings = runs::bound(app).await?;
    for position in flying.into_iter().filter(|position| flight::is_bound(&bindings, position, type_name)) {
        if !deliveries.iter().any(|delivery| is_of_position(delivery, position)) {
            deliveries.push(flight::view(position, place.offset, &message.id, message.key.clone(), type_name));
        }
    }
    Ok(())
}

/// Adds the deliveries of groups that lost the record before they handled it. A
/// record of another message may lie at its place in a topic created anew.
async fn add_lost(
    app: &App,
    caller: &Caller,
    place: &RecordPlace,
    row: &MessageRow,
    message: &MessageView,
    deliveries: &mut Vec<DeliveryView>,
) -> Result<(), Problem> {
    let filter = LostRangeFilter { topics: Some(vec![place.topic.clone()]), ..lost_ranges::of(caller) };
    let ranges = app.store.lost_ranges(&filter, MAX_PAGE).await?;
    for range in lost::ranges(&ranges, place, row.created_at) {
        let type_name = message.type_name.as_deref().unwrap_or_default();
        let Some(lost) = lost::view(range, place.offset, &message.id, message.key.clone(), type_name) else { continue };
        if !deliveries.iter().any(|one| one.group == lost.group && one.listener() == lost.listener()) {
            deliveries.push(lost);
        }
    }
    Ok(())
}

/// Whether a delivery belongs to a position of its topic and partition: of a
/// broadcast each listener of a group has its own delivery.
fn is_of_position(delivery: &DeliveryView, position: &PositionRow) -> bool {
    delivery.group == position.group
        && (position.listener.is_none() || delivery.listener() == position.listener.as_ref())
}

/// The positions that the caller may see and whose handled sets contain a place.
async fn in_sets<'p>(
    app: &App,
    caller: &Caller,
    positions: &'p [PositionRow],
    place: &RecordPlace,
) -> Result<Vec<(&'p PositionRow, HandledAt)>, Problem> {
    let here: Vec<&PositionRow> = positions
        .iter()
        .filter(|position| {
            position.topic == place.topic
                && flight::kind_of(position.listener.as_ref()) == place.kind
                && position.partition == place.partition
                && caller.sees_group(&position.group)
                && caller.sees_topic(&position.topic)
        })
        .collect();
    let keys: Vec<_> =
        here.iter().map(|position| DeliveryKey { position: position.id, offset: place.offset }).collect();
    let handled = if keys.is_empty() { Vec::new() } else { app.store.handled_at(&keys).await? };
    Ok(here.into_iter().zip(handled).filter_map(|(position, handled)| Some((position, handled?))).collect())
}

/// A message of which only the place is known, and that it was handled.
fn of_place(id: &str, place: &RecordPlace, handled: &HandledAt) -> MessageView {
    let message = Message { id: id.to_owned(), topic: place.topic.clone(), kind: place.kind, ..Message::default() };
    let mut view = MessageView::of_record(&message, place.partition, place.offset);
    view.time = rfc3339::format(handled.from);
    view.body_missing = Some(
        "Kafka no longer has this record, and its group keeps no row of what it handles at the first attempt; `time` is \
         when it was handled, at the earliest"
            .to_owned(),
    );
    view
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!(
        "no message {id:?} is known: it was never sent through this service, or its rows are past retention"
    ))
}

/// The deliveries of the selected messages that the caller may see. One message has a
/// few; an id that repeats without end is cut at a page. The deliveries of the message
/// that is shown are read by its topic and source then, since other messages of the id
/// may fill the page.
async fn visible_rows(
    app: &App,
    caller: &Caller,
    which: &MessageSelector,
    shown: Option<&MessageRow>,
) -> Result<Vec<DeliveryRow>, Problem> {
    let page = Page { cursor: None, limit: MAX_PAGE };
    let filter = DeliveryFilter { groups: caller.groups(), topics: caller.topics(), ..which.deliveries() };
    let found = app.store.deliveries(&filter, &page).await?;
    let mut rows = found.items;
    if let (Some(row), Some(_)) = (shown, found.next) {
        let of_shown =
            DeliveryFilter { topic: Some(row.topic.clone()), source: Some(SourceHash::of(&row.source)), ..filter };
        let of_shown = app.store.deliveries(&of_shown, &page).await?.items;
        rows.retain(|row| of_shown.iter().all(|one| one.key != row.key));
        rows.extend(of_shown);
    }
    Ok(rows)
}

fn place(topic: &str, kind: Kind, partition: i32, offset: Offset) -> RecordPlace {
    RecordPlace { topic: topic.to_owned(), kind, partition, offset }
}

fn place_of(row: &DeliveryRow) -> RecordPlace {
    place(&row.topic, flight::kind_of(row.listener.as_ref()), row.partition, row.key.offset)
}

fn place_of_row(row: &MessageRow) -> Option<RecordPlace> {
    let kind = if row.kind == Kind::Broadcast.as_str() { Kind::Broadcast } else { Kind::Event };
    row.place.map(|(partition, offset)| place(&row.topic, kind, partition, offset))
}

fn newest(rows: &[DeliveryRow]) -> Option<RecordPlace> {
    rows.iter().max_by_key(|row| (row.record_time, row.incarnation, row.key.offset)).map(place_of)
}

/// The place that an id of the form `topic:partition:offset` names, if a group reads
/// its topic: this host shows no other topics of the cluster.
fn by_coordinates(id: &str, positions: &[PositionRow], caller: &Caller) -> Option<RecordPlace> {
    let mut parts = id.rsplitn(3, ':');
    let offset = parts.next()?.parse().ok().filter(|offset| *offset >= 0)?;
    let partition = parts.next()?.parse().ok()?;
    let topic = parts.next()?;
    positions.iter().find_map(|position| {
        let kind = flight::kind_of(position.listener.as_ref());
        let here = kind.log_topic(&position.topic) == topic && position.partition == partition;
        let seen = here && caller.sees_topic(&position.topic);
        seen.then(|| place(&position.topic, kind, partition, Offset(offset)))
    })
}

/// The message itself, from its row or from its record.
async fn describe(
    app: &App,
    id: &str,
    row: Option<&MessageRow>,
    place: Option<&RecordPlace>,
    here: &[DeliveryRow],
) -> Result<MessageView, Problem> {
    let kept = match row.and_then(|row| kept(app, row)) {
        Some(contents) => Some(contents),
        None => kept_by_deliveries(app, here).await?,
    };
    let contents = match kept {
        Some(contents) => contents,
        None => match place {
            Some(place) => read_again(app, place, row.map(|row| row.id.as_str())).await,
            None => Contents::Missing("it is not on Kafka, and the store keeps no body of it".into()),
        },
    };
    if let Some(row) = row {
        return Ok(MessageView::of_row(row).with(&contents));
    }
    let place = place.ok_or_else(|| unknown(id))?;
    match (&contents, here.first()) {
        (Contents::Whole(message), _) => {
            Ok(MessageView::of_record(message, place.partition, place.offset).with(&contents))
        }
        // Kafka has dropped the record; its deliveries know part of it.
        (_, Some(delivery)) => Ok(MessageView::of_delivery(delivery).with(&contents)),
        (Contents::Away(why), None) => Err(Problem::unavailable(why)),
        (_, None) => Err(unknown(id)),
    }
}

/// The record that an unfinished or failed delivery keeps. Lists leave records out, so
/// that each delivery is read by itself.
async fn kept_by_deliveries(app: &App, here: &[DeliveryRow]) -> Result<Option<Contents>, StoreError> {
    for row in here.iter().filter(|row| row.state != DeliveryState::Handled).take(MAX_KEPT_READ) {
        let record = app.store.delivery(&row.key).await?.and_then(|row| row.record);
        if let Some(mut message) = record.and_then(|record| app.log.decode(&row.topic, &record)) {
            message.id.clone_from(&row.message_id);
            return Ok(Some(Contents::Whole(Box::new(message))));
        }
    }
    Ok(None)
}

async fn read_again(app: &App, place: &RecordPlace, expected: Option<&str>) -> Contents {
    match place.read(app).await {
        Ok(Some(mut message)) if expected.is_none_or(|id| id == message.id) => {
            // A broadcast lies on the companion of the topic that it was sent to.
            message.topic.clone_from(&place.topic);
            message.kind = place.kind;
            Contents::Whole(Box::new(message))
        }
        Ok(_) => Contents::Missing(GONE.into()),
        Err(why) => Contents::Away(why),
    }
}

/// The other messages of the id, the places of deliveries that belong to none of
/// them, and the place of a record that the id hides.
fn also(others: &[MessageRow], elsewhere: &[DeliveryRow], hidden: Option<RecordPlace>) -> Vec<PlaceView> {
    let mut places: Vec<PlaceView> = others.iter().map(PlaceView::of_row).collect();
    let mut known: Vec<RecordPlace> = others.iter().filter_map(place_of_row).collect();
    for place in elsewhere.iter().map(place_of).chain(hidden) {
        if !known.contains(&place) {
            places.push(PlaceView::of_place(&place));
            known.push(place);
        }
    }
    places
}
