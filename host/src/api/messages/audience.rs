//! Warns senders of messages that no group handles. A message with a misspelled
//! topic or type is COMMITTED and never handled, without an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::groups::runs;
use crate::config::closest;
use crate::store::NodeBinding;

/// How long the bindings are cached, so that not every publish queries the store.
const FRESH: Duration = Duration::from_secs(1);
/// How long a publish waits for that query.
const ASK_WAIT: Duration = Duration::from_millis(500);

/// The cached bindings of this host and of the live nodes.
#[derive(Clone, Debug, Default)]
pub struct Audience(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    asked_at: Option<Instant>,
    /// `None` until the first query succeeded.
    bound: Option<Arc<[NodeBinding]>>,
}

impl Audience {
    /// The bindings; `None` while they are not known.
    async fn bound(&self, app: &App) -> Option<Arc<[NodeBinding]>> {
        {
            let mut heard = self.lock();
            if heard.bound.is_some() && heard.asked_at.is_some_and(|at| at.elapsed() < FRESH) {
                return heard.bound.clone();
            }
            // One request queries; the others go on with the cached bindings.
            heard.asked_at = Some(Instant::now());
        }
        let asked = tokio::time::timeout(ASK_WAIT, runs::bound(app)).await;
        let mut heard = self.lock();
        match asked {
            Ok(Ok(bound)) => heard.bound = Some(bound.into()),
            Ok(Err(problem)) => tracing::debug!(why = problem.detail, "cannot ask what is bound"),
            Err(_) => tracing::debug!("the store did not say in time what is bound"),
        }
        heard.bound.clone()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Heard> {
        self.0.lock()
    }
}

/// For each topic and type, why no group handles such messages; `None` when a group
/// does, or when that is not known.
pub(super) async fn warnings<'m>(
    app: &App,
    caller: &Caller,
    messages: impl Iterator<Item = (&'m str, &'m str)>,
) -> Vec<Option<String>> {
    let bound = app.audience.bound(app).await;
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
