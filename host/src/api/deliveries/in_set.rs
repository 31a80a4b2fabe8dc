//! Deliveries that were HANDLED at the first attempt in a group that keeps no
//! row of them (`trace = "failures"`).
//!
//! Their place, state, node, version and time range are known. The rest is read
//! from their records while Kafka has them; unknown members are named.

use courier_core::message::{Message, Offset};
use courier_core::status::State;
use courier_core::verdict::Verdict;
use serde::Serialize;
use utoipa::ToSchema;

use super::flight::{RecordPlace, kind_of};
use super::id;
use super::view::{AttemptView, DeliveryView, WindowView};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::problem::Problem;
use crate::api::shown::{ShownKey, known};
use crate::rfc3339;
use crate::store::{DeliveryFilter, DeliveryKey, HandledAt, PositionRow, is_address};

/// Members that are never known of such a delivery.
const NEVER_KEPT: [&str; 2] = ["received_at", "log"];
/// Members that are known only from its record.
pub(in crate::api) const OF_THE_RECORD: [&str; 3] = ["message_id", "key", "type"];

/// Deliveries that a list cannot show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotListed {
    /// The groups that keep no row of deliveries HANDLED at the first attempt.
    pub groups: Vec<String>,
    /// What that means, for people.
    pub why: String,
}

/// The response for an id of which nothing is recorded, while groups keep no row of
/// what they handled: whether one of them handled the message is unknown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NotRecordedView {
    /// The id.
    pub id: String,
    /// NOT_RECORDED.
    pub state: &'static str,
    /// Why, for people.
    pub reason: String,
    /// The groups that may have handled it.
    pub groups: Vec<String>,
}

impl NotRecordedView {
    /// The response for an id.
    #[must_use]
    pub fn of(id: &str, groups: Vec<String>) -> Self {
        let names = groups.join(", ");
        let reason = format!(
            "not recorded: no row of this service has the id {id:?}, and of what {names} handled at the first attempt no \
             ids are kept (trace = \"failures\"); ask by the record's place, topic:partition:offset"
        );
        Self { id: id.to_owned(), state: "NOT_RECORDED", reason, groups }
    }
}

/// The groups that the caller may see and that have handled sets.
pub(in crate::api) async fn groups(app: &App, caller: &Caller) -> Result<Vec<String>, Problem> {
    let mut groups = app.store.groups_with_sets(caller.topics().as_deref()).await?;
    groups.retain(|group| caller.sees_group(group));
    Ok(groups)
}

/// The deliveries that a list cannot show; `None` when it shows all that match.
pub(super) async fn not_listed(
    app: &App,
    caller: &Caller,
    filter: &DeliveryFilter,
) -> Result<Option<NotListed>, Problem> {
    let may_match = filter.fingerprint.is_none() && filter.state.is_none_or(|state| state == State::Handled);
    if !may_match {
        return Ok(None);
    }
    let mut groups = groups(app, caller).await?;
    groups.retain(|group| filter.group.as_ref().is_none_or(|one| one == group));
    let names = groups.join(", ");
    let why = format!(
        "what {names} handled at the first attempt has no row (trace = \"failures\") and cannot be listed or searched; \
         ask for it by its place, topic:partition:offset, or by the id of a message that was sent through this service"
    );
    Ok((!groups.is_empty()).then_some(NotListed { groups, why }))
}

/// Shows such a delivery, with its record if Kafka has it.
pub(in crate::api) async fn view(
    app: &App,
    position: &PositionRow,
    offset: Offset,
    handled: &HandledAt,
) -> DeliveryView {
    let place = RecordPlace {
        topic: position.topic.clone(),
        kind: kind_of(position.listener.as_ref()),
        partition: position.partition,
        offset,
    };
    // Without its record the delivery is shown with its place alone.
    of(position, offset, handled, place.read(app).await.ok().flatten().as_ref())
}

/// Shows such a delivery, with its record if there is one.
#[must_use]
pub(in crate::api) fn of(
    position: &PositionRow,
    offset: Offset,
    handled: &HandledAt,
    message: Option<&Message>,
) -> DeliveryView {
    let window = WindowView { from: rfc3339::format(handled.from), to: rfc3339::format(handled.to) };
    let attempt = AttemptView {
        number: 1,
        counted: true,
        version: handled.version.as_deref().and_then(known),
        node: handled.node.clone().unwrap_or_default(),
        started_at: window.from.clone(),
        finished_at: window.to.clone(),
        verdict: Verdict::Success.as_str(),
        reason: None,
        fingerprint: None,
        log: None,
    };
    let log_topic = kind_of(position.listener.as_ref()).log_topic(&position.topic);
    let of_the_record = OF_THE_RECORD.into_iter().filter(|_| message.is_none());
    DeliveryView {
        id: id::write(DeliveryKey { position: position.id, offset }),
        message_id: message
            .map_or_else(|| format!("{log_topic}:{}:{offset}", position.partition), |message| message.id.clone()),
        group: position.group.clone(),
        topic: position.topic.clone(),
        partition: position.partition,
        offset: offset.0,
        key: ShownKey::new(message.and_then(|message| message.key.as_deref())),
        type_name: message.and_then(|message| known(&message.type_name)),
        state: State::Handled.as_str(),
        verdict: Some(Verdict::Success.as_str()),
        reason: None,
        fingerprint: None,
        node: handled.node.as_deref().and_then(known),
        address: position.listener.clone().filter(|listener| is_address(listener)),
        received_at: None,
        settled_at: Some(window.to.clone()),
        next_attempt_at: None,
        attempts: vec![attempt],
        settled_within: Some(window),
        not_recorded: of_the_record.chain(NEVER_KEPT).collect(),
    }
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;

    use super::*;
    use crate::api::testing::position;

    fn handled() -> HandledAt {
        HandledAt {
            node: Some("host-1".into()),
            version: Some("sha256:aa".into()),
            from: Timestamp(1_000_000),
            to: Timestamp(2_000_000),
        }
    }

    #[test]
    fn what_nobody_kept_is_named() {
        let position = position(1, "stock", "order", 0);
        let view = of(&position, Offset(5), &handled(), None);
        assert_eq!((view.state, view.message_id.as_str()), ("HANDLED", "order:0:5"));
        assert_eq!(view.not_recorded, ["message_id", "key", "type", "received_at", "log"]);
        let window = view.settled_within.unwrap();
        assert_eq!(Some(&window.to), view.settled_at.as_ref());
        assert_eq!(view.attempts[0].started_at, window.from);
        let message = Message { id: "m-5".into(), type_name: "OrderCreated".into(), ..Message::default() };
        let view = of(&position, Offset(5), &handled(), Some(&message));
        assert_eq!((view.message_id.as_str(), view.type_name.as_deref()), ("m-5", Some("OrderCreated")));
        assert_eq!(view.not_recorded, NEVER_KEPT);
    }
}
