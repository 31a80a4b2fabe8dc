//! Selects the message of a request: ids may repeat on other topics and from other
//! sources.
//!
//! The id with `?topic=` and `?source=` names one message. Without them the newest
//! message is shown with the others beside it, but a change is refused unless only
//! one message has the id.

use serde_json::{Value, json};

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::rfc3339;
use crate::store::{DeliveryFilter, DeliveryRow, Identity, MessageRow, SourceHash};

/// The message that a request names.
pub(super) struct MessageSelector {
    /// Its id.
    pub id: String,
    /// The topic that it was published on.
    topic: Option<String>,
    /// Its source; empty for an unknown one.
    source: Option<String>,
}

impl MessageSelector {
    /// Reads the selector from a request.
    pub(super) fn read(id: String, params: Params) -> Result<Self, Problem> {
        let params = params.only(&["topic", "source"])?;
        Ok(Self { id, topic: params.text("topic"), source: params.text("source") })
    }

    /// The selected messages of the send side that the caller may see, newest first.
    pub(super) async fn rows(&self, app: &App, caller: &Caller) -> Result<Vec<MessageRow>, Problem> {
        // The query names the topics: the store returns a bounded number of
        // messages of an id, which another tenant's messages could fill.
        let topics = self.topic.as_ref().map(|topic| vec![topic.clone()]).or_else(|| caller.topics());
        let mut rows = match (&self.topic, &self.source) {
            (Some(topic), Some(source)) => {
                app.store.message_of(&Identity::new(topic, source, &self.id)).await?.into_iter().collect()
            }
            _ => app.store.messages_with_id(&self.id, topics.as_deref()).await?,
        };
        rows.retain(|row| caller.sees_topic(&row.topic) && self.means(&row.topic, &row.source));
        Ok(rows)
    }

    /// The only selected message, for a change.
    ///
    /// # Errors
    /// 404 when there is none, 409 with the candidates when there are several.
    pub(super) async fn one(&self, app: &App, caller: &Caller) -> Result<MessageRow, Problem> {
        let mut rows = self.rows(app, caller).await?;
        if rows.len() > 1 {
            let detail = format!(
                "{} messages have the id {:?}; name the one that is meant by ?topic= and ?source= (`candidates` has both)",
                rows.len(),
                self.id
            );
            return Err(Problem::conflict(detail).with("candidates", rows.iter().map(candidate).collect()));
        }
        rows.pop().ok_or_else(|| Problem::not_found(format!("no message {:?} was sent through this service", self.id)))
    }

    /// The detail of an audit entry that identifies the message when the id alone
    /// does not.
    pub(super) fn detail(&self, message: &Identity) -> String {
        let named = self.topic.is_some() || self.source.is_some();
        if named { message.to_string() } else { String::new() }
    }

    /// Selects the deliveries that may belong to a selected message.
    pub(super) fn deliveries(&self) -> DeliveryFilter {
        DeliveryFilter {
            message_id: Some(self.id.clone()),
            topic: self.topic.clone(),
            source: self.source.as_deref().map(SourceHash::of),
            ..DeliveryFilter::default()
        }
    }

    fn means(&self, topic: &str, source: &str) -> bool {
        self.topic.as_ref().is_none_or(|one| one == topic) && self.source.as_ref().is_none_or(|one| one == source)
    }
}

/// Whether a delivery belongs to this message, as far as its row shows.
pub(super) fn is_of(delivery: &DeliveryRow, row: &MessageRow) -> bool {
    delivery.topic == row.topic && delivery.source_hash.is_none_or(|hash| hash == SourceHash::of(&row.source))
}

fn candidate(row: &MessageRow) -> Value {
    json!({
        "topic": row.topic,
        "source": row.source,
        "time": rfc3339::format(row.time),
        "created_at": rfc3339::format(row.created_at),
        "state": row.state.as_str(),
    })
}
