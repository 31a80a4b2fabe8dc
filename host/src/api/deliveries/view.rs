//! Deliveries and attempts, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::id;
use crate::api::App;
use crate::api::problem::Problem;
use crate::api::shown::{ShownKey, known};
use crate::rfc3339;
use crate::store::{AttemptRow, DeliveryRow, is_address};

/// One message for one group.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// Opaque.
    pub id: String,
    /// The message.
    pub message_id: String,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's key.
    #[serde(flatten)]
    pub key: ShownKey,
    /// The message's type.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub type_name: Option<String>,
    /// COMMITTED, PUSH_FAIL, HANDLE_FAIL or HANDLED.
    pub state: &'static str,
    /// The verdict of the last attempt.
    #[schema(required = true)]
    pub verdict: Option<&'static str>,
    /// Why, in the handler's words.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// The fingerprint of the failure, equal for failures that are alike.
    #[schema(required = true)]
    pub fingerprint: Option<String>,
    /// The node that worked on it last.
    #[schema(required = true)]
    pub node: Option<String>,
    /// The address that this delivery is for, when a broadcast is pushed to each
    /// address of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When a host first received it; null before its first outcome.
    #[schema(required = true)]
    pub received_at: Option<String>,
    /// When it became final.
    #[schema(required = true)]
    pub settled_at: Option<String>,
    /// When it runs again; null when it is final or waits for its turn.
    #[schema(required = true)]
    pub next_attempt_at: Option<String>,
    /// All known invocations, by number.
    pub attempts: Vec<AttemptView>,
    /// The time range in which it was handled, when the exact time is not known;
    /// `settled_at` is then its end, and its attempt has the same bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_within: Option<WindowView>,
    /// Members that are unknown because its group keeps no row of deliveries HANDLED
    /// at the first attempt. An unknown `message_id` is the record's place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub not_recorded: Vec<&'static str>,
}

/// A time range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WindowView {
    /// The earliest possible time.
    pub from: String,
    /// The latest possible time.
    pub to: String,
}

/// One invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttemptView {
    /// The number of the invocation, from 1.
    pub number: u32,
    /// Whether it used up one of `max_attempts`.
    pub counted: bool,
    /// The plugin version.
    #[schema(required = true)]
    pub version: Option<String>,
    /// The node.
    pub node: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// Its verdict.
    pub verdict: &'static str,
    /// Why.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// The fingerprint of the failure, equal for failures that are alike.
    #[schema(required = true)]
    pub fingerprint: Option<String>,
    /// What the handler logged.
    #[schema(required = true)]
    pub log: Option<String>,
}

/// Deliveries whose attempts are read together.
const CHUNK: usize = 50;
/// Bytes of logs in one response; further logs are left out, with a note that says
/// how to get them.
const MAX_LOG_BYTES: usize = 8 * 1024 * 1024;

/// Shown in place of a log that was left out.
const LEFT_OUT: &str = "(left out: an answer has 8 MiB of logs at most; ask for this delivery alone)";

/// Shows deliveries with their attempts. A page may have a thousand deliveries with
/// ten logs of 64 KiB each, so attempts are read in chunks and their logs share one
/// bound.
pub(in crate::api) async fn with_attempts(app: &App, rows: Vec<DeliveryRow>) -> Result<Vec<DeliveryView>, Problem> {
    let mut views = Vec::with_capacity(rows.len());
    let mut room = MAX_LOG_BYTES;
    for chunk in rows.chunks(CHUNK) {
        let keys: Vec<_> = chunk.iter().map(|row| row.key).collect();
        let attempts = app.store.attempts(&keys).await?;
        for (row, attempts) in chunk.iter().zip(attempts) {
            let mut view = DeliveryView::new(row, &attempts);
            leave_out_logs(&mut view, &mut room);
            views.push(view);
        }
    }
    Ok(views)
}

/// Leaves out the logs that no longer fit into `room` bytes.
fn leave_out_logs(view: &mut DeliveryView, room: &mut usize) {
    for log in view.attempts.iter_mut().filter_map(|attempt| attempt.log.as_mut()) {
        match room.checked_sub(log.len()) {
            Some(left) => *room = left,
            None => *log = LEFT_OUT.to_owned(),
        }
    }
}

impl DeliveryView {
    /// The listener that a broadcast is for: an address, or a node.
    #[must_use]
    pub fn listener(&self) -> Option<&String> {
        self.address.as_ref().or(self.node.as_ref())
    }

    /// Shows a delivery with its stored attempts.
    #[must_use]
    pub fn new(row: &DeliveryRow, kept: &[AttemptRow]) -> Self {
        let mut attempts: Vec<AttemptView> = kept.iter().map(AttemptView::from).collect();
        attempts.extend(unkept(row, kept));
        attempts.sort_by_key(|attempt| attempt.number);
        Self {
            id: id::write(row.key),
            message_id: row.message_id.clone(),
            group: row.group.clone(),
            topic: row.topic.clone(),
            partition: row.partition,
            offset: row.key.offset.0,
            key: ShownKey::new(row.record_key.as_deref()),
            type_name: known(&row.type_name),
            state: row.state.as_str(),
            verdict: row.verdict.map(|verdict| verdict.as_str()),
            reason: row.reason.as_deref().and_then(known),
            fingerprint: row.fingerprint.as_deref().and_then(known),
            node: row.node.as_deref().and_then(known),
            address: row.listener.clone().filter(|listener| is_address(listener)),
            received_at: Some(rfc3339::format(row.received_at)),
            settled_at: row.settled_at.map(rfc3339::format),
            next_attempt_at: row.next_attempt_at.map(rfc3339::format),
            attempts,
            settled_within: None,
            not_recorded: Vec::new(),
        }
    }
}

/// The last attempt of a final delivery that has no row for it: a success is stored
/// once, in the row of the delivery.
fn unkept(row: &DeliveryRow, kept: &[AttemptRow]) -> Option<AttemptView> {
    let (verdict, started_at, settled_at) = (row.verdict?, row.started_at?, row.settled_at?);
    if row.number == 0 || kept.iter().any(|attempt| attempt.number >= row.number) {
        return None;
    }
    Some(AttemptView {
        number: row.number,
        counted: !verdict.never_ran(),
        version: row.version.as_deref().and_then(known),
        node: row.node.clone().unwrap_or_default(),
        started_at: rfc3339::format(started_at),
        finished_at: rfc3339::format(settled_at),
        verdict: verdict.as_str(),
        reason: row.reason.as_deref().and_then(known),
        fingerprint: row.fingerprint.as_deref().and_then(known),
        log: None,
    })
}

impl From<&AttemptRow> for AttemptView {
    fn from(row: &AttemptRow) -> Self {
        Self {
            number: row.number,
            counted: row.counted,
            version: row.version.as_deref().and_then(known),
            node: row.node.to_string(),
            started_at: rfc3339::format(row.started_at),
            finished_at: rfc3339::format(row.finished_at),
            verdict: row.verdict.as_str(),
            reason: row.reason.as_deref().and_then(known),
            fingerprint: row.fingerprint.as_deref().and_then(known),
            log: row.log.as_deref().and_then(known),
        }
    }
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;
    use courier_core::verdict::Verdict;

    use super::*;
    use crate::api::testing::{attempt, delivery};

    #[test]
    fn a_delivery_has_exactly_the_members_that_programs_rely_on() {
        let view = DeliveryView::new(&delivery("stock", "order", 17), &[]);
        assert_eq!(
            serde_json::to_string(&view).unwrap(),
            r#"{"id":"1-17","message_id":"m-17","group":"stock","topic":"order","partition":0,"offset":17,"key":"k","type":"OrderCreated","state":"HANDLED","verdict":"success","reason":null,"fingerprint":null,"node":"host-1","received_at":"1970-01-01T00:00:01.000000Z","settled_at":"1970-01-01T00:00:03.000000Z","next_attempt_at":null,"attempts":[{"number":1,"counted":true,"version":"sha256:aa","node":"host-1","started_at":"1970-01-01T00:00:02.000000Z","finished_at":"1970-01-01T00:00:03.000000Z","verdict":"success","reason":null,"fingerprint":null,"log":null}]}"#
        );
    }

    #[test]
    fn logs_beyond_the_bound_say_where_they_are() {
        let mut first = attempt(1);
        first.log = Some("x".repeat(70));
        let mut view = DeliveryView::new(&delivery("stock", "order", 17), &[first.clone()]);
        let mut room = 100;
        leave_out_logs(&mut view, &mut room);
        assert_eq!((view.attempts[0].log.as_deref(), room), (first.log.as_deref(), 30));
        leave_out_logs(&mut view, &mut room);
        assert_eq!(view.attempts[0].log.as_deref(), Some(LEFT_OUT));
    }

    #[test]
    fn no_attempt_is_shown_twice_or_made_up() {
        let numbers = |row: &DeliveryRow, kept: &[AttemptRow]| {
            DeliveryView::new(row, kept).attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>()
        };
        let mut row = delivery("stock", "order", 17);
        assert_eq!(numbers(&row, &[attempt(1)]), [1]);
        row.number = 3;
        assert_eq!(numbers(&row, &[attempt(2), attempt(1)]), [1, 2, 3]);
        let open = DeliveryRow { settled_at: None, next_attempt_at: Some(Timestamp(9)), ..row.clone() };
        assert_eq!(numbers(&open, &[attempt(1), attempt(2)]), [1, 2]);
        let duplicate = DeliveryRow { number: 0, verdict: Some(Verdict::Duplicate), started_at: None, ..row };
        assert_eq!(numbers(&duplicate, &[]), [0u32; 0]);
    }
}
