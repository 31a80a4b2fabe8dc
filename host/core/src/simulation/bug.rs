//! Faults that the harness makes on purpose, to show that its checks see them.
//! None of them is in the machine.

/// What the harness does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The position is written when a batch is sent, and not with it.
    CommitBeforeSettle,
    /// The store takes batches of older epochs.
    NoEpochCheck,
    /// A parked lane that gets its turn is run by two workers.
    LaneDrainedTwice,
    /// While a partition is given up, rows of waiting heads are left out.
    ParkedHeadLost,
    /// The position is stored one offset too far.
    PositionTooFar,
    /// The position moves with the first piece of a batch.
    PositionWithFirstPiece,
}
