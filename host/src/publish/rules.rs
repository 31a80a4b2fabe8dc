//! The rules for every message, whatever its source: HTTP, an outbox, a half
//! message, or a handler.
//!
//! [`Draft::ready`](super::draft) checks a message by itself. These rules
//! depend on the host: the schemas of topics, the names of companions, the
//! limits of topics, and how companions are created. A reload replaces them;
//! clones share them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use courier_core::message::{Message, base_of_companion, is_internal_topic};
use parking_lot::RwLock;

use super::draft::{BATCH_OVERHEAD, Draft, MAX_MESSAGE_BYTES, internal};
use super::receipt::SendProblem;
use crate::clock::now;
use crate::config::TopicRule;

/// Bytes that the host adds to a handler's message at most: the count of hops
/// and the trace.
const ADDED_TO_EMISSIONS: usize = 128;

/// The rules in force; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    inner: Arc<RwLock<RulesInForce>>,
}

#[derive(Debug, Default)]
struct RulesInForce {
    schemas: Arc<[TopicRule]>,
    /// The topics of bindings, whose companions nobody publishes on directly.
    bound: BTreeSet<String>,
    /// Topics that exist beside their companions, bound or not.
    with_companions: BTreeSet<String>,
    /// Partitions and replicas of companions, where they may be created.
    companions: Option<(i32, i32)>,
    /// The largest batch that a topic takes, where that is known and less than
    /// what brokers take by default.
    limits: HashMap<String, usize>,
}

impl Rules {
    /// Replaces the schemas.
    pub fn follow_schemas(&self, schemas: Vec<TopicRule>) {
        self.change(|known| known.schemas = schemas.into());
    }

    /// Replaces the bound topics.
    pub fn follow_bound(&self, topics: impl IntoIterator<Item = String>) {
        let topics = topics.into_iter().collect();
        self.change(|known| known.bound = topics);
    }

    /// Sets how missing companions are created, or that they are not.
    pub fn create_companions(&self, so: Option<(i32, i32)>) {
        self.change(|known| known.companions = so);
    }

    /// Replaces the topics that exist beside their companions in Kafka.
    pub fn learn_companions(&self, bases: impl IntoIterator<Item = String>) {
        let bases = bases.into_iter().collect();
        self.change(|known| known.with_companions = bases);
    }

    /// Replaces the largest batches that topics take.
    pub fn learn_limits(&self, limits: impl IntoIterator<Item = (String, usize)>) {
        let limits = limits.into_iter().collect();
        self.change(|known| known.limits = limits);
    }

    fn change(&self, change: impl FnOnce(&mut RulesInForce)) {
        change(&mut self.inner.write());
    }

    fn look<T>(&self, look: impl FnOnce(&RulesInForce) -> T) -> T {
        look(&self.inner.read())
    }

    /// Partitions and replicas of companions, where they may be created.
    pub(super) fn companions(&self) -> Option<(i32, i32)> {
        self.look(|known| known.companions)
    }

    /// Most bytes of a message for a topic of Kafka, with key and headers.
    #[must_use]
    pub fn max_bytes(&self, log_topic: &str) -> usize {
        let limit = self.look(|known| known.limits.get(log_topic).copied());
        limit.map_or(MAX_MESSAGE_BYTES, |batch| batch.saturating_sub(BATCH_OVERHEAD).min(MAX_MESSAGE_BYTES))
    }

    /// The draft, with a fault if its topic or its body breaks a rule.
    #[must_use]
    pub fn check(&self, mut draft: Draft) -> Draft {
        if draft.fault.is_none() {
            draft.fault = self.fault(&draft);
        }
        draft
    }

    /// Why people send nothing to a topic, if Courier or Kafka keeps it for itself.
    #[must_use]
    pub(super) fn keeps(&self, topic: &str) -> Option<SendProblem> {
        if is_internal_topic(topic) {
            return Some(internal(topic));
        }
        self.look(|known| {
            let is_base = |base: &&str| known.bound.contains(*base) || known.with_companions.contains(*base);
            base_of_companion(topic).filter(is_base).map(|base| is_companion(topic, base))
        })
    }

    fn fault(&self, draft: &Draft) -> Option<SendProblem> {
        if let Some(problem) = self.keeps(&draft.topic) {
            return Some(problem);
        }
        let schemas = self.look(|known| Arc::clone(&known.schemas));
        // A tombstone has no body to check.
        if draft.is_tombstone {
            return None;
        }
        let broken = schemas.iter().find_map(|rule| rule.broken_by(&draft.topic, &draft.type_name, &draft.body));
        broken.map(SendProblem::breaks_schema)
    }

    /// Checks a message of a handler by the same rules as one over HTTP.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_emission(&self, draft: Draft) -> Result<(), SendProblem> {
        let log_topic = draft.kind.log_topic(&draft.topic).into_owned();
        let max_bytes = self.max_bytes(&log_topic).saturating_sub(ADDED_TO_EMISSIONS);
        self.check(draft).ready(now(), max_bytes).map(drop).map_err(|(_, problem)| problem)
    }
}

fn is_companion(topic: &str, base: &str) -> SendProblem {
    SendProblem::invalid(format!(
        "topic {topic:?} carries the broadcasts of {base:?}, and only Courier writes it: publish on {base:?} with \
         kind \"broadcast\""
    ))
}

/// The message that a handler was at when it published, as far as it matters
/// for how often one thing may lead to another: `max` hops, 0 for no bound.
///
/// Answers why what `consume` does about `cause` goes no further, if it may not.
#[must_use]
pub fn too_many_hops(cause: &Message, group: &str, to: &str, max: u32) -> Option<String> {
    (max > 0 && cause.hops >= max).then(|| {
        format!(
            "topics lead into one another: {} -> group {group} -> {to} would be hop {} of one message, and the \
             binding's max_hops is {max}; end the loop, or set max_hops if there is none",
            cause.topic,
            u64::from(cause.hops) + 1
        )
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::MessageSchema;
    use crate::publish::receipt::SendProblemKind;

    fn draft(topic: &str, body: &'static str) -> Draft {
        Draft { topic: topic.into(), type_name: "T".into(), body: Bytes::from(body), ..Draft::default() }
    }

    fn rules() -> Rules {
        let rules = Rules::default();
        let schema = MessageSchema::parse(r#"{"type":"object","required":["id"]}"#).unwrap();
        rules.follow_schemas(vec![TopicRule { name: "order".into(), types: None, schema }]);
        rules.follow_bound(["order".to_owned()]);
        rules
    }

    #[test]
    fn what_courier_or_kafka_keeps_for_itself_takes_nothing_of_people() {
        assert_eq!(rules().keeps("order"), None);
        for (kept, said) in [("order.broadcast", "only Courier writes it"), ("__consumer_offsets", "Kafka's own")] {
            assert!(rules().keeps(kept).unwrap().detail.contains(said), "{kept}");
        }
    }

    fn refused(draft: Draft) -> (SendProblemKind, String) {
        let problem = rules().check_emission(draft).unwrap_err();
        (problem.kind, problem.detail)
    }

    /// A handler published against the schema, without a type, with a line
    /// break in it, and with a key of 5,000 bytes, and all went out.
    #[test]
    fn what_a_handler_publishes_keeps_to_the_rules_of_every_door() {
        assert_eq!(rules().check_emission(draft("order", r#"{"id":1}"#)), Ok(()));
        let (kind, why) = refused(draft("order", "{}"));
        assert!(kind == SendProblemKind::BreaksSchema && why.contains("/required"), "{why}");
        let (_, why) = refused(Draft { type_name: String::new(), ..draft("stock", "{}") });
        assert!(why.contains("it has no type"), "{why}");
        let (_, why) = refused(Draft { type_name: "a\nb".into(), ..draft("stock", "{}") });
        assert!(why.contains("without control characters"), "{why}");
        let (_, why) = refused(Draft { key: Some(Bytes::from(vec![b'k'; 5_000])), ..draft("stock", "{}") });
        assert!(why.contains("the key has 5000 bytes"), "{why}");
    }

    #[test]
    fn a_tombstone_has_no_body_that_a_schema_could_refuse() {
        let tombstone = Draft { is_tombstone: true, key: Some(Bytes::from("k")), ..draft("order", "") };
        assert_eq!(rules().check_emission(tombstone), Ok(()));
        assert_eq!(refused(draft("order", "")).0, SendProblemKind::BreaksSchema, "an empty body is one");
    }

    #[test]
    fn only_a_name_beside_a_bound_or_present_topic_is_that_of_a_companion() {
        let (kind, why) = refused(draft("order.broadcast", "{}"));
        assert!(
            kind == SendProblemKind::Invalid && why.contains("publish on \"order\" with kind \"broadcast\""),
            "{why}"
        );
        assert_eq!(rules().check_emission(draft("news.broadcast", "{}")), Ok(()));
        let rules = rules();
        rules.learn_companions(["news".to_owned()]);
        assert!(rules.check_emission(draft("news.broadcast", "{}")).is_err(), "news is there beside it");
        let (_, why) = refused(draft("__consumer_offsets", "{}"));
        assert!(why.contains("Kafka"), "{why}");
    }

    /// What was too large for its topic was HANDLED and never arrived.
    #[test]
    fn a_known_limit_of_the_topic_is_kept() {
        let rules = Rules::default();
        let body = || Bytes::from(vec![b'x'; 2_000]);
        let large = || Draft { body: body(), ..draft("small", "") };
        assert_eq!(rules.check_emission(large()), Ok(()), "nothing is known of it yet");
        rules.learn_limits([("small".to_owned(), 2_000)]);
        let problem = rules.check_emission(large()).unwrap_err();
        assert!(problem.kind == SendProblemKind::TooLarge && problem.detail.contains("at most"), "{problem:?}");
        assert_eq!(rules.check_emission(Draft { topic: "other".into(), ..large() }), Ok(()));
        rules.learn_limits([("small".to_owned(), 10 << 20)]);
        assert_eq!(rules.max_bytes("small"), MAX_MESSAGE_BYTES, "no more than is handed to the client");
    }

    /// Two topics as each other's dead letter topics made 13,000 letters of
    /// one message.
    #[test]
    fn a_chain_of_hops_ends() {
        let after = |hops| Message { hops, topic: "a".into(), ..Message::default() };
        assert_eq!(too_many_hops(&after(31), "g", "b", 32), None);
        let why = too_many_hops(&after(32), "g", "b", 32).unwrap();
        assert!(why.contains("a -> group g -> b would be hop 33") && why.contains("max_hops is 32"), "{why}");
        assert_eq!(too_many_hops(&after(u32::MAX), "g", "b", 0), None, "0 is no bound");
    }
}
