//! A client of a host's HTTP API.
//!
//! A [`ResponseText`] keeps the text of the response, because `--output json`
//! prints it unchanged; for a table it is read into one of the
//! [`shapes`](super::shapes).

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Certificate, Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::http_client;

/// Longest wait for the response to an upload. The host compiles the component
/// before it responds, and gives up after seven minutes.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(450);
/// Longest wait for any other response.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one host.
pub(super) struct HostClient {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
}

/// The content type of the API.
const JSON: &str = "application/json";

/// The text of a successful response.
#[derive(Debug)]
pub(super) struct ResponseText(String);

impl ResponseText {
    /// The JSON, unchanged.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The JSON as one of the shapes.
    pub fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.0)
            .context("the server's answer has another shape: is it another version of courier?")
    }
}

/// The most items that a page of a list may have.
const MAX_PAGE: &str = "1000";

/// A page of a list, whose items stay as they came.
#[derive(Deserialize)]
struct RawPage {
    items: Vec<Box<RawValue>>,
    next: Option<String>,
}

/// A list in one page.
#[derive(Serialize)]
struct WholeList {
    items: Vec<Box<RawValue>>,
    next: Option<String>,
    truncated: bool,
}

/// The errors of the API (RFC 9457).
#[derive(Deserialize)]
struct ShownProblem {
    title: String,
    #[serde(default)]
    detail: Option<String>,
}

/// An answer that is an error. Its text says what was wrong.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    /// Whether the same request may be answered later, as while a host starts.
    pub fn may_pass(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

impl HostClient {
    /// A client of the host at `base`, which also trusts the CA certificates in the
    /// file `ca`.
    pub fn new(base: &Url, token: Option<&SecretString>, ca: Option<&Path>) -> anyhow::Result<Self> {
        // An empty environment variable means that there is no token.
        let token = token.filter(|token| !token.expose_secret().trim().is_empty());
        if token.is_some_and(|token| token.expose_secret().chars().any(|c| c.is_control() || !c.is_ascii())) {
            bail!("the token (--token or COURIER_TOKEN) has characters that no token can have, such as a line's end");
        }
        let mut builder = http_client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        if is_this_machine(base) {
            // A proxy would look for the host on the proxy's machine.
            builder = builder.no_proxy();
        }
        if let Some(file) = ca {
            builder = builder.tls_certs_merge(certificates(file)?);
        }
        let http = builder.build().context("cannot set up HTTP")?;
        Ok(Self { http, base: base.clone(), token: token.cloned() })
    }

    /// GET with the query parameters that have a value.
    pub async fn get(&self, path: &[&str], query: &[(&str, Option<String>)]) -> anyhow::Result<ResponseText> {
        self.send(Method::GET, self.url(path, query)?, None).await
    }

    /// GET of a list as one page that has all items, for lists of what the configuration
    /// names: there is no page to choose, and one that ends without a word would be taken
    /// for all.
    pub async fn list(&self, path: &[&str]) -> anyhow::Result<ResponseText> {
        let page = |cursor| [("limit", Some(MAX_PAGE.to_owned())), ("cursor", cursor)];
        let mut answer = self.get(path, &page(None)).await?;
        let mut items: Vec<Box<RawValue>> = Vec::new();
        loop {
            let RawPage { items: more, next } = answer.read()?;
            if next.is_none() && items.is_empty() {
                return Ok(answer);
            }
            items.extend(more);
            let Some(next) = next else { break };
            answer = self.get(path, &page(Some(next))).await?;
        }
        let whole = WholeList { items, next: None, truncated: false };
        Ok(ResponseText(serde_json::to_string(&whole)?))
    }

    /// POST.
    pub async fn post(&self, path: &[&str], json: Option<String>) -> anyhow::Result<ResponseText> {
        let body = json.map(|json| (JSON, json.into_bytes()));
        self.send(Method::POST, self.url(path, &[])?, body).await
    }

    /// PUT of a component.
    pub async fn put(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
        component: Vec<u8>,
    ) -> anyhow::Result<ResponseText> {
        self.send(Method::PUT, self.url(path, query)?, Some(("application/wasm", component))).await
    }

    /// POST with query parameters.
    pub async fn post_to(&self, path: &[&str], query: &[(&str, Option<String>)]) -> anyhow::Result<ResponseText> {
        self.send(Method::POST, self.url(path, query)?, None).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &[&str]) -> anyhow::Result<ResponseText> {
        self.delete_from(path, &[]).await
    }

    /// DELETE with query parameters.
    pub async fn delete_from(&self, path: &[&str], query: &[(&str, Option<String>)]) -> anyhow::Result<ResponseText> {
        self.send(Method::DELETE, self.url(path, query)?, None).await
    }

    /// The URL of a path; each segment may be any text.
    fn url(&self, path: &[&str], query: &[(&str, Option<String>)]) -> anyhow::Result<Url> {
        // Servers take these as steps within the path, even when encoded.
        if let Some(odd) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            bail!("{odd:?} is no id");
        }
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().push("v1").extend(path),
            Err(()) => bail!("{} cannot have a path", self.base),
        };
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url)
    }

    async fn send(&self, method: Method, url: Url, body: Option<(&str, Vec<u8>)>) -> anyhow::Result<ResponseText> {
        let is_upload = method == Method::PUT;
        let mut request = self.http.request(method, url).header("accept", JSON);
        if is_upload {
            request = request.timeout(UPLOAD_TIMEOUT);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let is_json =
            response.headers().get("content-type").is_none_or(|kind| kind.as_bytes().starts_with(JSON.as_bytes()));
        let text = response.text().await.map_err(|error| self.unreachable(error))?;
        if status.is_success() && !is_json {
            bail!("{} answers, but not as Courier's API: is it the address of a host, without a path?", self.base);
        }
        if status.is_success() {
            return Ok(ResponseText(text));
        }
        Err(Refused { status, text: explain(status, &text) }.into())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let advice = if error.is_connect() {
            "is `courier serve` or `courier dev` running there? (--server or COURIER_SERVER names another)"
        } else if error.is_timeout() {
            "it did not answer in time; what was asked may still happen"
        } else {
            "the answer did not arrive whole; what was asked may have happened"
        };
        anyhow::Error::new(error.without_url()).context(format!("cannot ask {}: {advice}", self.base))
    }
}

/// The message of an error response.
fn explain(status: StatusCode, text: &str) -> String {
    let advice = match status {
        StatusCode::UNAUTHORIZED => " (--token or COURIER_TOKEN shows one)",
        _ => "",
    };
    match serde_json::from_str::<ShownProblem>(text) {
        Ok(ShownProblem { title, detail: Some(detail) }) if !detail.is_empty() => format!("{title}: {detail}{advice}"),
        Ok(ShownProblem { title, .. }) => format!("{title}{advice}"),
        // A proxy in front of the host answered.
        Err(_) => format!("the server answered {status}{advice}"),
    }
}

/// The certificates in a file.
fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read {} (--ca or COURIER_CA)", file.display()))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        bail!("{} has no certificate (--ca or COURIER_CA): it has to be PEM (BEGIN CERTIFICATE)", file.display());
    }
    Ok(found)
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("");
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> HostClient {
        HostClient::new(&Url::parse(base).unwrap(), None, None).unwrap()
    }

    #[test]
    fn any_text_can_be_an_id() {
        let client = client("http://localhost:7070");
        let url = client.url(&["messages", "a/b?c#d e%é"], &[]).unwrap();
        assert_eq!(url.as_str(), "http://localhost:7070/v1/messages/a%2Fb%3Fc%23d%20e%25%C3%A9");
        for odd in ["", ".", ".."] {
            assert!(client.url(&["messages", odd], &[]).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_path_of_the_server_stays() {
        let query = [("state", Some("HANDLED".to_owned())), ("key", None), ("type", Some("a&b".to_owned()))];
        let url = client("https://example.com/courier/").url(&["messages"], &query).unwrap();
        assert_eq!(url.as_str(), "https://example.com/courier/v1/messages?state=HANDLED&type=a%26b");
    }

    #[test]
    fn a_problem_is_told_by_title_and_detail() {
        let problem = r#"{"type":"about:blank","title":"not found","status":404,"detail":"no group \"a\""}"#;
        assert_eq!(explain(StatusCode::NOT_FOUND, problem), "not found: no group \"a\"");
        assert_eq!(explain(StatusCode::CONFLICT, r#"{"title":"conflict"}"#), "conflict");
        assert_eq!(explain(StatusCode::BAD_GATEWAY, "<html>"), "the server answered 502 Bad Gateway");
        assert!(explain(StatusCode::UNAUTHORIZED, "{\"title\":\"no token\"}").contains("COURIER_TOKEN"));
    }

    #[test]
    fn a_token_of_nothing_is_none_and_an_odd_one_is_refused() {
        let with = |token: &str| HostClient::new(&Url::parse("http://localhost").unwrap(), Some(&token.into()), None);
        assert!(with(" ").unwrap().token.is_none());
        assert!(with("secret").unwrap().token.is_some());
        for odd in ["a\nb", "é"] {
            assert!(with(odd).err().unwrap().to_string().contains("COURIER_TOKEN"), "{odd:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_is_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/console", listener.local_addr().unwrap());
        let page = axum::Router::new().fallback(|| async { axum::response::Html("<!doctype html>") });
        let server = tokio::spawn(async move { axum::serve(listener, page).await });
        let refused = client(&base).get(&["groups"], &[]).await.unwrap_err().to_string();
        assert!(refused.contains("not as Courier's API"), "{refused}");
        server.abort();
    }

    /// The list ended after a hundred items, and nothing said that there were more.
    #[tokio::test]
    async fn a_list_of_several_pages_is_one_with_all_items() {
        type Asked = axum::extract::Query<std::collections::HashMap<String, String>>;
        let pages = axum::Router::new().route(
            "/v1/{list}",
            axum::routing::get(|list: axum::extract::Path<String>, asked: Asked| async move {
                assert_eq!(asked.get("limit").map(String::as_str), Some("1000"));
                let page = match (list.as_str(), asked.get("cursor").map(String::as_str)) {
                    ("nodes", None) => r#"{"items": [],  "next": null, "truncated": false}"#,
                    (_, None) => r#"{"items":[{"b":1.10,"a":2}],"next":"x","truncated":false}"#,
                    (_, Some("x")) => r#"{"items":[],"next":"y","truncated":false}"#,
                    _ => r#"{"items":[3],"next":null,"truncated":false}"#,
                };
                ([("content-type", "application/json")], page)
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&format!("http://{}", listener.local_addr().unwrap()));
        let server = tokio::spawn(async move { axum::serve(listener, pages).await });
        let groups = client.list(&["groups"]).await.unwrap();
        assert_eq!(groups.text(), r#"{"items":[{"b":1.10,"a":2},3],"next":null,"truncated":false}"#);
        let nodes = client.list(&["nodes"]).await.unwrap();
        assert_eq!(nodes.text(), r#"{"items": [],  "next": null, "truncated": false}"#, "as it came");
        server.abort();
    }

    #[test]
    fn a_proxy_is_not_asked_for_this_machine() {
        for (url, expected) in
            [("http://127.0.0.1:1", true), ("http://[::1]:1", true), ("http://localhost", true), ("http://a.b", false)]
        {
            assert_eq!(is_this_machine(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
