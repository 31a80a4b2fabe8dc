//! Version 2: `wit/v2/courier.wit`.

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
    path: "../wit/v2",
    interfaces: "
        import courier:plugin/publish@2.0.0;
        import courier:plugin/batch-publish@2.0.0;
        import courier:plugin/state@2.0.0;
        import courier:plugin/batch-state@2.0.0;
        import courier:plugin/cache@2.0.0;
        import courier:plugin/config@2.0.0;
        import courier:plugin/log@2.0.0;
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
    body: Option<&'a [u8]>,
    headers: Vec<HeaderIn<'a>>,
}

/// `header` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct HeaderIn<'a> {
    name: &'a str,
    value: Option<&'a [u8]>,
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
            body: (!message.is_tombstone).then_some(&message.body[..]),
            headers: headers.map(|header| HeaderIn { name: &header.name, value: header.value.as_deref() }).collect(),
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
            types::Failure::Unavailable(unavailable) => {
                Self::Unavailable { reason: unavailable.reason, after: unavailable.after_ms.map(Duration::from_millis) }
            }
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
            body: message.body.map(Into::into),
            headers: headers.map(|header| Header { name: header.name, value: header.value.map(Into::into) }).collect(),
        }
    }
}
