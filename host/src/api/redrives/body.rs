//! The body of a request to plan a redrive.

use base64::Engine as _;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::problem::Problem;
use crate::api::shape;
use crate::api::shown::BASE64;
use crate::rfc3339;
use crate::store::DeliveryFilter;

/// Items a second by default.
const DEFAULT_RATE: u32 = 500;
/// Most items a second.
const MAX_RATE: u32 = 10_000;

/// The deliveries to run again, and how fast.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// The filter of the deliveries.
    #[serde(deserialize_with = "shape::nested")]
    filter: FilterBody,
    /// Items a second, 1 to 10,000; 500 unless given.
    rate: Option<u32>,
    /// Replay a range of offsets; the same as `filter.replay`.
    #[serde(default)]
    replay: bool,
}

/// A filter of deliveries, as in `GET /v1/deliveries`, or a range to replay.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilterBody {
    /// Deliveries of this group; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Deliveries of this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// HANDLE_FAIL, PUSH_FAIL or HANDLED; by default all failed deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Deliveries of messages of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    /// Deliveries of messages with this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Deliveries of messages with this key, which is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// Failures with this fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// Deliveries of this message.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// Deliveries received or settled at or after this time; in a replay, records sent
    /// at or after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Replay a range of Kafka's records, including those without a row.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay: bool,
    /// In a replay: only this partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    /// In a replay: from this offset on.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_offset: Option<i64>,
    /// In a replay: before this offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_offset: Option<i64>,
}

/// A checked request to plan a redrive.
#[derive(Debug)]
pub struct PlanRequest {
    /// The group.
    pub group: String,
    pub filter: DeliveryFilter,
    /// Items a second.
    pub rate: u32,
    /// The range to replay, if any.
    pub replay: Option<ReplaySpan>,
    /// The filter as it was asked for.
    pub asked_for: String,
}

/// The range of a replay.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplaySpan {
    /// The topic.
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    /// The first offset.
    pub from_offset: Option<Offset>,
    /// The offset after the last.
    pub to_offset: Option<Offset>,
}

impl PlanBody {
    /// Checks the request.
    ///
    /// # Errors
    /// 400 that says what would be right.
    pub fn check(self) -> Result<PlanRequest, Problem> {
        let Self { mut filter, rate, replay } = self;
        filter.replay |= replay;
        let rate = rate.unwrap_or(DEFAULT_RATE);
        if !(1..=MAX_RATE).contains(&rate) {
            return Err(wrong(format!("`rate` is {rate}; write items a second from 1 to {MAX_RATE}")));
        }
        let Some(group) = filter.group.clone().filter(|group| !group.is_empty()) else {
            return Err(wrong("`filter.group` is missing: a redrive runs deliveries of one group again".to_owned()));
        };
        let state = state(filter.state.as_deref())?;
        let time = |name: &str, text: &Option<String>| -> Result<Option<Timestamp>, Problem> {
            let parse = |text: &String| rfc3339::parse(text).map_err(|why| wrong(format!("`filter.{name}`: {why}")));
            text.as_ref().map(parse).transpose()
        };
        let (from, to) = (time("from", &filter.from)?, time("to", &filter.to)?);
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(wrong("`filter.from` is not before `filter.to`: nothing lies between".to_owned()));
        }
        let replay = filter.span()?;
        let asked_for = serde_json::to_string(&filter).map_err(Problem::internal)?;
        let key = filter.key()?;
        let filter = DeliveryFilter {
            group: Some(group.clone()),
            topic: filter.topic,
            state,
            type_name: filter.type_name,
            key,
            fingerprint: filter.fingerprint,
            message_id: filter.message_id,
            from,
            to,
            ..DeliveryFilter::default()
        };
        Ok(PlanRequest { group, filter, rate, replay, asked_for })
    }
}

impl FilterBody {
    fn key(&self) -> Result<Option<Bytes>, Problem> {
        match (&self.key, &self.key_base64) {
            (Some(_), Some(_)) => Err(wrong("`filter.key` and `filter.key_base64` are given; give one".to_owned())),
            (Some(text), None) => Ok(Some(text.clone().into())),
            (None, Some(text)) => BASE64
                .decode(text)
                .map(|bytes| Some(bytes.into()))
                .map_err(|error| wrong(format!("`filter.key_base64` is no Base64: {error}"))),
            (None, None) => Ok(None),
        }
    }

    /// The range to replay, if any.
    fn span(&self) -> Result<Option<ReplaySpan>, Problem> {
        let of_replays = [
            ("partition", self.partition.map(i64::from)),
            ("from_offset", self.from_offset),
            ("to_offset", self.to_offset),
        ];
        if let Some((name, Some(number))) =
            of_replays.iter().find(|(_, number)| number.is_some_and(|number| number < 0))
        {
            return Err(wrong(format!("`filter.{name}` is {number}; partitions and offsets count from 0")));
        }
        if !self.replay {
            return match of_replays.iter().find(|(_, number)| number.is_some()) {
                None => Ok(None),
                Some((name, _)) => {
                    Err(wrong(format!("`filter.{name}` belongs to a replay: add \"replay\": true, or leave it out")))
                }
            };
        }
        let others = [
            ("state", self.state.is_some()),
            ("type", self.type_name.is_some()),
            ("key", self.key.is_some()),
            ("key_base64", self.key_base64.is_some()),
            ("fingerprint", self.fingerprint.is_some()),
            ("message_id", self.message_id.is_some()),
        ];
        if let Some((name, _)) = others.iter().find(|(_, given)| *given) {
            return Err(wrong(format!("a replay runs a whole range: leave `filter.{name}` out")));
        }
        let topic = self.topic.clone().filter(|topic| !topic.is_empty());
        let topic = topic.ok_or_else(|| wrong("`filter.topic` is missing: a replay reads one topic".to_owned()))?;
        let (from_offset, to_offset) = (self.from_offset.map(Offset), self.to_offset.map(Offset));
        if from_offset.zip(to_offset).is_some_and(|(from, to)| from >= to) {
            return Err(wrong("`filter.from_offset` is not below `filter.to_offset`: nothing lies between".to_owned()));
        }
        Ok(Some(ReplaySpan { topic, partition: self.partition, from_offset, to_offset }))
    }
}

fn state(word: Option<&str>) -> Result<Option<State>, Problem> {
    let Some(word) = word else { return Ok(None) };
    match word.parse() {
        Ok(State::Committed) => Err(wrong("`filter.state`: what is COMMITTED runs anyway".to_owned())),
        Ok(State::SendFail) => {
            Err(wrong("`filter.state`: a delivery never is SEND_FAIL; resend the message instead".to_owned()))
        }
        Ok(state) => Ok(Some(state)),
        Err(why) => Err(wrong(format!("`filter.state`: {why}"))),
    }
}

pub(super) fn wrong(detail: String) -> Problem {
    Problem::bad_request("bad redrive", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<PlanRequest, Problem> {
        shape::object_in::<PlanBody>(json.as_bytes()).map_err(wrong)?.check()
    }

    #[test]
    fn a_filter_is_understood() {
        let wanted = check(r#"{"filter":{"group":"stock","state":"HANDLED","type":"A","key":"k"},"rate":7}"#).unwrap();
        assert_eq!((wanted.rate, wanted.filter.state), (7, Some(State::Handled)));
        assert_eq!(wanted.filter.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(wanted.asked_for, r#"{"group":"stock","state":"HANDLED","type":"A","key":"k"}"#);
        assert_eq!(check(r#"{"filter":{"group":"stock"}}"#).unwrap().rate, DEFAULT_RATE);
    }

    #[test]
    fn a_replay_may_say_so_in_either_place() {
        for json in [
            r#"{"filter":{"group":"stock","topic":"order","partition":1,"from_offset":5},"replay":true}"#,
            r#"{"filter":{"group":"stock","topic":"order","partition":1,"from_offset":5,"replay":true}}"#,
        ] {
            let span = check(json).unwrap().replay.unwrap();
            assert_eq!((span.partition, span.from_offset, span.to_offset), (Some(1), Some(Offset(5)), None));
        }
    }

    #[test]
    fn a_wrong_plan_says_what_would_be_right() {
        for (json, words) in [
            ("{}", "`filter` is missing"),
            (r#"{"filter":["stock"]}"#, "`filter` is an array; write an object"),
            (r#"{"filter":{"group":"a","key":5}}"#, "`filter.key` is the number 5; write text"),
            (r#"{"filter":{}}"#, "`filter.group` is missing"),
            (r#"{"filter":{"group":"a"},"rate":0}"#, "1 to 10000"),
            (r#"{"filter":{"group":"a","state":"COMMITTED"}}"#, "runs anyway"),
            (r#"{"filter":{"group":"a","state":"SEND_FAIL"}}"#, "resend"),
            (r#"{"filter":{"group":"a","state":"failed"}}"#, "HANDLE_FAIL"),
            (r#"{"filter":{"group":"a","grupp":"b"}}"#, "grupp"),
            (r#"{"filter":{"group":"a","from":"yesterday"}}"#, "RFC 3339"),
            (r#"{"filter":{"group":"a","from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}}"#, "not before"),
            (r#"{"filter":{"group":"a","from_offset":1}}"#, "belongs to a replay"),
            (r#"{"filter":{"group":"a","replay":true}}"#, "`filter.topic` is missing"),
            (r#"{"filter":{"group":"a","topic":"t","replay":true,"type":"x"}}"#, "leave `filter.type` out"),
            (r#"{"filter":{"group":"a","topic":"t","replay":true,"from_offset":-1}}"#, "count from 0"),
            (r#"{"filter":{"group":"a","topic":"t","replay":true,"from_offset":2,"to_offset":2}}"#, "not below"),
            (r#"{"filter":{"group":"a","key":"k","key_base64":"aw=="}}"#, "give one"),
        ] {
            let problem = check(json).expect_err(json);
            assert!(problem.status == 400 && problem.detail.contains(words), "{json}: {}", problem.detail);
        }
    }
}
