//! The API on a real socket, over a real store and fakes of the rest of the host.

mod fakes;
mod rows;
mod seed;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use courier_core::message::Message;
use parking_lot::Mutex;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};

use self::fakes::{Fake, Ports, Shared};
pub use self::rows::{attempt, binding, delivery, message, message_row, plugin, position};
pub use self::seed::HandledSet;
use super::auth::{Authenticator, Role, TokenSpec};
use super::ports::BindingView;
use super::{App, router};
use crate::causes::Causes;
use crate::store::sqlite::SqliteStore;
use crate::store::undelivered::NewUndelivered;
use crate::store::{
    AuditEntry, AuditFilter, AuditStore, DeliveryKey, DeliveryRow, GroupTotals, HalfRow, MessageRow, MinuteRow,
    NewVersion, NodeBinding, OutboxNote, PaceRow, Page, PositionId, PositionRow, SharedStore, UnheardRow, WriterId,
};

/// What is in the store before a test, and what the fakes of the ports return. The nodes
/// `host-1`, which serves the API, and `host-2`, which left, are in every store.
#[derive(Default)]
pub struct World {
    /// Rows of the send side. One that is retrying has an outbound row.
    pub messages: Vec<MessageRow>,
    /// Deliveries; of their keys the offset counts. The position is the one of their group
    /// and topic, and is made where `positions` has none.
    pub deliveries: Vec<DeliveryRow>,
    /// Deliveries that have a dead letter.
    pub dead_letters: Vec<DeliveryRow>,
    /// Deliveries that have a bit in place of a row.
    pub handled: Vec<HandledSet>,
    pub positions: Vec<PositionRow>,
    /// Positions that lost the offsets 3 to 8 a moment ago.
    pub lost: Vec<PositionId>,
    /// Handled and finally failed deliveries of groups.
    pub totals: Vec<GroupTotals>,
    pub minutes: Vec<MinuteRow>,
    pub paces: Vec<PaceRow>,
    /// The bindings of this host.
    pub bindings: Vec<BindingView>,
    /// The bindings of `host-3`, which is a live node if there are any.
    pub elsewhere: Vec<NodeBinding>,
    /// Deliveries whose attempts run.
    pub running: Vec<DeliveryKey>,
    /// Records on Kafka, by topic and offset; all in partition 0.
    pub records: HashMap<(String, i64), Message>,
    /// Undelivered entries, which are numbered from 1.
    pub undelivered: Vec<NewUndelivered>,
    /// Transactions.
    pub halves: Vec<HalfRow>,
    /// Active versions of plugins.
    pub plugins: Vec<NewVersion>,
    /// Broadcasts that no node was there for.
    pub unheard: Vec<UnheardRow>,
    /// Notes of hosts about outboxes.
    pub outboxes: Vec<OutboxNote>,
    /// Entries of the audit log, oldest first.
    pub audited: Vec<AuditEntry>,
    /// The board of causes.
    pub causes: Causes,
}

/// The API of a world, on a socket.
pub struct Host {
    pub address: SocketAddr,
    /// The fakes of the ports.
    pub ports: Shared,
    pub store: Arc<SqliteStore>,
    /// A connection of the test to the file of the store.
    pub db: SqlitePool,
    pub auth: Authenticator,
    client: reqwest::Client,
    writer: WriterId,
    /// The folder of the store's file.
    _folder: tempfile::TempDir,
}

impl Host {
    /// Starts the API with these tokens, which are `<name>-secret`.
    pub async fn start(mut world: World, tokens: &[(&str, Role, Option<&[&str]>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("courier.db");
        let store = Arc::new(SqliteStore::open(&format!("sqlite://{}", file.display())).await.unwrap());
        let options = SqliteConnectOptions::new().filename(&file).synchronous(SqliteSynchronous::Off);
        let db = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let writer = seed::join_nodes(&store).await;
        seed::write_by_verbs(&store, writer, &world).await;
        seed::insert(&db, &world).await;
        let ports = Arc::new(Mutex::new(Ports {
            bindings: std::mem::take(&mut world.bindings),
            running: std::mem::take(&mut world.running),
            records: std::mem::take(&mut world.records),
            ..Ports::default()
        }));
        let shared: SharedStore = store.clone();
        let fake = || Arc::new(Fake { ports: Arc::clone(&ports), store: Arc::clone(&shared) });
        let specs = tokens.iter().map(|(name, role, scope)| TokenSpec {
            name: (*name).to_owned(),
            role: *role,
            secret: format!("{name}-secret").into(),
            topics: scope.map(|scope| scope.iter().map(ToString::to_string).collect()),
            groups: scope.map(|scope| scope.iter().map(ToString::to_string).collect()),
            sources: None,
        });
        let app = App {
            store: Arc::clone(&shared),
            sender: fake(),
            transactions: fake(),
            groups: fake(),
            outboxes: fake(),
            plugins: fake(),
            log: fake(),
            health: fake(),
            causes: world.causes,
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
        let client = crate::http_client::builder().build().unwrap();
        Self { address, ports, store, db, auth, client, writer, _folder: folder }
    }

    /// Leaves one token, `tenant`, which is limited to these topics and to no groups.
    pub fn limit_to_topics(&self, role: Role, topics: &[&str]) {
        self.auth.replace(vec![TokenSpec {
            name: "tenant".to_owned(),
            role,
            secret: "tenant-secret".into(),
            topics: Some(topics.iter().map(ToString::to_string).collect()),
            groups: None,
            sources: None,
        }]);
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

    /// Adds the rows of a world to the store.
    pub async fn add(&self, world: &World) {
        seed::write_by_verbs(&self.store, self.writer, world).await;
        seed::insert(&self.db, world).await;
    }

    /// Changes rows of the store behind its back.
    pub async fn execute(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.db).await.unwrap();
    }

    /// The entries of the audit log, oldest first, as `by action subject detail`.
    pub async fn audited(&self) -> Vec<String> {
        let page = Page { cursor: None, limit: crate::store::MAX_PAGE };
        let entries = self.store.audit_entries(&AuditFilter::default(), &page).await.unwrap().items.into_iter();
        entries.rev().map(|entry| format!("{} {} {} {}", entry.by, entry.action, entry.subject, entry.detail)).collect()
    }

    /// The calls that the fakes of the ports got.
    pub fn asked(&self) -> Vec<String> {
        self.ports.lock().asked.clone()
    }
}

/// The status and the JSON of a response; null when it is no JSON.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}
