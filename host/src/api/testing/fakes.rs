//! Fakes of the ports, which are the rest of the host without the store.
//!
//! Where a port changes the store, its fake calls the verb that the host calls, so that
//! the change and its audit entry are in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Message, Offset, Timestamp};
use courier_core::status::State;
use parking_lot::Mutex;

use super::rows::message;
use crate::api::ports::{
    self, BindingView, Draft, EndedBy, MovedPosition, OutboxView, RawRecord, ReadinessReport, Receipt, SeekRequest,
    SendProblem, Uploaded,
};
use crate::api::problem::Problem;
use crate::kafka::record::Record;
use crate::store::seek::SeekMove;
use crate::store::{DeliveryKey, HalfRow, NewHalf, NewMessage, NewOutbound, NewVersion, SharedStore, StoreError};

/// What the fakes return, and the calls that they got.
#[derive(Default)]
pub struct Ports {
    /// The bindings of this host.
    pub bindings: Vec<BindingView>,
    /// Deliveries whose attempts run.
    pub running: Vec<DeliveryKey>,
    /// Records on Kafka, by topic and offset; all in partition 0.
    pub records: HashMap<(String, i64), Message>,
    /// Drafts that were handed to the send side.
    pub sent: Vec<Draft>,
    /// How many transactions were prepared.
    pub prepared: usize,
    /// Calls that are not in the store, in order.
    pub asked: Vec<String>,
}

/// The ports that all fakes share.
pub type Shared = Arc<Mutex<Ports>>;

/// A fake part of the host.
pub struct Fake {
    pub ports: Shared,
    pub store: SharedStore,
}

/// The message of a transaction that a draft becomes.
fn of_transaction(id: String, draft: &Draft) -> NewMessage {
    let outbound = NewOutbound {
        message_id: id.clone(),
        topic: draft.topic.clone(),
        type_name: draft.type_name.clone(),
        source: draft.source.clone(),
        key: draft.key.clone(),
        record: draft.body.clone(),
        shard: 0,
        held_for: None,
        listed: true,
        group: None,
    };
    NewMessage {
        id,
        digest: [0; 32],
        key: draft.key.clone(),
        source: draft.source.clone(),
        topic: draft.topic.clone(),
        type_name: draft.type_name.clone(),
        kind: draft.kind.as_str(),
        time: Timestamp(0),
        state: State::Committed,
        reason: None,
        retrying: false,
        place: None,
        record: None,
        outbound: Some(outbound),
        due: None,
        sent_by: draft.sent_by.clone(),
    }
}

#[async_trait]
impl ports::TransactionsPort for Fake {
    /// Prepares the transactions `t-0`, `t-1` and so on.
    async fn prepare(
        &self,
        messages: Vec<Draft>,
        check_url: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<HalfRow, Problem> {
        let id = {
            let mut ports = self.ports.lock();
            ports.sent.extend(messages.clone());
            ports.prepared += 1;
            format!("t-{}", ports.prepared - 1)
        };
        let messages = messages.iter().enumerate().map(|(place, draft)| {
            let message_id = draft.id.clone().unwrap_or_else(|| format!("{id}-{place}"));
            of_transaction(message_id, draft)
        });
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        let half = NewHalf { messages: messages.collect(), id, check_url, timeout };
        Ok(self.store.prepare_half(&half).await?)
    }

    async fn commit(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError> {
        Ok(self.store.commit_half(id, &format!("{by:?}")).await?.row)
    }

    async fn roll_back(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError> {
        Ok(self.store.roll_back_half(id, &format!("{by:?}")).await?.row)
    }
}

#[async_trait]
impl ports::SenderPort for Fake {
    /// Takes all drafts but those without a topic; drafts for `down` are retrying.
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt> {
        let receipts = drafts.iter().enumerate().map(|(at, draft)| {
            let id = draft.id.clone().unwrap_or_else(|| format!("made-{at}"));
            let invalid = SendProblem::invalid("topic \"\" is not valid");
            let problem = draft.fault.clone().or_else(|| draft.topic.is_empty().then_some(invalid));
            let failed = problem.is_some() || draft.topic == "down";
            let state = if failed { State::SendFail } else { State::Committed };
            Receipt { id, state, retrying: draft.topic == "down", problem }
        });
        let receipts = receipts.collect();
        assert!(!drafts.iter().any(|draft| draft.topic == "panic"), "told to panic");
        self.ports.lock().sent.extend(drafts);
        receipts
    }

    /// Refuses the topic `missing`.
    async fn refuses_topic(&self, topic: &str) -> Option<SendProblem> {
        (topic == "missing").then(|| SendProblem::refused(format!("topic {topic} does not exist")))
    }
}

#[async_trait]
impl ports::GroupsPort for Fake {
    fn bindings(&self) -> Vec<BindingView> {
        self.ports.lock().bindings.clone()
    }

    fn log_ends(&self) -> HashMap<(String, i32), Offset> {
        HashMap::from([(("order".to_owned(), 0), Offset(30))])
    }

    fn parked_full(&self) -> Vec<ports::ParkedFull> {
        vec![ports::ParkedFull { group: "stock".into(), topic: "order".into(), partition: 0 }]
    }

    fn wake(&self) {
        self.ports.lock().asked.push("wake".into());
    }

    fn is_running(&self, delivery: &DeliveryKey) -> bool {
        self.ports.lock().running.contains(delivery)
    }

    /// Moves the positions of the topic to offset 3.
    async fn seek(&self, seek: &SeekRequest) -> Result<Vec<MovedPosition>, Problem> {
        let positions = self.store.positions().await?.into_iter();
        let meant: Vec<_> =
            positions.filter(|position| position.group == seek.group && position.topic == seek.topic).collect();
        let to = Offset(3);
        let moves: Vec<_> = meant.iter().map(|position| SeekMove { position: position.id, to }).collect();
        let before = self.store.seek(&moves, "a person moved the position").await?;
        self.ports.lock().asked.push(format!("seek {} {}", seek.group, seek.topic));
        let moved = |(position, from): (&crate::store::PositionRow, Offset)| MovedPosition {
            partition: position.partition,
            from,
            to,
        };
        Ok(meant.iter().zip(before).map(moved).collect())
    }
}

impl ports::OutboxesPort for Fake {
    fn configured(&self) -> Vec<OutboxView> {
        let url = "postgres://shop@db/shop".to_owned();
        vec![OutboxView { name: "shop".into(), url, table: "courier_outbox".into(), shard: 3 }]
    }
}

#[async_trait]
impl ports::PluginsPort for Fake {
    /// Stores a component as the version `sha256:bb`.
    async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, Problem> {
        if !wasm.starts_with(b"\0asm") {
            return Err(Problem::unprocessable("plugin refused", "this is no component"));
        }
        let wants = serde_json::json!({ "group": "stock" });
        let version = NewVersion {
            plugin: name.into(),
            digest: "sha256:bb".into(),
            wasm,
            imports: vec!["log".into()],
            exports: vec!["handle".into()],
            wants: Some(wants.to_string()),
            by: by.into(),
        };
        let stored = self.store.put_version(&version).await?;
        let (imports, exports) = (stored.imports, stored.exports);
        Ok(Uploaded { version: stored.digest, imports, exports, wants: Some(wants) })
    }

    async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), Problem> {
        Ok(self.store.activate(name, digest, by).await?)
    }

    fn builtin(&self) -> Vec<ports::BuiltinPlugin> {
        Vec::new()
    }
}

#[async_trait]
impl ports::LogPort for Fake {
    async fn read(&self, topic: &str, _: i32, offset: Offset) -> Result<Option<Message>, String> {
        Ok(self.ports.lock().records.get(&(topic.to_owned(), offset.0)).cloned())
    }

    async fn range(&self, _: &str, _: i32) -> Result<(Offset, Offset), String> {
        Ok((Offset(3), Offset(30)))
    }

    async fn offset_at(&self, _: &str, _: i32, _: Timestamp) -> Result<Offset, String> {
        Ok(Offset(7))
    }

    fn decode(&self, topic: &str, record: &[u8]) -> Option<Message> {
        let Some(body) = record.strip_prefix(b"record:") else {
            let record = Record::decode(&Bytes::copy_from_slice(record)).ok()?;
            return Some(record.to_message(topic, -1, Offset(-1)));
        };
        Some(Message { body: Bytes::copy_from_slice(body), ..message(topic, 0) })
    }

    fn raw(&self, record: &Bytes) -> Option<RawRecord> {
        let Record { key, value, headers, .. } = Record::decode(record).ok()?;
        Some(RawRecord { key, value, headers })
    }

    fn encode(&self, record: &RawRecord, _: &str, _: &str) -> (Bytes, i32) {
        let RawRecord { key, value, headers } = record.clone();
        (Record { key, value, headers, timestamp: Timestamp(0), left_out: None }.encode(), 0)
    }
}

#[async_trait]
impl ports::HealthPort for Fake {
    async fn ready(&self) -> ReadinessReport {
        let store = self.store.ping().await.is_ok();
        let mut ready = ReadinessReport { store, migrated: true, accepting: store, ..ReadinessReport::default() };
        ready.reasons.push("something else is the matter".into());
        ready.degrade("kafka", "kafka", None, "no broker answers");
        ready.degrade("topic_missing", "topic secret", Some("secret"), "it does not exist");
        ready.degrade("partition_stalled", "partition secret:3", Some("secret"), "a transaction is open");
        ready
    }
}
