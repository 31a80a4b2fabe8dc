//! `POST /v1/redrives/{id}/run` and `.../pause`.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::view::{RedriveView, change, find};
use crate::api::App;
use crate::api::auth::{As, Caller, Operator};
use crate::api::groups::runs;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::problem::Problem;
use crate::store::redrive::{RedriveRow, RedriveState, RedriveWish};

/// Runs a plan, or resumes a paused one. 409 while no binding runs its group, because
/// it would not move.
#[utoipa::path(
    post,
    path = "/v1/redrives/{id}/run",
    tag = "redrives",
    params(("id" = String, Path, description = "The redrive's id")),
    responses((status = 200, description = "It runs", body = RedriveView), Problems)
)]
pub(in crate::api) async fn run(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<RedriveView>, Problem> {
    params.none()?;
    let planned = find(&app, &caller, &id).await?;
    runs::refuse_idle(&app, &caller, &planned.group, planned.topic.as_deref()).await?;
    let view = wish(&app, &caller, &id, RedriveWish::Run).await;
    app.groups.wake();
    view
}

/// Pauses a redrive: no further items are run, and running ones finish.
#[utoipa::path(
    post,
    path = "/v1/redrives/{id}/pause",
    tag = "redrives",
    params(("id" = String, Path, description = "The redrive's id")),
    responses((status = 200, description = "It is paused", body = RedriveView), Problems)
)]
pub(in crate::api) async fn pause(
    State(app): State<App>,
    caller: As<Operator>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<RedriveView>, Problem> {
    params.none()?;
    wish(&app, &caller, &id, RedriveWish::Pause).await
}

/// Changes the state of a redrive, with an audit entry.
pub(super) async fn wish(
    app: &App,
    caller: &Caller,
    id: &str,
    wish: RedriveWish,
) -> Result<Json<RedriveView>, Problem> {
    let before = find(app, caller, id).await?;
    let action = match wish {
        RedriveWish::Run => "run redrive",
        RedriveWish::Pause => "pause redrive",
        RedriveWish::Cancel => "cancel redrive",
    };
    let row = match (wish, before.state) {
        // Dropping a plan that never ran changes nothing, so it has no entry.
        (RedriveWish::Cancel, RedriveState::Planned) => {
            let row = app.store.wish_redrive(before.id, wish).await?;
            app.events.tell(change(&row));
            row
        }
        (_, state) => {
            let detail = match state {
                RedriveState::Planned => describe(&before),
                _ => {
                    let done = before.handled + before.failed;
                    format!("was {}; {done} of {} done", state.as_str(), before.matched)
                }
            };
            app.change(caller.deed(action, id, &detail), app.store.wish_redrive(before.id, wish), change).await?
        }
    };
    Ok(Json(RedriveView::from(&row)))
}

/// The deliveries of a redrive in words, for the audit log.
fn describe(row: &RedriveRow) -> String {
    let what = match (row.replay, row.matched) {
        (true, 1) => "1 record".to_owned(),
        (true, count) => format!("{count} records"),
        (false, 1) => "1 delivery".to_owned(),
        (false, count) => format!("{count} deliveries"),
    };
    let filter: serde_json::Map<String, Value> = serde_json::from_str(&row.asked_for).unwrap_or_default();
    let narrows = filter.iter().filter(|(name, _)| !matches!(name.as_str(), "group" | "replay"));
    let narrows: Vec<String> = narrows
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        })
        .collect();
    let of = if narrows.is_empty() { String::new() } else { format!(", with {}", narrows.join(", ")) };
    format!("{what} of {} at {} a second{of}", row.group, row.rate)
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;

    use super::*;
    use crate::store::redrive::RedriveId;

    #[test]
    fn the_audit_log_tells_a_redrive_in_words() {
        let mut row = RedriveRow {
            id: RedriveId(1),
            group: "mail".into(),
            topic: None,
            asked_for: r#"{"group":"mail","state":"HANDLE_FAIL","fingerprint":"dd1c"}"#.into(),
            replay: false,
            rate: 500,
            state: RedriveState::Planned,
            matched: 35,
            running: 0,
            handled: 0,
            failed: 0,
            skipped: 0,
            truncated: false,
            by: "ops".into(),
            created_at: Timestamp(0),
            started_at: None,
            finished_at: None,
            node: None,
        };
        let told = describe(&row);
        assert!(told.starts_with("35 deliveries of mail at 500 a second, with "), "{told}");
        assert!(told.contains("state HANDLE_FAIL") && told.contains("fingerprint dd1c"), "{told}");
        row.asked_for = r#"{"group":"mail","topic":"order","replay":true,"from_offset":5}"#.into();
        (row.replay, row.matched) = (true, 1);
        let told = describe(&row);
        assert!(
            told.starts_with("1 record of mail at 500 a second, with ") && told.contains("from_offset 5"),
            "{told}"
        );
    }
}
