//! `[binding.http]`: where a handler may connect to, and the URL that
//! `http-push` calls.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Kind;
use reqwest::{Certificate, Url};

use super::reader::{Section, Value};
use super::{HTTP_PUSH, HostPort, Http, units};
use crate::addresses;

/// Shortest `broadcast_forget` with `each`. When a host dies, another one takes
/// over its addresses up to 20 s later, once its leases ran out; a shorter value
/// would forget them before.
const LEAST_FORGET_OF_ADDRESSES: Duration = Duration::from_secs(30);

/// The keys of `[binding.config]` that `http-push` reads.
const PUSH_KEYS: [&str; 6] = ["url", "method", "mode", "headers", "forward_headers", "verdicts"];

/// Where the handler may connect to over HTTP.
pub(super) fn http(table: &Section<'_>) -> Http {
    let section = table.section("http", &["allow", "private", "ca"]);
    let allow = if section.get("ca").is_some() {
        section.get("allow")
    } else {
        section.require_if_present("allow", "name where it may connect to: allow = [\"api.example.com:443\"]")
    };
    Http {
        allow: allow.and_then(|value| value.texts("api.example.com:443", host_port)).unwrap_or_default(),
        private: section.get("private").and_then(|value| value.flag()).unwrap_or(false),
        ca: section.get("ca").and_then(|value| ca(&value)),
    }
}

/// Reads the file with the certificates that TLS trusts.
fn ca(value: &Value<'_>) -> Option<Arc<str>> {
    let name = value.text("ca.pem")?;
    let path = Path::new(value.reader.file).parent().unwrap_or(Path::new("")).join(name);
    value.reader.depends_on(path.clone());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let remedy = "create it and let courier read it; a relative path starts at the directory of this file";
            value.wrong(format!("cannot read the certificates {}: {error}", path.display()), remedy);
            return None;
        }
    };
    let found = Certificate::from_pem_bundle(text.as_bytes()).map_or(0, |all| all.len());
    if found == 0 {
        value.wrong(
            format!("there is no certificate in {}", path.display()),
            "write certificates as PEM into it: -----BEGIN CERTIFICATE-----",
        );
        return None;
    }
    Some(text.into())
}

/// Warns of a binding of `http-push` that can push nothing. An error would stop a
/// host whose operators uploaded a plugin of their own with that name.
pub(super) fn check_push(table: &Section<'_>) {
    let config = table.open_section("config");
    let example = "write below [binding.config]: url = \"https://stock.example.com/courier\"";
    let Some(url) = config.get("url") else {
        if let Some(plugin) = table.get("plugin") {
            table.reader.warn(&plugin.span, "http-push calls a URL, and none is named", example);
        }
        return;
    };
    if let Some(why) = url.as_text().and_then(|text| wrong_url(text)) {
        table.reader.warn(&url.span, format!("`{}` {why}", url.path), example);
    }
    for (name, value) in config.entries() {
        if name == "each" {
            let message = "`each` stands in [[binding]] itself, and http-push does not read it here";
            table.reader.warn(&value.key_span, message, "write each = true above, beside `plugin`");
        } else if !PUSH_KEYS.contains(&name) {
            let remedy = match units::closest(name, &PUSH_KEYS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it knows {}", units::listed(&PUSH_KEYS)),
            };
            table.reader.warn(&value.key_span, format!("http-push does not know `{name}`"), remedy);
        }
    }
}

/// Whether every address of the service gets every broadcast. A binding in which
/// that cannot work is refused.
pub(super) fn each(table: &Section<'_>, plugin: &str, topics: &[String], broadcast_forget: Duration) -> bool {
    let Some(value) = table.get("each") else { return false };
    if value.flag() != Some(true) {
        return false;
    }
    if plugin != HTTP_PUSH {
        value.wrong(
            format!("`each` is for plugin = \"http-push\", and this binding has {plugin:?}"),
            "remove it: a handler that runs in the host hears each broadcast once on every node",
        );
        return false;
    }
    let too_long = |topic: &&String| Kind::Broadcast.log_topic(topic).len() > units::MAX_NAME;
    if let Some(topic) = topics.iter().find(too_long) {
        value.wrong(
            format!("`each` is for broadcasts, and the topic {topic:?} can have none: its name is too long for that"),
            "remove `each`, or give the topic a shorter name",
        );
    }
    if let Some(forget) = table.get("broadcast_forget").filter(|_| broadcast_forget < LEAST_FORGET_OF_ADDRESSES) {
        let (found, least) = (units::show_duration(broadcast_forget), units::show_duration(LEAST_FORGET_OF_ADDRESSES));
        forget.wrong(
            format!("`broadcast_forget` is {found}, and an address waits longer for a host after its own has died"),
            format!("with `each` write at least broadcast_forget = \"{least}\""),
        );
    }
    let url = table.open_section("config").get("url");
    if let Some(url) = url.filter(|url| {
        url.as_text().and_then(|text| Url::parse(text).ok()).is_some_and(|url| addresses::literal(&url).is_some())
    }) {
        url.wrong(
            format!("`each` wants every address of a name, and `{}` has an address in its place", url.path),
            "write a name that has the addresses of all instances, such as that of a headless service",
        );
    }
    true
}

/// Why this URL cannot be called; `None` if it can.
fn wrong_url(text: &str) -> Option<&'static str> {
    let Some(url) = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    else {
        return Some("is no http or https URL with a host");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("has a user or a password: they belong in the secret `authorization`");
    }
    let nowhere = |address: IpAddr| !addresses::operator_may_reach(address, true);
    addresses::literal(&url).is_some_and(nowhere).then_some("leads to an address where no service lives")
}

fn host_port(value: &Value<'_>, text: &str) -> Option<HostPort> {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if let Some((host, port)) = split.filter(|(_, port)| *port != 0) {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let right = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_dns_name(host.strip_prefix("*.").unwrap_or(host)),
        };
        if right {
            return Some(HostPort { host: bracketed.unwrap_or(host).to_lowercase(), port });
        }
    }
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().filter(|host| is_dns_name(host)).unwrap_or("api.example.com");
    let port = if text.starts_with("http://") { 80 } else { 443 };
    let remedy = format!(
        "write one host and its port, without scheme or path (`*.` before a name for all below it): \"{bare}:{port}\""
    );
    value.wrong(format!("`{}` has {text:?}", value.path), remedy);
    None
}

/// Whether this is a DNS name or an IPv4 address.
fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}
