//! What needs a person now.

use courier_core::message::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::groups::view::GroupView;
use crate::api::messages::resend::encode;
use crate::api::problem::Problem;
use crate::api::time;

/// Lost ranges that are named, and how old they may be.
const LOST_RANGES: u32 = 100;
const LOST_FOR: i64 = 24 * 3_600_000_000;

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attention {
    /// `paused`, `no_plugin`, `circuit_open`, `held`, `parked_full`,
    /// `lost_range`, `missing_topic`, `degraded`, `outbox_failing`,
    /// `transaction_abandoned` or `broadcast_unheard`.
    pub kind: &'static str,
    /// What it is about: a group, a topic, a part of the host.
    pub subject: String,
    /// What is the matter.
    pub detail: String,
    /// Since when, if that is known.
    #[schema(required = true)]
    pub since: Option<String>,
    /// Where more of it can be read.
    pub path: String,
}

/// All that needs a person and that the caller may see.
pub(super) async fn of(
    app: &App,
    caller: &Caller,
    groups: &[GroupView],
    now: Timestamp,
) -> Result<Vec<Attention>, Problem> {
    let mut found: Vec<Attention> = groups.iter().flat_map(of_group).collect();
    for full in app.groups.parked_full() {
        if caller.sees_group(&full.group) && caller.sees_topic(&full.topic) {
            found.push(Attention {
                kind: "parked_full",
                detail: format!(
                    "partition {} of {} stands still: as many deliveries are parked as may be",
                    full.partition, full.topic
                ),
                path: format!("/v1/groups/{}/parked", encode(&full.group)),
                subject: full.group,
                since: None,
            });
        }
    }
    for range in app.store.lost_ranges(LOST_RANGES).await? {
        let recent = range.found_at.0 >= now.0.saturating_sub(LOST_FOR);
        if recent && caller.sees_group(&range.group) && caller.sees_topic(&range.topic) {
            found.push(Attention {
                kind: "lost_range",
                detail: format!(
                    "offsets {} to {} of {}:{} were lost: {}",
                    range.from.0, range.to.0, range.topic, range.partition, range.why
                ),
                subject: range.group,
                since: Some(time::format(range.found_at)),
                path: "/v1/lost-ranges".to_owned(),
            });
        }
    }
    let degraded = app.health.ready().await.degraded.into_iter();
    let visible = degraded.filter(|one| one.topic.as_deref().is_none_or(|topic| caller.sees_topic(topic)));
    found.extend(visible.map(|one| match one.what.strip_prefix("topic ") {
        Some(topic) => host("missing_topic", topic, one.why),
        None => host("degraded", &one.what, one.why),
    }));
    Ok(found)
}

fn host(kind: &'static str, subject: &str, detail: String) -> Attention {
    Attention { kind, subject: subject.to_owned(), detail, since: None, path: "/readyz".to_owned() }
}

/// A pause of the whole group, each binding that is stopped, held lanes.
fn of_group(group: &GroupView) -> Vec<Attention> {
    let path = format!("/v1/groups/{}", encode(&group.group));
    let about = |kind, detail: String| Attention {
        kind,
        subject: group.group.clone(),
        detail,
        since: None,
        path: path.clone(),
    };
    let mut found = Vec::new();
    let stopped: Vec<_> = group.bindings.iter().filter(|binding| binding.blocked.is_some()).collect();
    for binding in &stopped {
        let kind = match binding.blocked.as_deref() {
            Some("no_plugin" | "instantiate") => "no_plugin",
            Some("circuit_open" | "unavailable") => "circuit_open",
            _ => "paused",
        };
        let why = binding.why.clone().unwrap_or_else(|| "it takes no deliveries".to_owned());
        found.push(about(kind, why));
    }
    if group.paused && stopped.is_empty() {
        found.push(about("paused", group.why.clone().unwrap_or_else(|| "it takes no deliveries".to_owned())));
    }
    found.dedup();
    if group.open.held > 0 {
        let are = if group.open.held == 1 { "delivery waits" } else { "deliveries wait" };
        let mut held = about("held", format!("{} {are} for a person, and their lanes with them", group.open.held));
        held.path = format!("{path}/parked");
        found.push(held);
    }
    found
}
