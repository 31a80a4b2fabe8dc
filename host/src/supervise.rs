//! The tasks that a host cannot do without, and what happens when one ends.
//!
//! A relay that panicked would keep its leases while its process renews them, and
//! messages would stop without an error. So every lasting task runs in here: a
//! task that panics, or returns although it was not told to stop, ends the process
//! with an error that names the task. The leases of the process run out, other
//! hosts take over, and a service manager starts the process again.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Names the task that a test lets panic. See [`Task::as_str`].
const PANIC_IN: &str = "COURIER_TEST_PANIC_IN";
/// How long after its start that task panics, so that it is at work by then.
const PANIC_AFTER: Duration = Duration::from_millis(500);

/// A kind of lasting task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Sends unsent rows to Kafka.
    Relay,
    /// Keeps the leases on relay shards.
    RelayLeases,
    /// Moves delayed messages that are due.
    DelayedMover,
    /// Writes the rows of the send side.
    Journal,
    /// Polls the store for topics with unsent rows.
    BacklogLook,
    /// Asks the senders of half messages what became of their transactions.
    TransactionChecker,
    /// Relays an outbox.
    OutboxIntake,
    /// Writes outcomes.
    Settler,
    /// Starts and stops owners as Kafka assigns and revokes a group's partitions.
    EventConsumer,
    /// Reads broadcasts for a group.
    BroadcastConsumer,
    /// Shares the addresses of a pushed service with the other hosts.
    AddressKeeper,
    /// Owns a partition.
    PartitionOwner,
    /// Looks for duplicates.
    DuplicateLookup,
    /// Runs deliveries.
    Worker,
    /// Opens and closes the gate of a binding.
    BindingGate,
    /// Follows activations of plugins.
    PluginActivations,
    /// Works through redrives.
    RedriveRunner,
    /// Starts and stops groups, and applies pauses from the API.
    Fleet,
    /// Shares CPU time among groups.
    Fairness,
    /// Reads the end offsets of partitions.
    LogEnds,
    /// Removes listeners that are no longer expected, and finds broadcasts without one.
    BroadcastWatch,
    /// Sets gauges.
    Gauges,
    /// Writes the counts of [`crate::stats`].
    Minutes,
    /// Removes rows that are older than the retention.
    Retention,
    /// Checks the store's settings and clock.
    StoreWatch,
    /// Creates Courier's own topics.
    OwnTopics,
    /// Reads how large the messages of topics may be.
    TopicLimits,
    /// Reads the ids of topics, to notice topics that were created anew.
    TopicWatch,
    /// Reports a broker that gives no topic ids.
    TopicIds,
    /// Keeps the lease on the node's name.
    NodeLease,
    /// Serves the API.
    Api,
    /// Listens for the notifications of an outbox.
    OutboxListener,
    /// Checkpoints SQLite's write-ahead log.
    Checkpoints,
    /// Polls a consumer.
    ConsumerThread,
    /// Watches whether a consumer still reaches its cluster.
    ConsumerWatch,
    /// Watches whether the producer still reaches its cluster.
    ProducerWatch,
    /// Polls the producer for delivery reports.
    ProducerPoll,
    /// Hands librdkafka the next record of each partition.
    ProducerWindows,
    /// Polls the counts of undelivered rows.
    UndeliveredWatch,
    /// Asks the store which keys have unsent rows.
    UnsentLook,
    /// Reports groups, bindings and redrives that stand still.
    GroupCauses,
    /// Stores the bindings of this node.
    NodeBindings,
    /// Advances the engine's epoch.
    EpochTicker,
}

impl Task {
    pub const ALL: [Self; 43] = [
        Self::Relay,
        Self::RelayLeases,
        Self::DelayedMover,
        Self::Journal,
        Self::BacklogLook,
        Self::TransactionChecker,
        Self::OutboxIntake,
        Self::Settler,
        Self::EventConsumer,
        Self::BroadcastConsumer,
        Self::AddressKeeper,
        Self::PartitionOwner,
        Self::DuplicateLookup,
        Self::Worker,
        Self::BindingGate,
        Self::PluginActivations,
        Self::RedriveRunner,
        Self::Fleet,
        Self::Fairness,
        Self::LogEnds,
        Self::BroadcastWatch,
        Self::Gauges,
        Self::Minutes,
        Self::Retention,
        Self::StoreWatch,
        Self::OwnTopics,
        Self::TopicLimits,
        Self::TopicWatch,
        Self::TopicIds,
        Self::NodeLease,
        Self::Api,
        Self::OutboxListener,
        Self::Checkpoints,
        Self::ConsumerThread,
        Self::ConsumerWatch,
        Self::ProducerWatch,
        Self::ProducerPoll,
        Self::ProducerWindows,
        Self::UndeliveredWatch,
        Self::UnsentLook,
        Self::GroupCauses,
        Self::NodeBindings,
        Self::EpochTicker,
    ];

    /// Its name, in logs and errors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::RelayLeases => "relay leases",
            Self::DelayedMover => "mover of delayed messages",
            Self::Journal => "journal",
            Self::BacklogLook => "backlog look",
            Self::TransactionChecker => "transaction checker",
            Self::OutboxIntake => "outbox intake",
            Self::Settler => "writer of outcomes",
            Self::EventConsumer => "event consumer",
            Self::BroadcastConsumer => "broadcast consumer",
            Self::AddressKeeper => "address keeper",
            Self::PartitionOwner => "partition owner",
            Self::DuplicateLookup => "duplicate lookup",
            Self::Worker => "worker",
            Self::BindingGate => "binding gate",
            Self::PluginActivations => "plugin activations",
            Self::RedriveRunner => "redrive runner",
            Self::Fleet => "fleet",
            Self::Fairness => "fairness",
            Self::LogEnds => "log ends",
            Self::BroadcastWatch => "broadcast watch",
            Self::Gauges => "gauges",
            Self::Minutes => "minutes",
            Self::Retention => "retention",
            Self::StoreWatch => "store watch",
            Self::OwnTopics => "own topics",
            Self::TopicLimits => "topic limits",
            Self::TopicWatch => "topic watch",
            Self::TopicIds => "topic ids",
            Self::NodeLease => "node lease",
            Self::Api => "api",
            Self::OutboxListener => "outbox listener",
            Self::Checkpoints => "checkpoints",
            Self::ConsumerThread => "consumer thread",
            Self::ConsumerWatch => "consumer watch",
            Self::ProducerWatch => "producer watch",
            Self::ProducerPoll => "producer poll",
            Self::ProducerWindows => "producer windows",
            Self::UndeliveredWatch => "undelivered watch",
            Self::UnsentLook => "unsent look",
            Self::GroupCauses => "group causes",
            Self::NodeBindings => "node bindings",
            Self::EpochTicker => "epoch ticker",
        }
    }
}

/// The first task that ended although the host needs it.
#[derive(Default)]
struct Fallen {
    why: Mutex<Option<String>>,
    told: CancellationToken,
}

impl Fallen {
    fn note(&self, task: Task, how: &str) {
        tracing::error!(task = task.as_str(), how, "a task that the host needs has ended: the host ends");
        let mut why = self.why.lock();
        why.get_or_insert_with(|| format!("the task {:?} has ended: {how}", task.as_str()));
        self.told.cancel();
    }

    async fn wait(&self) -> String {
        self.told.cancelled().await;
        self.why.lock().clone().unwrap_or_default()
    }
}

/// One for the process, since a host ends as a whole.
static FALLEN: LazyLock<Fallen> = LazyLock::new(Fallen::default);

/// Waits until a task that the host needs has ended; returns which one and how.
pub async fn fallen() -> String {
    FALLEN.wait().await
}

/// Ends the host because `task` found a fault that only a restart mends.
pub fn give_up(task: Task, why: &str) {
    FALLEN.note(task, why);
}

/// Starts a task that runs until it is told to stop. If it returns before `stop`
/// is cancelled, the host ends.
pub fn spawn_until<F>(task: Task, stop: CancellationToken, work: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(until(task, stop, work))
}

/// Starts a task that may return once it has nothing left to do, such as the
/// owner of a partition that was given up. It may not panic.
pub fn spawn<T, F>(task: Task, work: F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    tokio::spawn(unbroken(task, work))
}

/// The future that [`spawn_until`] starts, for callers with a runtime or a
/// `JoinSet` of their own.
pub async fn until(task: Task, stop: CancellationToken, work: impl Future<Output = ()>) {
    unbroken(task, work).await;
    if !stop.is_cancelled() {
        FALLEN.note(task, "it returned");
    }
}

/// The future that [`spawn`] starts.
///
/// # Panics
/// When `work` does, after the panic was noted.
pub async fn unbroken<T>(task: Task, work: impl Future<Output = T>) -> T {
    watched(&FALLEN, task, work).await
}

async fn watched<T>(fallen: &Fallen, task: Task, work: impl Future<Output = T>) -> T {
    let work = async {
        tokio::select! {
            biased;
            done = work => done,
            never = failpoint(task) => match never {},
        }
    };
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(panic) => {
            fallen.note(task, &format!("it panicked: {}", message(&*panic)));
            std::panic::resume_unwind(panic)
        }
    }
}

/// Runs the work of a thread under supervision. It may return.
///
/// # Panics
/// When `work` does, after the panic was noted.
pub fn thread(task: Task, work: impl FnOnce()) {
    let work = || {
        if is_to_panic(task) {
            std::thread::sleep(PANIC_AFTER);
            panic!("{PANIC_IN} is set");
        }
        work();
    };
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
        FALLEN.note(task, &format!("it panicked: {}", message(&*panic)));
        std::panic::resume_unwind(panic);
    }
}

fn is_to_panic(task: Task) -> bool {
    std::env::var(PANIC_IN).is_ok_and(|name| name == task.as_str())
}

/// Panics in the task that a test names, and never completes in others.
async fn failpoint(task: Task) -> std::convert::Infallible {
    if is_to_panic(task) {
        tokio::time::sleep(PANIC_AFTER).await;
        panic!("{PANIC_IN} is set");
    }
    std::future::pending().await
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it left no message")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_the_task_and_its_message() {
        let fallen = Fallen::default();
        let broken = watched(&fallen, Task::Relay, async { panic!("row {} is gone", 7) });
        assert!(AssertUnwindSafe(broken).catch_unwind().await.is_err(), "whoever joins the task sees it too");
        assert_eq!(fallen.wait().await, "the task \"relay\" has ended: it panicked: row 7 is gone");
        fallen.note(Task::Journal, "it returned");
        assert!(fallen.wait().await.contains("relay"), "the first one is what matters");
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_or_done_has_not_fallen() {
        let fallen = Fallen::default();
        assert_eq!(watched(&fallen, Task::Relay, async { 1 }).await, 1);
        drop(Box::pin(watched(&fallen, Task::Relay, std::future::pending::<()>())));
        assert!(!fallen.told.is_cancelled());
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = Task::ALL.iter().map(|task| task.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Task::ALL.len());
    }

    /// Spawns that need no supervisor, by file, with how many there are.
    const SHORT_LIVED: &[(&str, usize)] = &[
        // Closing a consumer that is of no more use.
        ("consume/consumer/broadcast.rs", 1),
        ("consume/consumer/event.rs", 1),
        // Repeating a notice.
        ("consume/consumer/out_of_range.rs", 1),
        // Dropping clients, which may take long, and reading a topic's metadata.
        ("kafka/log_reader.rs", 1),
        ("kafka/producer/parts.rs", 1),
        // A write to the store, which the relay awaits.
        ("publish/relay/actions.rs", 1),
        // The creation of a topic, for which senders wait.
        ("publish/send/companions.rs", 1),
        // A request, whose panic its sender gets as an error.
        ("publish/send/mod.rs", 1),
        // The end of a send: its row is held, and the relay sends it after the hold.
        ("publish/send/result.rs", 2),
    ];

    /// A lasting task outside of the supervisor could end without an error.
    #[test]
    fn no_task_is_spawned_past_the_supervisor() {
        let mut found = Vec::new();
        collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
        found.sort();
        let known: Vec<(String, usize)> =
            SHORT_LIVED.iter().map(|(file, count)| ((*file).to_owned(), *count)).collect();
        assert_eq!(
            found, known,
            "a task that lasts is started by `supervise::spawn` or `spawn_until`; one that ends by itself soon is \
             counted in SHORT_LIVED"
        );
    }

    fn collect(folder: &Path, found: &mut Vec<(String, usize)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let of_tests = name.starts_with("tests") || name == "testing.rs";
            if of_tests || name == "supervise.rs" {
                continue;
            }
            if path.is_dir() {
                collect(&path, found);
                continue;
            }
            if !name.ends_with(".rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests stand at the end of a file.
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            let spawns = product.matches("tokio::spawn(").count() + product.matches("thread::spawn(").count();
            if spawns > 0 {
                let shown = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src/")).unwrap();
                found.push((shown.display().to_string(), spawns));
            }
        }
    }
}
