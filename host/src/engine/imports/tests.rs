//! Tests of what the imports grant and refuse, without a guest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::*;
use crate::engine::contract::v1;
use crate::engine::contract::v2::types::{Header, Outgoing, Refusal};
use crate::engine::contract::v2::{batch_publish, batch_state, cache, config, log, publish, state};
use crate::engine::handler_log::SharedLog;
use crate::engine::limits::MAX_EMISSIONS_PER_CALL;
use crate::engine::state_reads::StateReads;
use crate::engine::tests::Slow;
use crate::engine::{EmissionRules, Isolation, NodeCache, Policy, StateHeld, StateQuota, StateSource};

struct Stored;

impl StateSource for Stored {
    fn held(&self, _group: &str) -> BoxFuture<'_, Result<StateHeld, String>> {
        Box::pin(async { Ok(StateHeld { keys: 4, bytes: 800 }) })
    }

    fn get(&self, group: &str, key: &str, _age: Option<Duration>) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        assert_eq!(group, "stock");
        let answer = match key {
            "known" => Ok(Some(Bytes::from_static(b"old"))),
            "down" => Err("the store is away".into()),
            _ => Ok(None),
        };
        Box::pin(async move { answer })
    }
}

/// Rules that refuse one type.
#[derive(Debug)]
struct NoSecondType;

impl EmissionRules for NoSecondType {
    fn check(&self, emission: &crate::engine::Outgoing) -> Result<(), String> {
        if emission.type_name == "Second" { Err("type Second breaks a rule".into()) } else { Ok(()) }
    }
}

/// A guest in a call of this many items, with every grant or none.
fn guest(items: usize, granted: bool) -> wasmtime::Store<Guest> {
    let policy = Policy {
        group: "stock".into(),
        isolation: Isolation::Message,
        memory: 0,
        timeout: Duration::ZERO,
        cpu: Duration::ZERO,
        log: 100,
        output: 1_000,
        recycle_after: 1,
        publish: if granted { vec!["out".into()] } else { Vec::new() },
        rules: Arc::new(NoSecondType),
        http: None,
        state: granted,
        state_quota: Arc::new(StateQuota::new(StateHeld { keys: 5, bytes: 1_000 }, None)),
        cache: granted,
        config: BTreeMap::from([("url".into(), "http://x".into())]),
        secrets: BTreeMap::from([("key".into(), "hidden".to_owned().into())]),
    };
    let engine = wasmtime::Engine::new(&crate::engine::limits::config(crate::engine::limits::Allocation::OnDemand));
    let mut store = Guest::store(
        &engine.unwrap(),
        Arc::new(policy),
        NodeCache::new(1_000),
        StateReads::default().of("stock", Arc::new(Stored)),
        Arc::<Slow>::default(),
        SharedLog::new(100, crate::engine::LogBudget::default()),
        Arc::default(),
    );
    Guest::begin(&mut store, items);
    store
}

fn outgoing(topic: &str, body: usize) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        type_: "T".into(),
        key: Some(b"k".to_vec()),
        content_type: String::new(),
        body: Some(vec![0; body]),
        headers: Vec::new(),
    }
}

fn text(refusal: Refusal) -> String {
    match refusal {
        Refusal::Denied(text) => format!("denied: {text}"),
        Refusal::Limit(text) => format!("limit: {text}"),
        Refusal::Invalid(text) => format!("invalid: {text}"),
        Refusal::Unavailable(text) => format!("unavailable: {text}"),
    }
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, Refusal>, expected: &str) {
    let text = text(result.expect_err("it should be refused"));
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_a_remedy() {
    let mut store = guest(1, false);
    let guest = store.data_mut();
    check(
        publish::Host::publish(guest, outgoing("out", 1)),
        "denied: binding of group stock does not grant publish to topic out: add it to [binding.grant] publish",
    );
    check(state::Host::get(guest, "k".into()).await, "set state = true in [binding.grant]");
    check(state::Host::set(guest, "k".into(), None).await, "does not grant state");
    check(cache::Host::get(guest, "k".into()), "set cache = true in [binding.grant]");
    assert!(guest.effects[0].emissions.is_empty() && guest.effects[0].state_writes.is_empty());
}

#[tokio::test]
async fn effects_are_collected_for_their_item() {
    let mut store = guest(2, true);
    let guest = store.data_mut();
    let id = batch_publish::Host::publish(guest, 1, outgoing("out", 3)).unwrap();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    batch_state::Host::set(guest, 0, "a".into(), Some(b"1".to_vec())).await.unwrap();
    assert!(guest.effects[0].emissions.is_empty() && guest.effects[1].state_writes.is_empty());
    assert_eq!(guest.effects[1].emissions[0].id, id);
    check(batch_publish::Host::publish(guest, 2, outgoing("out", 1)), "invalid: item 2 is not one of the 2");
    check(publish::Host::publish(guest, outgoing("out", 1)), "use `batch-publish`");
    check(state::Host::get(guest, "a".into()).await, "use `batch-state`");
}

#[tokio::test]
async fn an_attempt_reads_its_own_writes() {
    let mut store = guest(2, true);
    let guest = store.data_mut();
    assert_eq!(batch_state::Host::get(guest, 0, "known".into()).await.unwrap(), Some(b"old".to_vec()));
    batch_state::Host::set(guest, 0, "known".into(), Some(b"new".to_vec())).await.unwrap();
    assert_eq!(batch_state::Host::get(guest, 0, "known".into()).await.unwrap(), Some(b"new".to_vec()));
    assert_eq!(batch_state::Host::get(guest, 1, "known".into()).await.unwrap(), Some(b"old".to_vec()));
    batch_state::Host::set(guest, 0, "known".into(), None).await.unwrap();
    assert_eq!(batch_state::Host::get(guest, 0, "known".into()).await.unwrap(), None);
    check(batch_state::Host::get(guest, 0, "down".into()).await, "unavailable: the store is away");
}

#[tokio::test]
async fn bounds_are_refused_and_spend_nothing() {
    let mut store = guest(1, true);
    let guest = store.data_mut();
    check(publish::Host::publish(guest, outgoing("out", 2_000)), "limit: the effects of this call are over");
    publish::Host::publish(guest, outgoing("out", 500)).unwrap();
    check(state::Host::set(guest, "k".into(), Some(vec![0; 500])).await, "limit: the effects");
    check(state::Host::set(guest, String::new(), None).await, "invalid: the key is empty");
    check(state::Host::set(guest, "a\0".into(), None).await, "NUL");
    check(state::Host::set(guest, "k".repeat(MAX_KEY_BYTES + 1), None).await, "limit: the key has 513 bytes");
    check(cache::Host::set(guest, "k".into(), Some(vec![0; MAX_VALUE_BYTES + 1])), "limit: the value has");
    check(publish::Host::publish(guest, outgoing("no/topic", 1)), "invalid: the topic's name");
    let mut writes = 0;
    while state::Host::set(guest, format!("k{writes}"), None).await.is_ok() {
        writes += 1;
    }
    assert!(writes < 10, "{writes}");
}

/// Values were kept for ever, without a bound on their number.
#[tokio::test]
async fn a_group_keeps_no_more_keys_and_bytes_than_its_quota() {
    let mut store = guest(1, true);
    let guest = store.data_mut();
    let full = "limit: the state of group stock holds 800 bytes in 4 keys";
    check(state::Host::set(guest, "large".into(), Some(vec![0; 300])).await, full);
    let mut store = self::guest(1, true);
    let guest = store.data_mut();
    state::Host::set(guest, "fifth".into(), Some(vec![0; 10])).await.unwrap();
    check(state::Host::set(guest, "sixth".into(), Some(vec![0; 10])).await, full);
    state::Host::set(guest, "known".into(), Some(b"NEW".to_vec())).await.unwrap();
    state::Host::set(guest, "sixth".into(), None).await.unwrap();
    assert_eq!(guest.effects[0].state_writes.keys().collect::<Vec<_>>(), ["fifth", "known", "sixth"]);
}

#[test]
fn a_tombstone_and_headers_without_values_go_out_as_they_are() {
    let mut store = guest(1, true);
    let guest = store.data_mut();
    let bare = Header { name: "bare".into(), value: None };
    let message = Outgoing { body: None, headers: vec![bare], ..outgoing("out", 0) };
    publish::Host::publish(guest, message).unwrap();
    check(
        publish::Host::publish(guest, Outgoing { body: None, key: None, ..outgoing("out", 0) }),
        "invalid: a tombstone (a message without a body) needs a key",
    );
    publish::Host::publish(guest, outgoing("out", 0)).unwrap();
    // A message of version 1 always has a body.
    let first = v1::types::Outgoing {
        topic: "out".into(),
        type_: "T".into(),
        key: None,
        content_type: String::new(),
        body: Vec::new(),
        headers: Vec::new(),
    };
    v1::publish::Host::publish(guest, first).unwrap();
    let sent = &guest.effects[0].emissions;
    assert_eq!(sent.iter().map(|sent| sent.body.is_none()).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(sent[0].headers, [courier_core::message::Header { name: "bare".into(), value: None }]);
}

#[test]
fn what_breaks_a_rule_is_refused_to_the_handler() {
    let mut store = guest(1, true);
    let guest = store.data_mut();
    let second = Outgoing { type_: "Second".into(), ..outgoing("out", 1) };
    check(publish::Host::publish(guest, second), "invalid: type Second breaks a rule");
    assert!(guest.effects[0].emissions.is_empty());
}

/// One call emitted 9,902 messages.
#[test]
fn the_messages_of_a_call_are_counted_over_its_items() {
    let mut store = guest(2, true);
    let guest = store.data_mut();
    guest.policy = Arc::new(Policy { output: 1 << 30, ..(*guest.policy).clone() });
    for n in 0..MAX_EMISSIONS_PER_CALL {
        batch_publish::Host::publish(guest, u32::try_from(n % 2).unwrap(), outgoing("out", 0)).unwrap();
    }
    check(batch_publish::Host::publish(guest, 0, outgoing("out", 0)), "limit: one call may publish 1000 messages");
    assert_eq!(guest.effects[0].emissions.len() + guest.effects[1].emissions.len(), MAX_EMISSIONS_PER_CALL);
    Guest::begin(&mut store, 1);
    publish::Host::publish(store.data_mut(), outgoing("out", 0)).unwrap();
}

#[test]
fn configuration_is_what_the_binding_names() {
    let mut store = guest(1, false);
    let guest = store.data_mut();
    assert_eq!(config::Host::get(guest, "url".into()).as_deref(), Some("http://x"));
    assert_eq!(config::Host::get(guest, "key".into()), None);
    assert_eq!(config::Host::secret(guest, "key".into()).as_deref(), Some("hidden"));
    assert_eq!(config::Host::secret(guest, "other".into()), None);
}

#[test]
fn a_logged_error_is_where_a_panic_is_looked_for() {
    let mut store = guest(1, false);
    let guest = store.data_mut();
    log::Host::log(guest, log::Level::Info, "panicked at nothing".into());
    log::Host::log(guest, log::Level::Error, "panicked at src/lib.rs:1:1:\nboom".into());
    assert_eq!(guest.log.tail(), "panicked at src/lib.rs:1:1:\nboom\n");
    assert!(guest.log.take(1).starts_with("INFO panicked at nothing\nERROR panicked at src"));
}
