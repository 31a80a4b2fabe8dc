//! `publish`: collects messages, which are published when the attempt succeeds.

use uuid::Uuid;

use crate::engine::Outgoing;
use crate::engine::contract::{Refusal, v1, v2};
use crate::engine::guest::Guest;
use crate::engine::limits::{MAX_EMISSIONS_PER_CALL, MAX_TOPIC_BYTES};

/// The interfaces `publish` and `batch-publish` of one version.
macro_rules! serve {
    ($version:ident) => {
        impl $version::publish::Host for Guest {
            fn publish(&mut self, message: $version::types::Outgoing) -> Result<String, $version::types::Refusal> {
                self.single("publish")?;
                Ok(self.emit(0, message.into())?)
            }
        }

        impl $version::batch_publish::Host for Guest {
            fn publish(
                &mut self,
                item: u32,
                message: $version::types::Outgoing,
            ) -> Result<String, $version::types::Refusal> {
                Ok(self.emit(item, message.into())?)
            }
        }
    };
}

serve!(v1);
serve!(v2);

impl Guest {
    /// Takes a message that the guest publishes, or refuses it with the reason.
    fn emit(&mut self, item: u32, mut emission: Outgoing) -> Result<String, Refusal> {
        check_topic(&emission.topic)?;
        if !self.policy.publish.contains(&emission.topic) {
            let topic = &emission.topic;
            return Err(self.denied(&format!("publish to topic {topic}"), "add it to [binding.grant] publish"));
        }
        if emission.body.is_none() && emission.key.is_none() {
            return Err(Refusal::Invalid(
                "a tombstone (a message without a body) needs a key: it deletes what was published under that key"
                    .into(),
            ));
        }
        self.item(item)?;
        self.policy.rules.check(&emission).map_err(Refusal::Invalid)?;
        if self.emitted >= MAX_EMISSIONS_PER_CALL {
            return Err(Refusal::Limit(format!(
                "one call may publish {MAX_EMISSIONS_PER_CALL} messages, and this one has"
            )));
        }
        self.spend(size(&emission))?;
        self.emitted += 1;
        let id = Uuid::now_v7().to_string();
        emission.id.clone_from(&id);
        self.item(item)?.emissions.push(emission);
        Ok(id)
    }
}

/// Kafka's rule for topic names, checked here so that the handler learns of a bad
/// name while it can still fail.
fn check_topic(topic: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES || topic == "." || topic == ".." || !topic.chars().all(legal) {
        return Err(Refusal::Invalid(format!(
            "the topic's name must be 1 to {MAX_TOPIC_BYTES} of the characters a-z, A-Z, 0-9, `.`, `_` and `-`"
        )));
    }
    Ok(())
}

fn size(message: &Outgoing) -> usize {
    let length = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = message.headers.iter().map(|header| header.name.len() + length(&header.value)).sum();
    let texts = message.topic.len() + message.type_name.len() + message.content_type.len();
    texts + length(&message.key) + length(&message.body) + headers
}
