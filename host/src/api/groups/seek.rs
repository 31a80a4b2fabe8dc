//! `POST /v1/groups/{group}/seek`: moves a group's positions in a topic.
//!
//! Moving forward skips the records in between; moving back runs them again. The
//! group's name is required once more as `confirm`, since neither can be undone.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use courier_core::message::Offset;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{runs, view};
use crate::api::App;
use crate::api::auth::{As, BulkOperator, Caller};
use crate::api::changes;
use crate::api::events::Change;
use crate::api::intake;
use crate::api::messages::resend::encode;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::ports::{MovedPosition, SeekRequest, SeekTo};
use crate::api::problem::Problem;
use crate::app::seek::SeekError;
use crate::rfc3339;

/// Where to move positions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekBody {
    /// The topic.
    #[schema(required = true, value_type = String)]
    topic: Option<String>,
    /// One partition, or all.
    partition: Option<i32>,
    /// An offset (a number), `"earliest"`, `"latest"` or a time.
    #[schema(required = true, value_type = Value)]
    to: Option<Value>,
    /// The group's name, once more.
    #[schema(required = true, value_type = String)]
    confirm: Option<String>,
}

/// The moved positions.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeekView {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The positions.
    pub partitions: Vec<MovedPosition>,
}

/// Moves positions of a group. Moving back marks the records in between to run
/// again; their attempts are appended to earlier ones.
#[utoipa::path(
    post,
    path = "/v1/groups/{group}/seek",
    tag = "groups",
    params(("group" = String, Path, description = "The group")),
    request_body = SeekBody,
    responses((status = 200, description = "The positions are moved", body = SeekView), Problems)
)]
pub(in crate::api) async fn seek(
    State(app): State<App>,
    caller: As<BulkOperator>,
    Segment(group): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SeekView>, Problem> {
    params.none()?;
    let asked: SeekBody = intake::command(&caller.name, &headers, body).await?;
    view::changeable(&app, &caller, &group).await?;
    let seek = check(asked, &group)?;
    let _turn = changes::begin_bulk(&caller.name).await?;
    caller.topic(&seek.topic)?;
    let topics = runs::topics(&app, &group).await?;
    if !topics.contains(&seek.topic) {
        return Err(wrong(does_not_read(&caller, &group, &seek.topic, topics)));
    }
    let change = Change {
        path: format!("/v1/groups/{}", encode(&group)),
        group: Some(group.clone()),
        topics: vec![seek.topic.clone()],
        ..Change::default()
    };
    let detail = describe(&seek);
    let partitions = app.change(caller.deed("seek", &group, &detail), app.groups.seek(&seek), |_| change).await?;
    Ok(Json(SeekView { group, topic: seek.topic, partitions }))
}

/// The seek that a body asks for.
fn check(asked: SeekBody, group: &str) -> Result<SeekRequest, Problem> {
    let missing = |what: &str| wrong(format!("{what} is missing; send {}", example(group)));
    let topic = asked.topic.ok_or_else(|| missing("`topic`"))?;
    let to = asked.to.ok_or_else(|| missing("`to`, an offset (a number), \"earliest\", \"latest\" or a time,"))?;
    // A seek cannot be undone.
    let confirm = asked.confirm.ok_or_else(|| missing("`confirm`, the group's name once more,"))?;
    if confirm != group {
        return Err(wrong(format!("`confirm` is {confirm:?}; repeat the group's name, {group:?}")));
    }
    if asked.partition.is_some_and(|partition| partition < 0) {
        return Err(wrong("`partition` is negative; partitions count from 0".into()));
    }
    let to = match &to {
        Value::String(word) if word == "earliest" => SeekTo::Earliest,
        Value::String(word) if word == "latest" => SeekTo::Latest,
        Value::String(text) => {
            let time = rfc3339::parse(text);
            SeekTo::Time(time.map_err(|why| wrong(format!("`to` is neither \"earliest\" nor \"latest\", and {why}")))?)
        }
        Value::Number(number) => match number.as_i64().filter(|offset| *offset >= 0) {
            Some(offset) => SeekTo::Offset(Offset(offset)),
            None => return Err(wrong(format!("`to` is {number}; an offset is a whole number from 0"))),
        },
        _ => return Err(wrong("`to` is an offset (a number), \"earliest\", \"latest\" or a time".into())),
    };
    if matches!(to, SeekTo::Offset(_)) && asked.partition.is_none() {
        return Err(wrong("`to` is an offset, which means something in one partition only; name `partition`".into()));
    }
    Ok(SeekRequest { group: group.to_owned(), topic, partition: asked.partition, to })
}

/// The error for a topic that a group does not read.
pub(in crate::api) fn does_not_read(caller: &Caller, group: &str, topic: &str, topics: BTreeSet<String>) -> String {
    format!("the group `{group}` does not read `{topic}`{}", runs::reads(caller, topics))
}

/// A seek in words, for the audit log.
fn describe(seek: &SeekRequest) -> String {
    let which = match seek.partition {
        Some(partition) => format!("partition {partition} of {}", seek.topic),
        None => format!("all partitions of {}", seek.topic),
    };
    let to = match seek.to {
        SeekTo::Offset(offset) => format!("offset {offset}"),
        SeekTo::Earliest => "the first record that Kafka still has".to_owned(),
        SeekTo::Latest => "past the last record".to_owned(),
        SeekTo::Time(at) => format!("the first record from {} on", rfc3339::format(at)),
    };
    format!("{which}, to {to}")
}

/// A valid body.
fn example(group: &str) -> Value {
    json!({ "topic": "order", "to": "earliest", "confirm": group })
}

fn wrong(detail: String) -> Problem {
    Problem::bad_request("bad seek", detail)
}

impl From<SeekError> for Problem {
    fn from(error: SeekError) -> Self {
        match error {
            SeekError::NoPosition(why) => Self::conflict(why),
            SeekError::OutOfRange(why) => Self::unprocessable("offset out of range", why),
            SeekError::KafkaAway(why) => Self::unavailable(why),
            SeekError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;

    use super::*;

    fn read(json: &str) -> Result<SeekRequest, Problem> {
        check(serde_json::from_str(json).unwrap(), "stock")
    }

    #[test]
    fn every_way_to_say_where_is_understood() {
        let to =
            |to: &str| read(&format!(r#"{{"topic":"order","partition":0,"to":{to},"confirm":"stock"}}"#)).unwrap().to;
        assert_eq!(to("17"), SeekTo::Offset(Offset(17)));
        assert_eq!(to("\"earliest\""), SeekTo::Earliest);
        assert_eq!(to("\"latest\""), SeekTo::Latest);
        assert_eq!(to("\"1970-01-01T00:00:01Z\""), SeekTo::Time(Timestamp(1_000_000)));
    }

    #[test]
    fn the_audit_log_tells_a_seek_in_words() {
        let told = |json: &str| describe(&read(json).unwrap());
        assert_eq!(
            told(r#"{"topic":"order","to":"earliest","confirm":"stock"}"#),
            "all partitions of order, to the first record that Kafka still has"
        );
        assert_eq!(
            told(r#"{"topic":"order","partition":2,"to":17,"confirm":"stock"}"#),
            "partition 2 of order, to offset 17"
        );
        assert_eq!(
            told(r#"{"topic":"order","to":"1970-01-01T00:00:01Z","confirm":"stock"}"#),
            "all partitions of order, to the first record from 1970-01-01T00:00:01.000000Z on"
        );
        assert_eq!(
            told(r#"{"topic":"order","to":"latest","confirm":"stock"}"#),
            "all partitions of order, to past the last record"
        );
    }

    #[test]
    fn a_wrong_seek_says_what_would_be_right() {
        let refused = |json: &str, words: &str| {
            let problem = read(json).expect_err(json);
            assert!(problem.status == 400 && problem.detail.contains(words), "{}", problem.detail);
        };
        refused(r#"{"topic":"order","to":"latest"}"#, "`confirm`, the group's name once more, is missing; send {");
        refused(r#"{"topic":"order","to":"latest"}"#, r#""confirm":"stock""#);
        refused(r#"{"topic":"order","confirm":"stock"}"#, "`to`, an offset");
        refused(r#"{"to":1,"confirm":"stock"}"#, "`topic` is missing");
        refused(r#"{"topic":"order","to":"latest","confirm":"stok"}"#, "repeat the group's name");
        refused(r#"{"topic":"order","to":17,"confirm":"stock"}"#, "name `partition`");
        refused(r#"{"topic":"order","partition":0,"to":-1,"confirm":"stock"}"#, "whole number from 0");
        refused(r#"{"topic":"order","partition":0,"to":1.5,"confirm":"stock"}"#, "whole number from 0");
        refused(r#"{"topic":"order","partition":-1,"to":1,"confirm":"stock"}"#, "count from 0");
        refused(r#"{"topic":"order","to":"soon","confirm":"stock"}"#, "RFC 3339");
        refused(r#"{"topic":"order","to":null,"confirm":"stock"}"#, "an offset (a number)");
    }
}
