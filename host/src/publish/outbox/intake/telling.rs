//! Reports the state of an outbox: how many rows wait, and why.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::{BUSY, Intake, UNREADABLE};
use crate::causes::Subject;
use crate::publish::outbox::error::SourceError;
use crate::publish::outbox::source::{OutboxSource, bounded};
use crate::store::OutboxCause;

/// How often what is to be told is noted when it changed, and when not.
const NOTE_CHANGED: Duration = Duration::from_secs(1);
const NOTE_ALWAYS: Duration = Duration::from_secs(5);

/// How often the rows of the table are counted while there are more than are in
/// hand.
const PENDING_EVERY: Duration = Duration::from_secs(5);

impl Intake {
    /// Works out how many rows wait: those in hand, unless there are more.
    pub(super) async fn tell_pending(&mut self, source: &mut dyn OutboxSource, more: bool) -> Result<(), SourceError> {
        if !more && self.topics_left_out().is_empty() {
            self.note.pending = i64::try_from(self.hand.len() + self.hand.staying()).ok();
            self.pending_at = None;
            // The look saw all there is: what else was counted is deleted.
            if let Some(counted) = &mut self.counted {
                counted.retain(|(seq, _)| self.hand.holds(*seq));
            }
        } else if self.pending_at.is_none_or(|at| at.elapsed() >= PENDING_EVERY) {
            self.note.pending = Some(bounded(source.count()).await?);
            self.pending_at = Some(Instant::now());
        }
        self.note.oldest_at = self.hand.oldest_at();
        Ok(())
    }

    /// Why rows stand still although the table can be read, if they do.
    pub(super) fn standing(&self) -> Option<SourceError> {
        if let Some(error) = &self.unordered {
            return Some(error.clone());
        }
        let waiting = self.note.pending.unwrap_or_default() > i64::try_from(self.hand.len()).unwrap_or(i64::MAX);
        let full = self.acceptor.full_destinations();
        if let Some(topic) = full.iter().find(|topic| waiting || topic.as_str() == UNREADABLE) {
            let (which, of) = match topic.as_str() {
                UNREADABLE => ("rows", "without a topic that can be read".to_owned()),
                topic => ("rows for it", format!("for topic {topic}")),
            };
            let sentence = format!(
                "{which} are not taken in, since as many messages {of} are undelivered as may be: resend, repair or \
                 give them up (courier undelivered list --outbox {})",
                self.outbox.name
            );
            return Some(SourceError::new("undelivered_full", sentence).with("topic", topic));
        }
        if !self.hand.has_space() {
            let (rows, staying) = (self.hand.len(), self.hand.staying());
            let sentence = format!(
                "nothing more is taken in: {rows} rows wait for kafka, and {staying} rows are too large and stay in \
                 the table; `courier undelivered list` tells the latter: delete them there or make them smaller"
            );
            return Some(SourceError::new("outbox_full", sentence).with("rows", rows.to_string()));
        }
        let topic = self.hand.standing_topic(Instant::now())?;
        let (name, rows, seconds) = (&topic.topic, topic.rows, topic.since.elapsed().as_secs());
        // The number of rows changes: what stands still is the same.
        let sentence = format!(
            "kafka has taken none of the {rows} rows for topic {name} that were handed in for {seconds} s; rows for \
             other topics go on; `courier messages list --topic {name} --state SEND_FAIL` says why they wait"
        );
        Some(SourceError::new("outbox_topic_waits", sentence).with("topic", name.as_ref()))
    }

    /// Reports why the outbox stands still, or clears that.
    pub(super) fn tell(&mut self, standing: Option<SourceError>) {
        let subject = Subject::Outbox(self.outbox.name.clone());
        let code = standing.as_ref().map(|error| error.code);
        if let Some(before) = self.note.cause.as_ref().filter(|before| Some(before.code.as_str()) != code) {
            self.causes.clear_code(&subject, &before.code);
        }
        self.note.why = standing.as_ref().map(ToString::to_string);
        if let Some(error) = &standing {
            self.causes.report(subject, error.cause());
        }
        self.note.cause = standing.map(|error| OutboxCause {
            code: error.code.to_owned(),
            fields: error.fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect(),
        });
    }

    /// Writes what is to be told, now and then. What cannot be written is told
    /// the next time.
    pub(super) async fn write_note(&mut self, epoch: i64) {
        let name = self.outbox.name.clone();
        let failing = if self.note.why.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("courier_outbox_failing", "outbox" => name.clone()).set(failing);
        if let Some(pending) = self.note.pending {
            metrics::gauge!("courier_outbox_pending", "outbox" => name).set(pending as f64);
        }
        let due = match &self.noted {
            None => true,
            Some((at, last)) if last.cause != self.note.cause => at.elapsed() >= BUSY,
            Some((at, last)) if *last != self.note => at.elapsed() >= NOTE_CHANGED,
            Some((at, _)) => at.elapsed() >= NOTE_ALWAYS,
        };
        if !due {
            return;
        }
        match self.acceptor.note_outbox((self.shard, epoch), &self.note).await {
            Ok(()) => self.noted = Some((Instant::now(), self.note.clone())),
            Err(error) => debug!(%error, "what is to be told of an outbox is not written"),
        }
    }
}
