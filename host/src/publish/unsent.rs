//! Asks the store which keys have unsent rows, many in one query.
//!
//! The marks of a host ([`super::backlog`]) know only its own rows. A message
//! must not overtake an unsent one of its key on another host. So a keyed message
//! is sent directly by a fresh look that found its topic empty; without one, or
//! where the topic has rows, the store is asked for its key. While one query runs,
//! the next one fills up.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::debug;

use super::backlog::Backlog;
use crate::store::SharedStore;
use crate::supervise::{self, Task};

/// Capacity of the queue; senders wait beyond it.
const QUEUE: usize = 1_024;
/// Questions of one query.
const BATCH: usize = 256;

/// A topic of Kafka and a raw key.
pub(super) type Lane = (String, Bytes);

/// A handle to the asking task, which ends with its last clone.
#[derive(Clone)]
pub(super) struct UnsentLanes {
    backlog: Backlog,
    questions: mpsc::Sender<Question>,
}

struct Question {
    lanes: Vec<Lane>,
    answer: oneshot::Sender<HashSet<Lane>>,
}

impl UnsentLanes {
    /// Starts the asking task.
    pub(super) fn start(store: SharedStore, backlog: Backlog) -> Self {
        let (questions, queue) = mpsc::channel(QUEUE);
        supervise::spawn(Task::UnsentLook, ask(store, queue));
        Self { backlog, questions }
    }

    /// The `lanes` that have unsent rows on any host. All of them when the
    /// store does not answer until `by`: a message through the relay overtakes nothing.
    pub(super) async fn among(&self, mut lanes: HashSet<Lane>, by: Instant) -> HashSet<Lane> {
        let now = Instant::now();
        lanes.retain(|(topic, _)| !self.backlog.is_empty_everywhere(topic, now));
        if lanes.is_empty() {
            return lanes;
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { lanes: lanes.iter().cloned().collect(), answer };
        let asked = async {
            self.questions.send(question).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout_at(by, asked).await.ok().flatten().unwrap_or(lanes)
    }
}

async fn ask(store: SharedStore, mut queue: mpsc::Receiver<Question>) {
    let mut questions = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut questions, BATCH).await > 0 {
        // Many senders may ask for one key at once.
        let mut places: HashMap<&Lane, usize> = HashMap::new();
        let mut lanes: Vec<Lane> = Vec::new();
        for lane in questions.iter().flat_map(|question| &question.lanes) {
            if !places.contains_key(lane) {
                places.insert(lane, lanes.len());
                lanes.push(lane.clone());
            }
        }
        let unsent: Option<HashSet<usize>> = match store.unsent_lanes(&lanes).await {
            Ok(found) => Some(found.into_iter().collect()),
            Err(error) => {
                debug!(%error, "the store could not say which keys have unsent rows");
                None
            }
        };
        let answers: Vec<HashSet<Lane>> = questions
            .iter()
            .map(|question| {
                let waits = |lane: &&Lane| unsent.as_ref().is_none_or(|unsent| unsent.contains(&places[*lane]));
                question.lanes.iter().filter(waits).cloned().collect()
            })
            .collect();
        for (question, answer) in questions.drain(..).zip(answers) {
            // A sender that is gone needs no answer.
            let _unheard = question.answer.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender waited for the store's answer as long as the store hung.
    #[tokio::test]
    async fn a_store_that_does_not_answer_sends_all_lanes_through_the_relay() {
        let lanes = HashSet::from([("order".to_owned(), Bytes::from_static(b"k"))]);
        let (questions, _unread) = mpsc::channel(1);
        let asking = UnsentLanes { backlog: Backlog::new(true), questions };
        let passed = Instant::now();
        assert_eq!(asking.among(lanes.clone(), passed).await, lanes, "nobody answers");
        assert_eq!(asking.among(lanes.clone(), passed).await, lanes, "nobody takes the question");
    }
}
