//! Warns senders of messages that no group handles. A message with a misspelled
//! topic or type is COMMITTED and never handled, without an error.

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::groups::runs;
use crate::config::closest;
use crate::store::NodeBinding;

/// For each topic and type, why no group handles such messages; `None` when a group
/// does, or when that is not known.
pub(super) async fn warnings<'m>(
    app: &App,
    caller: &Caller,
    messages: impl Iterator<Item = (&'m str, &'m str)>,
) -> Vec<Option<String>> {
    let bound = app.audience.bound(runs::bound(app)).await;
    messages.map(|(topic, type_name)| warning(bound.as_deref()?, caller, topic, type_name)).collect()
}

fn warning(bound: &[NodeBinding], caller: &Caller, topic: &str, type_name: &str) -> Option<String> {
    let takes = |types: &Vec<String>| types.iter().any(|one| one == type_name);
    let mut here = bound.iter().filter(|one| one.topic == topic).peekable();
    if topic.is_empty() {
        return None;
    }
    if here.peek().is_none() {
        let topics: Vec<&str> =
            bound.iter().map(|one| one.topic.as_str()).filter(|topic| caller.sees_topic(topic)).collect();
        let near = closest(topic, &topics).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return Some(format!("no group is bound to topic {topic}{near}"));
    }
    let mut bindings = Vec::new();
    for binding in here {
        let types = binding.types.as_ref().filter(|types| !takes(types))?;
        let group = if caller.sees_group(&binding.group) { binding.group.as_str() } else { "a group" };
        bindings.push(format!("{group} is bound to {topic} for {} only", types.join(", ")));
    }
    let what = if type_name.is_empty() { "messages without a type".to_owned() } else { type_name.to_owned() };
    Some(format!("no group takes {what} of topic {topic}: {}", bindings.join("; ")))
}
