//! A message that is about to be sent.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use courier_sdk::{Event, Outgoing};
use jiff::{RoundMode, TimestampRound, Unit};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::PublishError;

/// A message with an id of its own. It can be sent any number of times and is
/// one message: a host that knows the id answers as it did before.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) type_name: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) body: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) broadcast: bool,
    pub(crate) due: Option<Due>,
}

/// When a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Due {
    After(Duration),
    At(SystemTime),
}

impl Draft {
    /// The message of an event, with a new id.
    ///
    /// # Errors
    /// When the event cannot be written as JSON.
    pub fn of<E: Event + Serialize>(event: &E) -> Result<Self, PublishError> {
        let id = uuid::Uuid::now_v7().to_string();
        let invalid = |why: String| PublishError::Invalid { id: Some(id.clone()), why };
        let outgoing = Outgoing::new(event).map_err(|refusal| invalid(refusal.to_string()))?;
        let body = String::from_utf8(outgoing.body.unwrap_or_default()).map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            id,
            topic: outgoing.topic,
            type_name: outgoing.type_,
            key: outgoing.key,
            body,
            headers: Vec::new(),
            broadcast: false,
            due: None,
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// An id of the service's own, such as that of the order it is about: then
    /// a service that forgot whether it sent the message may send it again.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// A further header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The trace that the message belongs to, as in the header `traceparent`
    /// of W3C Trace Context.
    pub fn traceparent(self, value: impl Into<String>) -> Self {
        self.header("traceparent", value)
    }

    /// Lets every node of each group handle it.
    pub fn broadcast(mut self) -> Self {
        self.broadcast = true;
        self
    }

    /// Delivers it no sooner than this long after the host took it.
    pub fn after(mut self, delay: Duration) -> Self {
        self.due = Some(Due::After(delay));
        self
    }

    /// Delivers it no sooner than at a time.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.due = Some(Due::At(time));
        self
    }

    /// The headers as one JSON object; a name that repeats has an array.
    pub(crate) fn headers_json(&self) -> Value {
        let mut object = Map::new();
        for (name, value) in &self.headers {
            let value = Value::from(value.clone());
            match object.get_mut(name) {
                None => {
                    object.insert(name.clone(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(one) => *one = Value::Array(vec![one.take(), value]),
            }
        }
        Value::Object(object)
    }

    /// The message as the host reads it.
    pub(crate) fn wire<'a>(&'a self, source: Option<&'a str>) -> Result<Wire<'a>, PublishError> {
        let body: &RawValue = serde_json::from_str(&self.body)
            .map_err(|error| PublishError::Invalid { id: Some(self.id.clone()), why: error.to_string() })?;
        let text = self.key.as_deref().map(std::str::from_utf8);
        Ok(Wire {
            id: &self.id,
            topic: &self.topic,
            r#type: &self.type_name,
            key: text.and_then(Result::ok),
            key_base64: self
                .key
                .as_ref()
                .filter(|_| text.is_some_and(|text| text.is_err()))
                .map(|key| BASE64.encode(key)),
            source,
            kind: self.broadcast.then_some("broadcast"),
            delay: match self.due {
                Some(Due::After(delay)) => Some(format!("{}ms", millis(delay))),
                _ => None,
            },
            deliver_at: match self.due {
                Some(Due::At(time)) => Some(rfc3339(time, &self.id)?),
                _ => None,
            },
            headers: (!self.headers.is_empty()).then(|| self.headers_json()),
            body,
        })
    }
}

/// Whole milliseconds, rounded up so that nothing is early.
pub(crate) fn millis(delay: Duration) -> u128 {
    delay.as_nanos().div_ceil(1_000_000)
}

/// A time as the host reads it: whole microseconds, rounded up so that nothing
/// is early.
pub(crate) fn rfc3339(time: SystemTime, id: &str) -> Result<String, PublishError> {
    let whole = TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Ceil);
    jiff::Timestamp::try_from(time)
        .and_then(|time| time.round(whole))
        .map(|time| format!("{time:.6}"))
        .map_err(|error| PublishError::Invalid { id: Some(id.to_owned()), why: format!("deliver_at: {error}") })
}

/// The JSON of `POST /v1/messages`.
#[derive(Serialize)]
pub(crate) struct Wire<'a> {
    id: &'a str,
    topic: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Value>,
    body: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Order {
        number: f64,
    }

    impl Event for Order {
        const TOPIC: &'static str = "order";
        const TYPE: &'static str = "Order";
        fn key(&self) -> Option<Vec<u8>> {
            Some(vec![0xff])
        }
    }

    #[test]
    fn a_time_is_never_written_as_an_earlier_one() {
        let at = |nanos: u64| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos), "o-1").unwrap();
        assert_eq!(at(1_000), "1970-01-01T00:00:00.000001Z");
        assert_eq!(at(1_001), "1970-01-01T00:00:00.000002Z");
        assert_eq!(at(999_999_999), "1970-01-01T00:00:01.000000Z");
    }

    #[test]
    fn a_draft_is_written_as_the_host_reads_it() {
        let draft = Draft::of(&Order { number: 1.5 }).unwrap().with_id("o-1").after(Duration::from_micros(1_200));
        let draft = draft.header("a", "1").header("a", "2").traceparent("00-a-b-01").broadcast();
        let wire = serde_json::to_string(&draft.wire(Some("shop")).unwrap()).unwrap();
        let expected = concat!(
            r#"{"id":"o-1","topic":"order","type":"Order","key_base64":"/w==","source":"shop","kind":"broadcast","#,
            r#""delay":"2ms","headers":{"a":["1","2"],"traceparent":"00-a-b-01"},"body":{"number":1.5}}"#,
        );
        assert_eq!(wire, expected);
        let at = draft.at(SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000));
        let wire = serde_json::to_string(&at.wire(None).unwrap()).unwrap();
        assert!(wire.contains(r#""deliver_at":"1970-01-01T00:00:01.500000Z""#), "{wire}");
    }
}
