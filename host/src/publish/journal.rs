//! Makes the rows of the send side durable, many to a transaction.
//!
//! A commit a message would allow a few hundred messages a second. Here one
//! task writes: while a transaction commits, the rows of the next one gather.
//! While the store is away it tries until the store is back; only rows whose
//! senders were told that nothing was sent are given up. Its queue is bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use crate::store::{Accepted, NewMessage, SentMessage, SharedStore, StoreError};

/// Rows that wait to be written; past it, senders wait.
const QUEUE: usize = 8 * 1024;
/// Rows in one transaction at most.
const BATCH: usize = 1_000;
/// Pause before a store that is away is tried again; doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// A write that takes longer is an outage.
const SLOW: Duration = Duration::from_secs(1);
/// How often an idle journal asks whether the store is there, so that a
/// message is not sent to Kafka before its outage is noticed.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle on the journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    entries: mpsc::Sender<Entry>,
    store_away: watch::Receiver<bool>,
}

enum Entry {
    Accept(Box<NewMessage>, oneshot::Sender<Result<Accepted, StoreError>>),
    Sent(SentMessage, oneshot::Sender<Result<(), StoreError>>),
    Release((String, String), oneshot::Sender<Result<(), StoreError>>),
}

/// The answer to an entry, once it is durable.
pub struct Written<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Written<T> {
    /// Waits until the entry is durable, or refused for its content.
    ///
    /// # Errors
    /// What the store says; `Unavailable` when the journal has ended.
    pub async fn wait(self) -> Result<T, StoreError> {
        self.0.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the host is shutting down".to_owned())
}

impl Journal {
    /// Starts the task that writes; it ends when all handles are gone and all
    /// that was handed in is written.
    #[must_use]
    pub fn start(store: SharedStore) -> Self {
        let (entries, queue) = mpsc::channel(QUEUE);
        let (away, store_away) = watch::channel(false);
        tokio::spawn(Writer { store, away }.run(queue));
        Self { entries, store_away }
    }

    /// Whether the store is known to be away.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        *self.store_away.borrow()
    }

    /// Writes the row of a message. Rows are written in the order handed in.
    pub async fn accept(&self, message: NewMessage) -> Written<Accepted> {
        self.hand_in(|answer| Entry::Accept(Box::new(message), answer)).await
    }

    /// Writes that Kafka took a message that was sent directly.
    pub async fn sent(&self, sent: SentMessage) -> Written<()> {
        self.hand_in(|answer| Entry::Sent(sent, answer)).await
    }

    /// Hands the held row of a direct send that failed over to the relay.
    pub async fn release(&self, id: String, reason: String) -> Written<()> {
        self.hand_in(|answer| Entry::Release((id, reason), answer)).await
    }

    async fn hand_in<T>(&self, entry: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Entry) -> Written<T> {
        let (answer, written) = oneshot::channel();
        // When the writer has ended, the answer is dropped and says so.
        let _ended = self.entries.send(entry(answer)).await;
        Written(written)
    }
}

struct Writer {
    store: SharedStore,
    away: watch::Sender<bool>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Entry>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = queue.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    self.write(std::mem::take(&mut batch)).await;
                }
                () = tokio::time::sleep(PING_EVERY) => self.ping().await,
            }
        }
    }

    async fn ping(&self) {
        let pong = tokio::time::timeout(PING_TIMEOUT, self.store.ping()).await;
        self.found(matches!(pong, Ok(Ok(_))));
    }

    /// Writes a batch: new rows first, since what was sent or released may be
    /// among them.
    async fn write(&self, batch: Vec<Entry>) {
        let (mut accepts, mut sents, mut releases) = (Vec::new(), Vec::new(), Vec::new());
        for entry in batch {
            match entry {
                Entry::Accept(message, answer) => accepts.push((*message, answer)),
                Entry::Sent(sent, answer) => sents.push((sent, answer)),
                Entry::Release(release, answer) => releases.push((release, answer)),
            }
        }
        // A message that is not on Kafka yet, and whose sender was told that
        // the store is away, must not be sent after all.
        self.insist(
            accepts,
            |message| message.outbound.is_none(),
            |store, rows| async move { store.accept(&rows).await },
        )
        .await;
        self.insist(
            sents,
            |_| true,
            |store, rows| async move { store.sent(&rows).await.map(|()| vec![(); rows.len()]) },
        )
        .await;
        self.insist(
            releases,
            |_| true,
            |store, rows| async move { store.release_outbound(&rows).await.map(|()| vec![(); rows.len()]) },
        )
        .await;
    }

    /// Writes rows in one transaction, and tries until the store is there.
    ///
    /// To repeat a write whose answer was lost is safe: a message that is
    /// there already is told by its digest, and the other writes say what is
    /// to be. A row whose content the store refuses is found by halving, and
    /// alone gets the error. Rows that nobody waits for and that need not be
    /// kept are given up when the store is away.
    async fn insist<R, T, W, F>(&self, rows: Waiting<R, T>, keep: impl Fn(&R) -> bool, write: W)
    where
        R: Clone,
        W: Fn(SharedStore, Vec<R>) -> F,
        F: Future<Output = Result<Vec<T>, StoreError>>,
    {
        let mut pause = RETRY_FIRST;
        let mut parts = VecDeque::from([rows]);
        while let Some(mut part) = parts.pop_front() {
            if part.is_empty() {
                continue;
            }
            let rows = part.iter().map(|(row, _)| row.clone()).collect();
            match self.watched(write(Arc::clone(&self.store), rows)).await {
                Ok(answers) => {
                    self.found(true);
                    pause = RETRY_FIRST;
                    for ((_, waiting), answer) in part.into_iter().zip(answers) {
                        // A sender that went away does not need the answer.
                        let _unheard = waiting.send(Ok(answer));
                    }
                }
                Err(away) if away.is_transient() => {
                    if self.found(false) {
                        warn!(error = %away, "the store is away: messages wait for it");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LONGEST);
                    part.retain(|(row, waiting)| keep(row) || !waiting.is_closed());
                    parts.push_front(part);
                }
                Err(_) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(part);
                }
                Err(refusal) => {
                    error!(error = %refusal, "the store refuses a row of the send side");
                    for (_, waiting) in part {
                        let _unheard = waiting.send(Err(StoreError::Data(refusal.to_string())));
                    }
                }
            }
        }
    }

    /// Waits for a write. One that takes too long counts as an outage from
    /// then on, so that messages behind it are refused and not sent first.
    async fn watched<T>(&self, write: impl Future<Output = T>) -> T {
        tokio::pin!(write);
        if let Ok(written) = tokio::time::timeout(SLOW, &mut write).await {
            return written;
        }
        if self.found(false) {
            warn!("the store does not answer: messages wait for it");
        }
        write.await
    }

    /// Notes whether the store is there; true when that is news.
    fn found(&self, there: bool) -> bool {
        self.away.send_if_modified(|away| std::mem::replace(away, !there) == there)
    }
}

/// Rows with those who wait for them.
type Waiting<R, T> = Vec<(R, oneshot::Sender<Result<T, StoreError>>)>;
