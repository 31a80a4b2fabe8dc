//! `POST /v1/deliveries/{id}/retry`: run a delivery again now.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::id;
use super::show::find;
use super::view::DeliveryView;
use crate::api::App;
use crate::api::auth::{As, Operator};
use crate::api::events::Change;
use crate::api::groups::runs;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;

/// Runs a delivery again now, whatever its outcome was. It takes its turn in its
/// lane, and its attempts continue from their last number. 409 for a delivery
/// without an outcome, which runs anyway, and for one whose group has no binding,
/// which would never run.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/retry",
    tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 202, description = "It runs as soon as its lane lets it", body = DeliveryView), Problems)
)]
pub(in crate::api) async fn retry(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(text): Segment,
    params: Params,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    params.none()?;
    let key = id::read(&text)?;
    // Looked up first, so that what is out of the caller's scope stays unknown.
    let before = find(&app, &caller, &text).await?;
    runs::refuse_idle(&app, &caller, &before.group, Some(&before.topic)).await?;
    let subject = format!("{} {}:{}:{}", before.group, before.topic, before.partition, before.offset);
    let change = Change {
        path: format!("/v1/deliveries/{text}"),
        group: Some(before.group.clone()),
        topics: vec![before.topic.clone()],
        ..Change::default()
    };
    app.change(caller.deed("retry", &subject, before.state), app.store.ask(&key), |()| change).await?;
    app.groups.wake();
    let after = find(&app, &caller, &text).await.unwrap_or(before);
    Ok((StatusCode::ACCEPTED, Json(after)))
}
