//! Fakes of the rest of the host, and the API on a real socket.

mod rows;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Message, Offset, Timestamp};
use courier_core::status::State;
use parking_lot::Mutex;

pub use self::rows::{attempt, binding, delivery, message, message_row, position};
use super::auth::{Authenticator, Role, TokenSpec};
use super::fake_store::FakeStore;
use super::ports::{self, BindingView, Draft, OutboxView, RawRecord, ReadinessReport, Receipt, Refusal, Uploaded};
use super::problem::Problem;
use super::{App, router};
use crate::causes::Causes;
use crate::kafka::record::Record;
use crate::store::half::may_end;
use crate::store::undelivered::{Repaired, UndeliveredRow};
use crate::store::{
    AuditEntry, DeliveryKey, DeliveryRow, HalfMessage, HalfRow, HalfState, MessageRow, PositionRow, StoreError, audits,
};

/// The data that the fakes return, and the calls that they got.
#[derive(Default)]
pub struct World {
    /// Rows of the send side.
    pub messages: Vec<MessageRow>,
    /// Rows of deliveries.
    pub deliveries: Vec<DeliveryRow>,
    pub sets: super::fake_handled_sets::FakeSets,
    pub positions: Vec<PositionRow>,
    /// Nodes that hear broadcasts.
    pub listeners: Vec<crate::store::ListenerRow>,
    /// The node that pushes to each address.
    pub address_leases: Vec<crate::store::AddressLeaseRow>,
    /// Bindings.
    pub bindings: Vec<BindingView>,
    /// Bindings of other nodes.
    pub elsewhere: Vec<crate::store::NodeBinding>,
    /// Deliveries whose attempts run.
    pub running: Vec<DeliveryKey>,
    /// Records on Kafka, by topic and offset; all in partition 0.
    pub records: HashMap<(String, i64), Message>,
    /// Groups that the API paused.
    pub paused: Vec<(String, String)>,
    /// Undelivered entries, and what each entry that was sent again was repaired to.
    pub undelivered: Vec<UndeliveredRow>,
    pub repaired: Vec<Option<Repaired>>,
    /// Transactions.
    pub halves: Vec<crate::store::HalfRow>,
    /// Plugins that are built into the host.
    pub builtin: Vec<ports::BuiltinPlugin>,
    /// Plugins.
    pub plugins: Vec<crate::store::PluginRow>,
    /// Drafts that were handed to the send side.
    pub sent: Vec<Draft>,
    /// Calls of the store and the ports, in order.
    pub asked: Vec<String>,
    /// Broadcasts that no node was there for.
    pub unheard: Vec<crate::store::UnheardRow>,
    /// Notes of hosts about outboxes.
    pub noted: Vec<crate::store::OutboxRow>,
    /// The audit log.
    pub audited: Vec<crate::store::AuditRow>,
    /// The head of the audit chain, if it is not the last entry.
    pub head: Option<crate::store::ChainEnd>,
    /// Sessions by their hashes.
    pub sessions: HashMap<[u8; 32], crate::store::SessionRow>,
    /// The board of causes.
    pub causes: Causes,
    /// Whether the store is unavailable.
    pub away: bool,
}

impl World {
    /// Appends the current deed, if any, to the audit log.
    pub fn note(&mut self) {
        if let Some(deed) = audits::deed() {
            self.append(&deed);
        }
    }

    /// Appends a deed to the audit log.
    pub fn append(&mut self, deed: &AuditEntry) {
        let AuditEntry { by, action, subject, detail } = deed;
        self.asked.push(format!("audit {by} {action} {subject} {detail}"));
        let (id, previous) = self.audited.last().map_or((1, audits::GENESIS.to_vec()), |last| {
            (last.id + 1, last.hash.clone().unwrap_or_default().to_vec())
        });
        self.audited.push(deed.sealed(id, Timestamp(id), previous, str::to_owned));
    }
}

/// The world that all fakes share.
pub type Shared = Arc<Mutex<World>>;

/// A fake part of the host.
pub struct Fake(pub Shared);

#[async_trait]
impl ports::TransactionsPort for Fake {
    async fn prepare(
        &self,
        messages: Vec<Draft>,
        check_url: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<HalfRow, Problem> {
        let mut world = self.0.lock();
        world.sent.extend(messages.clone());
        let half = HalfRow {
            id: format!("t-{}", world.halves.len()),
            state: HalfState::Prepared,
            messages: messages
                .iter()
                .map(|draft| HalfMessage {
                    id: draft.id.clone().unwrap_or_default(),
                    topic: draft.topic.clone(),
                    type_name: draft.type_name.clone(),
                    key: draft.key.clone(),
                })
                .collect(),
            check_url,
            timeout: timeout.unwrap_or(Duration::from_secs(30)),
            created_at: Timestamp(0),
            deadline: Timestamp(30_000_000),
            checks: 0,
            unreachable_since: None,
            next_check_at: Some(Timestamp(30_000_000)),
            last_answer: None,
            reason: None,
            ended_at: None,
            sender: messages.first().and_then(|draft| Some(draft.sent_by.as_ref()?.sender.clone())),
        };
        world.halves.push(half.clone());
        Ok(half)
    }

    async fn commit(&self, id: &str, by: &ports::EndedBy) -> Result<HalfRow, StoreError> {
        self.end(id, HalfState::Committed, by)
    }

    async fn roll_back(&self, id: &str, by: &ports::EndedBy) -> Result<HalfRow, StoreError> {
        self.end(id, HalfState::RolledBack, by)
    }
}

impl Fake {
    fn end(&self, id: &str, state: HalfState, by: &ports::EndedBy) -> Result<HalfRow, StoreError> {
        let mut world = self.0.lock();
        let half = world.halves.iter_mut().find(|half| half.id == id);
        let half = half.ok_or_else(|| StoreError::NotFound(format!("there is no transaction {id:?}")))?;
        let ends = may_end(id, half.state, state)?;
        if ends {
            half.state = state;
            half.reason = Some(format!("{by:?}"));
        }
        let half = half.clone();
        if ends {
            world.note();
        }
        Ok(half)
    }
}

#[async_trait]
impl ports::SenderPort for Fake {
    /// Takes all drafts but those without a topic; drafts for `down` are retrying.
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt> {
        let receipts = drafts.iter().enumerate().map(|(at, draft)| {
            let id = draft.id.clone().unwrap_or_else(|| format!("made-{at}"));
            let invalid = Refusal { status: 400, title: "invalid message", detail: "topic \"\" is not valid".into() };
            let problem = draft.fault.clone().or_else(|| draft.topic.is_empty().then_some(invalid));
            let failed = problem.is_some() || draft.topic == "down";
            let state = if failed { State::SendFail } else { State::Committed };
            Receipt { id, state, retrying: draft.topic == "down", problem }
        });
        let receipts = receipts.collect();
        assert!(!drafts.iter().any(|draft| draft.topic == "panic"), "told to panic");
        self.0.lock().sent.extend(drafts);
        receipts
    }

    /// Refuses the topic `missing`.
    async fn refuses_topic(&self, topic: &str) -> Option<Refusal> {
        let detail = || format!("topic {topic} does not exist");
        (topic == "missing").then(|| Refusal { status: 422, title: "kafka refuses the message", detail: detail() })
    }
}

#[async_trait]
impl ports::GroupsPort for Fake {
    fn bindings(&self) -> Vec<BindingView> {
        self.0.lock().bindings.clone()
    }

    fn log_ends(&self) -> HashMap<(String, i32), Offset> {
        HashMap::from([(("order".to_owned(), 0), Offset(30))])
    }

    fn parked_full(&self) -> Vec<ports::ParkedFull> {
        vec![ports::ParkedFull { group: "stock".into(), topic: "order".into(), partition: 0 }]
    }

    fn wake(&self) {
        self.0.lock().asked.push("wake".into());
    }

    fn is_running(&self, delivery: &DeliveryKey) -> bool {
        self.0.lock().running.contains(delivery)
    }

    async fn seek(&self, seek: &ports::SeekRequest) -> Result<Vec<ports::MovedPosition>, Problem> {
        let mut world = self.0.lock();
        world.asked.push(format!("seek {seek:?}"));
        world.note();
        Ok(vec![ports::MovedPosition { partition: 0, from: Offset(17), to: Offset(3) }])
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
    async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, Problem> {
        if !wasm.starts_with(b"\0asm") {
            return Err(Problem::unprocessable("plugin refused", "this is no component"));
        }
        let mut world = self.0.lock();
        world.asked.push(format!("upload {name} {} by {by}", wasm.len()));
        world.note();
        let wants = Some(serde_json::json!({ "group": "stock" }));
        Ok(Uploaded { version: "sha256:bb".into(), imports: vec!["log".into()], exports: vec!["handle".into()], wants })
    }

    async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), Problem> {
        let mut world = self.0.lock();
        world.asked.push(format!("activate {name} {digest} by {by}"));
        world.note();
        Ok(())
    }

    fn builtin(&self) -> Vec<ports::BuiltinPlugin> {
        self.0.lock().builtin.clone()
    }
}

#[async_trait]
impl ports::LogPort for Fake {
    async fn read(&self, topic: &str, _: i32, offset: Offset) -> Result<Option<Message>, String> {
        Ok(self.0.lock().records.get(&(topic.to_owned(), offset.0)).cloned())
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
        let store = !self.0.lock().away;
        let mut ready = ReadinessReport { store, migrated: true, accepting: store, ..ReadinessReport::default() };
        ready.reasons.push("something else is the matter".into());
        ready.degrade("kafka", "kafka", None, "no broker answers");
        ready.degrade("topic_missing", "topic secret", Some("secret"), "it does not exist");
        ready.degrade("partition_stalled", "partition secret:3", Some("secret"), "a transaction is open");
        ready
    }
}

/// The API of a world, on a socket.
pub struct Host {
    pub address: SocketAddr,
    pub world: Shared,
    pub auth: Authenticator,
    client: reqwest::Client,
}

impl Host {
    /// Starts the API with these tokens, which are `<name>-secret`.
    pub async fn start(world: World, tokens: &[(&str, Role, Option<&[&str]>)]) -> Self {
        let causes = world.causes.clone();
        let world = Arc::new(Mutex::new(world));
        let fake = || Arc::new(Fake(Arc::clone(&world)));
        let specs = tokens.iter().map(|(name, role, scope)| TokenSpec {
            name: (*name).to_owned(),
            role: *role,
            secret: format!("{name}-secret").into(),
            topics: scope.map(|scope| scope.iter().map(ToString::to_string).collect()),
            groups: scope.map(|scope| scope.iter().map(ToString::to_string).collect()),
            sources: None,
        });
        let app = App {
            store: Arc::new(FakeStore(Arc::clone(&world))),
            sender: fake(),
            transactions: fake(),
            groups: fake(),
            outboxes: fake(),
            plugins: fake(),
            log: fake(),
            health: fake(),
            causes,
            auth: Authenticator::new(specs.collect()),
            cookies: super::sessions::Cookies::default(),
            attempts: super::sessions::attempts(),
            refusals: super::sessions::Refusals::default(),
            node: "host-1".into(),
            metrics: Arc::new(|| "courier_stale_writes_total 0\n".to_owned()),
            audience: crate::api::messages::audience::Audience::default(),
            events: super::events::Hub::default(),
            dev: true,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let auth = app.auth.clone();
        let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { address, world, auth, client: crate::http_client::builder().build().unwrap() }
    }

    /// A request with the token of this name.
    pub fn request(&self, method: &str, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        match token {
            Some(name) => request.bearer_auth(format!("{name}-secret")),
            None => request,
        }
    }

    /// Signs in and returns the session's cookie.
    pub async fn sign_in(&self, token: &str) -> Option<String> {
        let body = format!("{{\"token\":\"{token}-secret\"}}");
        let request = self.request("POST", "/v1/session", None).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap();
        let cookie = answer.headers().get("set-cookie")?.to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().map(ToOwned::to_owned)
    }

    /// The status and the JSON of a response.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> (u16, serde_json::Value) {
        let mut request = self.request(method, path, None);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        answer(request).await
    }

    /// The calls that the fakes got.
    pub fn asked(&self) -> Vec<String> {
        self.world.lock().asked.clone()
    }
}

/// The status and the JSON of a response; null when it is no JSON.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}
