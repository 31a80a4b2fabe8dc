//! Finds the owners whose next offset is not in their log. The client does not
//! say which partition is out of range, so each owner is compared with its log.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use courier_core::message::Offset;
use tokio::sync::mpsc;

use crate::consume::context::CONFIRM_RETRY;
use crate::consume::owner::message::OwnerHandle;
use crate::kafka::buffered::TopicPartition;
use crate::kafka::consumer::ConsumerEvent;
use crate::kafka::log_reader::{LogError, LogReader};

/// The partitions whose next offset is out of range. When no offset is, all
/// partitions are returned: the client has stopped reading one of them and does
/// not say which. `None` while they cannot be compared: the event comes again.
pub async fn left_their_logs(
    group: &str,
    owners: &HashMap<TopicPartition, OwnerHandle>,
    log: &LogReader,
    notices: &mpsc::UnboundedSender<ConsumerEvent>,
) -> Vec<TopicPartition> {
    let (mut left, mut no_log) = (Vec::new(), false);
    for (place, owner) in owners {
        let expected = Offset(owner.expected.load(Ordering::Relaxed));
        match log.range(&place.log_topic(), place.partition).await {
            Ok((low, high)) if expected >= low && expected <= high => {}
            // A partition without a log is gone; the next answer about its
            // topic says so.
            Ok(_) => left.push(place.clone()),
            Err(LogError::NoTopic(_)) => no_log = true,
            Err(error) => {
                tracing::debug!(group, %place, %error, "cannot compare a position with its log yet");
                let notices = notices.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(CONFIRM_RETRY).await;
                    let _ = notices.send(ConsumerEvent::OutOfRange);
                });
                return Vec::new();
            }
        }
    }
    if left.is_empty() && !no_log { owners.keys().cloned().collect() } else { left }
}
