//! `POST /v1/redrives`: plans to run deliveries again.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::body::{PlanBody, wrong};
use super::replay;
use super::view::{RedriveView, change};
use crate::api::App;
use crate::api::auth::{As, BulkOperator};
use crate::api::changes;
use crate::api::deliveries::view::with_attempts;
use crate::api::groups::seek::does_not_read;
use crate::api::groups::{runs, view};
use crate::api::intake;
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::store::Page;
use crate::store::redrive::{NewRedrive, RedriveRow};

/// Deliveries shown in the response.
const SAMPLE: u32 = 10;

/// Plans to run deliveries again: they are selected now, and run once the plan is
/// run. By default failed deliveries are selected. A replay selects a range of
/// records instead, including those without a row; it never moves the group's
/// position. A plan that is never run is forgotten after 24 hours. 409 when the group
/// has as many redrives that did not end as one group (40) or one token in it (20) may
/// have.
#[utoipa::path(
    post,
    path = "/v1/redrives",
    tag = "redrives",
    request_body = PlanBody,
    responses((status = 201, description = "It is planned", body = RedriveView), Problems)
)]
pub(in crate::api) async fn plan(
    State(app): State<App>,
    caller: As<BulkOperator>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<RedriveView>), Problem> {
    params.none()?;
    let wanted = intake::command::<PlanBody>(&caller.name, &headers, body).await?.check()?;
    caller.group(&wanted.group)?;
    match (&wanted.filter.topic, caller.topics()) {
        (Some(topic), _) => caller.topic(topic)?,
        (None, Some(topics)) => {
            let topics = topics.join("`, `");
            return Err(Problem::forbidden(format!(
                "this token reaches some topics only: name one of `{topics}` as `filter.topic`"
            )));
        }
        (None, None) => {}
    }
    let _turn = changes::begin_bulk(&caller.name).await?;
    view::one(&app, &caller, &wanted.group).await?;
    let topics = runs::topics(&app, &wanted.group).await?;
    if let Some(topic) = wanted.filter.topic.as_deref().filter(|topic| !topics.contains(*topic)) {
        return Err(wrong(does_not_read(&caller, &wanted.group, topic, topics)));
    }
    let ranges = match &wanted.replay {
        Some(span) => Some(replay::ranges(&app, &wanted, span).await?),
        None => None,
    };
    let plan = NewRedrive {
        filter: wanted.filter,
        ranges,
        asked_for: wanted.asked_for,
        rate: wanted.rate,
        by: caller.name.to_string(),
    };
    // A plan changes nothing, so it has no audit entry; the entry of its run says
    // what was planned.
    let row = app.store.plan_redrive(&plan).await?;
    app.events.tell(change(&row));
    let sample = sample(&app, &row).await?;
    Ok((StatusCode::CREATED, Json(RedriveView { sample: Some(sample), ..RedriveView::from(&row) })))
}

/// The first deliveries of a plan, as far as they have rows.
async fn sample(app: &App, row: &RedriveRow) -> Result<Vec<crate::api::deliveries::view::DeliveryView>, Problem> {
    let items = app.store.redrive_items(row.id, &Page { cursor: None, limit: SAMPLE }).await?;
    let mut rows = Vec::with_capacity(items.items.len());
    for item in items.items {
        rows.extend(app.store.delivery(&item.key).await?);
    }
    for row in &mut rows {
        row.record = None;
    }
    with_attempts(app, rows).await
}
