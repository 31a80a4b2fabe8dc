//! A transaction, as the API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::shown::{ShownKey, known};
use crate::rfc3339;
use crate::store::{HalfMessage, HalfRow};

/// A transaction.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TransactionView {
    /// Its id.
    pub id: String,
    /// PREPARED, COMMITTED, ROLLED_BACK or ABANDONED.
    pub state: &'static str,
    /// The messages that are sent if it commits, in order.
    pub messages: Vec<HalfMessageView>,
    /// The URL that is asked for the outcome.
    #[schema(required = true)]
    pub check_url: Option<String>,
    /// How long the sender has before the check URL is asked.
    pub timeout: String,
    /// When it was prepared.
    pub created_at: String,
    /// When the timeout is over.
    pub deadline: String,
    /// How often the check URL was asked.
    pub checks: u32,
    /// Since when the check URL gives no answer; null while it does.
    #[schema(required = true)]
    pub unreachable_since: Option<String>,
    /// When the check URL is asked next.
    #[schema(required = true)]
    pub next_check_at: Option<String>,
    /// The last answer of the check URL.
    #[schema(required = true)]
    pub last_answer: Option<String>,
    /// Why it ended.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// When it ended.
    #[schema(required = true)]
    pub ended_at: Option<String>,
}

/// A message of a transaction.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HalfMessageView {
    /// The id of the message, also after the commit.
    pub id: String,
    /// The topic.
    pub topic: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub type_name: Option<String>,
    /// The primary key.
    #[serde(flatten)]
    pub key: ShownKey,
}

impl From<&HalfRow> for TransactionView {
    fn from(half: &HalfRow) -> Self {
        Self {
            id: half.id.clone(),
            state: half.state.as_str(),
            messages: half.messages.iter().map(HalfMessageView::from).collect(),
            check_url: half.check_url.clone(),
            timeout: crate::config::show_duration(half.timeout),
            created_at: rfc3339::format(half.created_at),
            deadline: rfc3339::format(half.deadline),
            checks: half.checks,
            unreachable_since: half.unreachable_since.map(rfc3339::format),
            next_check_at: half.next_check_at.map(rfc3339::format),
            last_answer: half.last_answer.clone(),
            reason: half.reason.clone(),
            ended_at: half.ended_at.map(rfc3339::format),
        }
    }
}

impl From<&HalfMessage> for HalfMessageView {
    fn from(message: &HalfMessage) -> Self {
        Self {
            id: message.id.clone(),
            topic: message.topic.clone(),
            type_name: known(&message.type_name),
            key: ShownKey::new(message.key.as_deref()),
        }
    }
}
