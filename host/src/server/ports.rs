//! The adapters: implement the ports of the API by the real parts of the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Message, Offset, Timestamp};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::Notify;

use crate::api::auth::TokenSpec;
use crate::api::ports::{
    self, BindingView, BuiltinPlugin, EndedBy, MovedPosition, OutboxView, RawRecord, ReadinessReport, SeekRequest,
    SendProblem, Uploaded,
};
use crate::api::problem::Problem;
use crate::app::groups::RunningGroups;
use crate::app::kafka_status::KafkaStatus;
use crate::app::readiness::ReadinessProbe;
use crate::app::seek;
use crate::app::upload_plugin::PluginUploads;
use crate::config::Auth;
use crate::engine::builtin::Builtin;
use crate::engine::{StateHeld, StateSource};
use crate::kafka::log_reader::{LogError, LogReader};
use crate::kafka::producer::Producer;
use crate::kafka::record::{Record, shard_of};
use crate::publish::draft::{Draft, Receipt};
use crate::publish::outbox;
use crate::publish::send::Acceptor;
use crate::publish::transactions::{NotPrepared, Transactions};
use crate::store::{DeliveryKey, HalfRow, SHARDS, SharedStore, StateUsage, StoreError};

/// Key/value state, read from the store.
pub struct StateAdapter(pub SharedStore);

impl StateSource for StateAdapter {
    fn get(&self, group: &str, key: &str, max_age: Option<Duration>) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        let (group, key) = (group.to_owned(), key.to_owned());
        async move { self.0.state_value(&group, &key, max_age).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn held(&self, group: &str) -> BoxFuture<'_, Result<StateHeld, String>> {
        let group = group.to_owned();
        async move {
            let StateUsage { keys, bytes } = self.0.state_usage(&group).await.map_err(|error| error.to_string())?;
            Ok(StateHeld { keys, bytes })
        }
        .boxed()
    }
}

/// The send side.
pub struct SenderAdapter(pub Acceptor);

#[async_trait]
impl ports::SenderPort for SenderAdapter {
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt> {
        self.0.accept(drafts).await
    }

    async fn refuses_topic(&self, topic: &str) -> Option<SendProblem> {
        self.0.refuses_topic(topic).await
    }
}

/// Half messages.
pub struct TransactionsAdapter(pub Transactions);

#[async_trait]
impl ports::TransactionsPort for TransactionsAdapter {
    async fn prepare(
        &self,
        messages: Vec<Draft>,
        check_url: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<HalfRow, Problem> {
        self.0.prepare(messages, check_url, timeout).await.map_err(|refused| match refused {
            NotPrepared::Refused(Some(place), problem) => Problem::from(problem).at(&format!("messages[{place}]")),
            NotPrepared::Refused(None, problem) => problem.into(),
            NotPrepared::Store(error) => error.into(),
        })
    }

    async fn commit(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError> {
        self.0.commit(id, by).await
    }

    async fn roll_back(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError> {
        self.0.roll_back(id, by).await
    }
}

/// The running groups.
pub struct GroupsAdapter {
    pub fleet: Arc<RunningGroups>,
    pub heard: Arc<KafkaStatus>,
    pub store: SharedStore,
    pub log: LogReader,
    /// Wakes the runner of redrives.
    pub redrives: Arc<Notify>,
}

#[async_trait]
impl ports::GroupsPort for GroupsAdapter {
    fn bindings(&self) -> Vec<BindingView> {
        self.fleet.bound().iter().map(|bound| BindingView::of(bound)).collect()
    }

    fn log_ends(&self) -> HashMap<(String, i32), Offset> {
        self.heard.ends()
    }

    fn parked_full(&self) -> Vec<ports::ParkedFull> {
        self.fleet.parked_full()
    }

    fn wake(&self) {
        self.fleet.wake();
        self.redrives.notify_one();
    }

    fn is_running(&self, delivery: &DeliveryKey) -> bool {
        self.fleet.bound().iter().any(|bound| bound.is_running(delivery))
    }

    async fn seek(&self, seek: &SeekRequest) -> Result<Vec<MovedPosition>, Problem> {
        let sought = seek::seek(&self.store, &self.log, seek).await?;
        self.fleet.wake();
        Ok(sought)
    }
}

/// The outboxes.
pub struct OutboxesAdapter(pub Arc<outbox::RunningOutboxes>);

impl ports::OutboxesPort for OutboxesAdapter {
    fn configured(&self) -> Vec<OutboxView> {
        let all = self.0.configured().into_iter().map(|outbox| OutboxView {
            url: outbox.url.to_string(),
            shard: outbox::shard_of_outbox(&outbox.name),
            name: outbox.name,
            table: outbox.table,
        });
        all.collect()
    }
}

/// Uploads and activations.
pub struct PluginsAdapter(pub PluginUploads);

#[async_trait]
impl ports::PluginsPort for PluginsAdapter {
    async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, Problem> {
        Ok(self.0.upload(name, wasm, by).await?)
    }

    async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), Problem> {
        Ok(self.0.activate(name, digest, by).await?)
    }

    fn builtin(&self) -> Vec<BuiltinPlugin> {
        let all = Builtin::all().iter();
        all.map(|builtin| BuiltinPlugin { name: builtin.name.to_owned(), version: builtin.version() }).collect()
    }
}

/// Records, read from Kafka again. While it is known to be away nobody waits
/// for it.
pub struct LogAdapter {
    /// What reads.
    pub log: LogReader,
    /// Knows whether the brokers are known to be down.
    pub producer: Producer,
}

impl LogAdapter {
    async fn ask<T>(&self, reading: impl Future<Output = Result<T, LogError>>) -> Result<T, String> {
        if self.producer.is_down() {
            return Err("no broker answers".to_owned());
        }
        reading.await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl ports::LogPort for LogAdapter {
    async fn read(&self, topic: &str, partition: i32, offset: Offset) -> Result<Option<Message>, String> {
        let record = self.ask(self.log.read(topic, partition, offset)).await?;
        if let Some(bytes) = record.as_ref().and_then(|record| record.left_out) {
            return Err(format!("the record has {bytes} bytes, more than [kafka] max_record lets this host read"));
        }
        Ok(record.map(|record| record.to_message(topic, partition, offset)))
    }

    async fn range(&self, topic: &str, partition: i32) -> Result<(Offset, Offset), String> {
        self.ask(self.log.range(topic, partition)).await
    }

    async fn offset_at(&self, topic: &str, partition: i32, time: Timestamp) -> Result<Offset, String> {
        self.ask(self.log.offset_at(topic, partition, time)).await
    }

    fn decode(&self, topic: &str, record: &[u8]) -> Option<Message> {
        let record = Record::decode(&Bytes::copy_from_slice(record)).ok()?;
        Some(record.to_message(topic, -1, Offset(-1)))
    }

    fn raw(&self, record: &Bytes) -> Option<RawRecord> {
        let Record { key, value, headers, .. } = Record::decode(record).ok()?;
        Some(RawRecord { key, value, headers })
    }

    fn encode(&self, record: &RawRecord, topic: &str, id: &str) -> (Bytes, i32) {
        let RawRecord { key, value, headers } = record.clone();
        let shard = shard_of(topic, key.as_deref(), id, SHARDS);
        (Record { timestamp: Timestamp(0), key, value, headers, left_out: None }.encode(), shard)
    }
}

/// Whether the host is well.
pub struct HealthAdapter(pub ReadinessProbe);

#[async_trait]
impl ports::HealthPort for HealthAdapter {
    async fn ready(&self) -> ReadinessReport {
        self.0.report().await
    }
}

/// Who may do what.
#[must_use]
pub fn tokens(auth: &Auth) -> Vec<TokenSpec> {
    let tokens = auth.tokens.iter().map(|token| TokenSpec {
        name: token.name.clone(),
        role: token.role,
        secret: token.secret.to_secret_string(),
        topics: token.topics.clone(),
        groups: token.groups.clone(),
        sources: token.sources.clone(),
    });
    tokens.collect()
}
