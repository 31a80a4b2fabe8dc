//! The statements of a settle on deliveries, their records and their attempts.

use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, SqliteConnection};

use super::bulk::Bulk;
use super::columns::expect_rows;
use super::script::{Answer, Script};
use super::slots::Slots;
use super::words::SqliteWords;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{AttemptRow, Becomes, OutcomeRow, PositionId, StoreError};

/// An outcome and what its rows need beside it.
pub(super) struct Line<'o> {
    pub position: PositionId,
    pub group: i64,
    pub node: i64,
    pub version: Option<i64>,
    pub outcome: &'o OutcomeRow,
    /// What the open row said of the message, when the delivery had one and ends.
    pub message: Option<MessageColumns>,
}

/// The columns of a message in an open row.
pub(super) struct MessageColumns {
    pub(super) record_time: Timestamp,
    pub(super) received_at: i64,
    pub(super) message_id: String,
    pub(super) source_hash: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) type_name: String,
}

impl<'o> Line<'o> {
    /// Looks up the words of an outcome, and refuses a state that no such row can have.
    pub fn new(
        position: PositionId,
        group: i64,
        outcome: &'o OutcomeRow,
        words: &SqliteWords,
    ) -> Result<Self, StoreError> {
        outcome.check()?;
        let number = |text: &str| words.number(text).map_err(|error| StoreError::Bug(error.to_string()));
        let version = outcome.version.as_deref().map(number).transpose()?;
        Ok(Self { position, group, node: number(&outcome.node)?, version, outcome, message: None })
    }

    /// Kafka's time of the record.
    fn record_time(&self) -> Timestamp {
        self.message.as_ref().map_or(self.outcome.record_time, |message| message.record_time)
    }

    /// Binds the columns with which open and final rows both end.
    pub(super) fn bind_rest(&self, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
        let (outcome, message) = (self.outcome, self.message.as_ref());
        arguments.add(self.record_time().0)?;
        arguments.add(message.map_or(outcome.received_at.0, |message| message.received_at))?;
        arguments.add(outcome.started_at.map(|at| at.0))?;
        arguments.add(i64::from(outcome.attempts_so_far.invoked))?;
        arguments.add(i64::from(outcome.attempts_so_far.used))?;
        arguments.add(outcome.verdict.map(|verdict| verdict.code()))?;
        arguments.add(self.node)?;
        arguments.add(self.version)?;
        let hash = message.and_then(|message| message.source_hash);
        arguments.add(clean(message.map_or(&outcome.message_id, |message| &message.message_id)).as_ref())?;
        arguments.add(hash.or_else(|| outcome.source_hash.map(|hash| hash.0)))?;
        arguments.add(message.map_or(outcome.key.as_deref(), |message| message.key.as_deref()))?;
        arguments.add(clean(message.map_or(&outcome.type_name, |message| &message.type_name)).as_ref())?;
        arguments.add(clean_opt(outcome.reason.as_deref()).as_deref())?;
        arguments.add(clean_opt(outcome.fingerprint.as_deref()).as_deref())
    }
}

/// Runs `before` and inserts the final rows in the same round trip. Returns the answers of
/// `before`.
pub(super) async fn write_final(
    tx: &mut SqliteConnection,
    mut before: Script,
    lines: &[Line<'_>],
    slots: &Slots,
) -> Result<Vec<Answer>, StoreError> {
    const INSERT: Bulk = Bulk {
        insert:
            "INSERT INTO delivery (position, offset, day, group_id, slot, state, settled_at, record_time, received_at,
                 started_at, number, counted, verdict, node, version, message_id, source_hash, key, type_name, reason,
                 fingerprint)",
        columns: 21,
        then: "",
    };
    let rows: Vec<(&Line<'_>, State, Timestamp)> = lines
        .iter()
        .filter_map(|line| match line.outcome.to {
            Becomes::Final { state, settled_at, .. } => Some((line, state, settled_at)),
            Becomes::Open { .. } | Becomes::InHandledSet { .. } => None,
        })
        .collect();
    if let Some(latest) = rows.iter().map(|(_, _, settled_at)| *settled_at).max() {
        Slots::fill(&mut before, rows.len(), latest)?;
    }
    let (answers, inserted) = INSERT
        .run_after(before, tx, &rows, |arguments, (line, state, settled_at)| {
            arguments.add(line.position.0)?;
            arguments.add(line.outcome.offset.0)?;
            arguments.add(line.record_time().day())?;
            arguments.add(line.group)?;
            arguments.add(slots.start_of(*settled_at))?;
            arguments.add(state.code())?;
            arguments.add(settled_at.0)?;
            line.bind_rest(arguments)
        })
        .await?;
    expect_rows("inserting final rows", rows.len(), inserted)?;
    Ok(answers)
}

/// Inserts the records of open and failed deliveries.
pub(super) async fn write_records(tx: &mut SqliteConnection, lines: &[Line<'_>]) -> Result<(), StoreError> {
    const KEEP: Bulk = Bulk {
        insert: "INSERT INTO kept_record (position, offset, record)",
        columns: 3,
        then: "ON CONFLICT (position, offset) DO UPDATE SET record = excluded.record",
    };
    let rows: Vec<_> = lines
        .iter()
        .filter_map(|line| match &line.outcome.to {
            Becomes::Final { state: State::Handled, .. } | Becomes::InHandledSet { .. } => None,
            Becomes::Final { record, .. } | Becomes::Open { record, .. } => {
                record.as_ref().map(|record| (line, record))
            }
        })
        .collect();
    KEEP.run(tx, &rows, |arguments, (line, record)| {
        arguments.add(line.position.0)?;
        arguments.add(line.outcome.offset.0)?;
        arguments.add(record.as_ref())
    })
    .await?;
    Ok(())
}

/// Inserts the attempts that get rows.
pub(super) async fn write_attempts(
    tx: &mut SqliteConnection,
    lines: &[Line<'_>],
    words: &SqliteWords,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO attempt (position, offset, number, counted, version, node, started_at, finished_at,
                 verdict, reason, fingerprint, log)",
        columns: 12,
        then: "",
    };
    let rows: Vec<(&Line<'_>, &AttemptRow)> =
        lines.iter().flat_map(|line| line.outcome.attempts.iter().map(move |attempt| (line, attempt))).collect();
    INSERT
        .run(tx, &rows, |arguments, (line, attempt)| {
            arguments.add(line.position.0)?;
            arguments.add(line.outcome.offset.0)?;
            arguments.add(i64::from(attempt.number))?;
            arguments.add(i64::from(attempt.counted))?;
            arguments.add(attempt.version.as_deref().map(|version| words.number(version)).transpose()?)?;
            arguments.add(words.number(&attempt.node)?)?;
            arguments.add(attempt.started_at.0)?;
            arguments.add(attempt.finished_at.0)?;
            arguments.add(attempt.verdict.code())?;
            arguments.add(clean_opt(attempt.reason.as_deref()).as_deref())?;
            arguments.add(clean_opt(attempt.fingerprint.as_deref()).as_deref())?;
            arguments.add(clean_opt(attempt.log.as_deref()).as_deref())
        })
        .await?;
    Ok(())
}
