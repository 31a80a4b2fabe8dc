//! Deliveries before their first outcome, which have no row.
//!
//! Kafka has the message and the group's position has not passed it: the delivery
//! is COMMITTED, and nothing is stored about it yet.

use std::time::Duration;

use courier_core::message::{Kind, Message, Offset};
use courier_core::status::State;

use super::id;
use super::view::DeliveryView;
use crate::api::App;
use crate::api::shown::{ShownKey, known};
use crate::store::{DeliveryKey, NodeBinding, PositionRow, is_address};

/// How long reading a record from Kafka may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The place of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The topic that senders publish on.
    pub topic: String,
    /// The kind of its messages: broadcasts lie in the companion topic.
    pub kind: Kind,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: Offset,
}

impl RecordPlace {
    /// The topic in Kafka that holds the record.
    #[must_use]
    pub fn log_topic(&self) -> std::borrow::Cow<'_, str> {
        self.kind.log_topic(&self.topic)
    }

    /// Reads the record, if Kafka has it.
    ///
    /// # Errors
    /// Why Kafka could not be read, for people.
    pub(in crate::api) async fn read(&self, app: &App) -> Result<Option<Message>, String> {
        let log_topic = self.log_topic();
        let read = app.log.read(&log_topic, self.partition, self.offset);
        match tokio::time::timeout(READ_TIMEOUT, read).await {
            Ok(read) => read.map_err(|why| format!("Kafka could not be read: {why}")),
            Err(_) => Err(format!("Kafka did not answer within {} s", READ_TIMEOUT.as_secs())),
        }
    }
}

/// The kind of messages that a position is for: those of a listener are for
/// broadcasts, those of a group for events.
#[must_use]
pub fn kind_of(listener: Option<&String>) -> Kind {
    if listener.is_some() { Kind::Broadcast } else { Kind::Event }
}

/// The positions that have not passed the message at a place yet. A delivery flies there
/// if the group [`is_bound`] to such messages.
pub fn not_passed<'a>(positions: &'a [PositionRow], place: &'a RecordPlace) -> impl Iterator<Item = &'a PositionRow> {
    positions.iter().filter(move |position| {
        position.topic == place.topic
            && kind_of(position.listener.as_ref()) == place.kind
            && position.partition == place.partition
            && position.next <= place.offset
    })
}

/// Whether the group of `position` handles messages of this type. `bindings` are those of
/// all live nodes: with those of this host alone, deliveries of the groups that only other
/// hosts bind would not exist here.
pub fn is_bound(bindings: &[NodeBinding], position: &PositionRow, type_name: &str) -> bool {
    bindings.iter().any(|binding| {
        binding.group == position.group
            && binding.topic == position.topic
            && binding.types.as_ref().is_none_or(|types| types.iter().any(|one| one == type_name))
    })
}

/// Shows a delivery without a row.
#[must_use]
pub fn view(position: &PositionRow, offset: Offset, message_id: &str, key: ShownKey, type_name: &str) -> DeliveryView {
    let address = position.listener.clone().filter(|listener| is_address(listener));
    let node = position.listener.clone().filter(|_| address.is_none()).or_else(|| position.node.clone());
    DeliveryView {
        id: id::write(DeliveryKey { position: position.id, offset }),
        message_id: message_id.to_owned(),
        group: position.group.clone(),
        topic: position.topic.clone(),
        partition: position.partition,
        offset: offset.0,
        key,
        type_name: known(type_name),
        state: State::Committed.as_str(),
        verdict: None,
        reason: None,
        fingerprint: None,
        node,
        address,
        received_at: None,
        settled_at: None,
        next_attempt_at: None,
        attempts: Vec::new(),
        settled_within: None,
        not_recorded: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::position;

    fn flights(next: i64, types: Option<&[&str]>, place: &RecordPlace) -> usize {
        let types = types.map(|types| types.iter().map(ToString::to_string).collect());
        let binding = NodeBinding { group: "stock".into(), topic: "order".into(), types };
        let mut position = position(1, "stock", "order", 0);
        position.next = Offset(next);
        not_passed(&[position], place)
            .filter(|one| is_bound(std::slice::from_ref(&binding), one, "OrderCreated"))
            .count()
    }

    #[test]
    fn a_broadcast_in_flight_to_an_address_names_it_and_who_pushes() {
        let mut position = position(1, "stock", "order", 0);
        let shown = |position: &PositionRow| {
            let view = view(position, Offset(17), "m", ShownKey::new(None), "T");
            (view.node.clone(), view.address.clone(), view.listener().cloned())
        };
        let (node, address) = (Some("host-1".to_owned()), Some("10.0.0.1:80".to_owned()));
        assert_eq!(shown(&position), (node.clone(), None, node.clone()));
        position.listener = address.clone();
        assert_eq!(shown(&position), (node, address.clone(), address));
        position.listener = Some("host-2".to_owned());
        let other = position.listener.clone();
        assert_eq!(shown(&position), (other.clone(), None, other));
    }

    #[test]
    fn only_what_the_position_has_not_passed_flies() {
        let place = RecordPlace { topic: "order".into(), kind: Kind::Event, partition: 0, offset: Offset(17) };
        assert_eq!(flights(17, None, &place), 1);
        assert_eq!(flights(18, None, &place), 0);
        assert_eq!(flights(0, Some(&["OrderCreated"]), &place), 1);
        assert_eq!(flights(0, Some(&["OrderClosed"]), &place), 0);
        assert_eq!(flights(0, None, &RecordPlace { partition: 1, ..place.clone() }), 0);
        assert_eq!(flights(0, None, &RecordPlace { topic: "stock".into(), ..place }), 0);
    }
}
