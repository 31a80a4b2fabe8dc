//! The host's half of the contract in `wit/`.
//!
//! What a guest imports is generated from it. What it exports is written here,
//! since messages go in by reference, without a copy of each field, and the
//! types are checked against the guest's when it is prepared.

use courier_core::message::{Kind, Message, Timestamp};
use wasmtime::component::{ComponentType, Lower};

use super::{AttemptInfo, Call};

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
        "courier:plugin/batch-state.get": async,
    },
});

pub(super) use courier::plugin::types::Failure;

/// What `handle` takes and returns.
pub(super) type HandleParams<'a> = (MessageIn<'a>, AttemptIn<'a>);
pub(super) type HandleResults = (Result<(), Failure>,);

/// What `handle-batch` takes and returns.
pub(super) type BatchParams<'a> = (Vec<DeliveryIn<'a>>,);
pub(super) type BatchResults = (Vec<Result<(), Failure>>,);

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

/// `kind` of the contract.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum KindIn {
    #[component(name = "event")]
    Event,
    #[component(name = "broadcast")]
    Broadcast,
}

/// `attempt` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct AttemptIn<'a> {
    group: &'a str,
    delivery: &'a str,
    number: u32,
    counted: u32,
    #[component(name = "max-attempts")]
    max_attempts: u32,
    partition: u32,
    offset: u64,
    deadline: u64,
}

/// `delivery` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct DeliveryIn<'a> {
    message: MessageIn<'a>,
    attempt: AttemptIn<'a>,
}

impl<'a> MessageIn<'a> {
    /// The message as the contract has it. A header without a value, which
    /// Kafka knows and the contract does not, gets an empty one.
    pub(super) fn new(message: &'a Message) -> Self {
        let headers = message.headers.iter();
        Self {
            id: &message.id,
            key: message.key.as_deref(),
            source: &message.source,
            topic: &message.topic,
            type_name: &message.type_name,
            kind: match message.kind {
                Kind::Event => KindIn::Event,
                Kind::Broadcast => KindIn::Broadcast,
            },
            time: micros(message.time),
            content_type: &message.content_type,
            body: &message.body,
            headers: headers
                .map(|header| HeaderIn { name: &header.name, value: header.value.as_deref().unwrap_or_default() })
                .collect(),
        }
    }
}

impl<'a> AttemptIn<'a> {
    /// The attempt as the contract has it.
    pub(super) fn new(group: &'a str, attempt: &'a AttemptInfo, deadline: Timestamp) -> Self {
        Self {
            group,
            delivery: &attempt.delivery,
            number: attempt.number,
            counted: attempt.counted,
            max_attempts: attempt.max_attempts,
            partition: attempt.partition,
            offset: attempt.offset,
            deadline: micros(deadline),
        }
    }
}

impl<'a> DeliveryIn<'a> {
    /// One item of a batch as the contract has it.
    pub(super) fn new(group: &'a str, call: &'a Call<'_>, deadline: Timestamp) -> Self {
        Self { message: MessageIn::new(call.message), attempt: AttemptIn::new(group, &call.attempt, deadline) }
    }
}

/// The contract knows no time before 1970.
fn micros(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}
