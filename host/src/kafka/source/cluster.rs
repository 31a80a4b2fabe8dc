//! Whether a group's consumer still finds its cluster.
//!
//! It has a thread of its own, since librdkafka's questions block and the
//! thread that polls must not. It looks only after an error that may mean that
//! the cluster is away, and until it is answered. A consumer that no longer
//! finds a cluster which is there is of no more use, and its group is told so.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::{Notice, Rebalances};
use crate::kafka::health::{PING_TIMEOUT, Rescue, found};

/// How often it is looked whether something is suspected.
const LOOK: Duration = Duration::from_millis(500);

/// Watches over a consumer; ends with it.
pub(super) fn keep_watch(consumer: &Weak<BaseConsumer<Rebalances>>, config: &ClientConfig) {
    let mut rescue = Rescue::default();
    loop {
        std::thread::sleep(LOOK);
        let Some(consumer) = consumer.upgrade() else { return };
        let context = consumer.context();
        // Before the question: an error that comes meanwhile asks once more.
        if !context.suspected.swap(false, Ordering::Relaxed) {
            rescue = Rescue::default();
            continue;
        }
        let answered = found(consumer.fetch_metadata(None, PING_TIMEOUT)).is_ok();
        if rescue.is_needed(config, answered) {
            return context.tell(Notice::Fatal("it no longer finds kafka, which is there".to_owned()));
        }
        if !answered {
            context.suspected.store(true, Ordering::Relaxed);
        }
    }
}
