//! A delivery that has its lane's turn, as the workers take it.

use std::sync::Arc;

use courier_core::message::Attempts;
use tokio_util::sync::CancellationToken;

use crate::consume::owner::message::OwnerRef;
use crate::kafka::buffered::BufferedRecord;

/// A delivery that has its lane's turn.
#[derive(Debug)]
pub struct ReadyDelivery {
    pub in_hand: Arc<BufferedRecord>,
    /// Who owns it.
    pub owner: Arc<OwnerRef>,
    /// Its attempts before this one.
    pub attempts: Attempts,
    /// Whether it probes a gate that is half open.
    pub probe: bool,
    /// Calls it back before its attempt begins; none for one without a row,
    /// which nobody can give up.
    pub recall: Option<CancellationToken>,
}
