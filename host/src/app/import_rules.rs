//! Checks the imports of uploads against `[[plugin]]` of the configuration.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::PluginRule;

/// Interfaces with nothing behind them but the handler's own log and types;
/// every component may import them.
const HARMLESS: [&str; 2] = ["courier:plugin/types", "courier:plugin/log"];
/// Of WASI only this reaches anything: the rest is what compilers' libraries
/// ask for, and is empty here.
const WASI: &str = "wasi:";
const WASI_HTTP: &str = "wasi:http";

/// The rules of the configuration in force; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ImportRules(Arc<RwLock<Arc<[PluginRule]>>>);

impl ImportRules {
    /// Replaces the rules.
    pub fn replace(&self, rules: &[PluginRule]) {
        *self.0.write() = rules.into();
    }

    /// Says why a component may not be uploaded as this plugin: it imports what
    /// the configuration does not allow it.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self, plugin: &str, imports: &[String]) -> Result<(), String> {
        let rules = Arc::clone(&self.0.read());
        let Some(rule) = rules.iter().find(|rule| rule.name == plugin) else { return Ok(()) };
        let Some(refused) = imports.iter().find(|import| !is_allowed(import, &rule.imports)) else { return Ok(()) };
        let allowed = match rule.imports.as_slice() {
            [] => "none".to_owned(),
            allowed => format!("only {}", allowed.join(", ")),
        };
        Err(format!(
            "it imports {refused}, and [[plugin]] {plugin:?} of the configuration allows {allowed} beside log, types and \
             what every compiler's library asks for: build it without, or add the import to `imports`"
        ))
    }
}

/// Whether an import is one of those that are allowed, whatever its version.
fn is_allowed(import: &str, allowed: &[String]) -> bool {
    let name = import.split('@').next().unwrap_or(import);
    if HARMLESS.contains(&name) || (name.starts_with(WASI) && !name.starts_with(WASI_HTTP)) {
        return true;
    }
    let package = name.split('/').next().unwrap_or(name);
    // What a batch handler imports does the same for each of its items.
    let name = name.replace("/batch-", "/");
    let is =
        |allowed: &str| allowed == name || allowed == package || package == WASI_HTTP && allowed.starts_with(package);
    allowed.iter().any(|allowed| is(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &[&str], imports: &[&str]) -> Result<(), String> {
        let rules = ImportRules::default();
        let imports: Vec<String> = imports.iter().map(|import| (*import).to_owned()).collect();
        let allowed = allowed.iter().map(|import| (*import).to_owned()).collect();
        rules.replace(&[PluginRule { name: "stock".to_owned(), imports: allowed }]);
        rules.check("other", &imports)?;
        rules.check("stock", &imports)
    }

    #[test]
    fn an_upload_with_an_import_that_its_plugin_is_not_allowed_is_refused() {
        let usual = ["courier:plugin/types@2.0.0", "courier:plugin/log@2.0.0", "wasi:cli/environment@0.2.6"];
        check(&[], &usual).unwrap();
        let why = check(&[], &["courier:plugin/publish@2.0.0"]).unwrap_err();
        assert!(why.contains("imports courier:plugin/publish@2.0.0") && why.contains("allows none"), "{why}");
        check(&["courier:plugin/publish"], &["courier:plugin/publish@2.0.0", "courier:plugin/batch-publish@1.0.0"])
            .unwrap();
        let why = check(&["courier:plugin/state"], &["wasi:http/outgoing-handler@0.2.6"]).unwrap_err();
        assert!(why.contains("allows only courier:plugin/state beside"), "{why}");
        check(&["wasi:http/outgoing-handler"], &["wasi:http/types@0.2.6", "wasi:http/outgoing-handler@0.2.6"]).unwrap();
        check(&["courier:plugin"], &["courier:plugin/batch-state@2.0.0"]).unwrap();
    }
}
