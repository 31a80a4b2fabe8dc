//! Whether a group is bound, on this host or on another live node.
//!
//! A request about a group that no node runs would wait for ever, so it is refused
//! before anything changes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::problem::Problem;
use crate::causes;
use crate::store::NodeBinding;

/// The bindings of this host and of the live nodes.
pub(in crate::api) async fn bound(app: &App) -> Result<Vec<NodeBinding>, Problem> {
    let mut bound: BTreeSet<NodeBinding> = app.store.live_bindings().await?.into_iter().collect();
    for binding in app.groups.bindings() {
        for topic in &binding.topics {
            let (group, topic) = (binding.group.clone(), topic.clone());
            bound.insert(NodeBinding { group, topic, types: binding.types.clone() });
        }
    }
    Ok(bound.into_iter().collect())
}

/// The topics that a group reads, by name.
///
/// # Errors
/// 409 for a group that no live node runs.
pub(in crate::api) async fn topics(app: &App, group: &str) -> Result<BTreeSet<String>, Problem> {
    let bound = bound(app).await?;
    let topics: BTreeSet<String> = bound.into_iter().filter(|one| one.group == group).map(|one| one.topic).collect();
    if topics.is_empty() {
        return Err(no_binding(format!("nobody runs group {group}: {NO_BINDING}; add one to courier.toml")));
    }
    Ok(topics)
}

/// Refuses a request about a group that no live node runs, or about a topic that
/// none reads for it.
pub(in crate::api) async fn refuse_idle(
    app: &App,
    caller: &Caller,
    group: &str,
    topic: Option<&str>,
) -> Result<(), Problem> {
    let topics = topics(app, group).await?;
    match topic.filter(|topic| !topics.contains(*topic)) {
        Some(topic) => Err(no_binding(format!(
            "nobody runs deliveries of topic {topic} for group {group}: no binding of it reads that topic{}",
            reads(caller, topics)
        ))),
        None => Ok(()),
    }
}

/// The end of a sentence about a topic that a group does not read: those that it reads
/// and the caller may see.
pub(in crate::api) fn reads(caller: &Caller, topics: BTreeSet<String>) -> String {
    let seen: Vec<String> = topics.into_iter().filter(|topic| caller.sees_topic(topic)).collect();
    if seen.is_empty() { String::new() } else { format!("; it reads `{}`", seen.join("`, `")) }
}

/// Why no node runs a group.
pub const NO_BINDING: &str = "no [[binding]] of a live node names it";

fn no_binding(detail: String) -> Problem {
    Problem::conflict(detail).with("code", Value::from(causes::NO_BINDING))
}
