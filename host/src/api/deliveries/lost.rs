//! Deliveries of messages that Kafka lost before their group handled them.
//!
//! They have no row, and the position of today says nothing of them: it may be
//! in another topic of the same name. The lost range that was recorded tells.

use std::collections::HashSet;

use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::flight::{self, RecordPlace, kind_of};
use super::view::DeliveryView;
use crate::api::shown::ShownKey;
use crate::rfc3339;
use crate::store::{LostRange, PositionRow};

/// The lost ranges with the place of a message that was accepted then, one of
/// each group and listener: what was found before is of another message.
pub fn ranges<'a>(
    all: &'a [LostRange],
    place: &'a RecordPlace,
    accepted_at: Timestamp,
) -> impl Iterator<Item = &'a LostRange> {
    let covers = move |range: &&LostRange| {
        range.topic == place.topic
            && kind_of(range.listener.as_ref()) == place.kind
            && range.partition == place.partition
            && (range.from..range.to).contains(&place.offset)
            && range.found_at >= accepted_at
    };
    let mut listed = HashSet::new();
    all.iter().filter(covers).filter(move |range| listed.insert((&range.group, &range.listener)))
}

/// Shows such a delivery; none where an earlier version did not record whose it
/// is.
#[must_use]
pub fn view(
    range: &LostRange,
    offset: Offset,
    message_id: &str,
    key: ShownKey,
    type_name: &str,
) -> Option<DeliveryView> {
    let position = PositionRow {
        id: range.position?,
        group: range.group.clone(),
        topic: range.topic.clone(),
        listener: range.listener.clone(),
        incarnation: 0,
        partition: range.partition,
        next: range.to,
        epoch: 0,
        node: None,
    };
    let mut view = flight::view(&position, offset, message_id, key, type_name);
    view.state = State::HandleFail.as_str();
    view.reason = Some(format!("it was not handled: {}", range.why));
    view.settled_at = Some(rfc3339::format(range.found_at));
    Some(view)
}

#[cfg(test)]
mod tests {
    use courier_core::message::Kind;

    use super::*;
    use crate::store::PositionId;

    fn range(group: &str, from: i64, to: i64, found_at: i64) -> LostRange {
        LostRange {
            position: Some(PositionId(4)),
            group: group.into(),
            topic: "order".into(),
            listener: None,
            partition: 0,
            from: Offset(from),
            to: Offset(to),
            why: "the topic was created anew".into(),
            found_at: Timestamp(found_at),
        }
    }

    #[test]
    fn a_message_in_a_lost_range_is_shown_as_lost_and_not_as_waiting() {
        let place = RecordPlace { topic: "order".into(), kind: Kind::Event, partition: 0, offset: Offset(17) };
        let all = [
            range("stock", 9, 40, 90),
            range("stock", 0, 40, 80),
            range("mail", 17, 18, 90),
            range("early", 0, 40, 60),
            range("behind", 0, 17, 90),
            LostRange { listener: Some("host-1".into()), ..range("hears", 0, 40, 90) },
        ];
        let found: Vec<_> = ranges(&all, &place, Timestamp(70)).collect();
        assert_eq!(found.iter().map(|range| range.group.as_str()).collect::<Vec<_>>(), ["stock", "mail"]);
        let shown = view(found[0], place.offset, "m", ShownKey::new(None), "OrderCreated").unwrap();
        assert_eq!((shown.state, shown.offset, shown.id.as_str()), ("HANDLE_FAIL", 17, "4-17"));
        assert!(shown.reason.is_some_and(|why| why.ends_with("the topic was created anew")) && shown.node.is_none());
        let unknown = LostRange { position: None, ..all[0].clone() };
        assert!(view(&unknown, place.offset, "m", ShownKey::new(None), "T").is_none());
    }
}
