//! Makes the rows of the send side durable, many to a transaction.
//!
//! A commit a message would allow a few hundred messages a second. Here one
//! task writes: while a transaction commits, the rows of the next one gather.
//! While the store is away it tries until the store is back; only rows whose
//! senders were told that nothing was sent are given up. Its queue is bounded.
//!
//! A store that refuses a row for a cause that lasts (a permission, a full
//! disk) is no outage that passes: senders are answered at once, and for a
//! while that grows with each refusal nothing more is accepted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::said;
use crate::store::{Accepted, NewMessage, RefusedMessage, SentMessage, SharedStore, StoreError, UnsentMessage};
use crate::supervise::{self, Task};

/// Rows that wait to be written; past it, senders wait.
const QUEUE: usize = 8 * 1024;
/// Rows in one transaction at most.
const BATCH: usize = 1_000;
/// Pause before a store that is away is tried again; doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the store refused a row for a cause that
/// lasts; doubles with each refusal that follows, up to the longest.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_LONGEST: Duration = Duration::from_secs(30);
/// A write that takes longer is an outage.
const SLOW: Duration = Duration::from_secs(1);
/// How often an idle journal asks whether the store is there, so that a
/// message is not sent to Kafka before its outage is noticed.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle on the journal; clones share it.
#[derive(Clone)]
pub struct MessageWriter {
    entries: mpsc::Sender<WriteEntry>,
    standing: watch::Receiver<StoreStanding>,
}

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StoreStanding {
    There,
    Away {
        why: String,
    },
    /// It refused a row for a cause that lasts. `wait` is how long nothing is
    /// accepted, counted from `since`.
    Refusing {
        why: String,
        since: Instant,
        wait: Duration,
    },
}

impl StoreStanding {
    /// Why nothing should be accepted now. After the wait of a refusal the next
    /// message finds out whether the cause was mended.
    fn why_closed(&self, now: Instant) -> Option<&str> {
        match self {
            Self::There => None,
            Self::Away { why } => Some(why),
            Self::Refusing { why, since, wait } => (now.duration_since(*since) < *wait).then_some(why),
        }
    }

    /// What follows from one more refusal.
    fn refused(&self, why: String, now: Instant) -> Self {
        let wait = match self {
            Self::Refusing { wait, .. } => (*wait * 2).min(REFUSED_LONGEST),
            Self::There | Self::Away { .. } => REFUSED_FIRST,
        };
        Self::Refusing { why, since: now, wait }
    }
}

enum WriteEntry {
    Accept(Box<NewMessage>, oneshot::Sender<Result<Accepted, StoreError>>),
    Sent(SentMessage, oneshot::Sender<Result<(), StoreError>>),
    Release(UnsentMessage, oneshot::Sender<Result<(), StoreError>>),
    Refuse(RefusedMessage, oneshot::Sender<Result<(), StoreError>>),
}

/// The answer to an entry, once it is durable.
pub struct WriteReceipt<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> WriteReceipt<T> {
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

impl MessageWriter {
    /// Starts the task that writes; it ends when all handles are gone and all
    /// that was handed in is written.
    #[must_use]
    pub fn start(store: SharedStore) -> Self {
        let (entries, queue) = mpsc::channel(QUEUE);
        let (found, standing) = watch::channel(StoreStanding::There);
        supervise::spawn(Task::Journal, MessageWriterTask { store, found }.run(queue));
        Self { entries, standing }
    }

    /// Why no message is accepted: the store is known to be away, or refused
    /// what was written last.
    #[must_use]
    pub fn why_closed(&self) -> Option<String> {
        self.standing.borrow().why_closed(Instant::now()).map(ToOwned::to_owned)
    }

    /// Whether no message is accepted.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.standing.borrow().why_closed(Instant::now()).is_some()
    }

    /// Writes the row of a message. Rows are written in the order handed in.
    pub async fn accept(&self, message: NewMessage) -> WriteReceipt<Accepted> {
        self.hand_in(|answer| WriteEntry::Accept(Box::new(message), answer)).await
    }

    /// Writes that Kafka took a message that was sent directly.
    pub async fn sent(&self, sent: SentMessage) -> WriteReceipt<()> {
        self.hand_in(|answer| WriteEntry::Sent(sent, answer)).await
    }

    /// Hands the held row of a direct send that failed over to the relay.
    pub async fn release(&self, unsent: UnsentMessage) -> WriteReceipt<()> {
        self.hand_in(|answer| WriteEntry::Release(unsent, answer)).await
    }

    /// Writes that Kafka refused a direct send for ever.
    pub async fn refuse(&self, refused: RefusedMessage) -> WriteReceipt<()> {
        self.hand_in(|answer| WriteEntry::Refuse(refused, answer)).await
    }

    async fn hand_in<T>(
        &self,
        entry: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> WriteEntry,
    ) -> WriteReceipt<T> {
        let (answer, written) = oneshot::channel();
        // When the writer has ended, the answer is dropped and says so.
        let _ended = self.entries.send(entry(answer)).await;
        WriteReceipt(written)
    }
}

struct MessageWriterTask {
    store: SharedStore,
    found: watch::Sender<StoreStanding>,
}

impl MessageWriterTask {
    async fn run(self, mut queue: mpsc::Receiver<WriteEntry>) {
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
        match tokio::time::timeout(PING_TIMEOUT, self.store.ping()).await {
            Ok(Ok(_)) => self.answered(),
            Ok(Err(error)) => self.went_away(&error),
            Err(_) => self.went_away(&format!("no answer within {PING_TIMEOUT:?}")),
        }
    }

    /// Writes a batch: new rows first, since what was sent or released may be
    /// among them.
    async fn write(&self, batch: Vec<WriteEntry>) {
        let (mut accepts, mut sents, mut releases, mut refusals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entry in batch {
            match entry {
                WriteEntry::Accept(message, answer) => accepts.push((*message, answer)),
                WriteEntry::Sent(sent, answer) => sents.push((sent, answer)),
                WriteEntry::Release(release, answer) => releases.push((release, answer)),
                WriteEntry::Refuse(refused, answer) => refusals.push((refused, answer)),
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
        self.insist(
            refusals,
            |_| true,
            |store, rows| async move { store.refuse_outbound(&rows).await.map(|()| vec![(); rows.len()]) },
        )
        .await;
    }

    /// Writes rows in one transaction, and tries until the store is there.
    ///
    /// To repeat a write whose answer was lost is safe: a message that is
    /// there already is told by its digest, and the other writes say what is
    /// to be. A row whose content the store refuses is found by halving, and
    /// alone gets the error. Rows that nobody waits for and that need not be
    /// kept are given up when the store is away. What is refused for a cause
    /// that lasts is answered so, unless it has to be kept: then it is tried
    /// until somebody mended the store.
    async fn insist<R, T, W, F>(&self, rows: WaitingRows<R, T>, keep: impl Fn(&R) -> bool, write: W)
    where
        R: Clone,
        W: Fn(SharedStore, Vec<R>) -> F,
        F: Future<Output = Result<Vec<T>, StoreError>>,
    {
        let mut pause = RETRY_FIRST;
        // Rows that are refused one after another are one refusal.
        let mut refused_for: Option<Duration> = None;
        let mut parts = VecDeque::from([rows]);
        while let Some(mut part) = parts.pop_front() {
            if part.is_empty() {
                continue;
            }
            let rows = part.iter().map(|(row, _)| row.clone()).collect();
            match self.watched(write(Arc::clone(&self.store), rows)).await {
                Ok(answers) => {
                    if refused_for.is_none() {
                        self.took_rows();
                    }
                    pause = RETRY_FIRST;
                    for ((_, waiting), answer) in part.into_iter().zip(answers) {
                        // A sender that went away does not need the answer.
                        let _unheard = waiting.send(Ok(answer));
                    }
                }
                Err(away) if away.is_transient() => {
                    self.went_away(&away);
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
                Err(StoreError::Refused(why)) => {
                    let wait = *refused_for.get_or_insert_with(|| self.refused(&why));
                    let (kept, told): (Vec<_>, Vec<_>) = part.into_iter().partition(|(row, _)| keep(row));
                    for (_, waiting) in told {
                        let _unheard = waiting.send(Err(StoreError::Refused(why.clone())));
                    }
                    if !kept.is_empty() {
                        tokio::time::sleep(wait).await;
                        refused_for = None;
                        parts.push_front(kept);
                    }
                }
                Err(refusal) => {
                    if let Some(unsaid) = said::again("a row of the send side") {
                        error!(error = %refusal, unsaid, "the store refuses a row of the send side");
                    }
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
        self.went_away(&format!("no answer within {SLOW:?}"));
        write.await
    }

    /// The store answered a question. Whether it takes rows again, a refusal
    /// leaves open.
    fn answered(&self) {
        self.found.send_if_modified(|found| {
            let was_away = matches!(found, StoreStanding::Away { .. });
            if was_away {
                *found = StoreStanding::There;
            }
            was_away
        });
    }

    fn took_rows(&self) {
        let before = self.found.send_replace(StoreStanding::There);
        if before != StoreStanding::There {
            info!("the store takes messages");
        }
    }

    fn went_away(&self, why: &dyn std::fmt::Display) {
        let before = self.found.send_replace(StoreStanding::Away { why: why.to_string() });
        if !matches!(before, StoreStanding::Away { .. }) {
            warn!(%why, "the store is away: messages wait for it");
        }
    }

    /// Notes a refusal for a cause that lasts; answers how long to wait.
    fn refused(&self, why: &str) -> Duration {
        let mut waits = REFUSED_FIRST;
        self.found.send_modify(|found| {
            *found = found.refused(why.to_owned(), Instant::now());
            if let StoreStanding::Refusing { wait, .. } = found {
                waits = *wait;
            }
        });
        // With each refusal the next one comes later, and so does this line.
        error!(why, again_in = ?waits, "the store refuses messages until somebody mends it");
        waits
    }
}

/// Rows with those who wait for them.
type WaitingRows<R, T> = Vec<(R, oneshot::Sender<Result<T, StoreError>>)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_nothing_is_accepted_for_a_while_that_grows_to_its_bound() {
        let (mut standing, mut now) = (StoreStanding::There, Instant::now());
        let mut waits = Vec::new();
        for _ in 0..7 {
            standing = standing.refused("permission denied".to_owned(), now);
            assert_eq!(standing.why_closed(now), Some("permission denied"));
            let StoreStanding::Refusing { wait, .. } = standing else { panic!("{standing:?}") };
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(standing.why_closed(now), None, "the next message finds out");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(StoreStanding::Away { why: "x".to_owned() }.why_closed(now), Some("x"));
    }
}
