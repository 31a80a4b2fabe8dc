//! `GET /v1/outboxes`: the outboxes of the configuration, by name.
//!
//! An outbox may send to any topic, so a token that reaches only some sees none.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use courier_core::message::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::{As, Viewer};
use crate::api::list::{List, by_name};
use crate::api::openapi::Problems;
use crate::api::params::Params;
use crate::api::ports::OutboxView;
use crate::api::problem::Problem;
use crate::causes::CauseView;
use crate::rfc3339;
use crate::store::{OutboxCause, OutboxRow};

/// Age of the last note of a host, in microseconds, after which an outbox counts as
/// not relayed.
const STALE_MICROS: i64 = 30 * 1_000_000;

/// An outbox and its state.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OutboxStatus {
    /// Its name in the TOML.
    pub name: String,
    /// The sender's database: scheme, user, host, port and database.
    pub url: String,
    /// The table.
    pub table: String,
    /// `running`, `failing`, or `starting` before the first report of a host.
    pub state: &'static str,
    /// Why it is failing.
    #[schema(required = true)]
    pub why: Option<String>,
    /// Why it is failing, for programs.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// Rows in the table, counted up to 100,000; null while that is unknown.
    #[schema(required = true)]
    pub pending: Option<i64>,
    /// When the oldest of them was written.
    #[schema(required = true, format = DateTime)]
    pub oldest_at: Option<String>,
    /// Rows that went to Kafka.
    pub relayed: i64,
    /// Rows that were refused as invalid messages.
    pub refused: i64,
    /// The relay shard whose holder reads the table.
    pub shards: Vec<i32>,
    /// The node that reads it.
    #[schema(required = true)]
    pub node: Option<String>,
}

/// Outboxes by name. They concern all topics: a token that reaches only some
/// may not read them.
#[utoipa::path(
    get,
    path = "/v1/outboxes",
    tag = "outboxes",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Items of a page; 100 unless given")
    ),
    responses((status = 200, description = "A page", body = List<OutboxStatus>), Problems)
)]
pub(in crate::api) async fn list(
    State(app): State<App>,
    caller: As<Viewer>,
    params: Params,
) -> Result<Json<List<OutboxStatus>>, Problem> {
    caller.unscoped("outboxes")?;
    let page = params.only(&["cursor", "limit"])?.page()?;
    let now = app.store.ping().await?;
    Ok(Json(by_name(all(&app, now).await?, |outbox: &OutboxStatus| &outbox.name, &page)))
}

/// All outboxes of the configuration, by name.
pub(in crate::api) async fn all(app: &App, now: Timestamp) -> Result<Vec<OutboxStatus>, Problem> {
    let mut configured = app.outboxes.configured();
    if configured.is_empty() {
        return Ok(Vec::new());
    }
    configured.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = app.store.outboxes().await?;
    let outboxes = configured.into_iter().map(|outbox| {
        let row = rows.iter().find(|row| row.name == outbox.name);
        status(outbox, row, now)
    });
    Ok(outboxes.collect())
}

fn status(outbox: OutboxView, row: Option<&OutboxRow>, now: Timestamp) -> OutboxStatus {
    let OutboxView { name, url, table, shard } = outbox;
    let Some(row) = row else {
        return OutboxStatus {
            name,
            url,
            table,
            state: "starting",
            why: None,
            cause: None,
            pending: None,
            oldest_at: None,
            relayed: 0,
            refused: 0,
            shards: vec![shard],
            node: None,
        };
    };
    let silent = now.0.saturating_sub(row.noted_at.0);
    let (why, cause) = if silent > STALE_MICROS {
        let cause = CauseView {
            code: "outbox_not_relayed".into(),
            fields: BTreeMap::from([("node".into(), row.node.clone())]),
            since: rfc3339::format(row.noted_at),
        };
        (Some(format!("no host has relayed it for {} s", silent / 1_000_000)), Some(cause))
    } else {
        let view = |cause: &OutboxCause| CauseView {
            code: cause.code.clone().into(),
            fields: cause.fields.iter().map(|(field, value)| (field.clone().into(), value.clone())).collect(),
            since: rfc3339::format(row.since.unwrap_or(row.noted_at)),
        };
        (row.why.clone(), row.cause.as_ref().map(view))
    };
    OutboxStatus {
        name,
        url,
        table,
        state: if why.is_some() { "failing" } else { "running" },
        why,
        cause,
        pending: row.pending,
        oldest_at: row.oldest_at.map(rfc3339::format),
        relayed: row.relayed,
        refused: row.refused,
        shards: vec![row.shard],
        node: Some(row.node.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> OutboxView {
        OutboxView {
            name: "shop".into(),
            url: "postgres://shop@db/shop".into(),
            table: "courier_outbox".into(),
            shard: 3,
        }
    }

    #[test]
    fn an_outbox_tells_how_it_stands() {
        let row = OutboxRow {
            name: "shop".into(),
            node: "host-1".into(),
            shard: 3,
            why: None,
            cause: None,
            since: None,
            pending: Some(2),
            oldest_at: Some(Timestamp(0)),
            relayed: 5,
            refused: 1,
            noted_at: Timestamp(1_000_000),
        };
        assert_eq!(status(outbox(), None, Timestamp(0)).state, "starting");
        let running = status(outbox(), Some(&row), Timestamp(2_000_000));
        assert_eq!((running.state, running.pending, running.node.as_deref()), ("running", Some(2), Some("host-1")));
        assert_eq!(running.oldest_at.as_deref(), Some("1970-01-01T00:00:00.000000Z"));
        let cause = OutboxCause { code: "outbox_table_missing".into(), ..OutboxCause::default() };
        let gone = OutboxRow { why: Some("gone".into()), cause: Some(cause), since: Some(Timestamp(0)), ..row.clone() };
        let failing = status(outbox(), Some(&gone), Timestamp(0));
        assert_eq!((failing.state, failing.why.as_deref()), ("failing", Some("gone")));
        let cause = failing.cause.unwrap();
        assert_eq!(
            (cause.code.as_ref(), cause.since.as_str()),
            ("outbox_table_missing", "1970-01-01T00:00:00.000000Z")
        );
        let silent = status(outbox(), Some(&row), Timestamp(61_000_000));
        assert_eq!(silent.why.as_deref(), Some("no host has relayed it for 60 s"));
        assert_eq!(silent.cause.unwrap().code, "outbox_not_relayed");
    }
}
