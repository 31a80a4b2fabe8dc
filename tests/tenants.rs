//! Two tenants of one host against each other: requests made up from the OpenAPI
//! document, valid and invalid ones, with the tokens of every role of one tenant,
//! about its own objects and about the other's.
//!
//! No request makes the host fail, no answer has a name or an id of the other
//! tenant, and nothing of the other tenant changes. The test prints how long the
//! other tenant waits for its answers: alone, while as many requests go to another
//! host of the machine, and beside them. Of the three the last two are compared,
//! since all of them share the processors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Random, Store, encode, guest, kafka, scale, scripted, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Map, Value, json};

const SOON: Duration = Duration::from_secs(60);
const ROLES: [&str; 4] = ["viewer", "publisher", "operator", "admin"];
/// Requests in flight at once.
const AT_ONCE: usize = 4;
/// Requests of one window, and about as many probes of the other tenant's in a quiet one.
const WINDOW: usize = 250;
const PROBES: usize = 25;
/// Values that no parameter should have, and some that are right somewhere.
const ODD: [&str; 18] = [
    "",
    "0",
    "-1",
    "1",
    "99999999999999999999",
    "true",
    "null",
    "%",
    "'",
    "..",
    "\u{202e}x",
    "a\u{0}b",
    "0-0",
    "1-0",
    "2026-01-01T00:00:00Z",
    "COMMITTED",
    "HANDLE_FAIL",
    "[1,",
];

/// One tenant. All its names contain its mark, and no other names do.
struct Tenant {
    mark: String,
    topic: String,
    group: String,
    /// Ids of its objects, of every kind.
    ids: Vec<String>,
    /// Texts that only this tenant can have written, unlike the ids of messages,
    /// which others can choose too.
    own_words: Vec<String>,
}

impl Tenant {
    fn token(&self, role: &str) -> String {
        format!("{}-{role}-secret-of-enough-characters", self.mark)
    }

    fn toml(&self, role: &str) -> String {
        format!(
            "{{ name = \"{0}-{role}\", role = \"{role}\", env = \"{1}\", topics = [\"{2}\"], groups = [\"{3}\"] }}",
            self.mark,
            self.variable(role),
            self.topic,
            self.group
        )
    }

    fn variable(&self, role: &str) -> String {
        format!("{}_{role}", self.mark.replace('-', "_")).to_uppercase()
    }
}

/// One request.
struct Asked {
    method: Method,
    path: String,
    body: Option<String>,
}

/// An operation of the OpenAPI document.
struct Operation {
    method: Method,
    path: String,
    parameters: Vec<(String, bool)>,
    has_body: bool,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // The event stream and uploads have tests of their own.
        for (method, operation) in item.as_object().unwrap().iter().filter(|_| path != "/v1/events") {
            let method = match method.as_str() {
                "get" => Method::GET,
                "put" => Method::PUT,
                "post" => Method::POST,
                "delete" => Method::DELETE,
                _ => continue,
            };
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters = parameters
                .map(|parameter| (parameter["name"].as_str().unwrap().to_owned(), parameter["in"] == "path"))
                .collect();
            let has_body = operation["requestBody"].is_object();
            operations.push(Operation { method, path: path.clone(), parameters, has_body });
        }
    }
    operations
}

/// A value for a parameter: the tenant's own, the other's, or an odd one.
fn value(dice: &mut Random, name: &str, own: &Tenant, other: &Tenant) -> String {
    let tenant = if dice.below(2) == 0 { own } else { other };
    match (dice.below(4), name) {
        (0, _) => (*dice.of(&ODD)).to_owned(),
        (_, "group") => tenant.group.clone(),
        (_, "topic") => tenant.topic.clone(),
        (_, "name") => "scripted".to_owned(),
        (_, "limit") => (1 + dice.below(1_000)).to_string(),
        (_, "source" | "key") => tenant.mark.clone(),
        (_, "from" | "to" | "state" | "cursor") => (*dice.of(&ODD)).to_owned(),
        _ => dice.of(&tenant.ids).clone(),
    }
}

fn body(dice: &mut Random, path: &str, own: &Tenant, other: &Tenant) -> String {
    let mut value = |name: &str| value(dice, name, own, other);
    let (topic, group) = (value("topic"), value("group"));
    // Only ids of messages: a value sent here may become the sender's own.
    let id = Some(value("id")).filter(|id| id.starts_with(&own.mark) || id.starts_with(&other.mark));
    let id = id.unwrap_or_else(|| other.mark.clone());
    let message = json!({ "topic": topic, "type": "T", "id": id, "source": value("source"), "body": 1 });
    let mut body = match path {
        "/v1/messages" => message,
        "/v1/transactions" => json!({ "messages": [message], "timeout": "1h" }),
        "/v1/redrives" => json!({ "filter": { "group": group, "topic": topic, "message_id": id }, "rate": 1 }),
        "/v1/session" => json!({ "token": id }),
        path if path.ends_with("/seek") => json!({ "topic": topic, "to": "earliest", "confirm": group }),
        path if path.ends_with("/activate") => json!({ "version": id }),
        _ => json!({ "reason": id }),
    };
    match dice.below(8) {
        0 => body = json!([body.clone(), body]),
        1 => body = Value::Object(Map::from_iter([((*dice.of(&ODD)).to_owned(), body)])),
        2 => return body.to_string()[1..].to_owned(),
        _ => {}
    }
    body.to_string()
}

fn make_up(dice: &mut Random, operations: &[Operation], own: &Tenant, other: &Tenant) -> Asked {
    let operation = dice.of(operations);
    let mut path = operation.path.clone();
    let mut query = Vec::new();
    for (name, is_of_path) in &operation.parameters {
        let given = value(dice, name, own, other);
        if *is_of_path {
            path = path.replace(&format!("{{{name}}}"), &encode(&given));
        } else if dice.below(3) == 0 {
            query.push(format!("{name}={}", encode(&given)));
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let body = operation.has_body.then(|| body(dice, &operation.path, own, other));
    Asked { method: operation.method.clone(), path, body }
}

/// Sends a request and returns the answer's status and text.
async fn send(host: &Host, client: &reqwest::Client, token: &str, asked: &Asked) -> (u16, String) {
    let mut request = client.request(asked.method.clone(), format!("{}{}", host.address(), asked.path));
    request = request.bearer_auth(token).header("content-type", "application/json");
    if let Some(body) = &asked.body {
        request = request.body(body.clone());
    }
    let answer = request.send().await.unwrap_or_else(|error| panic!("{} {}: {error}", asked.method, asked.path));
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Checks an answer to `own`, whose request may have named the other's objects.
fn judge(asked: &Asked, status: u16, answer: &str, own: &Tenant, other: &Tenant) {
    let what = format!("{} {} {} as {}", asked.method, asked.path, asked.body.as_deref().unwrap_or(""), own.mark);
    assert!(status < 500, "{what}: {status} {answer}");
    let named = asked.path.contains(&other.mark) || asked.body.as_ref().is_some_and(|body| body.contains(&other.mark));
    if !named {
        let told = other.own_words.iter().find(|word| answer.contains(*word) && !asked.path.contains(*word));
        assert!(told.is_none(), "{what}: {status} {answer}");
    }
}

/// A tenant's objects, as its own admin sees them.
async fn belongings(host: &Host, client: &reqwest::Client, tenant: &Tenant) -> Value {
    let mut all = Map::new();
    for list in ["messages", "delayed", "deliveries", "transactions", "redrives", "undelivered", "groups"] {
        let asked = Asked { method: Method::GET, path: format!("/v1/{list}?limit=1000"), body: None };
        let (status, answer) = send(host, client, &tenant.token("admin"), &asked).await;
        assert_eq!(status, 200, "{answer}");
        let page: Value = serde_json::from_str(&answer).unwrap();
        let kept = ["id", "group", "state", "topic", "reason", "attempts", "paused", "handled", "failed", "settled_at"];
        let items = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| Value::Object(kept.iter().map(|name| ((*name).to_owned(), item[*name].clone())).collect()));
        all.insert(list.to_owned(), items.collect());
    }
    Value::Object(all)
}

/// Gives a tenant an object of each kind.
async fn furnish(host: &Host, client: &reqwest::Client, tenant: &mut Tenant) {
    let mark = tenant.mark.clone();
    let post = async |path: &str, body: Value| {
        let asked = Asked { method: Method::POST, path: path.to_owned(), body: Some(body.to_string()) };
        let (status, answer) = send(host, client, &tenant.token("admin"), &asked).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let mut ids = Vec::new();
    for (at, script) in ["ok", "reject", "ok", "reject"].iter().enumerate() {
        let mut message = scripted(&tenant.topic, &format!("{mark}-key-{at}"), &[script]);
        message["id"] = json!(format!("{mark}-message-{at}"));
        post("/v1/messages", message).await;
        ids.push(format!("{mark}-message-{at}"));
    }
    let late = json!({ "topic": tenant.topic, "type": "T", "id": format!("{mark}-late"), "delay": "1d", "body": 1 });
    post("/v1/messages", late).await;
    ids.push(format!("{mark}-late"));
    let half = json!({ "topic": tenant.topic, "type": "T", "id": format!("{mark}-half"), "body": 1 });
    let half = post("/v1/transactions", json!({ "messages": [half], "timeout": "7d" })).await;
    ids.push(half["id"].as_str().unwrap().to_owned());
    let filter = json!({ "group": tenant.group, "topic": tenant.topic });
    let settled = wait_until("its deliveries are settled", SOON, async || {
        let path = format!("/v1/deliveries?group={}", tenant.group);
        let asked = Asked { method: Method::GET, path, body: None };
        let (_, answer) = send(host, client, &tenant.token("viewer"), &asked).await;
        let page: Value = serde_json::from_str(&answer).unwrap();
        let ids: Vec<String> =
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        if ids.len() == 4 { Ok(ids) } else { Err(answer) }
    })
    .await;
    ids.extend(settled);
    let plan = post("/v1/redrives", json!({ "filter": filter, "rate": 1 })).await;
    ids.push(plan["id"].as_str().map_or_else(|| plan["id"].to_string(), str::to_owned));
    tenant.own_words = vec![tenant.topic.clone(), tenant.group.clone(), format!("{mark}-key")];
    tenant.own_words.push(half["id"].as_str().unwrap().to_owned());
    tenant.ids = ids;
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

/// Requests a tenant's own objects, and measures the times.
async fn probe(host: &Host, client: &reqwest::Client, tenant: &Tenant, times: &mut Vec<Duration>) {
    let asked = Asked { method: Method::GET, path: format!("/v1/deliveries?group={}", tenant.group), body: None };
    let begun = Instant::now();
    let (status, answer) = send(host, client, &tenant.token("viewer"), &asked).await;
    times.push(begun.elapsed());
    assert!(status == 200 && answer.contains(&tenant.mark), "{status} {answer}");
}

/// A host with two tenants.
struct Shared {
    host: Host,
    tenants: [Tenant; 2],
}

/// One tenant that sends made-up requests, to the host that it shares with the other.
struct Attack<'a> {
    host: &'a Host,
    own: &'a Tenant,
    other: &'a Tenant,
    operations: &'a [Operation],
}

impl Attack<'_> {
    /// Sends a window of requests, [`AT_ONCE`] at a time.
    async fn send(&self, client: &reqwest::Client, dice: &mut [Random]) {
        let sending = dice.iter_mut().map(|dice| async move {
            for _ in 0..WINDOW / AT_ONCE {
                let asked = make_up(dice, self.operations, self.own, self.other);
                let token = self.own.token(dice.of::<&str>(&ROLES));
                let (status, answer) = send(self.host, client, &token, &asked).await;
                judge(&asked, status, &answer, self.own, self.other);
            }
        });
        futures::future::join_all(sending).await;
    }
}

/// Requests the objects of a tenant of a host for as long as something else goes on.
async fn probe_during(host: &Host, tenant: &Tenant, times: &mut Vec<Duration>, during: impl Future<Output = ()>) {
    let client = courier::http_client::builder().build().unwrap();
    let is_over = AtomicBool::new(false);
    let during = async {
        during.await;
        is_over.store(true, Ordering::Relaxed);
    };
    let probing = async {
        while !is_over.load(Ordering::Relaxed) {
            probe(host, &client, tenant, times).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(during, probing);
}

/// Sends `count` requests of one tenant against the other of the same host, and as many to
/// another host of the machine: what the other tenant waits for there is the machine's.
async fn attack(count: usize, seed: u64, (own, other): (usize, usize), shared: &Shared, apart: &Shared) {
    let client = courier::http_client::builder().build().unwrap();
    let operations = operations(&shared.host.get("/openapi.json").await);
    let victim = &shared.tenants[other];
    let before = belongings(&shared.host, &client, victim).await;
    let within = Attack { host: &shared.host, own: &shared.tenants[own], other: victim, operations: &operations };
    let elsewhere =
        Attack { host: &apart.host, own: &apart.tenants[own], other: &apart.tenants[other], operations: &operations };
    let (mut quiet, mut beside_machine, mut beside_host) = (Vec::new(), Vec::new(), Vec::new());
    let dice = || -> Vec<Random> { (0..AT_ONCE as u64).map(|at| Random(seed + at)).collect() };
    let (mut dice_within, mut dice_elsewhere) = (dice(), dice());
    for _ in 0..count.div_ceil(WINDOW) {
        let pause = Duration::from_millis(5 * PROBES as u64);
        probe_during(&shared.host, victim, &mut quiet, tokio::time::sleep(pause)).await;
        let sending = elsewhere.send(&client, &mut dice_elsewhere);
        probe_during(&shared.host, victim, &mut beside_machine, sending).await;
        let sending = within.send(&client, &mut dice_within);
        probe_during(&shared.host, victim, &mut beside_host, sending).await;
    }
    assert_eq!(belongings(&shared.host, &client, victim).await, before, "what is the other's stays as it is");
    println!(
        "{count} requests of {}: p99 of the other {:?}, {:?} when they go to another host, and {:?} beside them",
        within.own.mark,
        p99(quiet),
        p99(beside_machine),
        p99(beside_host)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_requests_of_one_tenant_neither_show_nor_change_what_is_the_others() {
    let _turn = turn::shared().await;
    for store in scale(&[Store::Sqlite][..], &[Store::Sqlite, Store::Postgres]) {
        two_tenants(*store, scale(2_000, 20_000)).await;
    }
}

async fn two_tenants(store: Store, count: usize) {
    let (shared, apart) = (share(store).await, share(store).await);
    attack(count / 2, 7, (0, 1), &shared, &apart).await;
    attack(count / 2, 77, (1, 0), &shared, &apart).await;
    for host in [&shared.host, &apart.host] {
        assert!(host.exited().is_none(), "the host runs:\n{}", host.log_tail());
    }
}

/// Starts a host with two tenants that have objects of all kinds.
async fn share(store: Store) -> Shared {
    let mut tenants = Vec::new();
    for name in ["alpha", "bravo"] {
        let mark = unique(&format!("zz{name}"));
        let topic = create_topic(kafka().bootstrap(), &mark, 1).await;
        tenants.push(Tenant { group: format!("{mark}-group"), mark, topic, ids: Vec::new(), own_words: Vec::new() });
    }
    let lines: Vec<String> = tenants.iter().flat_map(|tenant| ROLES.iter().map(|role| tenant.toml(role))).collect();
    let root = "root-secret-of-enough-characters";
    let table = format!(
        "[auth]\ntokens = [\n  {{ name = \"root\", role = \"admin\", env = \"ROOT\" }},\n  {}\n]\n",
        lines.join(",\n  ")
    );
    let mut host = Host::builder("tenants").store(store).table(&table).env("ROOT", root).token(root);
    for tenant in &tenants {
        host = host.binding(&scripted_binding(&tenant.group, &tenant.topic, ""));
        for role in ROLES {
            host = host.env(&tenant.variable(role), &tenant.token(role));
        }
    }
    let host = host.start().await;
    host.upload("scripted", guest("scripted")).await;
    let client = reqwest::Client::new();
    for tenant in &mut tenants {
        furnish(&host, &client, tenant).await;
    }
    let tenants = tenants.try_into().unwrap_or_else(|_| unreachable!("two tenants"));
    Shared { host, tenants }
}
