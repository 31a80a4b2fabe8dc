//! How many sandboxes the configuration asks for, and whether they fit.

use crate::config::{Binding, Config, Problem};
use crate::engine::Capacity;

/// The pool of sandboxes for these bindings on this machine.
#[must_use]
pub fn capacity(bindings: &[Binding]) -> Capacity {
    Capacity::of_this_machine(bindings.iter().map(|binding| binding.concurrency as u64).sum())
}

/// Warns of bindings that may want more sandboxes at once than a pool of
/// `slots` has.
pub fn warn_of_shortage(config: &mut Config, slots: u32) {
    if let Some(shortage) = capacity(&config.bindings).shortage(slots) {
        let remedy = shortage.remedy.to_owned();
        config.warnings.push(Problem::without_place("concurrency", shortage.message, remedy));
    }
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
