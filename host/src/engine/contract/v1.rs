//! Version 1: `wit/courier.wit`.
//!
//! It has neither a message without a body nor a header without a value: the
//! guest gets both as empty, and what it publishes always has them.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::{Header, Message, Timestamp};
use wasmtime::Store;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentType, Func, InstancePre, Lower, TypedFunc};

use super::shared::{AttemptIn, HandlerFailure, KindIn, Outcomes, Refusal, micros};
use crate::engine::guest::Guest;
use crate::engine::{Call, Outgoing, World};

wasmtime::component::bindgen!({
    path: "../wit",
    interfaces: "
        import courier:plugin/publish@1.0.0;
        import courier:plugin/batch-publish@1.0.0;
        import courier:plugin/state@1.0.0;
        import courier:plugin/batch-state@1.0.0;
        import courier:plugin/cache@1.0.0;
        import courier:plugin/config@1.0.0;
        import courier:plugin/log@1.0.0;
    ",
    imports: {
        "courier:plugin/state.get": async,
        "courier:plugin/state.set": async,
        "courier:plugin/batch-state.get": async,
        "courier:plugin/batch-state.set": async,
    },
});

pub(in crate::engine) use courier::plugin::{batch_publish, batch_state, cache, config, log, publish, state, types};

exports!();

/// `message` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct MessageIn<'a> {
    id: &'a str,
    key: Option<&'a [u8]>,
    source: &'a str,
    topic: &'a str,
    #[component(name = "type")]
    type_name: &'a str,
    kind: KindIn,
    time: u64,
    #[component(name = "content-type")]
    content_type: &'a str,
    body: &'a [u8],
    headers: Vec<HeaderIn<'a>>,
}

/// `header` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct HeaderIn<'a> {
    name: &'a str,
    value: &'a [u8],
}

impl<'a> MessageIn<'a> {
    /// The message in the types of this version.
    fn new(message: &'a Message) -> Self {
        let headers = message.headers.iter();
        Self {
            id: &message.id,
            key: message.key.as_deref(),
            source: &message.source,
            topic: &message.topic,
            type_name: &message.type_name,
            kind: KindIn::of(message),
            time: micros(message.time),
            content_type: &message.content_type,
            body: &message.body,
            headers: headers
                .map(|header| HeaderIn { name: &header.name, value: header.value.as_deref().unwrap_or_default() })
                .collect(),
        }
    }
}

impl From<types::Failure> for HandlerFailure {
    fn from(failure: types::Failure) -> Self {
        match failure {
            types::Failure::Error(reason) => Self::Error(reason),
            types::Failure::Retry(retry) => {
                Self::Retry { reason: retry.reason, after: retry.after_ms.map(Duration::from_millis) }
            }
            types::Failure::Reject(reason) => Self::Reject(reason),
            types::Failure::Unavailable(reason) => Self::Unavailable { reason, after: None },
        }
    }
}

impl From<types::Outgoing> for Outgoing {
    fn from(message: types::Outgoing) -> Self {
        let headers = message.headers.into_iter();
        Self {
            id: String::new(),
            topic: message.topic,
            type_name: message.type_,
            key: message.key.map(Into::into),
            content_type: message.content_type,
            body: Some(message.body.into()),
            headers: headers.map(|header| Header { name: header.name, value: Some(header.value.into()) }).collect(),
        }
    }
}
