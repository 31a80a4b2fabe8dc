//! The tables about the host itself: `[server]`, `[store]`, `[auth]`,
//! `[transactions]`, `[[plugin]]` and `[[outbox]]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;

use super::names::{name, names, plugin_name};
use super::reader::{Section, Value};
use super::report::ByteRange;
use super::{
    Auth, DatabaseUrl, OutboxConfig, PluginRule, Role, Secret, Server, StoreConfig, TokenConfig, TransactionsConfig,
    secret, secret_source, tls, units,
};

/// The tables that a file may have.
pub(super) const SECTIONS: [&str; 9] =
    ["server", "kafka", "store", "auth", "transactions", "outbox", "topic", "plugin", "binding"];

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 86_400);
const MAX_RETENTION: Duration = Duration::from_secs(3_650 * 86_400);
const MAX_TOKENS: usize = 10_000;
/// Longest source of a message.
const MAX_SOURCE_CHARS: usize = 255;
/// Fewest characters of a token: 128 random bits in Base64. A shorter one may be
/// guessed from a stolen hash.
const LEAST_TOKEN_CHARS: usize = 22;

const ROLES: [(&str, Role); 4] =
    [("viewer", Role::Viewer), ("publisher", Role::Publisher), ("operator", Role::Operator), ("admin", Role::Admin)];

/// `[server]`.
pub(super) fn server(root: &Section<'_>) -> Server {
    let section = root.section("server", &["listen", "node", "public_url", "tls"]);
    Server {
        listen: section.get("listen").and_then(|value| listen(&value)).unwrap_or(DEFAULT_LISTEN),
        node: section.get("node").and_then(|value| name(&value, "host-1")).unwrap_or_else(host_name),
        public_url: section.get("public_url").and_then(|value| public_url(&value)),
        tls: tls::tls(&section),
    }
}

fn public_url(value: &Value<'_>) -> Option<Url> {
    let text = value.text("https://courier.example.com")?;
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            // The session's cookie is valid for the whole host.
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(plain);
    if url.is_none() {
        value.wrong(
            format!("`{}` is no address of a host alone", value.path),
            "write what people open in a browser, without a path: \"https://courier.example.com\"",
        );
    }
    url
}

fn listen(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text("127.0.0.1:7070")?;
    let address = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let parsed = address.parse().ok();
    if parsed.is_none() {
        value.wrong(
            format!("`{}` is {text:?}, which is no address", value.path),
            "write an IP address and a port: \"127.0.0.1:7070\", \"0.0.0.0:7070\" or \"[::1]:7070\"",
        );
    }
    parsed
}

/// Refuses an address that other machines can reach while no token is needed.
pub(super) fn open_without_tokens(root: &Section<'_>, server: &Server, auth: &Auth) {
    let listen = root.get("server").and_then(|value| value.as_open_section()?.get("listen"));
    let Some(value) = listen else { return };
    // Tokens with errors are reported on their own.
    let written = root.get("auth").and_then(|value| value.as_open_section()?.get("tokens"));
    let none = auth.tokens.is_empty() && !written.is_some_and(|tokens| tokens.has_items());
    if server.listen.ip().is_loopback() || !none {
        return;
    }
    value.wrong(
        format!("{} can be reached from other machines, and no token is needed", server.listen),
        "listen on \"127.0.0.1:7070\", or add [auth] with tokens = [{ name = \"ops\", role = \"admin\", env = \"OPS_TOKEN\" }]",
    );
}

/// Warns when tokens come from other machines without TLS, so that anybody on the
/// way can read them.
pub(super) fn warn_of_tokens_without_tls(root: &Section<'_>, server: &Server, auth: &Auth) {
    let listen = root.get("server").and_then(|value| value.as_open_section()?.get("listen"));
    let Some(value) = listen.filter(|_| !server.listen.ip().is_loopback() && !auth.tokens.is_empty()) else { return };
    if server.is_reached_over_tls() {
        return;
    }
    root.reader.warn(
        &value.span,
        format!("tokens travel to {} without TLS: whoever is on the way can read and use them", server.listen),
        "add [server.tls] with cert and key; or, when a proxy in front has TLS, say so: public_url = \"https://..\"",
    );
}

/// The host name of this machine, with '-' for characters that no name may have.
fn host_name() -> String {
    let mut bytes = [0_u8; 256];
    // SAFETY: the pointer and the length are those of `bytes`, which outlives
    // the call.
    let answer = unsafe { libc::gethostname(bytes.as_mut_ptr().cast(), bytes.len()) };
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let raw = if answer == 0 { String::from_utf8_lossy(&bytes[..length]).into_owned() } else { String::new() };
    let clean: String = raw.chars().map(|c| if units::name(&c.to_string()).is_ok() { c } else { '-' }).collect();
    if units::name(&clean).is_ok() { clean } else { "courier".to_owned() }
}

/// `[store]`.
pub(super) fn store(root: &Section<'_>) -> StoreConfig {
    let section = root.section("store", &["url", "retention"]);
    let url = section.get("url").and_then(|value| database(&value, "sqlite://courier.db"));
    let retention = section.get("retention").and_then(|value| value.duration(Duration::from_secs(60)..=MAX_RETENTION));
    StoreConfig {
        url: url.unwrap_or_else(|| "sqlite://courier.db".into()),
        retention: retention.unwrap_or(DEFAULT_RETENTION),
    }
}

/// The URL of a database, as text or as a secret, since it may hold a password.
fn database(value: &Value<'_>, example: &str) -> Option<DatabaseUrl> {
    let fetched;
    let url = match value.as_text() {
        Some(text) => text,
        None if value.as_open_section().is_some() => {
            fetched = value.secret()?;
            fetched.expose()
        }
        None => value.text(example)?,
    };
    // A secret from outside may be the wrong one, so that no part of it is known
    // to be harmless.
    let shown = if value.as_text().is_some() || url.contains("://") {
        secret::shown_url(url)
    } else {
        secret::HIDDEN_URL.to_owned()
    };
    let remedy = "write \"sqlite://courier.db\" or \"postgres://user@host:5432/database\"";
    if let Some(path) = url.strip_prefix("sqlite://") {
        if path.is_empty() || path.starts_with('?') {
            value.wrong(format!("`{}` is {shown:?}, which names no file", value.path), remedy);
            return None;
        }
        return Some(url.into());
    }
    let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if !postgres || Url::parse(url).is_err() {
        value.wrong(format!("`{}` is {shown:?}, which is neither SQLite nor PostgreSQL", value.path), remedy);
        return None;
    }
    Some(url.into())
}

/// `[auth]`.
pub(super) fn auth(root: &Section<'_>) -> Auth {
    let section = root.section("auth", &["tokens"]);
    let known = ["name", "role", "env", "file", "topics", "groups", "sources"];
    let tables = section.sections("tokens", &known);
    if let Some(extra) = tables.get(MAX_TOKENS) {
        section.reader.problem(&extra.span, "too many tokens", format!("at most {MAX_TOKENS} are held"));
    }
    let mut tokens: Vec<(TokenConfig, ByteRange, ByteRange)> = Vec::new();
    for table in tables.iter().take(MAX_TOKENS) {
        let Some((token, name_span)) = token(table) else { continue };
        if let Some((_, first, _)) = tokens.iter().find(|(other, ..)| other.name == token.name) {
            let message = format!("two tokens are named {:?}", token.name);
            section.reader.clash(&name_span, first, "first here", message, "give each token a name of its own");
        }
        let same = |other: &TokenConfig| other.secret.expose() == token.secret.expose();
        if let Some((other, _, first)) = tokens.iter().find(|(other, ..)| same(other)) {
            let message = format!("the tokens {:?} and {:?} have the same secret", other.name, token.name);
            let remedy = "give each token a secret of its own: nothing else tells their holders apart";
            section.reader.clash(&table.span, first, "the other one", message, remedy);
        }
        tokens.push((token, name_span, table.span.clone()));
    }
    Auth { tokens: tokens.into_iter().map(|(token, ..)| token).collect() }
}

fn token(table: &Section<'_>) -> Option<(TokenConfig, ByteRange)> {
    let name = table.require("name", "name its holder: name = \"shop\"");
    let role = table.require("role", "it may be \"viewer\", \"publisher\", \"operator\" or \"admin\"");
    let role = role.and_then(|value| value.word(&ROLES));
    let secret = match (table.get("env"), table.get("file")) {
        (Some(source), None) | (None, Some(source)) => secret_source::fetch(&source),
        (None, None) => {
            let remedy = "say where the secret is: env = \"SHOP_TOKEN\" or file = \"path\"";
            table.reader.problem(&table.span, "the token has no secret", remedy);
            None
        }
        (Some(_), Some(second)) => {
            table.reader.problem(&second.key_span, "the token has two secrets", "keep either `env` or `file`");
            None
        }
    };
    if let Some(secret) = &secret {
        warn_if_weak(table, &name, secret);
    }
    let limit = |key, example| match table.get(key) {
        Some(value) => names(&value, example).filter(|names| {
            if names.is_empty() {
                value.wrong(format!("`{key}` is empty"), format!("name some, or leave `{key}` out to allow all"));
            }
            !names.is_empty()
        }),
        None => None,
    };
    let (topics, groups) = (limit("topics", "order"), limit("groups", "stock"));
    let sources = table.get("sources").and_then(|value| value.texts("shop", source));
    let name_span = name.as_ref()?.span.clone();
    let name = name.and_then(|value| super::names::name(&value, "shop"))?;
    Some((TokenConfig { name, role: role?, secret: secret?, topics, groups, sources }, name_span))
}

/// The name of a sending service, which may be a path or a URL.
fn source(value: &Value<'_>, text: &str) -> Option<String> {
    if text.is_empty() || text.chars().count() > MAX_SOURCE_CHARS || text.chars().any(char::is_control) {
        let remedy = format!("write 1 to {MAX_SOURCE_CHARS} characters without control characters: \"/eu/shop\"");
        value.wrong(format!("{text:?} is no source"), remedy);
        return None;
    }
    Some(text.to_owned())
}

/// `[[plugin]]`.
pub(super) fn plugins(root: &Section<'_>) -> Vec<PluginRule> {
    let mut rules: Vec<(PluginRule, ByteRange)> = Vec::new();
    for table in root.sections("plugin", &["name", "imports"]) {
        let name = table.require("name", "name the plugin: name = \"order-handler\"");
        let name_span = name.as_ref().map(|value| value.span.clone());
        let name = name.and_then(|value| plugin_name(&value, "order-handler"));
        let imports = table.require("imports", "name what it may import: imports = [\"courier:plugin/publish\"]");
        let imports = imports.and_then(|value| value.texts("courier:plugin/publish", import));
        let (Some(name), Some(span), Some(imports)) = (name, name_span, imports) else { continue };
        if let Some((_, first)) = rules.iter().find(|(other, _)| other.name == name) {
            let message = format!("the plugin {name:?} stands twice");
            table.reader.clash(&span, first, "first here", message, "put what it may import into one of them");
        }
        rules.push((PluginRule { name, imports }, span));
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// An interface or a package, without its version.
fn import(value: &Value<'_>, text: &str) -> Option<String> {
    let word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let right = text.split_once(':').is_some_and(|(namespace, rest)| {
        word(namespace) && (1..=2).contains(&rest.split('/').count()) && rest.split('/').all(word)
    });
    if !right {
        let remedy = "write an interface or a package without its version: \"courier:plugin/publish\" or \"wasi:http\"";
        value.wrong(format!("{text:?} is no import"), remedy);
        return None;
    }
    Some(text.to_owned())
}

/// Warns of a secret that is short enough to be guessed.
fn warn_if_weak(table: &Section<'_>, name: &Option<Value<'_>>, secret: &Secret) {
    let chars = secret.expose().chars().count();
    if chars >= LEAST_TOKEN_CHARS {
        return;
    }
    let whose = name.as_ref().and_then(Value::as_text).unwrap_or_default();
    table.reader.warn(
        &table.span,
        format!(
            "the secret of the token {whose:?} is weak: it has {chars} characters, and {LEAST_TOKEN_CHARS} are needed"
        ),
        "make one of 128 random bits or more: openssl rand -base64 24",
    );
}

/// `[transactions]`.
pub(super) fn transactions(root: &Section<'_>) -> TransactionsConfig {
    let section = root.section("transactions", &["check_urls"]);
    let example = "https://shop.example.com/*";
    let urls = section.get("check_urls").and_then(|value| value.texts(example, check_url));
    TransactionsConfig { check_urls: urls.unwrap_or_default() }
}

fn check_url(value: &Value<'_>, text: &str) -> Option<String> {
    let fixed = text.strip_suffix('*').unwrap_or(text);
    let url = Url::parse(fixed).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url.filter(Url::has_host) else {
        let remedy = "write an http or https URL with a host: \"https://shop.example.com/*\"";
        value.wrong(format!("`{}` has {text:?}, which is no such URL", value.path), remedy);
        return None;
    };
    // `https://shop*` would also allow `https://shop.evil.example`.
    let after_host = fixed.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if fixed.contains('*') || (text.ends_with('*') && !after_host) {
        let remedy =
            format!("a `*` may stand only at the end, after the host: \"{}/*\"", url.origin().ascii_serialization());
        value.wrong(format!("`{}` has {text:?}, whose `*` stands in the wrong place", value.path), remedy);
        return None;
    }
    Some(text.to_owned())
}

/// `[[outbox]]`.
pub(super) fn outboxes(root: &Section<'_>) -> Vec<OutboxConfig> {
    let mut outboxes: Vec<(OutboxConfig, ByteRange)> = Vec::new();
    for table in root.sections("outbox", &["name", "url", "table"]) {
        let name = table.require("name", "name it: name = \"shop\"");
        let name_span = name.as_ref().map(|value| value.span.clone());
        let name = name.and_then(|value| plugin_name(&value, "shop"));
        let url = table.require("url", "name the sender's database: url = \"postgres://user@host/shop\"");
        let url = url.and_then(|value| database(&value, "postgres://user@host/shop"));
        let table_name = match table.get("table") {
            Some(value) => table_of(&value),
            None => Some("courier_outbox".to_owned()),
        };
        let (Some(name), Some(span), Some(url), Some(table_name)) = (name, name_span, url, table_name) else {
            continue;
        };
        let outbox = OutboxConfig { name, url, table: table_name };
        if let Some((_, first)) = outboxes.iter().find(|(other, _)| other.name == outbox.name) {
            let message = format!("two outboxes are named {:?}", outbox.name);
            table.reader.clash(&span, first, "first here", message, "give each outbox a name of its own");
        } else if let Some((other, first)) =
            outboxes.iter().find(|(other, _)| other.url == outbox.url && other.table == outbox.table)
        {
            let message = format!("the outboxes {:?} and {:?} are the same table", other.name, outbox.name);
            table.reader.clash(&span, first, "the other one", message, "remove one: its rows would go out twice");
        }
        outboxes.push((outbox, span));
    }
    outboxes.into_iter().map(|(outbox, _)| outbox).collect()
}

/// A table's name, which cannot be bound in a statement and is therefore held
/// to plain identifiers.
fn table_of(value: &Value<'_>) -> Option<String> {
    let text = value.text("courier_outbox")?;
    let plain = |part: &str| {
        (1..=63).contains(&part.len())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    if text.split('.').count() <= 2 && text.split('.').all(plain) {
        return Some(text.to_owned());
    }
    let remedy = "write letters, digits and '_', with the schema before a dot if there is one: \"shop.courier_outbox\"";
    value.wrong(format!("`{}` is {text:?}, which is no plain name of a table", value.path), remedy);
    None
}
