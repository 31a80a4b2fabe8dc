//! Half messages: prepared, then committed or rolled back by their sender.
//!
//! A sender prepares messages before its own transaction and says afterwards
//! what became of that. Until then they are stored and nobody sees them. When
//! it says nothing in time, its check URL is asked, a bounded number of times
//! and ever more rarely; in the end the transaction is ABANDONED, which people
//! see. A claim on an asking is a lease on the transaction's row: of several
//! hosts one asks, and when that one is killed another does.
//!
//! A commit writes the messages as if they were handed in at that moment, and
//! the relay sends them. Next: [`super::check_url`], how a sender is asked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::accept::Acceptor;
use super::check_url::{Answer, CheckUrls};
use super::draft::{Draft, new_id};
use super::receipt::Problem;
use crate::store::{HalfCheck, HalfRow, HalfState, NewHalf, SharedStore, StoreError};
use crate::supervise::{self, Task};

/// Transactions that may be prepared at a time: each keeps its messages in the
/// store until it ends. Those handed in at the same moment may exceed it.
pub const MAX_PREPARED: u32 = 10_000;
/// Messages of one transaction.
pub const MAX_MESSAGES: usize = 256;
/// What the records of one transaction may have together.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// How long a sender has unless it says so.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that it may have.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// How often a check URL is asked before its transaction is abandoned.
pub const MAX_CHECKS: u32 = 6;
/// The wait after the first asking is the transaction's own timeout, within
/// these bounds: who needs seconds is asked again in seconds. Each wait is
/// twice the one before, up to the longest.
const WAIT_FIRST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
const WAIT_LONGEST: Duration = Duration::from_secs(600);
/// Askings at a time.
const ASKING: usize = 32;
/// How long a claim lasts; longer than an asking may take and be written down.
const CLAIM: Duration = Duration::from_secs(15);
/// Longest pause between looks at what is to be asked.
const LOOK: Duration = Duration::from_millis(500);

/// Shortest pause between looks, for what is due and claimed elsewhere.
const MIN_LOOK: Duration = Duration::from_millis(5);

/// Prepares and ends transactions; clones share it.
#[derive(Clone)]
pub struct Transactions {
    store: SharedStore,
    acceptor: Acceptor,
    urls: CheckUrls,
    look: Arc<Notify>,
}

/// Why a transaction was not prepared.
#[derive(Debug)]
pub enum NotPrepared {
    /// The message at this place, if it is one message's fault, is refused.
    Refused(Option<usize>, Problem),
    /// The store did not take it.
    Store(StoreError),
}

impl Transactions {
    /// Starts asking for those whose time is over; ends with `shutdown`.
    #[must_use]
    pub fn start(store: SharedStore, acceptor: Acceptor, urls: CheckUrls, shutdown: CancellationToken) -> Self {
        let transactions = Self { store, acceptor, urls, look: Arc::default() };
        let asking = transactions.clone().keep_asking(shutdown.clone());
        supervise::spawn_until(Task::TransactionChecker, shutdown, asking);
        transactions
    }

    /// Which URLs may be asked.
    #[must_use]
    pub fn urls(&self) -> &CheckUrls {
        &self.urls
    }

    /// Stores messages that are sent if the transaction commits. All are
    /// validated here: what Kafka would refuse afterwards is refused now.
    ///
    /// # Errors
    /// What is wrong, with the place of the message at fault.
    pub async fn prepare(
        &self,
        drafts: Vec<Draft>,
        check_url: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<HalfRow, NotPrepared> {
        let timeout = timeout.unwrap_or(TIMEOUT);
        refuse(None, wrong(&drafts, timeout))?;
        if let Some(url) = &check_url {
            let allowed = self.urls.allow(url).map_err(|why| Problem::unusable("check_url not allowed", why));
            refuse(None, allowed.err())?;
        }
        let prepared = self.store.prepared_halves(MAX_PREPARED).await.map_err(NotPrepared::Store)?;
        let full = || {
            Problem::too_many(format!(
                "{MAX_PREPARED} transactions are prepared and have not ended: commit or roll back what has ended, and \
                 try again later"
            ))
        };
        refuse(None, (prepared >= MAX_PREPARED).then(full))?;
        let mut messages = Vec::with_capacity(drafts.len());
        for (place, validated) in self.acceptor.validate(drafts).await.into_iter().enumerate() {
            messages.push(validated.map_err(|problem| NotPrepared::Refused(Some(place), problem))?);
        }
        let bytes: usize =
            messages.iter().filter_map(|message| message.outbound.as_ref()).map(|row| row.record.len()).sum();
        let too_large = || {
            Problem::too_large(format!(
                "the messages of the transaction have {bytes} bytes; at most {MAX_BYTES} are taken"
            ))
        };
        refuse(None, (bytes > MAX_BYTES).then(too_large))?;
        let half = NewHalf { id: new_id(), messages, check_url, timeout };
        let row = self.store.prepare_half(&half).await.map_err(NotPrepared::Store)?;
        count(HalfState::Prepared);
        self.look.notify_one();
        Ok(row)
    }

    /// The sender's transaction committed: its messages are the relay's.
    ///
    /// # Errors
    /// As the store's verb.
    pub async fn commit(&self, id: &str) -> Result<HalfRow, StoreError> {
        self.end(id, HalfState::Committed, "its sender committed it").await
    }

    /// The sender's transaction rolled back: its messages never exist.
    ///
    /// # Errors
    /// As the store's verb.
    pub async fn roll_back(&self, id: &str) -> Result<HalfRow, StoreError> {
        self.end(id, HalfState::RolledBack, "its sender rolled it back").await
    }

    async fn end(&self, id: &str, state: HalfState, reason: &str) -> Result<HalfRow, StoreError> {
        let row = match state {
            HalfState::Committed => self.store.commit_half(id, reason).await?,
            _ => self.store.roll_back_half(id, reason).await?,
        };
        if row.reason.as_deref() == Some(reason) {
            count(state);
        }
        self.acceptor.look();
        Ok(row)
    }

    async fn keep_asking(self, shutdown: CancellationToken) {
        let mut asking = FuturesUnordered::new();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(()) = asking.next(), if !asking.is_empty() => {}
                () = self.look.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let free = u32::try_from(ASKING - asking.len()).unwrap_or(0);
            pause = match self.store.claim_checks(CLAIM, free).await {
                Ok((claimed, next)) => {
                    for check in claimed {
                        asking.push(self.settle(check));
                    }
                    next.filter(|_| asking.len() < ASKING).map_or(LOOK, |next| next.clamp(MIN_LOOK, LOOK))
                }
                Err(error) => {
                    if error.is_transient() {
                        debug!(%error, "transactions wait for the store");
                    } else {
                        warn!(%error, "cannot look which transactions are to be asked for");
                    }
                    LOOK
                }
            };
        }
    }

    /// Asks for one transaction and writes down what was said. When that
    /// cannot be written the claim ends and it is asked for again.
    async fn settle(&self, check: HalfCheck) {
        let written = match &check.check_url {
            None => self.leave(&check, "nobody said what became of it, and it has no check_url").await,
            Some(url) => match self.urls.ask(url, &check.id).await {
                Answer::Committed => match self.end(&check.id, HalfState::Committed, "its check_url said so").await {
                    Err(StoreError::Conflict(why)) => self.leave(&check, &format!("it cannot commit: {why}")).await,
                    answer => answer.map(|_| ()),
                },
                Answer::RolledBack => {
                    self.end(&check.id, HalfState::RolledBack, "its check_url said so").await.map(|_| ())
                }
                Answer::Unknown(why) => self.leave(&check, &why).await,
            },
        };
        if let Err(error) = written {
            debug!(%error, transaction = %check.id, "what became of a transaction is not written down");
        }
    }

    async fn leave(&self, check: &HalfCheck, why: &str) -> Result<(), StoreError> {
        let wait = wait(check);
        match wait {
            None => info!(transaction = %check.id, checks = check.checks, %why, "a transaction is abandoned"),
            Some(wait) => debug!(transaction = %check.id, checks = check.checks, ?wait, %why, "asked in vain"),
        }
        self.store.leave_half(check, why, wait).await?;
        if wait.is_none() {
            count(HalfState::Abandoned);
        }
        Ok(())
    }
}

/// How long until a transaction is asked for again; none when it is not.
fn wait(check: &HalfCheck) -> Option<Duration> {
    if check.check_url.is_none() || check.checks >= MAX_CHECKS {
        return None;
    }
    let first = check.timeout.clamp(WAIT_FIRST.0, WAIT_FIRST.1);
    Some(first.saturating_mul(1 << check.checks.saturating_sub(1).min(16)).min(WAIT_LONGEST))
}

/// What is wrong with a transaction as a whole.
fn wrong(drafts: &[Draft], timeout: Duration) -> Option<Problem> {
    if drafts.is_empty() {
        return Some(Problem::invalid("`messages` is empty; a transaction has at least one message"));
    }
    if drafts.len() > MAX_MESSAGES {
        let detail = format!("the transaction has {} messages; at most {MAX_MESSAGES} are taken", drafts.len());
        return Some(Problem::too_large(detail));
    }
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        return Some(Problem::invalid("`timeout` is out of range; write one from 1ms to 7d"));
    }
    let mut ids = HashSet::new();
    let twice = drafts.iter().filter_map(|draft| draft.id.as_deref()).find(|id| !ids.insert(*id));
    twice.map(|id| Problem::invalid(format!("two messages have the id {:?}; give each its own", super::cut(id, 255))))
}

fn refuse(place: Option<usize>, problem: Option<Problem>) -> Result<(), NotPrepared> {
    problem.map_or(Ok(()), |problem| Err(NotPrepared::Refused(place, problem)))
}

fn count(state: HalfState) {
    metrics::counter!("courier_transactions_total", "state" => state.as_str()).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn askings_get_rarer_and_end() {
        let waits = |timeout: Duration| {
            let check = |checks| HalfCheck { id: "t".into(), check_url: Some("u".into()), timeout, checks };
            (1..=MAX_CHECKS + 1).map(|checks| wait(&check(checks)).map(|wait| wait.as_millis())).collect::<Vec<_>>()
        };
        let some = |waits: [u128; 5]| [waits.map(Some).to_vec(), vec![None, None]].concat();
        assert_eq!(waits(Duration::from_secs(1)), some([1_000, 2_000, 4_000, 8_000, 16_000]));
        assert_eq!(waits(Duration::from_millis(1)), some([250, 500, 1_000, 2_000, 4_000]));
        assert_eq!(waits(MAX_TIMEOUT), some([60_000, 120_000, 240_000, 480_000, 600_000]));
        let nobody = HalfCheck { id: "t".into(), check_url: None, timeout: TIMEOUT, checks: 0 };
        assert_eq!(wait(&nobody), None);
    }

    #[test]
    fn a_transaction_is_bounded_and_its_ids_are_different() {
        let draft = |id: &str| Draft { id: Some(id.to_owned()), ..Draft::default() };
        let many = |count: usize| (0..count).map(|number| draft(&number.to_string())).collect::<Vec<_>>();
        assert!(wrong(&many(MAX_MESSAGES), TIMEOUT).is_none());
        for (drafts, timeout, said) in [
            (many(0), TIMEOUT, "is empty"),
            (many(MAX_MESSAGES + 1), TIMEOUT, "at most 256"),
            (many(1), Duration::ZERO, "`timeout`"),
            (many(1), MAX_TIMEOUT + Duration::from_millis(1), "`timeout`"),
            (vec![draft("a"), draft("b"), draft("a")], TIMEOUT, "two messages have the id \"a\""),
        ] {
            let problem = wrong(&drafts, timeout).unwrap();
            assert!(problem.detail.contains(said), "{problem:?}");
        }
    }
}
