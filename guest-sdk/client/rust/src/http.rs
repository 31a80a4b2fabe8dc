//! Asks a host, and tells what its answer means.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::{MessageView, PublishError, Receipt, State};

/// A wait that a host asks for is believed up to this.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(60);

/// The answer for one message.
#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    id: Option<String>,
    state: State,
    #[serde(default)]
    retrying: bool,
    problem: Option<Problem>,
    warning: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Items {
    items: Vec<Item>,
}

/// An RFC 9457 problem.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    status: Option<u16>,
    detail: Option<String>,
    id: Option<String>,
}

/// What a try came to.
pub(crate) enum Tried {
    /// One answer a message.
    Answered(Vec<Answered>),
    /// All of it is refused.
    Refused(PublishError),
    /// Try again.
    Again(Again),
}

/// Why there is no answer for certain.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) why: String,
    /// How long the host asks to wait.
    pub(crate) least: Duration,
}

impl From<String> for Again {
    fn from(why: String) -> Self {
        Self { why, least: Duration::ZERO }
    }
}

/// What became of one message.
pub(crate) enum Answered {
    Taken(Receipt),
    Refused(PublishError),
    Again(String),
}

impl Item {
    fn answered(self) -> Answered {
        match self.problem {
            None => Answered::Taken(Receipt {
                id: self.id.unwrap_or_default(),
                state: self.state,
                retrying: self.retrying,
                warning: self.warning,
            }),
            Some(problem) => {
                let status = problem.status.unwrap_or(400);
                let why = words(&problem.title, problem.detail.as_deref());
                if passes(status) {
                    Answered::Again(why)
                } else {
                    Answered::Refused(PublishError::Refused { id: self.id, status, why })
                }
            }
        }
    }
}

/// Whether what this status says may pass by itself.
fn passes(status: u16) -> bool {
    status >= 500 && status != 501 || matches!(status, 408 | 425 | 429)
}

fn words(title: &str, detail: Option<&str>) -> String {
    detail.map_or_else(|| title.to_owned(), |detail| format!("{title}: {detail}"))
}

/// What every request shows to the host.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) token: Option<&'a str>,
    pub(crate) trace: Option<&'a str>,
}

/// Posts messages, an array if there are several, and reads the answer.
pub(crate) async fn post(http: &reqwest::Client, url: &Url, caller: Caller<'_>, body: String, many: bool) -> Tried {
    let request = http.post(url.clone()).header("content-type", "application/json").body(body);
    match answer(request, caller).await {
        Ok((status, text)) => read(status, &text, many),
        Err(tried) => tried,
    }
}

/// Asks for one message, or cancels it. The error says what else came of it.
pub(crate) async fn one(request: reqwest::RequestBuilder, caller: Caller<'_>, id: &str) -> Result<MessageView, Tried> {
    let (status, text) = answer(request, caller).await?;
    if status == StatusCode::OK {
        let not_a_host = |error: serde_json::Error| Tried::Again(format!("the answer is not a host's: {error}").into());
        return serde_json::from_str(&text).map_err(not_a_host);
    }
    let why = why(status, &text).0;
    Err(Tried::Refused(PublishError::Refused { id: Some(id.to_owned()), status: status.as_u16(), why }))
}

/// The answer to a request, if it is one that would be the same each time.
async fn answer(request: reqwest::RequestBuilder, caller: Caller<'_>) -> Result<(StatusCode, String), Tried> {
    let mut request = request.header("accept", "application/json");
    if let Some(token) = caller.token {
        request = request.bearer_auth(token);
    }
    if let Some(trace) = caller.trace {
        request = request.header("traceparent", trace);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_builder() => {
            let why = error.without_url().to_string();
            return Err(Tried::Refused(PublishError::Invalid { id: None, why }));
        }
        Err(error) => return Err(Tried::Again(reason(error).into())),
    };
    let (status, least) = (answer.status(), retry_after(answer.headers()));
    let text = answer.text().await.map_err(|error| Tried::Again(reason(error).into()))?;
    if passes(status.as_u16()) {
        return Err(Tried::Again(Again { why: why(status, &text).0, least }));
    }
    Ok((status, text))
}

/// How long the host asks to wait.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).min(RETRY_AFTER_LIMIT)
}

/// What an answer that is no success says, and of which message.
fn why(status: StatusCode, text: &str) -> (String, Option<String>) {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => (words(&problem.title, problem.detail.as_deref()), problem.id),
        Err(_) => (format!("answered {status}"), None),
    }
}

/// The causes of an error in a line; the outermost says little.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        words = format!("{words}: {next}");
        cause = next.source();
    }
    words
}

fn read(status: StatusCode, text: &str, many: bool) -> Tried {
    if status == StatusCode::ACCEPTED {
        let items = if many {
            serde_json::from_str::<Items>(text).map(|answer| answer.items)
        } else {
            serde_json::from_str::<Item>(text).map(|item| vec![item])
        };
        return match items {
            Ok(items) => Tried::Answered(items.into_iter().map(Item::answered).collect()),
            // Something between us and the host answered.
            Err(error) => Tried::Again(format!("the answer is not a host's: {error}").into()),
        };
    }
    if let Ok(answer) = serde_json::from_str::<Items>(text) {
        return Tried::Answered(answer.items.into_iter().map(Item::answered).collect());
    }
    let (why, id) = why(status, text);
    Tried::Refused(PublishError::Refused { id, status: status.as_u16(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_ask_to_wait() {
        let asks = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(asks("3"), Duration::from_secs(3));
        assert_eq!(asks("86400"), RETRY_AFTER_LIMIT);
        assert_eq!(asks("Wed, 21 Oct 2026 07:28:00 GMT"), Duration::ZERO);
    }

    #[test]
    fn answers_tell_what_to_do() {
        let taken = read(StatusCode::ACCEPTED, r#"{"id":"m","state":"SEND_FAIL","retrying":true}"#, false);
        let Tried::Answered(items) = taken else { panic!() };
        let expected = Receipt { id: "m".into(), state: State::SendFail, retrying: true, warning: None };
        assert!(matches!(&items[..], [Answered::Taken(receipt)] if *receipt == expected));
        let conflict = r#"{"title":"id is taken","status":409,"detail":"other content","id":"m"}"#;
        let Tried::Refused(error) = read(StatusCode::CONFLICT, conflict, false) else { panic!() };
        assert!(!error.can_retry() && error.to_string().contains("id is taken: other content"), "{error}");
        assert!([408, 425, 429, 500, 502, 503, 504].into_iter().all(passes));
        assert!(![302, 400, 401, 403, 409, 413, 501].into_iter().any(passes));
        let none = r#"{"title":"nothing accepted","status":400,"items":[
            {"id":"a","state":"SEND_FAIL","problem":{"title":"x","status":400}},
            {"id":"b","state":"SEND_FAIL","problem":{"title":"y","status":503}}]}"#;
        let Tried::Answered(items) = read(StatusCode::BAD_REQUEST, none, true) else { panic!() };
        assert!(matches!(items[..], [Answered::Refused(_), Answered::Again(_)]));
    }
}
