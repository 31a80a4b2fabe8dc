//! `courier.toml`: what it may say, and where it says something wrong.
//!
//! [`parse`] turns text into a [`Config`] in which nothing is left to check:
//! every name is one that Kafka takes, every number is within its bounds and
//! every secret has been fetched. It reports all the errors of a file at once,
//! each with its line, its column and what would be right, because a person
//! who corrects a file wants to do so once.
//!
//! Nothing here starts anything or remembers an older configuration; a reload
//! parses again and compares the [`Binding`]s.
//!
//! [`settings`] is what comes out. Read [`reader`] next for how a spanned tree of
//! TOML is walked. [`host`], [`kafka`], [`schema`] (`[[topic]]`), [`binding`],
//! [`http`] and [`trace`] say what each key means; [`units`] and [`names`] read
//! durations, sizes and names, [`secret_source`] fetches secrets, [`secret`] keeps
//! them out of messages, [`tls`] reads certificates, and [`report`] draws the
//! errors. [`lint`] warns of settings that are valid and will not work well.

mod binding;
mod differences;
mod host;
mod http;
mod kafka;
mod lint;
mod names;
mod reader;
mod report;
mod schema;
mod secret;
mod secret_source;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod trace;
mod units;

use std::path::Path;

pub use self::binding::MAX_COPIED_BYTES;
pub use self::report::{ConfigError, ConfigProblem};
pub use self::schema::{MessageSchema, TopicRule};
pub use self::secret::{DatabaseUrl, Secret};
pub use self::settings::{
    Auth, Binding, Circuit, Config, Grant, GroupStart, HTTP_PUSH, HostPort, Http, Isolation, Kafka, Ordering,
    OutboxConfig, OwnTopics, PluginRef, PluginRule, Property, Role, Server, StoreConfig, TokenConfig,
    TransactionsConfig,
};
pub use self::tls::Tls;
pub use self::trace::Trace;
pub use self::units::{closest, duration as parse_duration, plugin_name, show_duration, show_size, size as parse_size};

/// Parses and validates. `file` names the text in messages, and secret files
/// are looked for beside it; `env` returns the value of an environment variable.
pub fn parse(file: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let (tree, broken) = toml::de::DeTable::parse_recoverable(text);
    let reader = reader::FileReader::new(file, text, env);
    if !broken.is_empty() {
        // Errors about the incomplete tree would only repeat these.
        return Err(reader.syntax(&broken));
    }
    let root = reader::Section::root(&reader, &tree, &host::SECTIONS);
    let server = host::server(&root);
    let auth = host::auth(&root);
    host::open_without_tokens(&root, &server, &auth);
    host::warn_of_tokens_without_tls(&root, &server, &auth);
    let store = host::store(&root);
    let retention = store.retention;
    let (kafka, transactions) = (kafka::kafka(&root), host::transactions(&root));
    let (outboxes, plugins) = (host::outboxes(&root), host::plugins(&root));
    let (topics, bindings) = (schema::topics(&root), binding::bindings(&root, retention));
    lint::lint(&root);
    let reader::Findings { warnings, files } = reader.finish()?;
    Ok(Config { server, kafka, store, auth, transactions, outboxes, plugins, topics, bindings, warnings, files })
}

/// Reads, parses and validates a file, with this process's environment.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&file, &text, &|name| std::env::var(name).ok()),
        Ok(Err(not_text)) => {
            let upto = not_text.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(not_text.as_bytes()).into_owned();
            Err(ConfigError::at(&file, &text, upto, "the file is not UTF-8 here", "save the file as UTF-8"))
        }
        Err(error) => Err(ConfigError::unreadable(&file, &error)),
    }
}
