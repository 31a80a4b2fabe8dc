//! Writes the rows of the send side, many in one transaction.
//!
//! One commit for each message would allow a few hundred messages a second. One
//! task writes: while a transaction commits, the rows of the next one queue up.
//! While the store is away it retries until the store is back, and drops only
//! rows whose senders were told that nothing was sent.
//!
//! Its queue is bounded: a message is taken only while there is room. The rows of a
//! message that may be in Kafka are queued without waiting, since its sender must be told
//! in time not to send it again.
//!
//! A store that refuses a row for a lasting cause (a permission, a full disk)
//! is no passing outage: senders are answered at once, and nothing more is
//! accepted for a time that grows with each refusal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::said;
use crate::store::{Accepted, NewMessage, RefusedMessage, SentMessage, SharedStore, StoreError, UnsentMessage};
use crate::supervise::{self, Task};

/// Rows that may wait to be written. Beyond it senders wait; only rows of messages that
/// were taken before are queued all the same.
const QUEUE: usize = 8 * 1024;
/// Rows of one transaction.
const BATCH: usize = 1_000;
/// First and longest pause before a store that is away is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// First and longest time in which nothing is accepted after the store refused
/// a row for a lasting cause.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_LONGEST: Duration = Duration::from_secs(30);
/// A write that takes longer counts as an outage.
const SLOW: Duration = Duration::from_secs(1);
/// How often an idle writer pings the store, so that an outage is noticed
/// before a message is sent to Kafka.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle to the writer; clones share it.
#[derive(Clone)]
pub struct MessageWriter {
    entries: mpsc::UnboundedSender<WriteEntry>,
    queued: Arc<QueuedRows>,
    standing: watch::Receiver<StoreStanding>,
}

/// Counts the rows that wait to be written.
#[derive(Default)]
struct QueuedRows {
    count: AtomicUsize,
    room: Notify,
}

impl QueuedRows {
    fn has_room(&self) -> bool {
        self.count.load(Ordering::Acquire) < QUEUE
    }

    /// Waits until fewer than [`QUEUE`] rows wait; false when `by` comes first.
    async fn wait_for_room(&self, by: Instant) -> bool {
        while !self.has_room() {
            let room = self.room.notified();
            // Asked again once it would be woken.
            if !self.has_room() && tokio::time::timeout_at(by, room).await.is_err() {
                return false;
            }
        }
        true
    }

    fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    fn written(&self, rows: usize) {
        if self.count.fetch_sub(rows, Ordering::AcqRel) >= QUEUE {
            self.room.notify_waiters();
        }
    }
}

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StoreStanding {
    There,
    Away {
        why: String,
    },
    /// It refused a row for a lasting cause. Nothing is accepted for `wait`
    /// from `since` on.
    Refusing {
        why: String,
        since: Instant,
        wait: Duration,
    },
}

impl StoreStanding {
    /// Why nothing is accepted now. After the wait of a refusal the next
    /// message finds out whether the cause is gone.
    fn why_closed(&self, now: Instant) -> Option<&str> {
        match self {
            Self::There => None,
            Self::Away { why } => Some(why),
            Self::Refusing { why, since, wait } => (now.duration_since(*since) < *wait).then_some(why),
        }
    }

    /// The state after one more refusal.
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

/// The answer to a write, once it is durable.
pub struct WriteReceipt<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> WriteReceipt<T> {
    /// Waits until the row is durable, or refused for its content.
    ///
    /// # Errors
    /// The error of the store; `Unavailable` when the writer has ended.
    pub async fn wait(self) -> Result<T, StoreError> {
        self.0.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the host is shutting down".to_owned())
}

impl MessageWriter {
    /// Starts the writing task, which ends when all handles are dropped and
    /// everything is written.
    #[must_use]
    pub fn start(store: SharedStore) -> Self {
        let (entries, queue) = mpsc::unbounded_channel();
        let (found, standing) = watch::channel(StoreStanding::There);
        let queued = Arc::<QueuedRows>::default();
        let task = MessageWriterTask { store, found, queued: Arc::clone(&queued) };
        supervise::spawn(Task::Journal, task.run(queue));
        Self { entries, queued, standing }
    }

    /// Waits until rows can be queued; false when `by` comes first. What is taken from
    /// here on until its last row is written may exceed the queue's capacity, by as much as
    /// is being accepted at once.
    pub async fn has_room(&self, by: Instant) -> bool {
        self.queued.wait_for_room(by).await
    }

    /// Why no message is accepted: the store is away, or refused the last
    /// write.
    #[must_use]
    pub fn why_closed(&self) -> Option<String> {
        self.standing.borrow().why_closed(Instant::now()).map(ToOwned::to_owned)
    }

    /// Whether no message is accepted.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.standing.borrow().why_closed(Instant::now()).is_some()
    }

    /// Writes the row of a message of which nothing was sent yet, in the order of the
    /// calls. The receipt is `Unavailable` when there is no room for it until `by`; then it
    /// is not written.
    pub async fn accept(&self, message: NewMessage, by: Instant) -> WriteReceipt<Accepted> {
        if self.queued.wait_for_room(by).await {
            return self.keep(message);
        }
        let (answer, written) = oneshot::channel();
        let full = "the store did not take the message in time, and nothing was sent: try again later";
        let _unheard = answer.send(Err(StoreError::Unavailable(full.to_owned())));
        WriteReceipt(written)
    }

    /// Writes the row of a message that was handed to Kafka, in the order of the calls. It
    /// has to be kept, so that it is queued also where there is no room.
    pub fn keep(&self, message: NewMessage) -> WriteReceipt<Accepted> {
        self.hand_in(|answer| WriteEntry::Accept(Box::new(message), answer))
    }

    /// Writes that Kafka took a direct send.
    pub fn sent(&self, sent: SentMessage) -> WriteReceipt<()> {
        self.hand_in(|answer| WriteEntry::Sent(sent, answer))
    }

    /// Releases the held row of a failed direct send to the relay.
    pub fn release(&self, unsent: UnsentMessage) -> WriteReceipt<()> {
        self.hand_in(|answer| WriteEntry::Release(unsent, answer))
    }

    /// Writes that Kafka refused a direct send for ever.
    pub fn refuse(&self, refused: RefusedMessage) -> WriteReceipt<()> {
        self.hand_in(|answer| WriteEntry::Refuse(refused, answer))
    }

    fn hand_in<T>(&self, entry: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> WriteEntry) -> WriteReceipt<T> {
        let (answer, written) = oneshot::channel();
        self.queued.add();
        if self.entries.send(entry(answer)).is_err() {
            // The writer has ended, which the dropped channel reports.
            self.queued.written(1);
        }
        WriteReceipt(written)
    }
}

struct MessageWriterTask {
    store: SharedStore,
    found: watch::Sender<StoreStanding>,
    queued: Arc<QueuedRows>,
}

impl MessageWriterTask {
    async fn run(self, mut queue: mpsc::UnboundedReceiver<WriteEntry>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = queue.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    self.write(std::mem::take(&mut batch)).await;
                    self.queued.written(received);
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

    /// Writes a batch: new rows first, since sends and releases may refer to
    /// them.
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
        // A message that is not in Kafka, and whose sender was told that the
        // store is away, must not be sent later.
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

    /// Writes rows in one transaction, and retries while the store is away.
    ///
    /// Repeating a write whose answer was lost is safe: a message that exists
    /// is recognized by its digest, and the other writes are idempotent. A row
    /// whose content the store refuses is found by bisection, and alone gets
    /// the error. Rows that nobody waits for and that need not be kept are
    /// dropped when the store is away. A lasting refusal is returned, unless
    /// the rows must be kept: then they are retried until the store is
    /// repaired.
    async fn insist<R, T, W, F>(&self, rows: WaitingRows<R, T>, keep: impl Fn(&R) -> bool, write: W)
    where
        R: Clone,
        W: Fn(SharedStore, Vec<R>) -> F,
        F: Future<Output = Result<Vec<T>, StoreError>>,
    {
        let mut pause = RETRY_FIRST;
        // Consecutive refusals count as one.
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
                        // A sender that is gone needs no answer.
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

    /// Waits for a write. One that takes too long counts as an outage, so that
    /// messages behind it are refused instead of being sent first.
    async fn watched<T>(&self, write: impl Future<Output = T>) -> T {
        tokio::pin!(write);
        if let Ok(written) = tokio::time::timeout(SLOW, &mut write).await {
            return written;
        }
        self.went_away(&format!("no answer within {SLOW:?}"));
        write.await
    }

    /// Notes an answer of the store. It does not end a refusal, which only a
    /// write can.
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
            info!("the store takes messages again");
        }
    }

    fn went_away(&self, why: &dyn std::fmt::Display) {
        let before = self.found.send_replace(StoreStanding::Away { why: why.to_string() });
        if !matches!(before, StoreStanding::Away { .. }) {
            warn!(%why, "the store is away: messages wait for it");
        }
    }

    /// Notes a lasting refusal, and returns how long to wait.
    fn refused(&self, why: &str) -> Duration {
        let mut waits = REFUSED_FIRST;
        self.found.send_modify(|found| {
            *found = found.refused(why.to_owned(), Instant::now());
            if let StoreStanding::Refusing { wait, .. } = found {
                waits = *wait;
            }
        });
        // With each refusal the next one comes later, and so does this line.
        error!(why, again_in = ?waits, "the store refused a message; nothing is accepted until it is repaired");
        waits
    }
}

/// Rows with the channels of their callers.
type WaitingRows<R, T> = Vec<(R, oneshot::Sender<Result<T, StoreError>>)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> NewMessage {
        let draft =
            crate::publish::draft::Draft { topic: "order".to_owned(), type_name: "T".to_owned(), ..Default::default() };
        draft.ready(courier_core::message::Timestamp(0), usize::MAX).unwrap().owed("x", None)
    }

    /// Senders waited for a place in the queue as long as the store hung.
    #[tokio::test]
    async fn a_full_queue_holds_up_no_sender_for_longer_than_it_waits() {
        let (entries, mut queue) = mpsc::unbounded_channel();
        let (_found, standing) = watch::channel(StoreStanding::There);
        let writer = MessageWriter { entries, queued: Arc::default(), standing };
        let (passed, far) = (Instant::now(), Instant::now() + Duration::from_secs(3_600));
        for _ in 0..QUEUE {
            drop(writer.accept(message(), far).await);
        }
        let late = writer.accept(message(), passed).await.wait().await;
        assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
        assert!(!writer.has_room(passed).await);
        assert_eq!(queue.len(), QUEUE, "what its sender is told was not taken is not written");
        // What Kafka may have is queued at once.
        drop(writer.keep(message()));
        drop(writer.sent(SentMessage {
            identity: message().identity(),
            partition: 0,
            offset: courier_core::message::Offset(0),
        }));
        assert_eq!(queue.len(), QUEUE + 2);
        // Rows that were written make room, and wake who waits for it.
        let waiting = tokio::spawn({
            let writer = writer.clone();
            async move { writer.has_room(far).await }
        });
        let mut written = Vec::new();
        queue.recv_many(&mut written, 3).await;
        writer.queued.written(written.len());
        assert!(waiting.await.unwrap());
    }

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
