//! An undelivered entry as the API shows it.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::ports::RawRecord;
use crate::api::problem::Problem;
use crate::api::shown::{self, ShownBody, ShownKey, known};
use crate::rfc3339;
use crate::store::undelivered::UndeliveredRow;

/// An undelivered message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UndeliveredView {
    /// Its id.
    pub id: String,
    /// The message.
    pub message_id: String,
    /// Its topic; null when the topic could not be read.
    #[schema(required = true)]
    pub topic: Option<String>,
    /// The message's type.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub type_name: Option<String>,
    /// The sending service.
    #[schema(required = true)]
    pub source: Option<String>,
    /// The record's key.
    #[serde(flatten)]
    pub key: ShownKey,
    /// Its size in bytes.
    pub bytes: i64,
    /// The group whose handler published it or gave it up.
    #[schema(required = true)]
    pub group: Option<String>,
    /// The outbox it was in.
    #[schema(required = true)]
    pub outbox: Option<String>,
    /// Its row there.
    #[schema(required = true)]
    pub outbox_row: Option<String>,
    /// A stable code for why, for example `too_large`.
    pub code: String,
    /// Why it is undelivered.
    pub why: String,
    /// Since when it is unsent.
    #[schema(format = DateTime)]
    pub since: String,
    /// When it became undelivered.
    #[schema(format = DateTime)]
    pub kept_at: String,
    /// How often it was tried.
    pub tries: u32,
}

/// An undelivered message with its whole content.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UndeliveredContent {
    /// The entry without its content.
    #[serde(flatten)]
    pub entry: UndeliveredView,
    /// Its raw headers.
    #[schema(value_type = Object)]
    pub headers: Value,
    /// Its raw value.
    #[serde(flatten)]
    pub body: ShownBody,
    /// Whether it has no value.
    pub tombstone: bool,
}

impl From<UndeliveredRow> for UndeliveredView {
    fn from(row: UndeliveredRow) -> Self {
        Self {
            id: row.id.to_string(),
            message_id: row.message_id,
            topic: known(&row.topic),
            type_name: known(&row.type_name),
            source: known(&row.source),
            key: ShownKey::new(row.key.as_deref()),
            bytes: row.bytes,
            group: row.group,
            outbox: row.outbox,
            outbox_row: row.outbox_row,
            code: row.code,
            why: row.reason,
            since: rfc3339::format(row.created_at),
            kept_at: rfc3339::format(row.kept_at),
            tries: row.tries,
        }
    }
}

impl UndeliveredContent {
    /// Shows an entry with its record.
    #[must_use]
    pub fn new(row: UndeliveredRow, record: &RawRecord) -> Self {
        Self {
            entry: row.into(),
            headers: shown::headers(&record.headers),
            body: ShownBody::new(record.value.as_deref()),
            tombstone: record.value.is_none(),
        }
    }
}

/// The entry with this id, if the caller may see it.
pub(super) async fn find(app: &App, caller: &Caller, text: &str) -> Result<UndeliveredRow, Problem> {
    let unknown = || Problem::not_found(format!("nothing undelivered has the id {text:?}"));
    let id: i64 = text.parse().map_err(|_| unknown())?;
    let row = app.store.undelivered_one(id).await?.ok_or_else(unknown)?;
    let sees = caller.sees_topic(&row.topic) && row.group.as_deref().is_none_or(|group| caller.sees_group(group));
    if sees { Ok(row) } else { Err(unknown()) }
}

/// The record of an entry.
pub(super) fn raw(app: &App, row: &UndeliveredRow) -> Result<RawRecord, Problem> {
    let record = row.record.as_ref().and_then(|record| app.log.raw(record));
    record.ok_or_else(|| Problem::internal(format!("the record of the undelivered entry {} is damaged", row.id)))
}
