//! `GET /v1/events`: changes, as server-sent events.
//!
//! `counters` comes each second with the sums of the groups; `change` comes with
//! the path of a resource that was changed through this host. The number of
//! listeners is bounded, and they share one query a second. Each second the token
//! or session of a listener is checked again, so that no stream outlives it.

mod hub;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior};
use utoipa::ToSchema;

pub use self::hub::{Change, Hub};
use self::hub::{MAX_LISTENERS, MAX_LISTENERS_EACH};
use super::App;
use super::auth::{As, Caller, Credential, Viewer};
use super::openapi::Problems;
use super::params::Params;
use super::per_token::NoMore;
use super::plugins::view as plugins;
use super::problem::Problem;
use crate::api::groups::view::OpenView;
use crate::store::GroupTotals;

/// Interval of counters.
const PACE: Duration = Duration::from_secs(1);

impl Change {
    fn is_for(&self, app: &App, caller: &Caller) -> bool {
        let seen = self.group.as_deref().is_none_or(|group| caller.sees_group(group))
            && self.topics.iter().all(|topic| caller.sees_topic(topic))
            && !(self.of_all_topics && caller.topics().is_some())
            && self.plugin.as_deref().is_none_or(|plugin| plugins::sees(app, caller, plugin))
            && self.token.as_ref().is_none_or(|token| *token == caller.name);
        let whole = self.group.as_deref().filter(|_| self.topics.is_empty() && caller.topics().is_some());
        // A caller limited to topics hears of a group that reads one of them.
        let reads = |group: &str| {
            let bindings = app.groups.bindings();
            let mut topics = bindings.iter().filter(|binding| binding.group == group).flat_map(|one| &one.topics);
            topics.any(|topic| caller.sees_topic(topic))
        };
        seen && whole.is_none_or(reads)
    }
}

/// The data of a `counters` event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Counters {
    /// Unfinished deliveries that have rows, of these groups together, as `open` in
    /// the overview.
    pub open: OpenView,
    /// Deliveries that were handled, of these groups together.
    pub handled: u64,
    /// Deliveries that failed for good, of these groups together.
    pub failed: u64,
    /// The groups that the caller may see.
    pub groups: Vec<GroupCounters>,
}

impl Counters {
    fn of<'a>(groups: impl Iterator<Item = &'a GroupTotals>) -> Self {
        let groups: Vec<GroupCounters> = groups.map(GroupCounters::from).collect();
        let sum = |of: fn(&GroupCounters) -> u64| groups.iter().map(of).sum();
        let open = OpenView {
            waiting: sum(|group| group.waiting),
            push_fail: sum(|group| group.push_fail),
            retrying: sum(|group| group.retrying),
            held: sum(|group| group.held),
        };
        Self { open, handled: sum(|group| group.handled), failed: sum(|group| group.failed), groups }
    }
}

/// The sums of a group.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupCounters {
    /// The group.
    pub group: String,
    /// Deliveries behind their lane's head.
    pub waiting: u64,
    /// Deliveries whose handler could not run.
    pub push_fail: u64,
    /// Failed deliveries with a next attempt.
    pub retrying: u64,
    /// Deliveries that wait for a person.
    pub held: u64,
    /// Deliveries that were handled.
    pub handled: u64,
    /// Deliveries that failed for good.
    pub failed: u64,
}

/// Server-sent events: `counters` each second, and `change` with the path of a
/// changed resource.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    responses((status = 200, description = "Events without end", body = Counters, content_type = "text/event-stream"), Problems)
)]
pub(super) async fn events(
    State(app): State<App>,
    caller: As<Viewer>,
    credential: Credential,
    params: Params,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    params.none()?;
    let place = app.events.places.take(&caller.name, 1).map_err(|no_more| match no_more {
        NoMore::Own => Problem::unavailable(format!(
            "{MAX_LISTENERS_EACH} listeners are connected with the token `{}`, which is the most for one token; close one",
            caller.name
        )),
        NoMore::All => {
            Problem::unavailable(format!("{MAX_LISTENERS} listeners are connected, which is the most; close one"))
        }
    })?;
    let closed = app.events.closed.clone();
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let changes = app.events.changes.subscribe();
    let listener = Listener { app, credential, caller: (*caller).clone(), ticks, changes };
    let events = stream::unfold(listener, Listener::next).map(move |event| {
        // Held until the stream is dropped.
        let _held = &place;
        Ok(event)
    });
    Ok(Sse::new(events.take_until(closed.cancelled_owned())).keep_alive(KeepAlive::default()))
}

/// A listener and the sources of its events.
struct Listener {
    app: App,
    credential: Credential,
    /// The caller at the last check.
    caller: Caller,
    ticks: Interval,
    changes: broadcast::Receiver<Change>,
}

impl Listener {
    /// Waits for the next event; `None` once the credential is gone.
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            tokio::select! {
                _ = self.ticks.tick() => {
                    // An unavailable store revokes nothing.
                    if let Ok(judged) = self.credential.judge(&self.app).await {
                        self.caller = judged?;
                    }
                    if let Some(event) = self.counters().await {
                        return Some((event, self));
                    }
                }
                change = self.changes.recv() => match change {
                    Ok(change) if change.is_for(&self.app, &self.caller) => {
                        return Some((Event::default().event("change").data(change.path), self));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            }
        }
    }

    /// The current counters; `None` while the store is unavailable, which leaves the
    /// connection open.
    async fn counters(&self) -> Option<Event> {
        let pulses = self.app.events.pulses(&*self.app.groups, &self.app.store).await.ok()?;
        let seen = pulses.iter().filter(|pulse| pulse.is_for(&self.caller)).map(|pulse| &pulse.totals);
        Event::default().event("counters").json_data(Counters::of(seen)).ok()
    }
}

impl From<&GroupTotals> for GroupCounters {
    fn from(totals: &GroupTotals) -> Self {
        Self {
            group: totals.group.clone(),
            waiting: totals.waiting,
            push_fail: totals.push_fail,
            retrying: totals.retrying,
            held: totals.held,
            handled: totals.handled,
            failed: totals.failed,
        }
    }
}
