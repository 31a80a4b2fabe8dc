//! `publish`: collects messages, which leave when the attempt succeeds.

use bytes::Bytes;
use courier_core::message::Header;
use uuid::Uuid;

use crate::engine::Outgoing;
use crate::engine::contract::courier::plugin::batch_publish;
use crate::engine::contract::courier::plugin::publish;
use crate::engine::contract::courier::plugin::types::{Outgoing as Wanted, Refusal};
use crate::engine::guest::Guest;
use crate::engine::limits::MAX_TOPIC_BYTES;

impl publish::Host for Guest {
    fn publish(&mut self, message: Wanted) -> Result<String, Refusal> {
        self.single("publish")?;
        self.emit(0, message)
    }
}

impl batch_publish::Host for Guest {
    fn publish(&mut self, item: u32, message: Wanted) -> Result<String, Refusal> {
        self.emit(item, message)
    }
}

impl Guest {
    fn emit(&mut self, item: u32, message: Wanted) -> Result<String, Refusal> {
        check_topic(&message.topic)?;
        if !self.policy.publish.contains(&message.topic) {
            let topic = &message.topic;
            return Err(self.denied(&format!("publish to topic {topic}"), "add it to [binding.grant] publish"));
        }
        self.item(item)?;
        self.spend(size(&message))?;
        let id = Uuid::now_v7().to_string();
        let emission = Outgoing {
            id: id.clone(),
            topic: message.topic,
            type_name: message.type_,
            key: message.key.map(Bytes::from),
            content_type: message.content_type,
            body: message.body.into(),
            headers: message
                .headers
                .into_iter()
                .map(|header| Header { name: header.name, value: Some(header.value.into()) })
                .collect(),
        };
        self.item(item)?.emissions.push(emission);
        Ok(id)
    }
}

/// Kafka's own rule for names, so that a bad one is refused to the handler and
/// not found out when it is too late to say so.
fn check_topic(topic: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES || topic == "." || topic == ".." || !topic.chars().all(legal) {
        return Err(Refusal::Invalid(format!(
            "the topic's name must be 1 to {MAX_TOPIC_BYTES} of the characters a-z, A-Z, 0-9, `.`, `_` and `-`"
        )));
    }
    Ok(())
}

fn size(message: &Wanted) -> usize {
    let headers: usize = message.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    let key = message.key.as_ref().map_or(0, Vec::len);
    message.topic.len() + message.type_.len() + message.content_type.len() + key + message.body.len() + headers
}
