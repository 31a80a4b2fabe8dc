//! What the consumer thread of a group and the group tell each other: plain data.

use courier_core::message::Offset;
use tokio::sync::oneshot;

use crate::kafka::buffered::{Feed, TopicPartition};

/// An event of the group.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// Kafka gives us partitions; the answer is [`ConsumerCommand::Assign`].
    Assigned(Vec<TopicPartition>),
    /// Kafka wants partitions back; the answer is [`ConsumerCommand::Unassign`].
    Revoked {
        partitions: Vec<TopicPartition>,
        /// They are gone already: others may own them.
        lost: bool,
    },
    /// Kafka has no record at the offset that a partition was to be read from.
    OutOfRange,
    /// A record was written under an older leader than one before it in its
    /// partition: this may be another log under the same name.
    OlderLeader,
    /// This consumer failed for good; a new one may work.
    Fatal(String),
    /// Another client joined the group under this consumer's
    /// `consume.instance.id`, and this one is out.
    Fenced,
    /// The group uses another assignment strategy, so that this consumer cannot
    /// join.
    OtherProtocol,
    /// Something went wrong that a person should know of.
    Trouble(String),
}

/// A command to the thread.
#[derive(Debug)]
pub enum ConsumerCommand {
    /// Read these partitions from these offsets, in answer to `Assigned`.
    /// An empty list is an answer too.
    Assign(Vec<Assignment>),
    /// Stop reading these partitions, in answer to `Revoked`.
    Unassign(Vec<TopicPartition>),
    /// Read a partition from another offset, outside of a rebalance.
    Reassign(Assignment),
    /// Fetch nothing from this partition for now.
    Pause(TopicPartition),
    /// Fetch again.
    Resume(TopicPartition),
    /// Tell Kafka how far we are, for lag tools; not waited for.
    CommitOffsets(Vec<(TopicPartition, Offset)>),
    /// One synchronous commit: does Kafka take us for the owner?
    VerifyOwnership(TopicPartition, Offset, oneshot::Sender<Ownership>),
    /// Leave the group and subscribe again. Revocations come before, as always.
    Rejoin,
    /// Leave the group and end.
    Close,
}

/// Kafka's answer to a claim of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// We are a member of the current generation, and the partition is among
    /// those that we were assigned.
    Owner,
    /// We are not.
    Other,
    /// Nobody can tell now: a rebalance is under way, or no broker answers.
    Unknown,
}

/// A partition to be read.
#[derive(Debug)]
pub struct Assignment {
    pub place: TopicPartition,
    /// From where.
    pub offset: Offset,
    /// Where its records go.
    pub feed: Feed,
}
