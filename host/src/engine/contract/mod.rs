//! The host's half of the contract in `wit/`, in each version that is served.
//!
//! The imports of a guest are generated from the WIT of its version ([`v1`],
//! [`v2`]). The exports are written here, since messages are lowered by
//! reference, without a copy of each field. Their types are checked against the
//! guest's when it is prepared, and the version that has the guest's types is
//! the one by which it is called. The rest of the host uses one type of each:
//! [`Message`](courier_core::message::Message), [`Outgoing`](super::Outgoing),
//! [`HandlerFailure`], [`Refusal`].

use courier_core::message::Timestamp;
use wasmtime::Store;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{Func, InstancePre};

pub(super) use self::shared::{HandlerFailure, Outcomes, Refusal};
use super::guest::Guest;
use super::{Call, World};

/// A version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContractVersion {
    V1,
    V2,
}

impl ContractVersion {
    /// The version whose handler of this world has the type of `function`. The error
    /// says how the type differs from that of the newest version, or of the first
    /// version when the component imports that (`imports_first`).
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

    /// Calls a handler of this version and world.
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

/// The exports of a version, from its `MessageIn` and its generated types.
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

        /// Calls a handler that passed [`check_type`] of this version.
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
                    // SAFETY: `check_type` compared the function's type with these very types
                    // when the component was prepared, and `handler` is that function of an
                    // instance of it.
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

mod shared;
pub(super) mod v1;
pub(super) mod v2;
