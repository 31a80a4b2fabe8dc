//! Watches over the topics that groups read, so that one that was created anew
//! is noticed while they run.
//!
//! librdkafka tells no id with a record, and it goes on at the offset where it
//! stood although the log is another one. So Kafka is asked for the ids of all
//! topics again and again, in one request for the whole host, and at once when
//! something looks as if a log had changed. The answers go to the groups; what
//! follows from them is theirs to decide.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::log_reader::LogReader;
pub use super::topic_id::TopicNow;

/// How long after an answer Kafka is asked again. With the time that an answer
/// takes it stays below the two seconds that are promised.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after an answer it is asked again at the earliest, however many
/// partitions suspect something.
const SOONEST: Duration = Duration::from_millis(200);

/// What Kafka last said of the topics that are watched.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    topics: HashMap<String, TopicNow>,
    /// When it was asked; none while it never was.
    pub asked_at: Option<Instant>,
    /// This broker tells no ids, so that only the lengths of logs can tell.
    pub no_ids: bool,
}

impl Answers {
    /// What Kafka said of topics when it was asked at that time.
    #[must_use]
    pub fn told(topics: HashMap<String, TopicNow>, asked_at: Instant) -> Self {
        Self { topics, asked_at: Some(asked_at), no_ids: false }
    }

    /// What Kafka said of a topic; none while it said nothing.
    #[must_use]
    pub fn of(&self, topic: &str) -> Option<&TopicNow> {
        self.topics.get(topic)
    }
}

/// Asks for the ids of topics; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TopicWatch {
    shared: Arc<TopicWatchState>,
}

#[derive(Debug, Default)]
struct TopicWatchState {
    /// Topics with how many groups want to hear of them.
    wanted: Mutex<HashMap<String, usize>>,
    look: Notify,
    answers: watch::Sender<Arc<Answers>>,
}

/// Some topics that are watched until this is dropped.
#[derive(Debug)]
pub struct Watched {
    shared: Arc<TopicWatchState>,
    topics: Vec<String>,
    answers: watch::Receiver<Arc<Answers>>,
}

impl TopicWatch {
    /// Asks until `stop`.
    pub async fn run(self, log: LogReader, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let topics: Vec<String> = self.shared.wanted().keys().cloned().collect();
            if !topics.is_empty() {
                let asked_at = Instant::now();
                match log.topics_now(topics).await {
                    Ok(told) => {
                        let no_ids = told.is_none();
                        let answers = Answers { no_ids, ..Answers::told(told.unwrap_or_default(), asked_at) };
                        self.shared.answers.send_replace(Arc::new(answers));
                    }
                    Err(error) => tracing::debug!(%error, "cannot ask for the ids of topics"),
                }
            }
            tokio::time::sleep(SOONEST).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL - SOONEST) => {}
                () = self.shared.look.notified() => {}
            }
        }
    }

    /// Watches these topics for a group.
    #[must_use]
    pub fn watch(&self, topics: impl IntoIterator<Item = String>) -> Watched {
        let topics: Vec<String> = topics.into_iter().collect();
        let mut wanted = self.shared.wanted();
        for topic in &topics {
            *wanted.entry(topic.clone()).or_default() += 1;
        }
        drop(wanted);
        self.look_now();
        Watched { shared: Arc::clone(&self.shared), topics, answers: self.shared.answers.subscribe() }
    }

    /// Something looks as if a log had changed: Kafka is asked at once.
    pub fn look_now(&self) {
        self.shared.look.notify_one();
    }

    /// The last answer.
    #[must_use]
    pub fn last(&self) -> Arc<Answers> {
        Arc::clone(&self.shared.answers.borrow())
    }

    /// Whether the broker tells no ids, as far as it was asked.
    #[must_use]
    pub fn has_no_ids(&self) -> bool {
        self.shared.answers.borrow().no_ids
    }
}

impl TopicWatchState {
    fn wanted(&self) -> parking_lot::MutexGuard<'_, HashMap<String, usize>> {
        // Only counts are kept, each changed in one step.
        self.wanted.lock()
    }
}

impl Watched {
    /// The next answer. Never ends when nobody asks any more.
    pub async fn next(&mut self) -> Arc<Answers> {
        match self.answers.changed().await {
            Ok(()) => Arc::clone(&self.answers.borrow_and_update()),
            Err(_) => std::future::pending().await,
        }
    }

    /// The last answer.
    #[must_use]
    pub fn last(&self) -> Arc<Answers> {
        Arc::clone(&self.answers.borrow())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut wanted = self.shared.wanted();
        for topic in &self.topics {
            if let Some(groups) = wanted.get_mut(topic) {
                *groups -= 1;
                if *groups == 0 {
                    wanted.remove(topic);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_watched_while_any_group_wants_to_hear_of_it() {
        let topics = TopicWatch::default();
        let watched = |topics: &TopicWatch| {
            let mut names: Vec<String> = topics.shared.wanted().keys().cloned().collect();
            names.sort();
            names
        };
        let first = topics.watch(["order".to_owned(), "stock".to_owned()]);
        let second = topics.watch(["order".to_owned()]);
        assert_eq!(watched(&topics), ["order", "stock"]);
        drop(first);
        assert_eq!(watched(&topics), ["order"]);
        drop(second);
        assert!(watched(&topics).is_empty());
    }
}
