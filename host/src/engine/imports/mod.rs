//! The imports that a guest can reach: those of the contract, one file each, and
//! the interfaces of WASI 0.2 that every standard library asks for, with nothing
//! behind them ([`wasi`]).
//!
//! Each import that a binding must grant checks the grant itself, and refuses
//! with the setting to change. No argument of a guest makes an import trap.

mod cache;
mod config;
mod http;
mod log;
mod publish;
mod state;
#[cfg(test)]
mod tests;
pub(super) mod wasi;

use wasmtime::component::{HasSelf, Linker};

use super::contract::Refusal;
use super::guest::{Effects, Guest};
use super::limits::{EFFECT_OVERHEAD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::engine::contract::{v1, v2};

/// The package of the contract, and the versions of it that are served.
pub(super) const PACKAGE: &str = "courier:plugin";
/// The major versions that are served. Within one, interfaces are only added, and
/// an interface that is not known here is refused by its name.
pub(super) const VERSIONS: [&str; 2] = ["1.", "2."];
/// The beginning of an import's version in version 1.
pub(super) const FIRST_VERSION: &str = "@1.";

/// The interfaces of the contract that a component may import.
pub(super) const INTERFACES: [&str; 8] =
    ["types", "publish", "batch-publish", "state", "batch-state", "cache", "config", "log"];

/// Adds every import to a linker.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($interface:path),*) => {$(
            {
                use $interface as interface;
                interface::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
            }
        )*};
    }
    link!(v1::publish, v1::batch_publish, v1::state, v1::batch_state, v1::cache, v1::config, v1::log);
    link!(v2::publish, v2::batch_publish, v2::state, v2::batch_state, v2::cache, v2::config, v2::log);
    http::link(linker)?;
    wasi::link(linker)
}

impl Guest {
    /// The effects of an item. A handler of one message has item 0 only.
    fn item(&mut self, item: u32) -> Result<&mut Effects, Refusal> {
        let items = self.effects.len();
        usize::try_from(item)
            .ok()
            .and_then(|item| self.effects.get_mut(item))
            .ok_or_else(|| Refusal::Invalid(format!("item {item} is not one of the {items} in this call")))
    }

    /// Refuses an import without an item in a call of several items: its effect would
    /// belong to none of them.
    fn single(&self, import: &str) -> Result<(), Refusal> {
        if self.effects.len() == 1 {
            return Ok(());
        }
        Err(Refusal::Invalid(format!("`{import}` is for handlers of one message: use `batch-{import}`, with the item")))
    }

    /// Takes an effect's bytes from the call's `output`.
    fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        let output = self.output.saturating_add(bytes).saturating_add(EFFECT_OVERHEAD_BYTES);
        if output > self.policy.output {
            let limit = super::fault::size(self.policy.output as u64);
            return Err(Refusal::Limit(format!("the effects of this call are over the limit of {limit}")));
        }
        self.output = output;
        Ok(())
    }

    fn denied(&self, what: &str, remedy: &str) -> Refusal {
        Refusal::Denied(format!("binding of group {} does not grant {what}: {remedy}", self.policy.group))
    }
}

/// Checks the bounds of a key and a value of state or cache.
fn check_pair(key: &str, value: Option<&[u8]>) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::Invalid("the key is empty".into()));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(Refusal::Limit(format!("the key has {} bytes, the limit is {MAX_KEY_BYTES}", key.len())));
    }
    if key.contains('\0') {
        return Err(Refusal::Invalid("the key contains a NUL character".into()));
    }
    match value {
        Some(value) if value.len() > MAX_VALUE_BYTES => {
            Err(Refusal::Limit(format!("the value has {} bytes, the limit is {MAX_VALUE_BYTES}", value.len())))
        }
        _ => Ok(()),
    }
}
