//! The parts of the send side, which all its steps work with.

use std::time::Duration;

use super::companions::Companions;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::{DELIVERY_TIMEOUT, Producer};
use crate::publish::backlog::Backlog;
use crate::publish::message_writer::MessageWriter;
use crate::publish::relay::delayed::DelayedWaker;
use crate::publish::rules::Rules;
use crate::publish::undelivered::FullTopics;
use crate::publish::unsent::UnsentLanes;
use crate::publish::waker::Waker;
use crate::store::SharedStore;

/// How long a sender waits for Kafka; what is left of a second is the store's.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// How long a sender waits for the store.
pub(super) const STORE_WITHIN: Duration = Duration::from_secs(5);
/// How long the row of a direct send is held back from the relay. Longer than
/// the send can take: the store may acknowledge the row slowly, the client
/// fails a record after its delivery timeout, which it checks each second, the
/// record may have waited as long for the window of its partition, and a record
/// of unknown fate is looked up afterwards.
pub(super) const HOLD: Duration =
    DELIVERY_TIMEOUT.saturating_mul(2).saturating_add(STORE_WITHIN).saturating_add(Duration::from_secs(10));

/// The parts of an [`Acceptor`](super::Acceptor).
pub(in crate::publish) struct AcceptorParts {
    pub(in crate::publish) store: SharedStore,
    pub(in crate::publish) producer: Producer,
    pub(in crate::publish) log: LogReader,
    pub(in crate::publish) journal: MessageWriter,
    pub(in crate::publish) backlog: Backlog,
    pub(super) unsent: UnsentLanes,
    pub(in crate::publish) waker: Waker,
    pub(in crate::publish) alarm: DelayedWaker,
    /// Topics for which too much is undelivered.
    pub(in crate::publish) full: FullTopics,
    /// The rules in force.
    pub(in crate::publish) rules: Rules,
    pub(super) companions: Companions,
}
