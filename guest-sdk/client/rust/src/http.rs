//! Asks a host, and tells what its answer means.

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::{PublishError, Receipt, State};

/// The answer for one message.
#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    id: Option<String>,
    state: State,
    #[serde(default)]
    retrying: bool,
    problem: Option<Problem>,
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
    items: Option<Vec<Item>>,
}

/// What a try came to.
pub(crate) enum Tried {
    /// One answer a message.
    Answered(Vec<Answered>),
    /// All of it is refused.
    Refused(PublishError),
    /// Try again.
    Again(String),
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
            None => {
                Answered::Taken(Receipt { id: self.id.unwrap_or_default(), state: self.state, retrying: self.retrying })
            }
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

/// Posts messages, an array if there are several, and reads the answer.
pub(crate) async fn post(
    http: &reqwest::Client,
    url: &Url,
    token: Option<&str>,
    trace: Option<&str>,
    body: String,
    many: bool,
) -> Tried {
    let mut request = http.post(url.clone()).header("content-type", "application/json").body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(trace) = trace {
        request = request.header("traceparent", trace);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_builder() => {
            let why = error.without_url().to_string();
            return Tried::Refused(PublishError::Invalid { id: None, why });
        }
        Err(error) => return Tried::Again(reason(error)),
    };
    let status = answer.status();
    match answer.text().await {
        Ok(text) => read(status, &text, many),
        Err(error) => Tried::Again(reason(error)),
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
            Err(error) => Tried::Again(format!("the answer is not a host's: {error}")),
        };
    }
    let problem = serde_json::from_str::<Problem>(text).ok();
    if let Some(items) = problem
        .as_ref()
        .is_some_and(|problem| problem.items.is_some())
        .then_some(())
        .and(serde_json::from_str::<Items>(text).ok().map(|answer| answer.items))
    {
        return Tried::Answered(items.into_iter().map(Item::answered).collect());
    }
    let (why, id) = match problem {
        Some(problem) => (words(&problem.title, problem.detail.as_deref()), problem.id),
        None => (format!("answered {status}"), None),
    };
    if passes(status.as_u16()) {
        Tried::Again(why)
    } else {
        Tried::Refused(PublishError::Refused { id, status: status.as_u16(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_what_to_do() {
        let taken = read(StatusCode::ACCEPTED, r#"{"id":"m","state":"SEND_FAIL","retrying":true}"#, false);
        let Tried::Answered(items) = taken else { panic!() };
        let expected = Receipt { id: "m".into(), state: State::SendFail, retrying: true };
        assert!(matches!(&items[..], [Answered::Taken(receipt)] if *receipt == expected));
        let conflict = r#"{"title":"id is taken","status":409,"detail":"other content","id":"m"}"#;
        let Tried::Refused(error) = read(StatusCode::CONFLICT, conflict, false) else { panic!() };
        assert!(!error.can_retry() && error.to_string().contains("id is taken: other content"), "{error}");
        for status in [408, 429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(read(status, "<html>", false), Tried::Again(_)), "{status}");
        }
        let none = r#"{"title":"nothing accepted","status":400,"items":[
            {"id":"a","state":"SEND_FAIL","problem":{"title":"x","status":400}},
            {"id":"b","state":"SEND_FAIL","problem":{"title":"y","status":503}}]}"#;
        let Tried::Answered(items) = read(StatusCode::BAD_REQUEST, none, true) else { panic!() };
        assert!(matches!(items[..], [Answered::Refused(_), Answered::Again(_)]));
    }
}
