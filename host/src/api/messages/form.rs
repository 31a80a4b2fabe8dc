//! The forms of a request to publish, which all become drafts.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Defaults, bad};
use super::{cloudevents, json};
use crate::api::intake;
use crate::api::ports::Draft;
use crate::api::problem::Problem;

/// Most messages of one request.
const MAX_MESSAGES: usize = 10_000;
/// Headers that mark a request as a binary CloudEvent.
const BINARY: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];

/// A form of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One message or an array of them in this API's own JSON.
    Json,
    /// One CloudEvent, its attributes beside its data.
    Structured,
    /// An array of structured CloudEvents.
    Batch,
    /// One CloudEvent, its attributes in `ce-` headers.
    Binary,
}

/// The messages of a request.
#[derive(Debug)]
pub struct Published {
    /// Its messages, in order.
    pub items: Vec<Read>,
    /// Whether the response is a list of receipts, and not one receipt or problem.
    pub many: bool,
}

/// A message, or why it could not be read.
pub type Read = Result<Draft, Box<Unread>>;

impl Published {
    fn one(item: Read) -> Self {
        Self { items: vec![item], many: false }
    }
}

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// What is wrong with it.
    pub problem: Problem,
    /// The part that could be read, if it has a topic: the send side keeps a row of
    /// it, so that people can find it.
    pub kept: Option<Box<Draft>>,
}

impl Form {
    /// The form that the headers name.
    ///
    /// # Errors
    /// 415 that names the content types of publishing.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let essence = intake::essence(headers);
        let form = match essence.as_str() {
            "application/cloudevents+json" => Self::Structured,
            "application/cloudevents-batch+json" => Self::Batch,
            // The data of a binary CloudEvent may have any content type. An event
            // that lacks an attribute gets that error, and is not read as another
            // form.
            _ if BINARY.iter().any(|name| headers.contains_key(*name)) => return Ok(Self::Binary),
            "application/json" => Self::Json,
            other => {
                let sent = if other.is_empty() { "no content type".into() } else { format!("{other:?}") };
                return Err(Problem::unsupported_media(format!(
                    "messages come as application/json, application/cloudevents+json, \
                     application/cloudevents-batch+json, or with ce- headers; this has {sent}"
                )));
            }
        };
        match charset(headers) {
            // Both names are in use, and only the first is registered.
            Some(other) if !matches!(other.as_str(), "utf-8" | "utf8") => Err(Problem::unsupported_media(format!(
                "JSON is UTF-8 here, and this announces charset {other:?}; send it as UTF-8 with charset=utf-8 or none"
            ))),
            _ => Ok(form),
        }
    }

    /// Reads the messages of a body.
    ///
    /// # Errors
    /// When the body as a whole cannot be read: no JSON, or too many messages.
    pub fn read(self, headers: &HeaderMap, body: Bytes, defaults: &Defaults) -> Result<Published, Problem> {
        let one = |raw: &RawValue| match self {
            Self::Json => json::read(raw, defaults),
            _ => cloudevents::read_structured(raw, defaults),
        };
        if self == Self::Binary {
            let text =
                |name| headers.get(name).and_then(|value: &HeaderValue| cloudevents::header_text(value.as_bytes()));
            let id = text("ce-id").filter(|id| !id.is_empty());
            let kept_body = body.clone();
            let draft = cloudevents::read_binary(headers, body, defaults);
            let topic = text("ce-topic");
            return Ok(Published::one(draft.map_err(|problem| {
                let kept = defaults.salvage(topic, None, id.clone(), kept_body, &problem);
                Box::new(Unread { id, problem, kept })
            })));
        }
        let is_array = body.trim_ascii_start().first() == Some(&b'[');
        if !is_array && self == Self::Batch {
            return Err(bad("a batch of CloudEvents is an array, and this is none"));
        }
        if is_array && self == Self::Structured {
            return Err(bad("this is an array: send it as application/cloudevents-batch+json"));
        }
        if !is_array {
            return Ok(Published::one(match whole::<&RawValue>(&body) {
                Ok(raw) => one(raw).map_err(|problem| unread(raw, problem, defaults)),
                // With `?topic=` people can find even this message.
                Err(problem) => match defaults.salvage(None, None, None, body.clone(), &problem) {
                    None => return Err(problem),
                    kept => Err(Box::new(Unread { id: None, problem, kept })),
                },
            }));
        }
        let items: Vec<&RawValue> = whole(&body)?;
        if items.is_empty() && self == Self::Json {
            return Err(bad("the array is empty; put at least one message in it"));
        }
        if items.len() > MAX_MESSAGES {
            let detail = format!("a request may have {MAX_MESSAGES} messages at most, and this has {}", items.len());
            return Err(Problem::too_large(detail));
        }
        let read = items
            .into_iter()
            .enumerate()
            .map(|(at, raw)| one(raw).map_err(|problem| unread(raw, problem.at(&format!("items[{at}]")), defaults)));
        Ok(Published { items: read.collect(), many: true })
    }
}

fn charset(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let parameter = value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })?;
    Some(parameter.trim().trim_matches('"').to_ascii_lowercase())
}

fn whole<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| bad(format!("the body is no JSON: {error}")))
}

/// A message that cannot be read, with the part that can.
fn unread(raw: &RawValue, problem: Problem, defaults: &Defaults) -> Box<Unread> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    let text = |name: &str| members.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let body = members.get("body").or_else(|| members.get("data")).copied().unwrap_or(raw);
    let body = Bytes::copy_from_slice(body.get().as_bytes());
    let id = id_of(raw);
    let kept = defaults.salvage(text("topic"), text("type"), id.clone(), body, &problem);
    Box::new(Unread { id, problem, kept })
}

/// The id of a message that is wrong elsewhere, so that its sender can identify it.
fn id_of(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        id: Option<String>,
    }
    serde_json::from_str::<Id>(raw.get()).ok()?.id.filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_content_type_tells_the_form() {
        let form =
            |content_type| Form::of(&headers(&[("content-type", content_type)])).map_err(|problem| problem.status);
        assert_eq!(form("application/json"), Ok(Form::Json));
        assert_eq!(form("Application/JSON; charset=\"UTF-8\""), Ok(Form::Json));
        assert_eq!(form("application/cloudevents+json; charset=utf-8"), Ok(Form::Structured));
        assert_eq!(form("application/cloudevents-batch+json"), Ok(Form::Batch));
        assert_eq!(form("application/json; charset=utf8"), Ok(Form::Json));
        assert_eq!(form("application/json;charset=UTF8"), Ok(Form::Json));
        assert_eq!(form("application/json; charset=latin1"), Err(415));
        assert_eq!(form("text/plain"), Err(415));
        assert_eq!(form("application/x-www-form-urlencoded"), Err(415));
        assert_eq!(Form::of(&HeaderMap::new()).unwrap_err().status, 415);
        let binary = headers(&[("content-type", "text/csv; charset=latin1"), ("ce-specversion", "1.0")]);
        assert_eq!(Form::of(&binary), Ok(Form::Binary));
        let unsaid = headers(&[("content-type", "application/json"), ("ce-id", "1")]);
        assert_eq!(Form::of(&unsaid), Ok(Form::Binary));
        let both = headers(&[("content-type", "application/cloudevents+json"), ("ce-specversion", "1.0")]);
        assert_eq!(Form::of(&both), Ok(Form::Structured));
    }

    #[test]
    fn what_is_no_json_says_where() {
        let read =
            |form: Form, body: &'static str| form.read(&HeaderMap::new(), Bytes::from(body), &Defaults::default());
        let detail = |form, body| read(form, body).unwrap_err().detail;
        assert!(detail(Form::Json, "{\"a\":").contains("line 1 column 5"));
        assert!(detail(Form::Json, "").contains("no JSON"));
        assert!(detail(Form::Json, "[]").contains("empty"));
        assert!(detail(Form::Json, "{} {}").contains("trailing"));
        assert!(detail(Form::Json, "[\"\u{e9}\"").contains("no JSON"));
        assert!(detail(Form::Batch, "{}").contains("array"));
        assert!(detail(Form::Structured, "[]").contains("batch"));
        let batch = read(Form::Batch, "[]").unwrap();
        assert!(batch.many && batch.items.is_empty());
    }

    #[test]
    fn an_item_that_is_wrong_is_named_by_place_and_id() {
        let body = r#"[{"topic":"a","type":"T","body":1},{"id":"x","topic":"a","typ":"T"},7]"#;
        let items = Form::Json.read(&HeaderMap::new(), Bytes::from(body), &Defaults::default()).unwrap().items;
        assert!(items[0].is_ok());
        let wrong = items[1].as_ref().unwrap_err();
        assert_eq!(wrong.id.as_deref(), Some("x"));
        assert!(wrong.problem.detail.starts_with("items[1]: ") && wrong.problem.detail.contains("`typ` is unknown"));
        assert!(items[2].as_ref().unwrap_err().problem.detail.starts_with("items[2]: "));
    }

    #[test]
    fn a_request_may_not_have_messages_without_end() {
        let body = format!("[{}1]", "1,".repeat(MAX_MESSAGES));
        let problem = Form::Json.read(&HeaderMap::new(), body.into(), &Defaults::default()).unwrap_err();
        assert_eq!(problem.status, 413);
    }

    #[test]
    fn the_requests_trace_is_carried_unless_the_message_has_its_own() {
        let traced = headers(&[("traceparent", "00-a-b-01"), ("tracestate", "x=1")]);
        let defaults = Defaults::new(None, "shop", &traced);
        let read = |body: &str| json::read(serde_json::from_str(body).unwrap(), &defaults).unwrap();
        let draft = read(r#"{"topic":"a","type":"T","body":1}"#);
        assert_eq!(draft.source, "shop");
        assert_eq!(
            draft.headers.iter().map(|header| header.name.as_str()).collect::<Vec<_>>(),
            ["traceparent", "tracestate"]
        );
        let own = read(r#"{"topic":"a","type":"T","body":1,"source":"s","headers":{"traceparent":"00-c-d-01"}}"#);
        assert_eq!((own.source.as_str(), own.headers.len()), ("s", 1));
        assert!(Defaults::new(None, "", &headers(&[("tracestate", "x=1")])).trace.is_empty());
    }
}
