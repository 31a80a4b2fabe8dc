//! Records the results of the messages of one request, and makes their receipts.
//!
//! The second half of [`super`]: everything is with Kafka or the store, and
//! nothing more is sent.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Offset;
use courier_core::status::State;
use tokio::time::Instant;
use tracing::warn;

use super::parts::{AcceptorParts, HOLD};
use crate::clock::now;
use crate::kafka::log_reader::Search;
use crate::kafka::producer::{Ack, ProduceError};
use crate::kafka::record::Record;
use crate::publish::backlog::{DirectSendGuard, UnsentGuard};
use crate::publish::draft::SendableMessage;
use crate::publish::message_writer::WriteReceipt;
use crate::publish::receipt::{Receipt, SendProblem};
use crate::publish::waker::Watch;
use crate::said;
use crate::store::{Accepted, Due, Identity, MessageRow, RefusedMessage, RelayResult, SentMessage, UnsentMessage};

/// How often a message that another node may be sending is looked up.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The state of one message of a request.
pub(in crate::publish) enum SendStep {
    Done(Receipt),
    /// Its row is being written; the receipt holds once it is durable.
    Row {
        message: Identity,
        written: WriteReceipt<Accepted>,
        then: DurableMeaning,
        kept: Option<Arc<UnsentGuard>>,
    },
    /// A message with an id waits for its row before it is sent.
    Reserved {
        ready: SendableMessage,
        partitions: i32,
        written: WriteReceipt<Accepted>,
        flight: DirectSendGuard,
    },
    /// It was accepted before; another request may be sending it now.
    Known(Box<MessageRow>),
    /// It is to be sent directly. `flight` holds the row of a message with an id.
    Clear {
        ready: SendableMessage,
        partitions: i32,
        flight: Option<DirectSendGuard>,
    },
    InFlight {
        ready: SendableMessage,
        ack: Ack,
        flight: Option<DirectSendGuard>,
    },
    /// The client has answered.
    Ended {
        ready: SendableMessage,
        result: DirectSendResult,
        flight: Option<DirectSendGuard>,
    },
    /// The result of a message with an id is being written. `flight` ends when
    /// this is durable: a look at the store before it would find the row, and
    /// send the whole topic through the relay.
    Marked {
        receipt: Receipt,
        written: WriteReceipt<()>,
        kept: Option<Arc<UnsentGuard>>,
        flight: Option<DirectSendGuard>,
    },
}

impl SendStep {
    /// Takes the step out, to replace it.
    pub(in crate::publish) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Done(Receipt::retrying(String::new())))
    }
}

/// The result of a direct send.
type DirectSendResult = Result<(i32, Offset), ProduceError>;

/// The meaning of a durable row for the sender.
pub(in crate::publish) enum DurableMeaning {
    Committed,
    /// It waits until it is due.
    Delayed(Due),
    Retrying(Option<Watch>),
    Refused(SendProblem),
}

impl AcceptorParts {
    /// Writes the results of direct sends.
    pub(in crate::publish) async fn record(self: &Arc<Self>, step: &mut SendStep) {
        *step = match step.take() {
            SendStep::InFlight { ready, ack, flight } => self.record_in_flight(ready, ack, flight).await,
            SendStep::Ended { ready, result: Err(error @ ProduceError::Unknown { .. }), flight } => {
                self.record_in_flight(ready, std::future::ready(Err(error)), flight).await
            }
            SendStep::Ended { ready, result, flight } => self.record_ended(ready, result, flight).await,
            other => other,
        };
    }

    async fn record_ended(
        &self,
        ready: SendableMessage,
        result: DirectSendResult,
        flight: Option<DirectSendGuard>,
    ) -> SendStep {
        let message = ready.identity();
        let named = ready.named;
        match result {
            Ok(place) if named => {
                let id = message.id.clone();
                let sent = SentMessage { identity: message, partition: place.0, offset: place.1 };
                let written = self.journal.sent(sent);
                SendStep::Marked { receipt: Receipt::committed(id), written, kept: None, flight }
            }
            Ok(place) => {
                let written = self.journal.keep(ready.committed(place));
                SendStep::Row { message, written, then: DurableMeaning::Committed, kept: None }
            }
            Err(ProduceError::Refused(reason)) if named => {
                // Its sender is told, so nothing of it is kept for the relay.
                let receipt = Receipt::failed(message.id.clone(), SendProblem::refused(reason.clone()));
                let body = ready.kept_body();
                let written = self.journal.refuse(RefusedMessage { identity: message, reason, body });
                SendStep::Marked { receipt, written, kept: None, flight }
            }
            Err(ProduceError::Refused(reason)) => {
                let written = self.journal.keep(ready.refused(&reason));
                SendStep::Row {
                    message,
                    written,
                    then: DurableMeaning::Refused(SendProblem::refused(reason)),
                    kept: None,
                }
            }
            Err(error @ (ProduceError::Later(_) | ProduceError::Unknown { .. })) => {
                let reason = error.to_string();
                let kept = Some(Arc::new(self.backlog.mark(&ready.log_topic())));
                if named {
                    let id = message.id.clone();
                    let written = self.journal.release(UnsentMessage { identity: message, reason });
                    SendStep::Marked { receipt: Receipt::retrying(id), written, kept, flight }
                } else {
                    let written = self.journal.keep(ready.owed(&reason, None));
                    SendStep::Row { message, written, then: DurableMeaning::Retrying(None), kept }
                }
            }
        }
    }

    /// Records a send that is in flight when its sender must be answered, or
    /// whose fate is unknown: its row is written and held, and another task
    /// waits for the end.
    async fn record_in_flight(
        self: &Arc<Self>,
        ready: SendableMessage,
        end: impl Future<Output = DirectSendResult> + Send + 'static,
        flight: Option<DirectSendGuard>,
    ) -> SendStep {
        self.producer.suspect();
        let message = ready.identity();
        let mark = Arc::new(self.backlog.mark(&ready.log_topic()));
        let record = ready.record.clone();
        if ready.named {
            tokio::spawn(Arc::clone(self).wait_for_landing(message.clone(), record, end, flight, Arc::clone(&mark)));
            count(State::SendFail);
            return SendStep::Done(Receipt::retrying(message.id));
        }
        let written = self.journal.keep(ready.owed("kafka has not answered yet", Some(HOLD)));
        tokio::spawn(Arc::clone(self).wait_for_landing(message.clone(), record, end, flight, Arc::clone(&mark)));
        SendStep::Row { message, written, then: DurableMeaning::Retrying(None), kept: Some(mark) }
    }

    /// Finds the record of a send of unknown fate, if it is in Kafka.
    async fn found(&self, record: &Record, sent: DirectSendResult) -> DirectSendResult {
        let Err(ProduceError::Unknown { topic, partition, from }) = &sent else { return sent };
        let mut next = *from;
        loop {
            match self.log.find(topic, *partition, next, record).await {
                Ok(Search::NotBelow(offset)) => next = offset,
                Ok(Search::Found(offset)) => return Ok((*partition, offset)),
                Ok(Search::NotThere) => {
                    return Err(ProduceError::Later("kafka lost the message, which is sent again".to_owned()));
                }
                Err(error) => {
                    return Err(ProduceError::Later(format!("the message could not be looked for: {error}")));
                }
            }
        }
    }

    async fn wait_for_landing(
        self: Arc<Self>,
        message: Identity,
        record: Record,
        end: impl Future<Output = DirectSendResult>,
        flight: Option<DirectSendGuard>,
        mark: Arc<UnsentGuard>,
    ) {
        // The writer keeps the order of its calls, so the row exists before its
        // result is written.
        let written = match self.found(&record, end.await).await {
            Ok((partition, offset)) => {
                count(State::Committed);
                self.journal.sent(SentMessage { identity: message.clone(), partition, offset }).wait().await
            }
            // Its sender was told that it will be sent: the relay keeps it as
            // undelivered when Kafka refuses it for ever.
            Err(error) => {
                let unsent = UnsentMessage { identity: message.clone(), reason: error.to_string() };
                self.journal.release(unsent).wait().await
            }
        };
        if let Err(error) = written {
            // The hold ends, and the relay sends it again with its id.
            if let Some(unsaid) = said::again("cannot store how a send ended") {
                warn!(%error, %message, unsaid, "cannot store how a send ended");
            }
        }
        drop((flight, mark));
        self.waker.wake();
    }

    pub(in crate::publish) async fn finish(
        &self,
        step: SendStep,
        answer_by: Instant,
        store_by: Instant,
        ask: bool,
    ) -> Receipt {
        match step {
            SendStep::Row { message, written, then, kept } => {
                let durable = tokio::time::timeout_at(store_by, written.wait()).await;
                if kept.is_some() {
                    drop(kept);
                    self.waker.wake();
                }
                // A delayed message is counted when it is in Kafka.
                if matches!(durable, Ok(Ok(Accepted::New))) && !matches!(then, DurableMeaning::Delayed(_)) {
                    count(if matches!(then, DurableMeaning::Committed) { State::Committed } else { State::SendFail });
                }
                let id = message.id.clone();
                match (durable, then) {
                    (Ok(Ok(Accepted::Other)), DurableMeaning::Retrying(_) | DurableMeaning::Delayed(_)) => {
                        Receipt::failed(id, SendProblem::conflict(&message))
                    }
                    (
                        Ok(Ok(Accepted::Reserved { transaction })),
                        DurableMeaning::Retrying(_) | DurableMeaning::Delayed(_),
                    ) => Receipt::failed(id, SendProblem::reserved(&message, &transaction)),
                    (Ok(Ok(Accepted::Same(row))), DurableMeaning::Retrying(_)) => {
                        Receipt::again(self.outcome_of(*row, answer_by).await)
                    }
                    (Ok(Ok(Accepted::Same(row))), DurableMeaning::Delayed(_)) => Receipt::again(*row),
                    (Ok(Ok(Accepted::New)), DurableMeaning::Delayed(due)) => {
                        self.alarm.set(due, now());
                        Receipt::committed(id)
                    }
                    (Ok(Ok(_)), DurableMeaning::Committed) => Receipt::committed(id),
                    (Ok(Ok(_)), DurableMeaning::Retrying(watch)) => {
                        self.relayed(message, watch, answer_by, ask.then_some(store_by)).await
                    }
                    // A problem with the message is returned whatever its row says.
                    (_, DurableMeaning::Refused(problem)) => Receipt::failed(id, problem),
                    (_, DurableMeaning::Committed) => {
                        let detail =
                            format!("message {id} is on kafka, but this is not stored yet: do not send it again");
                        Receipt { problem: Some(SendProblem::store_away(detail)), ..Receipt::committed(id) }
                    }
                    (Ok(Err(error)), DurableMeaning::Retrying(_) | DurableMeaning::Delayed(_)) => {
                        Receipt::failed(id, SendProblem::of_store(&error))
                    }
                    (Err(_), DurableMeaning::Retrying(_) | DurableMeaning::Delayed(_)) => {
                        Receipt::failed(id, SendProblem::store_away("the message could not be stored in time"))
                    }
                }
            }
            SendStep::Marked { receipt, written, kept, flight } => {
                // The row itself is durable. When this write is lost, the relay
                // sends the message once more after the hold.
                let durable = tokio::time::timeout_at(store_by, written.wait()).await;
                count(receipt.state);
                if !matches!(durable, Ok(Ok(())))
                    && let Some(unsaid) = said::again("how a send ended is not stored yet")
                {
                    warn!(message = %receipt.id, unsaid, "how a send ended is not stored yet");
                }
                drop(flight);
                if kept.is_some() {
                    drop(kept);
                    self.waker.wake();
                }
                receipt
            }
            SendStep::Known(row) => Receipt::again(self.outcome_of(*row, answer_by).await),
            SendStep::Done(receipt) => receipt,
            SendStep::Reserved { ready, .. }
            | SendStep::Clear { ready, .. }
            | SendStep::InFlight { ready, .. }
            | SendStep::Ended { ready, .. } => Receipt::retrying(ready.message.id),
        }
    }

    /// The receipt of a message that went to the relay while Kafka is there. Where the
    /// relay of this host does not tell, the store is asked, until `ask_until`.
    async fn relayed(
        &self,
        message: Identity,
        watch: Option<Watch>,
        answer_by: Instant,
        ask_until: Option<Instant>,
    ) -> Receipt {
        let id = message.id.clone();
        let Some(watch) = watch else { return Receipt::retrying(id) };
        match watch.result(answer_by).await {
            Some(RelayResult::Taken { .. }) => Receipt::committed(id),
            Some(RelayResult::Undelivered { reason, .. }) => Receipt::undelivered(id, &reason),
            Some(RelayResult::Later { .. }) => Receipt::retrying(id),
            // Another node may hold the shard and may have sent it.
            None => {
                let Some(until) = ask_until else { return Receipt::retrying(id) };
                match tokio::time::timeout_at(until, self.store.message_of(&message)).await {
                    Ok(Ok(Some(row))) => Receipt::again(row),
                    _ => Receipt::retrying(id),
                }
            }
        }
    }

    /// Waits a little for a message that another request is sending.
    async fn outcome_of(&self, mut row: MessageRow, until: Instant) -> MessageRow {
        let message = row.identity();
        while row.retrying && !self.producer.is_down() && Instant::now() + ASK_EVERY < until {
            tokio::time::sleep(ASK_EVERY).await;
            match tokio::time::timeout_at(until, self.store.message_of(&message)).await {
                Ok(Ok(Some(newer))) => row = newer,
                _ => break,
            }
        }
        row
    }
}

/// Counts a message that entered a state.
pub(in crate::publish) fn count(state: State) {
    metrics::counter!("courier_messages_total", "state" => state.as_str()).increment(1);
    crate::stats::process().published(u64::from(state == State::Committed), u64::from(state == State::SendFail));
}
