//! Asks a sender whether its transaction committed.
//!
//! The URL comes from a sender, and this host fetches it. So the host fetches
//! only what `[transactions] check_urls` allows, follows no redirect, and
//! connects only to addresses that were checked when the name was resolved. A
//! pattern names its host, which may be inside the own network; link-local
//! addresses, where clouds answer with secrets of their machines, are never
//! asked. Time, answer and the requests to one host are bounded, so that a slow
//! host delays no other.

use std::collections::HashMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::addresses;
use crate::http_client;

/// Longest check URL, in bytes.
pub const MAX_CHECK_URL_BYTES: usize = 2 * 1024;
/// How long one asking may take, connecting included.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// Bytes of an unknown answer that are shown.
const SHOWN_BYTES: usize = 200;

/// Requests to one host at a time.
const MAX_ASKINGS_OF_HOST: usize = 4;
/// What no part of a URL that a pattern leaves open may have: what a server
/// behind may read as a step in the path although it is none here, with `%25`
/// for who decodes twice, and what begins parameters of a path or of a query.
const NOT_IN_OPEN_PART: [&str; 4] = ["%2f", "%5c", "%25", ";"];
/// The parameter that the host adds: the transaction's id.
const ID: &str = "id";

/// A sender's answer about its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckBackAnswer {
    /// It committed.
    Committed,
    /// It rolled back.
    RolledBack,
    /// It gave another answer, which is kept here.
    Unknown(String),
    /// It could not be asked, or the answer was no answer about the transaction; the text says why.
    Unreachable(String),
}

/// Which URLs may be asked, and how; clones share it, so that a reload of the
/// configuration reaches all.
#[derive(Clone)]
pub struct CheckUrls {
    patterns: Arc<RwLock<Arc<Vec<String>>>>,
    client: Client,
    hosts: Hosts,
}

/// Counts the requests to each host under way; clones share it.
#[derive(Clone, Default)]
struct Hosts(Arc<Mutex<HashMap<String, Arc<Semaphore>>>>);

impl Hosts {
    /// Leave to ask the host of this URL; none when enough askings of it are
    /// under way.
    fn leave_for(&self, url: &Url) -> Option<OwnedSemaphorePermit> {
        let mut hosts = self.0.lock();
        // Drops the entries of hosts that are not asked now.
        hosts.retain(|_, free| free.available_permits() < MAX_ASKINGS_OF_HOST);
        let host = hosts.entry(url.host_str().unwrap_or_default().to_owned());
        let free = host.or_insert_with(|| Arc::new(Semaphore::new(MAX_ASKINGS_OF_HOST)));
        Arc::clone(free).try_acquire_owned().ok()
    }
}

#[derive(Deserialize)]
struct CheckBackBody {
    state: String,
}

impl CheckUrls {
    /// Allows what these patterns of `[transactions] check_urls` allow.
    ///
    /// # Errors
    /// When no HTTP client can be had.
    pub fn new(patterns: &[String]) -> Result<Self, reqwest::Error> {
        let client = http_client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(ASK_WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            .dns_resolver(Arc::new(Checked))
            .build()?;
        let patterns = Arc::new(RwLock::new(Arc::new(patterns.to_vec())));
        Ok(Self { patterns, client, hosts: Hosts::default() })
    }

    /// Replaces the patterns.
    pub fn replace(&self, patterns: &[String]) {
        *self.patterns.write() = Arc::new(patterns.to_vec());
    }

    /// The URL, if it may be asked.
    ///
    /// # Errors
    /// Why not, and what would be right.
    pub fn allow(&self, text: &str) -> Result<Url, String> {
        if text.len() > MAX_CHECK_URL_BYTES {
            return Err(format!("check_url has {} bytes; at most {MAX_CHECK_URL_BYTES} are taken", text.len()));
        }
        let shown = crate::publish::cut(text, SHOWN_BYTES);
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| format!("check_url {shown:?} is no http or https URL with a host"))?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(format!("check_url {shown:?} has a user, a password or a fragment; write it without"));
        }
        if url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case(ID)) {
            return Err(format!(
                "check_url {shown:?} has a parameter `id`, which is the transaction's; name it otherwise"
            ));
        }
        if addresses::literal(&url).is_some_and(|address| !addresses::operator_may_reach(address, true)) {
            return Err(format!("check_url {shown:?} leads to an address that no service lives at; name another host"));
        }
        let patterns = Arc::clone(&self.patterns.read());
        if patterns.iter().any(|pattern| matches(pattern, &url)) {
            return Ok(url);
        }
        if patterns.iter().any(|pattern| is_open_to(pattern, &url)) {
            return Err(format!(
                "check_url {shown:?} has one of `%2f`, `%5c`, `%25` and `;` where [transactions] check_urls has its `*`; \
                 write it without"
            ));
        }
        // The patterns are left out: they name the hosts of other tenants.
        let allowed = if patterns.is_empty() { "none is" } else { "others are" };
        Err(format!(
            "check_url {shown:?} is not allowed; {allowed}: an operator names what may be asked in [transactions] \
             check_urls of courier.toml"
        ))
    }

    /// Asks about one transaction.
    pub async fn ask(&self, text: &str, id: &str) -> CheckBackAnswer {
        // Allowed when it was prepared, but the configuration may have changed.
        let mut url = match self.allow(text) {
            Ok(url) => url,
            Err(why) => return CheckBackAnswer::Unreachable(why),
        };
        let Some(_leave) = self.hosts.leave_for(&url) else {
            return CheckBackAnswer::Unreachable(format!(
                "{MAX_ASKINGS_OF_HOST} other transactions are asked of the host of its check_url, which is slow to answer"
            ));
        };
        url.query_pairs_mut().append_pair(ID, id);
        match tokio::time::timeout(ASK_WITHIN, self.fetch(url)).await {
            Ok(answer) => answer,
            Err(_) => {
                CheckBackAnswer::Unreachable(format!("its check_url did not answer within {} s", ASK_WITHIN.as_secs()))
            }
        }
    }

    async fn fetch(&self, url: Url) -> CheckBackAnswer {
        let mut response = match self.client.get(url).header("accept", "application/json").send().await {
            Ok(response) => response,
            Err(error) => {
                return CheckBackAnswer::Unreachable(format!("its check_url did not answer: {}", cause(error)));
            }
        };
        let status = response.status();
        if status.is_redirection() {
            return CheckBackAnswer::Unreachable(format!(
                "its check_url answered {status}; redirects are not followed"
            ));
        }
        // Such an answer is about the server itself, not about the transaction.
        if !status.is_success() {
            return CheckBackAnswer::Unreachable(format!("its check_url answered {status}"));
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER_BYTES => {
                    return CheckBackAnswer::Unknown(format!("its answer has more than {MAX_ANSWER_BYTES} bytes"));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    return CheckBackAnswer::Unreachable(format!(
                        "the answer of its check_url broke off: {}",
                        cause(error)
                    ));
                }
            }
        }
        read(&body)
    }
}

/// What an answer says.
fn read(body: &[u8]) -> CheckBackAnswer {
    let said = serde_json::from_slice::<CheckBackBody>(body).map(|said| said.state);
    match said.as_deref() {
        Ok("COMMITTED") => CheckBackAnswer::Committed,
        Ok("ROLLED_BACK") => CheckBackAnswer::RolledBack,
        Ok("UNKNOWN") => CheckBackAnswer::Unknown("it answered UNKNOWN".to_owned()),
        _ => {
            let text = String::from_utf8_lossy(body);
            let shown = crate::publish::cut(&text, SHOWN_BYTES);
            CheckBackAnswer::Unknown(format!(
                "it answered {shown:?}, which is none of {{\"state\": \"COMMITTED\" | \"ROLLED_BACK\" | \"UNKNOWN\"}}"
            ))
        }
    }
}

/// The cause of an error in its own words, without the URL, which people see
/// beside it.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

/// Whether a pattern allows a URL: the same scheme, host and port, and the
/// same path and query, of which a `*` at the pattern's end leaves the rest
/// open. Both are parsed, so that `..` and letter case say nothing.
fn matches(pattern: &str, url: &Url) -> bool {
    match open_part(pattern, url) {
        Some(open) => !has_tricks(&open),
        None => Url::parse(pattern).is_ok_and(|fixed| place(url) == place(&fixed) && rest(url) == rest(&fixed)),
    }
}

/// Whether a pattern would allow a URL but for what its open part has.
fn is_open_to(pattern: &str, url: &Url) -> bool {
    open_part(pattern, url).is_some_and(|open| has_tricks(&open))
}

/// What of a URL stands for the `*` of a pattern; none when the pattern has none
/// or is of other URLs.
fn open_part(pattern: &str, url: &Url) -> Option<String> {
    let fixed = Url::parse(pattern.strip_suffix('*')?).ok()?;
    let open = rest(url).strip_prefix(rest(&fixed).as_str()).map(ToOwned::to_owned);
    open.filter(|_| place(url) == place(&fixed))
}

fn has_tricks(open: &str) -> bool {
    let open = open.to_ascii_lowercase();
    NOT_IN_OPEN_PART.iter().any(|trick| open.contains(trick))
}

fn place(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

fn rest(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// Resolves names to the addresses that may be connected to, so that what was
/// checked is what is connected to. A URL that has an address for a host does
/// not come here: [`CheckUrls::allow`] judges it.
struct Checked;

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let local = addresses::is_localhost(&name);
            let may_reach = |address: &SocketAddr| addresses::operator_may_reach(address.ip(), local);
            let good: Vec<SocketAddr> = found.into_iter().filter(may_reach).collect();
            if good.is_empty() {
                return Err(format!("{name} has no address that may be connected to").into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(patterns: &[&str]) -> CheckUrls {
        CheckUrls::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_url_is_allowed_by_its_pattern_and_by_nothing_that_looks_like_it() {
        let urls = urls(&["https://shop.example.com/tx/*", "http://127.0.0.1:9000/check"]);
        for good in [
            "https://shop.example.com/tx/1",
            "https://SHOP.example.com:443/tx/?a=b",
            "https://shop.example.com/x/../tx/1",
            "http://127.0.0.1:9000/check",
        ] {
            assert!(urls.allow(good).is_ok(), "{good}");
        }
        for bad in [
            "http://shop.example.com/tx/1",
            "https://shop.example.com:8443/tx/1",
            "https://shop.example.com/other",
            "https://shop.example.com/tx/../admin",
            "https://shop.example.com/tx/%2e%2e/admin",
            "https://shop.example.com.evil.example/tx/1",
            "https://shop.example.com@evil.example/tx/1",
            "https://user:secret@shop.example.com/tx/1",
            "https://shop.example.com/tx/1#x",
            "http://127.0.0.1:9000/check?x=1",
            "http://127.0.0.1:9000/check/more",
            "ftp://shop.example.com/tx/1",
            "shop.example.com/tx/1",
            "",
        ] {
            assert!(urls.allow(bad).is_err(), "{bad}");
        }
        // Issue 17: it listed the patterns, and with them the hosts of other tenants.
        let why = urls.allow("https://evil.example/").unwrap_err();
        assert!(!why.contains("shop.example.com") && !why.contains("127.0.0.1"), "{why}");
        assert!(why.contains("an operator names what may be asked in [transactions] check_urls"), "{why}");
        urls.replace(&[]);
        assert!(urls.allow("https://shop.example.com/tx/1").unwrap_err().contains("[transactions] check_urls"));
    }

    /// Item 15: what a proxy or a server behind decodes must not leave what the
    /// pattern allows, and the id that is asked for is the transaction's.
    #[test]
    fn the_open_part_has_no_tricks_and_no_id_of_its_own() {
        let urls = urls(&["https://shop.example.com/tx/*", "https://shop.example.com/a%2fb;c"]);
        for bad in [
            "https://shop.example.com/tx/..%2fadmin",
            "https://shop.example.com/tx/..%2Fadmin",
            "https://shop.example.com/tx/..%5Cadmin",
            "https://shop.example.com/tx/..;/admin",
            "https://shop.example.com/tx/%252e%252e%252fadmin",
            "https://shop.example.com/tx/1?a=b;id=other",
        ] {
            let why = urls.allow(bad).unwrap_err();
            assert!(why.contains("write it without"), "{bad}: {why}");
        }
        for bad in ["https://shop.example.com/tx/1?id=other", "https://shop.example.com/tx/1?a=b&%69D="] {
            let why = urls.allow(bad).unwrap_err();
            assert!(why.contains("a parameter `id`"), "{bad}: {why}");
        }
        for good in ["https://shop.example.com/tx/%c3%a9?order=1&idea=2", "https://shop.example.com/a%2fb;c"] {
            assert!(urls.allow(good).is_ok(), "{good}: the operator wrote the fixed part");
        }
        let why = urls.allow("https://evil.example/%2f").unwrap_err();
        assert!(why.contains("is not allowed"), "{why}");
    }

    #[test]
    fn a_slow_host_holds_up_no_other() {
        let hosts = Hosts::default();
        let url = |host: &str| Url::parse(&format!("https://{host}/")).unwrap();
        let mut askings: Vec<_> =
            (0..MAX_ASKINGS_OF_HOST).map(|_| hosts.leave_for(&url("slow.example")).unwrap()).collect();
        assert!(hosts.leave_for(&url("slow.example")).is_none());
        let other = hosts.leave_for(&url("quick.example"));
        assert!(other.is_some());
        askings.pop();
        assert!(hosts.leave_for(&url("slow.example")).is_some());
        drop((askings, other));
        assert!(hosts.leave_for(&url("new.example")).is_some());
        assert_eq!(hosts.0.lock().len(), 1, "hosts that nobody asks are forgotten");
    }

    #[test]
    fn no_pattern_leads_to_where_no_service_lives() {
        let named = ["http://169.254.169.254/*", "http://0.0.0.0/*", "http://[fe80::1]/*", "http://[fd00:ec2::254]/*"];
        let urls = urls(&[&named[..], &["http://10.0.0.1/*", "http://[::1]/*"]].concat());
        for never in named {
            let why = urls.allow(never.trim_end_matches('*')).unwrap_err();
            assert!(why.contains("no service lives at"), "{why}");
        }
        // Another spelling of the first.
        assert!(urls.allow("http://0xa9fea9fe/").is_err());
        assert!(urls.allow("http://10.0.0.1/x").is_ok() && urls.allow("http://[::1]/x").is_ok());
    }

    #[test]
    fn an_answer_is_one_of_three_words() {
        assert_eq!(read(br#"{"state": "COMMITTED", "more": 1}"#), CheckBackAnswer::Committed);
        assert_eq!(read(br#"{"state":"ROLLED_BACK"}"#), CheckBackAnswer::RolledBack);
        for odd in [&br#"{"state":"UNKNOWN"}"#[..], b"COMMITTED", br#"{"state":"committed"}"#, b"", b"\xff"] {
            assert!(matches!(read(odd), CheckBackAnswer::Unknown(_)), "{odd:?}");
        }
        let CheckBackAnswer::Unknown(why) = read("é".repeat(10_000).as_bytes()) else { panic!("it says nothing") };
        assert!(why.len() < 1_000, "{why}");
    }
}
