//! `GET /v1/overview`: the state of all hosts at a glance.
//!
//! Nothing is counted here: the store keeps totals, each process counts minutes and
//! latencies ([`crate::stats`]), and [`attention`] collects what needs a person from
//! other operations.

pub mod attention;

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use courier_core::message::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use self::attention::Attention;
use super::App;
use super::auth::{As, Caller, Viewer};
use super::nodes::NodeView;
use super::openapi::Problems;
use super::params::Params;
use super::problem::Problem;
use crate::api::groups::view::{self, GroupView, OpenView};
use crate::causes::CauseView;
use crate::rfc3339;
use crate::stats::{MINUTE, minute_of};
use crate::store::MinuteRow;

/// The number of minutes shown.
const MINUTES: i64 = 60;

/// Everything at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Overview {
    /// The store's clock.
    pub time: String,
    /// The last sixty minutes, oldest first; the last one is not over.
    pub minutes: Vec<MinuteView>,
    /// Unfinished deliveries that have rows.
    pub open: OpenView,
    /// Sum of the lags of the groups bound on this host; null when the lag of one is
    /// not known.
    #[schema(required = true)]
    pub lag: Option<i64>,
    /// Groups, by name.
    pub groups: Vec<GroupPulse>,
    /// The hosts that share the store.
    pub nodes: Vec<NodeView>,
    /// Everything that needs a person now.
    pub attention: Vec<Attention>,
}

/// Counts of a minute, on all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MinuteView {
    /// When it began.
    pub time: String,
    /// Messages that reached Kafka; null for a token that reaches only some topics.
    #[schema(required = true)]
    pub published: Option<u64>,
    /// Messages that became SEND_FAIL.
    #[schema(required = true)]
    pub send_fail: Option<u64>,
    /// Deliveries that became HANDLED.
    pub handled: u64,
    /// Attempts that failed or could not run, including those that are retried.
    pub failed: u64,
    /// Deliveries that failed for good.
    pub given_up: u64,
}

/// The state and rates of a group.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupPulse {
    /// The group.
    pub group: String,
    /// `running`, `paused`, `cannot_run` or `not_bound`.
    pub state: &'static str,
    /// Whether it takes no deliveries now.
    pub paused: bool,
    /// Why it does not run.
    #[schema(required = true)]
    pub why: Option<String>,
    /// Why it stands still, for programs; null while it runs.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// Records that it is behind; null when that is not known.
    #[schema(required = true)]
    pub lag: Option<i64>,
    /// Its unfinished deliveries that have rows.
    pub open: OpenView,
    /// Deliveries that were handled.
    pub handled: u64,
    /// Deliveries that failed for good.
    pub failed: u64,
    /// Approximate counts of the last sixty seconds.
    pub per_minute: PerMinute,
    /// Median duration of the attempts of the last hour on all hosts, in
    /// milliseconds; null without attempts.
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same durations.
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

/// Counts of sixty seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PerMinute {
    /// Deliveries that became HANDLED.
    pub handled: u64,
    /// Attempts that failed or could not run.
    pub failed: u64,
}

/// Rates, waiting deliveries, and everything that needs a person, of all hosts
/// together.
#[utoipa::path(
    get,
    path = "/v1/overview",
    tag = "host",
    responses((status = 200, description = "The overview", body = Overview), Problems)
)]
pub(super) async fn overview(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<Overview>, Problem> {
    params.none()?;
    let now = app.store.ping().await?;
    let first = minute_of(now) - (MINUTES - 1) * MINUTE;
    let minutes = app.store.minutes(Timestamp(first)).await?;
    let groups = view::all(&app, &caller).await?;
    let mut nodes: Vec<NodeView> = app.store.nodes().await?.into_iter().map(NodeView::from).collect();
    nodes.sort_by(|one, other| (other.live, &one.name).cmp(&(one.live, &other.name)));
    let attention = attention::of(&app, &caller, &groups, now).await?;
    let rates = rates(&minutes, now);
    let lags: Option<Vec<i64>> = groups.iter().filter(|group| !group.bindings.is_empty()).map(GroupView::lag).collect();
    Ok(Json(Overview {
        time: rfc3339::format(now),
        minutes: chart(&minutes, &caller, &groups, first),
        open: sum(groups.iter().map(|group| &group.open)),
        lag: lags.map(|lags| lags.into_iter().sum()),
        groups: groups.into_iter().map(|group| pulse(group, &rates)).collect(),
        nodes,
        attention,
    }))
}

fn pulse(group: GroupView, rates: &HashMap<String, PerMinute>) -> GroupPulse {
    GroupPulse {
        lag: group.lag(),
        per_minute: rates.get(&group.group).copied().unwrap_or_default(),
        group: group.group,
        state: group.state,
        paused: group.paused,
        why: group.why,
        cause: group.cause,
        open: group.open,
        handled: group.handled,
        failed: group.failed,
        p50_ms: group.p50_ms,
        p99_ms: group.p99_ms,
    }
}

pub(super) fn sum<'a>(opens: impl Iterator<Item = &'a OpenView>) -> OpenView {
    opens.fold(OpenView::default(), |sum, open| OpenView {
        waiting: sum.waiting + open.waiting,
        push_fail: sum.push_fail + open.push_fail,
        retrying: sum.retrying + open.retrying,
        held: sum.held + open.held,
    })
}

/// Every minute from `first` on, including those without counts.
fn chart(rows: &[MinuteRow], caller: &Caller, groups: &[GroupView], first: i64) -> Vec<MinuteView> {
    let known = caller.topics().is_none().then_some(0);
    let mut minutes: BTreeMap<i64, MinuteView> = (0..MINUTES)
        .map(|at| first + at * MINUTE)
        .map(|at| {
            let time = rfc3339::format(Timestamp(at));
            (at, MinuteView { time, published: known, send_fail: known, handled: 0, failed: 0, given_up: 0 })
        })
        .collect();
    for row in rows {
        let Some(minute) = minutes.get_mut(&row.minute.0) else { continue };
        if row.group.is_empty() {
            minute.published = minute.published.map(|sum| sum + row.published);
            minute.send_fail = minute.send_fail.map(|sum| sum + row.send_fail);
        } else if caller.sees_all() || groups.iter().any(|group| group.group == row.group) {
            minute.handled += row.handled;
            minute.failed += row.failed;
            minute.given_up += row.given_up;
        }
    }
    minutes.into_values().collect()
}

/// Counts of the last sixty seconds: those of this minute, and of the one before the
/// share that lies within the sixty seconds.
fn rates(rows: &[MinuteRow], now: Timestamp) -> HashMap<String, PerMinute> {
    let this = minute_of(now);
    let left = (this + MINUTE - now.0).clamp(0, MINUTE) as u64;
    let share = |count: u64| count * left / MINUTE as u64;
    let mut rates: HashMap<String, PerMinute> = HashMap::new();
    for row in rows.iter().filter(|row| !row.group.is_empty()) {
        let rate = rates.entry(row.group.clone()).or_default();
        if row.minute.0 == this {
            rate.handled += row.handled;
            rate.failed += row.failed;
        } else if row.minute.0 == this - MINUTE {
            rate.handled += share(row.handled);
            rate.failed += share(row.failed);
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_sixty_seconds() {
        let row = |minute: i64, handled: u64| MinuteRow {
            minute: Timestamp(minute * MINUTE),
            group: "stock".into(),
            handled,
            ..MinuteRow::default()
        };
        let rows = [row(8, 1_000), row(9, 60), row(10, 7)];
        let rates = rates(&rows, Timestamp(10 * MINUTE + MINUTE / 4));
        assert_eq!(rates["stock"], PerMinute { handled: 45 + 7, failed: 0 });
    }
}
