//! Rows for tests of the background tasks.

use courier_core::message::Offset;

use crate::store::{PositionId, PositionRow};

/// The position of a partition for events, with the partition's number as its id and
/// `node` as its last owner.
pub(super) fn row(partition: i32, group: &str, topic: &str, node: Option<&str>) -> PositionRow {
    PositionRow {
        id: PositionId(i64::from(partition)),
        group: group.into(),
        topic: topic.into(),
        listener: None,
        incarnation: 0,
        partition,
        next: Offset(0),
        epoch: 1,
        node: node.map(ToOwned::to_owned),
    }
}
