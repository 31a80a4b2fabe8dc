//! Requests to a host's HTTP API: the typed half of [`Host`], whose process is in
//! [`crate::host`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::host::Host;
use crate::shapes::{Accepted, Delivery, Group, Message, Page};
use crate::wait_until;

impl Host {
    /// One request; fails only when there is no answer.
    pub async fn try_request(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.address));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path} got no answer"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("{method} {path}: the answer broke off"))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// One request; panics when there is no answer.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.try_request(method, path, body).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A request with a body of any media type and any further headers.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (StatusCode, Value) {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.address)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"));
        let status = answer.status();
        let text = answer.text().await.unwrap_or_else(|error| panic!("{method} {path}: the answer broke off: {error}"));
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Gets a path and parses the answer.
    pub async fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (status, body) = self.try_request(Method::GET, path, None).await?;
        if status != StatusCode::OK {
            bail!("GET {path} was answered {status}: {body}");
        }
        serde_json::from_value(body.clone()).with_context(|| format!("GET {path} has not the shape it should: {body}"))
    }

    /// Gets a path and parses the answer; panics on any status but 200.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.try_get(path).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Posts, expects this status and returns the answer.
    pub async fn post(&self, path: &str, body: Value, expected: u16) -> Value {
        let (status, answer) = self.request(Method::POST, path, Some(body)).await;
        assert_eq!(status.as_u16(), expected, "POST {path} was answered: {answer}");
        answer
    }

    /// Publishes one message, which must be accepted.
    pub async fn publish(&self, message: Value) -> Accepted {
        let answer = self.post("/v1/messages", message, 202).await;
        serde_json::from_value(answer.clone()).unwrap_or_else(|error| panic!("{error} in {answer}"))
    }

    /// Publishes many messages at once; fails when the host does not answer or accepts
    /// none.
    pub async fn try_publish_all(&self, messages: Vec<Value>) -> Result<Vec<Accepted>> {
        let (status, mut answer) = self.try_request(Method::POST, "/v1/messages", Some(Value::Array(messages))).await?;
        if status != StatusCode::ACCEPTED {
            bail!("publishing was answered {status}: {answer}");
        }
        serde_json::from_value(answer["items"].take()).context("an answer to many messages has `items`")
    }

    /// Publishes many at once, of which at least one must be accepted.
    pub async fn publish_all(&self, messages: Vec<Value>) -> Vec<Accepted> {
        self.try_publish_all(messages).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A message with its deliveries.
    pub async fn message(&self, id: &str) -> Message {
        self.get(&format!("/v1/messages/{}", encode(id))).await
    }

    /// All deliveries of a query, over all pages.
    pub async fn deliveries(&self, query: &str) -> Vec<Delivery> {
        self.try_deliveries(query).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The same for a host that may be away.
    pub async fn try_deliveries(&self, query: &str) -> Result<Vec<Delivery>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Page<Delivery> = self.try_get(&format!("/v1/deliveries?{query}&limit=1000{cursor}")).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => cursor = format!("&cursor={}", encode(&next)),
                None => return Ok(all),
            }
        }
    }

    /// All groups.
    pub async fn groups(&self) -> Vec<Group> {
        self.get::<Page<Group>>("/v1/groups").await.items
    }

    /// One group.
    pub async fn group(&self, group: &str) -> Group {
        self.get(&format!("/v1/groups/{}", encode(group))).await
    }

    /// One group of a host that may be away.
    pub async fn try_group(&self, group: &str) -> Result<Group> {
        self.try_get(&format!("/v1/groups/{}", encode(group))).await
    }

    /// Waits until a group has finished this many deliveries, handled or failed, and
    /// has none open.
    pub async fn settled(&self, group: &str, count: usize, limit: Duration) -> Group {
        let what = format!("{group} has finished {count} deliveries");
        wait_until(&what, limit, async || {
            let seen = self.try_group(group).await.map_err(|error| format!("{error:#}"))?;
            let finished = seen.handled + seen.failed;
            if finished >= count as u64 && seen.open.total() == 0 { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await
    }

    /// How often each message had its effects in a group: a duplicate that a binding
    /// with `dedupe` dropped had none.
    pub async fn effects(&self, group: &str) -> BTreeMap<String, usize> {
        let mut effects = BTreeMap::new();
        for delivery in self.deliveries(&format!("group={}", encode(group))).await {
            let count = effects.entry(delivery.message_id).or_default();
            *count += usize::from(delivery.verdict.as_deref() == Some("success"));
        }
        effects
    }

    /// Waits until a message has been finished by `groups` groups.
    pub async fn finished(&self, id: &str, groups: usize) -> Message {
        wait_until(&format!("message {id} is finished"), Duration::from_secs(60), async || {
            let path = format!("/v1/messages/{}", encode(id));
            let message: Message = self.try_get(&path).await.map_err(|error| format!("{error:#}"))?;
            let finished = message.deliveries.iter().filter(|delivery| delivery.is_final()).count();
            // A handler may be faster than the note that Kafka has the message.
            let is_sent = message.retrying != Some(true);
            if finished >= groups && is_sent { Ok(message) } else { Err(format!("{message:?}")) }
        })
        .await
    }

    /// Waits until the message's only delivery is final after at least this many
    /// attempts, and returns it. A message that was just sent has no delivery yet.
    pub async fn finished_after(&self, id: &str, attempts: usize, patience: Duration) -> Delivery {
        wait_until(&format!("message {id} is finished after {attempts} attempts"), patience, async || {
            let message = self.message(id).await;
            let finished = |delivery: &&Delivery| delivery.is_final() && delivery.attempts.len() >= attempts;
            message.deliveries.first().filter(finished).cloned().ok_or_else(|| format!("{message:?}"))
        })
        .await
    }

    /// Uploads and activates a plugin, and returns its version.
    pub async fn upload(&self, name: &str, component: Vec<u8>) -> String {
        let (status, answer) = self.try_upload(name, component, true).await;
        assert_eq!(status, StatusCode::CREATED, "the upload of {name} was answered: {answer}");
        assert_eq!(answer["active"], json!(true), "{answer}");
        answer["version"].as_str().unwrap_or_else(|| panic!("no version in {answer}")).to_owned()
    }

    /// Uploads a plugin and returns the answer, of any status.
    pub async fn try_upload(&self, name: &str, component: Vec<u8>, activate: bool) -> (StatusCode, Value) {
        let path = format!("/v1/plugins/{name}{}", if activate { "?activate=true" } else { "" });
        self.send(Method::PUT, &path, &[("content-type", "application/wasm")], component).await
    }

    /// Makes a version the active one.
    pub async fn activate(&self, name: &str, version: &str) {
        let body = json!({ "version": version });
        let (status, answer) = self.request(Method::POST, &format!("/v1/plugins/{name}/activate"), Some(body)).await;
        assert!(status.is_success(), "activating {name} was answered {status}: {answer}");
    }

    /// The sum of a metric's series that carry all of these labels; 0 when
    /// there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = match self.request(Method::GET, "/metrics", None).await {
            (StatusCode::OK, Value::String(text)) => text,
            (status, body) => panic!("/metrics was answered {status}: {body}"),
        };
        sum_of_series(&text, name, labels)
    }
}

fn sum_of_series(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let carries = |line: &&str| labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")));
    let value = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
    text.lines().filter(of_name).filter(carries).filter_map(value).sum()
}

/// Percent-encodes the characters that a path or query cannot hold.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes any text");
        }
    }
    encoded
}
