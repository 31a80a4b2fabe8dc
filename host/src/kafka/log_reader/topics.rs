//! Which topics there are, and who is in a group.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use super::{ANSWER_WAIT, LogError, LogReader, refused, unavailable};
use crate::kafka::topic_id::{Told, TopicNow};

/// A topic as Kafka knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Kafka's id of this very topic, which a topic created anew under the
    /// same name does not have. Empty where the broker tells none.
    pub id: String,
    /// Its partitions, ascending.
    pub partitions: Vec<i32>,
}

/// Who is in a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// How it divides its partitions; empty while it is empty or undecided.
    pub protocol: String,
    /// The ids of its members.
    pub members: Vec<String>,
}

impl GroupInfo {
    /// Whether a member joined under this instance id.
    #[must_use]
    pub fn has_instance(&self, instance: &str) -> bool {
        self.members.iter().any(|member| is_of(member, instance))
    }

    /// The members that joined under none of these instance ids.
    #[must_use]
    pub fn other_than(&self, instances: &HashSet<String>) -> Vec<&str> {
        let is_other = |member: &&str| !instances.iter().any(|instance| is_of(member, instance));
        self.members.iter().map(String::as_str).filter(is_other).collect()
    }
}

/// Whether a member's id is made of this instance's: Kafka appends a UUID.
fn is_of(member: &str, instance: &str) -> bool {
    member
        .strip_prefix(instance)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|id| uuid::Uuid::try_parse(id).is_ok())
}

impl LogReader {
    /// The topic, or none when Kafka answers that there is no such topic. One
    /// that may not be described, or whose id is not told by a broker that
    /// tells ids, is no answer: a guess would be taken for what is there.
    ///
    /// # Errors
    /// When Kafka does not answer, or refuses to.
    pub async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>, LogError> {
        let (topic, ids, stand_in) = (topic.to_owned(), Arc::clone(&self.ids), Arc::clone(&self.stand_in));
        self.asking(move |clients| {
            let consumer = &clients.ask;
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER_WAIT).map_err(unavailable)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
            match found.error().map(RDKafkaErrorCode::from) {
                None if !found.partitions().is_empty() => {}
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
                Some(RDKafkaErrorCode::InvalidTopic) => return Ok(None),
                None => return Err(LogError::Unavailable(format!("topic {topic} is not ready yet"))),
                Some(code) => return Err(refused(&topic, code)),
            }
            let mut partitions: Vec<i32> = found.partitions().iter().map(|one| one.id()).collect();
            partitions.sort_unstable();
            if !stand_in.is_empty() {
                return Ok(Some(TopicInfo { id: stand_in.as_ref().to_owned(), partitions }));
            }
            let id = match ids.of(consumer.client(), std::slice::from_ref(&topic)) {
                Told::NoIds => String::new(),
                Told::Nothing => return Err(LogError::Unavailable(format!("the id of topic {topic} was not told"))),
                Told::Topics(mut told) => match told.remove(&topic) {
                    Some(TopicNow::Present { id, .. }) => id,
                    Some(TopicNow::Missing) => return Ok(None),
                    Some(TopicNow::Untold(why)) => return Err(LogError::Refused { topic, why }),
                    None => return Err(LogError::Unavailable(format!("the id of topic {topic} was not told"))),
                },
            };
            Ok(Some(TopicInfo { id, partitions }))
        })
        .await
    }

    /// What Kafka says of each of `topics` now, in one request; none where the
    /// broker tells no ids.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn topics_now(&self, topics: Vec<String>) -> Result<Option<HashMap<String, TopicNow>>, LogError> {
        if !self.stand_in.is_empty() {
            return Ok(None);
        }
        let ids = Arc::clone(&self.ids);
        self.asking(move |clients| match ids.of(clients.ask.client(), &topics) {
            Told::Topics(told) => Ok(Some(told)),
            Told::NoIds => Ok(None),
            Told::Nothing => Err(LogError::Unavailable("the ids of topics were not told".to_owned())),
        })
        .await
    }

    /// Who is in a consumer group now; nobody in one that does not exist.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn group(&self, group: &str) -> Result<GroupInfo, LogError> {
        let group = group.to_owned();
        self.asking(move |clients| {
            let found = clients.ask.fetch_group_list(Some(&group), ANSWER_WAIT).map_err(unavailable)?;
            let Some(found) = found.groups().iter().find(|found| found.name() == group) else {
                return Ok(GroupInfo::default());
            };
            let members = found.members().iter().map(|member| member.id().to_owned()).collect();
            Ok(GroupInfo { protocol: found.protocol().to_owned(), members })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_the_instance_that_its_id_begins_with() {
        let id = "0198c9d2-6f3a-7c11-8a51-0c9a3b1f4e22";
        assert!(is_of(&format!("host-1-{id}"), "host-1"));
        assert!(!is_of(&format!("host-1-{id}"), "host"));
        assert!(!is_of("courier-host-1", "courier"));
    }
}
