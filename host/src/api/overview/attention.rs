//! Attention: everything that needs a person now.

use std::collections::BTreeMap;

use courier_core::message::Timestamp;
use courier_core::verdict::Verdict;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::causes_in_scope;
use crate::api::groups::view::GroupView;
use crate::api::lost_ranges;
use crate::api::messages::resend::encode;
use crate::api::outboxes::list::{self as outboxes, OutboxStatus};
use crate::api::ports::Note;
use crate::api::problem::Problem;
use crate::causes::{CauseView, HELD, PARKED_FULL, PAUSED, SHOWN_AFTER, Standing, Subject, Weight};
use crate::rfc3339;
use crate::store::undelivered::{UndeliveredFilter, UndeliveredTotal};
use crate::store::{HalfRow, HalfState, LostRange, Page, UnheardRow};

/// The most entries of each kind of past event, and their largest age in
/// microseconds: past events cannot be mended, only known.
const NAMED: u32 = 100;
const NAMED_FOR: i64 = 24 * 3_600_000_000;

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attention {
    /// `paused`, `no_plugin`, `circuit_open`, `held`, `parked_full`,
    /// `lost_range`, `missing_topic`, `degraded`, `outbox_failing`,
    /// `transaction_unreachable`, `transaction_abandoned`,
    /// `broadcast_unheard`, `undelivered`, `config_restart`,
    /// `config_warning`, `retention_near` (parked records are copied before Kafka
    /// removes them), or `stopped` (the subject stands still for the reason in
    /// `cause`).
    pub kind: &'static str,
    /// Its subject: a group, a topic, a part of the host.
    pub subject: String,
    /// What is wrong, for people.
    pub detail: String,
    /// When it began, if that is known.
    #[schema(required = true)]
    pub since: Option<String>,
    /// Why the subject stands still, for programs; null when it does not.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// The path of details.
    pub path: String,
}

/// All entries that the caller may see. `groups` are those that it is listed.
pub(super) async fn of(
    app: &App,
    caller: &Caller,
    groups: &[GroupView],
    now: Timestamp,
) -> Result<Vec<Attention>, Problem> {
    let mut shown = causes_in_scope::shown(app, caller);
    shown.retain(|standing| of_listed_group(standing, caller, groups));
    let mut found: Vec<Attention> = groups.iter().flat_map(|group| of_group(group, &shown)).collect();
    for full in app.groups.parked_full() {
        if caller.sees_group(&full.group) && causes_in_scope::sees_log(caller, &full.topic) {
            let (group, topic) = (full.group.clone(), full.topic.clone());
            let subject = Subject::Partition { group, topic, partition: full.partition };
            let stands = shown.iter().find(|standing| standing.code == PARKED_FULL && standing.subject == subject);
            found.push(Attention {
                kind: "parked_full",
                detail: format!(
                    "partition {} of {} stands still: as many deliveries are parked as may be",
                    full.partition, full.topic
                ),
                path: format!("/v1/groups/{}/parked", encode(&full.group)),
                subject: full.group,
                since: stands.map(|standing| rfc3339::format(standing.since)),
                cause: stands.map(CauseView::from),
            });
        }
    }
    let since = Timestamp(now.0.saturating_sub(NAMED_FOR));
    for range in app.store.lost_ranges(&lost_ranges::of(caller), NAMED).await? {
        if range.found_at >= since {
            found.push(Attention {
                kind: "lost_range",
                detail: lost(&range),
                subject: range.group,
                since: Some(rfc3339::format(range.found_at)),
                cause: None,
                path: "/v1/lost-ranges".to_owned(),
            });
        }
    }
    if caller.sees_all() {
        found.extend(outboxes::all(app, now).await?.iter().filter_map(failing));
    }
    let unanswered = app.store.unreachable_halves(caller.topics().as_deref(), NAMED).await?;
    let stands = |half: &&HalfRow| half.unreachable_since.is_some_and(|since| since.after(SHOWN_AFTER) <= now);
    found.extend(unanswered.iter().filter(|half| sees_half(caller, half)).filter(stands).map(unreachable));
    let newest = Page { cursor: None, limit: NAMED };
    let ended = app.store.halves(Some(HalfState::Abandoned), caller.topics().as_deref(), &newest).await?;
    let recent = ended.items.iter().filter(|half| half.ended_at.is_some_and(|ended| ended >= since));
    found.extend(recent.filter(|half| sees_half(caller, half)).map(abandoned));
    found.extend(unheard(app.store.unheard(since, caller.topics().as_deref(), NAMED).await?));
    let in_scope =
        UndeliveredFilter { topics: caller.topics(), groups: caller.groups(), ..UndeliveredFilter::default() };
    found.extend(app.store.undelivered_totals(&in_scope).await?.iter().map(undelivered_for));
    // The outboxes of all hosts were added above.
    let elsewhere = |standing: &&Standing| is_named(standing) || matches!(standing.subject, Subject::Outbox(_));
    let standing = shown.iter().filter(|standing| !elsewhere(standing));
    found.extend(standing.map(stopped));
    let health = app.health.ready().await;
    if caller.sees_all() {
        found.extend(health.notes.iter().map(note));
    }
    // Causes on the board were added above.
    let visible = health
        .degraded
        .into_iter()
        .filter(|one| !one.on_board)
        .filter(|one| one.topic.as_deref().is_none_or(|topic| caller.sees_topic(topic)));
    found.extend(visible.map(|one| match one.what.strip_prefix("topic ") {
        Some(topic) => host("missing_topic", topic, one.why),
        None => host("degraded", &one.what, one.why),
    }));
    Ok(found)
}

/// Whether a cause is of a group, and of a binding, that the caller is listed. Neither
/// names a topic, so that the scope of a token which is limited to topics hides none of
/// them: it heard of the groups of others, and why they stand still.
fn of_listed_group(standing: &Standing, caller: &Caller, groups: &[GroupView]) -> bool {
    let listed = |name: &str| groups.iter().find(|group| group.group == name);
    match &standing.subject {
        _ if caller.topics().is_none() => true,
        Subject::Group(group) => listed(group).is_some(),
        Subject::Binding { group, plugin } => {
            // The name is followed by the address if the binding has several.
            let plugin = plugin.split(' ').next().unwrap_or_default();
            listed(group).is_some_and(|group| group.bindings.iter().any(|binding| binding.plugin_name() == plugin))
        }
        _ => true,
    }
}

/// The entry for undelivered messages of a topic.
fn undelivered_for(total: &UndeliveredTotal) -> Attention {
    let are = if total.rows == 1 { "message" } else { "messages" };
    Attention {
        kind: "undelivered",
        subject: total.topic.clone(),
        detail: format!("{} {are} could not be delivered: resend, repair or give them up", total.rows),
        since: None,
        cause: None,
        path: format!("/v1/undelivered?topic={}", encode(&total.topic)),
    }
}

/// Whether a cause has an entry of its own kind, such as a stopped binding or a full
/// partition.
fn is_named(standing: &Standing) -> bool {
    match standing.subject {
        Subject::Binding { .. } => standing.code != Verdict::NoRoom.as_str(),
        Subject::Partition { .. } => standing.code == PARKED_FULL,
        Subject::Group(_) => matches!(standing.code, PAUSED | HELD),
        _ => false,
    }
}

/// The entry for a cause on the board: a standstill, or a foreseen loss.
fn stopped(standing: &Standing) -> Attention {
    let path = match &standing.subject {
        Subject::Group(group) | Subject::Binding { group, .. } | Subject::Partition { group, .. } => {
            format!("/v1/groups/{}", encode(group))
        }
        Subject::Outbox(_) => "/v1/outboxes".to_owned(),
        Subject::Redrive(id) => format!("/v1/redrives/{}", encode(id)),
        Subject::Transaction(id) => format!("/v1/transactions/{}", encode(id)),
        Subject::Topic(_) | Subject::Relay(_) | Subject::Store | Subject::Config | Subject::Host(_) => {
            "/readyz".to_owned()
        }
    };
    Attention {
        kind: if standing.weight == Weight::Foreseen { standing.code } else { "stopped" },
        subject: standing.subject.to_string(),
        detail: standing.why.clone(),
        since: Some(rfc3339::format(standing.since)),
        cause: Some(CauseView::from(standing)),
        path,
    }
}

/// The lost offsets in words. Of a topic that was created anew it is not known how
/// many records the old one had past the group's position.
fn lost(range: &LostRange) -> String {
    let LostRange { topic, partition, from, to, why, .. } = range;
    match to.0 - from.0 {
        ..=0 => format!("what {topic}:{partition} held past offset {} is not known: {why}", from.0),
        1 => format!("offset {} of {topic}:{partition} was lost: {why}", from.0),
        _ => format!("offsets {} to {} of {topic}:{partition} were lost: {why}", from.0, to.0 - 1),
    }
}

fn failing(outbox: &OutboxStatus) -> Option<Attention> {
    let why = outbox.why.as_ref()?;
    Some(Attention {
        kind: "outbox_failing",
        subject: outbox.name.clone(),
        detail: format!("rows of the table {} do not go out: {why}", outbox.table),
        since: outbox.cause.as_ref().map(|cause| cause.since.clone()).or_else(|| outbox.oldest_at.clone()),
        cause: outbox.cause.clone(),
        path: "/v1/outboxes".to_owned(),
    })
}

fn sees_half(caller: &Caller, half: &HalfRow) -> bool {
    half.messages.iter().all(|message| caller.sees_topic(&message.topic))
}

fn unreachable(half: &HalfRow) -> Attention {
    let why = half.last_answer.as_deref().unwrap_or("its check_url gives no answer");
    Attention {
        kind: "transaction_unreachable",
        subject: half.id.clone(),
        detail: format!("nobody said yet what became of it, and {why}; it is asked again"),
        since: half.unreachable_since.map(rfc3339::format),
        cause: half.unreachable_since.map(|since| CauseView {
            code: "check_url_unreachable".into(),
            fields: [("check_url".into(), half.check_url.clone()), ("answer".into(), half.last_answer.clone())]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            since: rfc3339::format(since),
        }),
        path: format!("/v1/transactions/{}", encode(&half.id)),
    }
}

fn abandoned(half: &HalfRow) -> Attention {
    let why = half.reason.as_deref().unwrap_or("its sender never said how it ended");
    let (count, are) = (half.messages.len(), if half.messages.len() == 1 { "message was" } else { "messages were" });
    Attention {
        kind: "transaction_abandoned",
        subject: half.id.clone(),
        detail: format!("its {count} {are} not sent: {why}"),
        since: half.ended_at.map(rfc3339::format),
        cause: None,
        path: format!("/v1/transactions/{}", encode(&half.id)),
    }
}

/// One entry for each topic, with the path of its newest broadcast.
fn unheard(rows: Vec<UnheardRow>) -> Vec<Attention> {
    let mut topics: BTreeMap<String, Vec<UnheardRow>> = BTreeMap::new();
    for row in rows {
        topics.entry(row.topic.clone()).or_default().push(row);
    }
    let of_topic = |(topic, rows): (String, Vec<UnheardRow>)| {
        let (newest, oldest) = (rows.first()?, rows.last()?);
        let were = match rows.len() {
            1 => "1 broadcast was heard".to_owned(),
            count => format!("{count} broadcasts were heard"),
        };
        Some(Attention {
            kind: "broadcast_unheard",
            detail: format!("{were} by no node: none listened to {topic} when they were sent"),
            since: Some(rfc3339::format(oldest.created_at)),
            cause: None,
            path: format!("/v1/messages/{}", encode(&newest.id)),
            subject: topic,
        })
    };
    topics.into_iter().filter_map(of_topic).collect()
}

fn note(note: &Note) -> Attention {
    Attention {
        kind: note.kind,
        subject: note.subject.clone(),
        detail: note.detail.clone(),
        since: None,
        cause: None,
        path: "/readyz".to_owned(),
    }
}

fn host(kind: &'static str, subject: &str, detail: String) -> Attention {
    Attention { kind, subject: subject.to_owned(), detail, since: None, cause: None, path: "/readyz".to_owned() }
}

/// The entries of a group: its pause, its stopped bindings, its held lanes.
fn of_group(group: &GroupView, shown: &[Standing]) -> Vec<Attention> {
    let path = format!("/v1/groups/{}", encode(&group.group));
    let about = |kind, detail: String| Attention {
        kind,
        subject: group.group.clone(),
        detail,
        since: None,
        cause: None,
        path: path.clone(),
    };
    let with_cause = |code: &str, about: Attention| {
        let is_meant = |standing: &&Standing| {
            standing.code == code && matches!(&standing.subject, Subject::Group(name) if *name == group.group)
        };
        let cause = shown.iter().find(is_meant).map(CauseView::from);
        Attention { since: cause.as_ref().map(|cause| cause.since.clone()), cause, ..about }
    };
    let mut found = Vec::new();
    let stopped: Vec<_> = group.bindings.iter().filter(|binding| binding.blocked.is_some()).collect();
    for binding in &stopped {
        let kind = match binding.blocked.as_deref() {
            Some("no_plugin" | "instantiate") => "no_plugin",
            Some("circuit_open" | "unavailable") => "circuit_open",
            Some("undelivered_full") => "stopped",
            _ => "paused",
        };
        let why = binding.why.clone().unwrap_or_else(|| "it takes no deliveries".to_owned());
        let cause = binding.cause.clone();
        found.push(Attention { since: cause.as_ref().map(|cause| cause.since.clone()), cause, ..about(kind, why) });
    }
    if group.paused && stopped.is_empty() {
        let why = group.why.clone().unwrap_or_else(|| "it takes no deliveries".to_owned());
        found.push(with_cause(PAUSED, about("paused", why)));
    }
    found.dedup();
    if group.open.held > 0 {
        let are = if group.open.held == 1 { "delivery waits" } else { "deliveries wait" };
        let mut held = with_cause(
            HELD,
            about("held", format!("{} {are} for a person, and their lanes with them", group.open.held)),
        );
        held.path = format!("{path}/parked");
        found.push(held);
    }
    found
}
