//! How the engine is set up: how many sandboxes the configuration asks for,
//! whether they fit, and where machine code comes from.

use std::path::PathBuf;

use crate::config::{Binding, Config, ConfigProblem};
use crate::engine::{Capacity, EngineSettings};

/// The pool of sandboxes for these bindings on this machine.
#[must_use]
pub fn capacity(bindings: &[Binding]) -> Capacity {
    Capacity::of_this_machine(bindings.iter().map(|binding| binding.concurrency as u64).sum())
}

/// Sizes the pool for the bindings, and warns of bindings that do not fit.
/// Returns the slots of the pool.
pub fn size_pool(config: &mut Config) -> u32 {
    let capacity = capacity(&config.bindings);
    tracing::info!(
        sandboxes = capacity.slots,
        wanted = capacity.wanted,
        by_max_map_count = capacity.by_mappings,
        by_memory = capacity.by_memory,
        "pool of sandboxes sized"
    );
    warn_of_shortage(config, capacity.slots);
    capacity.slots
}

/// Warns of bindings that may want more sandboxes at once than a pool of
/// `slots` has.
pub fn warn_of_shortage(config: &mut Config, slots: u32) {
    if let Some(shortage) = capacity(&config.bindings).shortage(slots) {
        let remedy = shortage.remedy.to_owned();
        config.warnings.push(ConfigProblem::without_place("concurrency", shortage.message, remedy));
    }
}

/// How the engine runs components here, with a pool of `slots`.
#[must_use]
pub fn settings(slots: u32, cache_key: [u8; 32]) -> EngineSettings {
    EngineSettings { compiler: compiler(), cache_dir: cache_dir(), cache_key, slots }
}

/// The program that compiles, in a process that can be killed: the very binary
/// that runs here, by the kernel's own name for it. After an upgrade another
/// one lies at its path, whose code this engine would not take.
fn compiler() -> Option<PathBuf> {
    const THIS_BINARY: &str = "/proc/self/exe";
    if std::fs::exists(THIS_BINARY).is_ok_and(|exists| exists) {
        return Some(THIS_BINARY.into());
    }
    std::env::current_exe().ok()
}

/// Where compiled artefacts, and the tools that build handlers, are kept between
/// runs: a restart must not compile everything again. A variable that is set to
/// nothing counts as not set.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let user = || named("XDG_CACHE_HOME").map(|dir| dir.join("courier"));
    let home = || named("HOME").map(|dir| dir.join(".cache/courier"));
    named("COURIER_CACHE_DIR").or_else(user).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_concurrency_above_the_pool_is_a_warning_with_the_numbers() {
        let binding = |group: &str| {
            format!("[[binding]]\ngroup = \"{group}\"\ntopics = [\"a\"]\nplugin = \"p\"\nconcurrency = 5000\n")
        };
        let text = binding("g") + &binding("h");
        let mut config = crate::config::parse("courier.toml", &text, &|_| None).unwrap();
        warn_of_shortage(&mut config, 10_000);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        warn_of_shortage(&mut config, 9_999);
        let told = config.warnings[0].to_string();
        assert!(told.contains("adds up to 10000, and this host has 9999 sandboxes"), "{told}");
    }
}
