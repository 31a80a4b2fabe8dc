//! The host's half of the contract in `wit/`, in each version that is served.
//!
//! What a guest imports is generated from the WIT of its version ([`v1`],
//! [`v2`]). What it exports is written here, since messages go in by
//! reference, without a copy of each field, and the types are checked against
//! the guest's when it is prepared: the version whose types they are is the
//! one that the guest is called by. Inside the host there is one shape of
//! each: [`Message`], [`Outgoing`](super::Outgoing), [`HandlerFailure`], [`Refusal`].

use std::time::Duration;

use courier_core::message::{Kind, Message, Timestamp};
use wasmtime::Store;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentType, Func, InstancePre, Lower};

use super::guest::Guest;
use super::{AttemptInfo, Call, World};

/// Why an attempt did not succeed, in the guest's words.
#[derive(Debug)]
pub(super) enum HandlerFailure {
    Error(String),
    Retry { reason: String, after: Option<Duration> },
    Reject(String),
    Unavailable { reason: String, after: Option<Duration> },
}

/// Why an import refuses a call.
#[derive(Debug)]
pub(super) enum Refusal {
    Denied(String),
    Limit(String),
    Invalid(String),
    Unavailable(String),
}

/// A version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContractVersion {
    V1,
    V2,
}

/// What a call of the guest came to, for each of its items.
pub(super) type Outcomes = Vec<Result<(), HandlerFailure>>;

impl ContractVersion {
    /// The version whose handler of this world has the type of `function`. The
    /// error tells how the type differs from that of the newest version, or of
    /// the first one when the component imports that (`imports_first`).
    pub(super) fn of(
        function: &ComponentFunc,
        pre: &InstancePre<Guest>,
        world: World,
        imports_first: bool,
    ) -> wasmtime::Result<Self> {
        let first = v1::check_type(function, pre, world);
        let second = v2::check_type(function, pre, world);
        match (first, second) {
            (_, Ok(())) => Ok(Self::V2),
            (Ok(()), Err(_)) => Ok(Self::V1),
            (Err(error), Err(_)) if imports_first => Err(error),
            (Err(_), Err(error)) => Err(error),
        }
    }

    /// Calls a handler whose type is that of this version and world.
    pub(super) async fn call(
        self,
        store: &mut Store<Guest>,
        handler: Func,
        world: World,
        calls: &[Call<'_>],
        deadline: Timestamp,
    ) -> wasmtime::Result<Outcomes> {
        match self {
            Self::V1 => v1::call(store, handler, world, calls, deadline).await,
            Self::V2 => v2::call(store, handler, world, calls, deadline).await,
        }
    }
}

/// The exports of a version, from its `MessageIn` and its generated `HandlerFailure`.
macro_rules! exports {
    () => {
        type HandleParams<'a> = (MessageIn<'a>, AttemptIn<'a>);
        type HandleResults = (Result<(), types::Failure>,);
        type BatchParams<'a> = (Vec<DeliveryIn<'a>>,);
        type BatchResults = (Vec<Result<(), types::Failure>>,);

        /// `delivery` of the contract.
        #[derive(ComponentType, Lower)]
        #[component(record)]
        pub(super) struct DeliveryIn<'a> {
            message: MessageIn<'a>,
            attempt: AttemptIn<'a>,
        }

        /// Checks that a handler has the type of this version.
        pub(super) fn check_type(
            function: &ComponentFunc,
            pre: &InstancePre<Guest>,
            world: World,
        ) -> wasmtime::Result<()> {
            match world {
                World::Handler => function.typecheck::<HandleParams<'_>, HandleResults>(&pre.instance_type()),
                World::BatchHandler => function.typecheck::<BatchParams<'_>, BatchResults>(&pre.instance_type()),
            }
        }

        /// Calls a handler that [`check_type`] found to be of this version.
        pub(super) async fn call(
            store: &mut Store<Guest>,
            handler: Func,
            world: World,
            calls: &[Call<'_>],
            deadline: Timestamp,
        ) -> wasmtime::Result<Outcomes> {
            let policy = Arc::clone(&store.data().policy);
            let group = policy.group.as_str();
            match (world, calls) {
                (World::Handler, [call]) => {
                    let params = (MessageIn::new(call.message), AttemptIn::new(group, &call.attempt, deadline));
                    // SAFETY: the function's type was checked against these
                    // very types when the component was prepared (`check_type`),
                    // and `handler` is that function of an instance of it.
                    let handle = unsafe { TypedFunc::<HandleParams<'_>, HandleResults>::new_unchecked(handler) };
                    let (result,) = handle.call_async(store, params).await?;
                    Ok(vec![result.map_err(Into::into)])
                }
                (World::Handler, _) => {
                    wasmtime::bail!("a handler of one message was called with {}", calls.len())
                }
                (World::BatchHandler, _) => {
                    let items: Vec<DeliveryIn<'_>> = calls
                        .iter()
                        .map(|call| DeliveryIn {
                            message: MessageIn::new(call.message),
                            attempt: AttemptIn::new(group, &call.attempt, deadline),
                        })
                        .collect();
                    // SAFETY: as above, with the types of a batch handler.
                    let handle = unsafe { TypedFunc::<BatchParams<'_>, BatchResults>::new_unchecked(handler) };
                    let (results,) = handle.call_async(store, (items,)).await?;
                    Ok(results.into_iter().map(|result| result.map_err(Into::into)).collect())
                }
            }
        }

        impl types::Host for Guest {}

        impl From<Refusal> for types::Refusal {
            fn from(refusal: Refusal) -> Self {
                match refusal {
                    Refusal::Denied(text) => Self::Denied(text),
                    Refusal::Limit(text) => Self::Limit(text),
                    Refusal::Invalid(text) => Self::Invalid(text),
                    Refusal::Unavailable(text) => Self::Unavailable(text),
                }
            }
        }
    };
}

pub(super) mod v1;
pub(super) mod v2;

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

impl<'a> AttemptIn<'a> {
    /// The attempt as the contract has it.
    fn new(group: &'a str, attempt: &'a AttemptInfo, deadline: Timestamp) -> Self {
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

impl KindIn {
    fn of(message: &Message) -> Self {
        match message.kind {
            Kind::Event => Self::Event,
            Kind::Broadcast => Self::Broadcast,
        }
    }
}

/// The contract knows no time before 1970.
fn micros(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}
