//! Asks the store which keys have unsent rows, many to a question.
//!
//! A host's own marks ([`super::backlog`]) know only what this host owes. A
//! message of a key that another host could not send yet must not be sent
//! directly past it, so that the store is asked before each keyed message goes
//! directly. While one question is under way, the next one gathers.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::store::SharedStore;
use crate::supervise::{self, Task};

/// Questions that wait at a time; past it, senders wait.
const QUEUE: usize = 1_024;
/// Questions that are asked as one.
const BATCH: usize = 256;

/// A topic of Kafka and a raw key.
pub(super) type Lane = (String, Bytes);

/// Asks for lanes; clones share one task, which ends with the last of them.
#[derive(Clone)]
pub(super) struct UnsentLanes {
    questions: mpsc::Sender<Question>,
}

struct Question {
    lanes: Vec<Lane>,
    answer: oneshot::Sender<HashSet<Lane>>,
}

impl UnsentLanes {
    /// Starts the task that asks.
    pub(super) fn start(store: SharedStore) -> Self {
        let (questions, queue) = mpsc::channel(QUEUE);
        supervise::spawn(Task::UnsentLook, ask(store, queue));
        Self { questions }
    }

    /// Those of `lanes` that have unsent rows on any host. All of them when the
    /// store cannot say: what goes through the relay overtakes nothing.
    pub(super) async fn among(&self, lanes: HashSet<Lane>) -> HashSet<Lane> {
        if lanes.is_empty() {
            return lanes;
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { lanes: lanes.iter().cloned().collect(), answer };
        if self.questions.send(question).await.is_err() {
            return lanes;
        }
        answered.await.unwrap_or(lanes)
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
            // A sender that went away does not need the answer.
            let _unheard = question.answer.send(answer);
        }
    }
}
