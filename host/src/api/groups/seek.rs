//! `POST /v1/groups/{group}/seek`: move a group's positions in a topic.
//!
//! Forward skips what lies between; backward runs it again. The group's name
//! is asked for once more as `confirm`, since neither can be taken back.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use courier_core::message::Offset;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::view;
use crate::api::App;
use crate::api::auth::{As, Operator};
use crate::api::events::Change;
use crate::api::intake;
use crate::api::messages::resend::encode;
use crate::api::openapi::Problems;
use crate::api::params::{Params, Segment};
use crate::api::ports::{Seek, SeekTo, Sought};
use crate::api::problem::Problem;
use crate::api::time;

/// Where to move positions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekBody {
    /// The topic.
    topic: String,
    /// One partition, or all.
    partition: Option<i32>,
    /// An offset (a number), `"earliest"`, `"latest"` or a time.
    to: Value,
    /// The group's name, once more.
    confirm: String,
}

/// What was moved.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeekView {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The positions.
    pub partitions: Vec<Sought>,
}

/// Moves positions of a group. Backward marks what lies between to run again,
/// its attempts appended to those before.
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
    caller: As<Operator>,
    Segment(group): Segment,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SeekView>, Problem> {
    params.none()?;
    let asked: SeekBody = intake::command(&headers, body).await?;
    caller.topic(&asked.topic)?;
    let known = view::changeable(&app, &caller, &group).await?;
    let seek = check(asked, &group)?;
    let topics: Vec<&str> = known.bindings.iter().flat_map(|binding| &binding.topics).map(String::as_str).collect();
    if !topics.contains(&seek.topic.as_str()) {
        return Err(wrong(format!(
            "the group `{group}` does not read `{}`; it reads `{}`",
            seek.topic,
            topics.join("`, `")
        )));
    }
    let change = Change {
        path: format!("/v1/groups/{}", encode(&group)),
        group: Some(group.clone()),
        topic: Some(seek.topic.clone()),
    };
    let detail = format!("{} partition {:?} to {:?}", seek.topic, seek.partition, seek.to);
    let partitions = app.change(caller.deed("seek", &group, &detail), app.groups.seek(&seek), |_| change).await?;
    Ok(Json(SeekView { group, topic: seek.topic, partitions }))
}

/// The seek that a body asks for.
fn check(asked: SeekBody, group: &str) -> Result<Seek, Problem> {
    if asked.confirm != group {
        return Err(wrong(format!("`confirm` is {:?}; repeat the group's name, {group:?}", asked.confirm)));
    }
    if asked.partition.is_some_and(|partition| partition < 0) {
        return Err(wrong("`partition` is negative; partitions count from 0".into()));
    }
    let to = match &asked.to {
        Value::String(word) if word == "earliest" => SeekTo::Earliest,
        Value::String(word) if word == "latest" => SeekTo::Latest,
        Value::String(text) => {
            let time = time::parse(text);
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
    Ok(Seek { group: group.to_owned(), topic: asked.topic, partition: asked.partition, to })
}

fn wrong(detail: String) -> Problem {
    Problem::bad_request("bad seek", detail)
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;

    use super::*;

    fn read(json: &str) -> Result<Seek, Problem> {
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
    fn a_wrong_seek_says_what_would_be_right() {
        let refused = |json: &str, words: &str| {
            let problem = read(json).expect_err(json);
            assert!(problem.status == 400 && problem.detail.contains(words), "{}", problem.detail);
        };
        refused(r#"{"topic":"order","to":"latest","confirm":"stok"}"#, "repeat the group's name");
        refused(r#"{"topic":"order","to":17,"confirm":"stock"}"#, "name `partition`");
        refused(r#"{"topic":"order","partition":0,"to":-1,"confirm":"stock"}"#, "whole number from 0");
        refused(r#"{"topic":"order","partition":0,"to":1.5,"confirm":"stock"}"#, "whole number from 0");
        refused(r#"{"topic":"order","partition":-1,"to":1,"confirm":"stock"}"#, "count from 0");
        refused(r#"{"topic":"order","to":"soon","confirm":"stock"}"#, "RFC 3339");
        refused(r#"{"topic":"order","to":null,"confirm":"stock"}"#, "an offset (a number)");
    }
}
