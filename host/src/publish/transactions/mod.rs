//! Half messages: messages that a sender prepares and then commits or rolls back.
//!
//! A sender prepares messages before its own transaction and commits or rolls
//! back afterwards. Until then they are stored, invisible, and hold their
//! identities. When the sender is silent its check URL is asked with back-off.
//! A URL that answers without knowing is asked a bounded number of times; then
//! the transaction is ABANDONED. A URL that gives no answer is asked until
//! retention. Both are shown in attention. A check holds a lease on the row of
//! the transaction: one of several hosts asks, and when it is killed another
//! does.
//!
//! A commit writes the messages as if they were published at that moment, and
//! the relay sends them. Next: [`self::check_back`], which asks a sender.

pub mod check_back;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::check_back::{CheckBackAnswer, CheckUrls};
use super::draft::{Draft, new_id};
use super::receipt::SendProblem;
use super::send::Acceptor;
use crate::said;
use crate::store::{AfterAsking, HalfCheck, HalfRow, HalfState, Identity, NewHalf, SharedStore, StoreError};
use crate::supervise::{self, Task};

/// Transactions that may be prepared at a time: each keeps its messages in the
/// store until it ends. Those handed in at the same moment may exceed it.
pub const MAX_PREPARED: u32 = 10_000;
/// Those of one token: with all of them it would close the door for everybody
/// else for as long as a transaction may wait.
pub const MAX_PREPARED_EACH: u32 = MAX_PREPARED / 2;
/// Messages of one transaction.
pub const MAX_MESSAGES: usize = 256;
/// Bytes of all records of one transaction.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Default timeout of a transaction.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest timeout of a transaction.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// How often a check URL may answer that it does not know before its
/// transaction is abandoned.
pub const MAX_CHECKS: u32 = 6;
/// The wait after the first asking is the transaction's own timeout, within
/// these bounds: who needs seconds is asked again in seconds. Each wait is
/// twice the one before, up to the longest.
const WAIT_FIRST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
const WAIT_LONGEST: Duration = Duration::from_secs(600);
/// The longest wait until a check URL that gave no answer is tried again.
const RETRY_LONGEST: Duration = Duration::from_secs(300);
/// Check requests at a time.
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

/// Who ended a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The service that prepared it.
    Sender,
    /// Another caller, for example `the operator night-shift`.
    Person(String),
}

/// Why a transaction was not prepared.
#[derive(Debug)]
pub enum NotPrepared {
    /// The message at this place, if it is one message's fault, is refused.
    Refused(Option<usize>, SendProblem),
    /// The store did not take it.
    Store(StoreError),
}

impl Transactions {
    /// Starts the checks of overdue transactions, which end with `shutdown`.
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
            let allowed = self.urls.allow(url).map_err(SendProblem::check_url_not_allowed);
            refuse(None, allowed.err())?;
        }
        let sender = drafts.first().and_then(|draft| Some(draft.sent_by.as_ref()?.sender.clone()));
        if let Some(sender) = &sender {
            let own = self.store.prepared_halves(Some(sender), MAX_PREPARED_EACH).await.map_err(NotPrepared::Store)?;
            let full = || {
                SendProblem::too_many(format!(
                    "{MAX_PREPARED_EACH} transactions of the token {sender} are prepared and have not ended, which is the \
                     most for one token: commit or roll back what has ended, and try again later"
                ))
            };
            refuse(None, (own >= MAX_PREPARED_EACH).then(full))?;
        }
        let prepared = self.store.prepared_halves(None, MAX_PREPARED).await.map_err(NotPrepared::Store)?;
        let full = || {
            SendProblem::too_many(format!(
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
            SendProblem::too_large(format!(
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

    /// Commits a transaction for `by`: the relay sends its messages.
    ///
    /// # Errors
    /// As the store's verb.
    pub async fn commit(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError> {
        let reason = match by {
            EndedBy::Sender => "its sender committed it".to_owned(),
            EndedBy::Person(who) => format!("committed by {who}"),
        };
        let row = self.end(id, HalfState::Committed, &reason).await?;
        self.acceptor.outlast_looks().await;
        Ok(row)
    }

    /// Rolls a transaction back for `by`: its messages never exist.
    ///
    /// # Errors
    /// As the store's verb.
    pub async fn roll_back(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError> {
        let reason = match by {
            EndedBy::Sender => "its sender rolled it back".to_owned(),
            EndedBy::Person(who) => format!("rolled back by {who}"),
        };
        self.end(id, HalfState::RolledBack, &reason).await
    }

    async fn end(&self, id: &str, state: HalfState, reason: &str) -> Result<HalfRow, StoreError> {
        let end = match state {
            HalfState::Committed => self.store.commit_half(id, reason).await?,
            _ => self.store.roll_back_half(id, reason).await?,
        };
        let row = end.row;
        // A sender that is in doubt repeats its call, which ends nothing.
        if end.has_moved {
            count(state);
        }
        if row.state == HalfState::Committed {
            self.acceptor.mark_unsent(&row.messages);
        }
        self.acceptor.look();
        Ok(row)
    }

    async fn keep_asking(self, shutdown: CancellationToken) {
        // Tasks, and not futures of this loop: while it waits for the store it
        // would not poll them, and the one whose transaction it waits for would
        // never end that.
        let mut asking = JoinSet::new();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(ended) = asking.join_next(), if !asking.is_empty() => {
                    if let Err(error) = ended {
                        // Its claim ends, and it is asked for again.
                        error!(%error, "asking for a transaction broke off");
                    }
                }
                () = self.look.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let free = u32::try_from(ASKING - asking.len()).unwrap_or(0);
            pause = match self.store.claim_checks(CLAIM, free).await {
                Ok((claimed, next)) => {
                    for check in claimed {
                        asking.spawn(self.clone().settle(check));
                    }
                    next.filter(|_| asking.len() < ASKING).map_or(LOOK, |next| next.clamp(MIN_LOOK, LOOK))
                }
                Err(error) => {
                    if error.is_transient() {
                        debug!(%error, "transactions wait for the store");
                    } else {
                        if let Some(unsaid) = said::again("transactions to be asked for") {
                            warn!(%error, unsaid, "cannot look which transactions are to be asked for");
                        }
                    }
                    LOOK
                }
            };
        }
    }

    /// Asks about one transaction and stores the answer. When that fails the
    /// claim ends and it is asked again.
    async fn settle(self, check: HalfCheck) {
        let written = match &check.check_url {
            None => {
                let why = "nobody said what became of it, and it has no check_url";
                self.leave(&check, why, AfterAsking::Abandon).await
            }
            Some(url) => match self.urls.ask(url, &check.id).await {
                CheckBackAnswer::Committed => {
                    match self.end(&check.id, HalfState::Committed, "its check_url said so").await {
                        Err(StoreError::Conflict(why)) => {
                            self.leave(&check, &format!("it cannot commit: {why}"), answered(&check)).await
                        }
                        answer => answer.map(|_| ()),
                    }
                }
                CheckBackAnswer::RolledBack => {
                    self.end(&check.id, HalfState::RolledBack, "its check_url said so").await.map(|_| ())
                }
                CheckBackAnswer::Unknown(why) => match answered(&check) {
                    AfterAsking::Abandon => {
                        let why = format!("its check_url answered {MAX_CHECKS} times and did not know: {why}");
                        self.leave(&check, &why, AfterAsking::Abandon).await
                    }
                    then => self.leave(&check, &why, then).await,
                },
                CheckBackAnswer::Unreachable(why) => self.leave(&check, &why, unanswered(&check)).await,
            },
        };
        if let Err(error) = written {
            debug!(%error, transaction = %check.id, "what became of a transaction is not written down");
        }
    }

    async fn leave(&self, check: &HalfCheck, why: &str, then: AfterAsking) -> Result<(), StoreError> {
        match then {
            AfterAsking::Abandon => {
                info!(transaction = %check.id, checks = check.checks, %why, "a transaction is abandoned");
            }
            AfterAsking::Retry(wait) if check.unreachable == 0 => {
                warn!(transaction = %check.id, ?wait, %why, "a transaction's check_url gave no answer");
            }
            _ => debug!(transaction = %check.id, checks = check.checks, ?then, %why, "check_url gave no decision"),
        }
        self.store.leave_half(check, why, then).await?;
        if then == AfterAsking::Abandon {
            count(HalfState::Abandoned);
        }
        Ok(())
    }
}

/// What follows an answer that did not end the transaction.
fn answered(check: &HalfCheck) -> AfterAsking {
    match check.answered.saturating_add(1) {
        MAX_CHECKS.. => AfterAsking::Abandon,
        answered => AfterAsking::Again(wait(check, answered - 1).min(WAIT_LONGEST)),
    }
}

/// What follows an asking that nobody answered.
fn unanswered(check: &HalfCheck) -> AfterAsking {
    AfterAsking::Retry(wait(check, check.unreachable).min(RETRY_LONGEST))
}

/// The wait after so many others, which doubles each time.
fn wait(check: &HalfCheck, before: u32) -> Duration {
    check.timeout.clamp(WAIT_FIRST.0, WAIT_FIRST.1).saturating_mul(1 << before.min(16))
}

/// What is wrong with a transaction as a whole.
fn wrong(drafts: &[Draft], timeout: Duration) -> Option<SendProblem> {
    if drafts.is_empty() {
        return Some(SendProblem::invalid("`messages` is empty; a transaction has at least one message"));
    }
    if drafts.len() > MAX_MESSAGES {
        let detail = format!("the transaction has {} messages; at most {MAX_MESSAGES} are taken", drafts.len());
        return Some(SendProblem::too_large(detail));
    }
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        return Some(SendProblem::invalid("`timeout` is out of range; write one from 1ms to 7d"));
    }
    let mut seen = HashSet::new();
    let identity = |draft: &Draft| Some(Identity::new(&draft.topic, &draft.source, draft.id.as_deref()?));
    let twice = drafts.iter().filter_map(identity).find(|identity| !seen.insert(identity.clone()))?;
    let id = super::cut(&twice.id, 255);
    Some(SendProblem::invalid(format!("two messages of one topic and source have the id {id:?}; give each its own")))
}

fn refuse(place: Option<usize>, problem: Option<SendProblem>) -> Result<(), NotPrepared> {
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
            let wait = |answered| answered_in_vain(timeout, answered).wait().map(|wait| wait.as_millis());
            (0..=MAX_CHECKS).map(wait).collect::<Vec<_>>()
        };
        let some = |waits: [u128; 5]| [waits.map(Some).to_vec(), vec![None, None]].concat();
        assert_eq!(waits(Duration::from_secs(1)), some([1_000, 2_000, 4_000, 8_000, 16_000]));
        assert_eq!(waits(Duration::from_millis(1)), some([250, 500, 1_000, 2_000, 4_000]));
        assert_eq!(waits(MAX_TIMEOUT), some([60_000, 120_000, 240_000, 480_000, 600_000]));
    }

    fn check(timeout: Duration) -> HalfCheck {
        HalfCheck { id: "t".into(), check_url: Some("u".into()), timeout, checks: 1, answered: 0, unreachable: 0 }
    }

    fn answered_in_vain(timeout: Duration, answered: u32) -> AfterAsking {
        super::answered(&HalfCheck { answered, ..check(timeout) })
    }

    /// Issue 16: a half message whose check_url refuses connections for a while
    /// was ABANDONED after 6 askings.
    #[test]
    fn what_could_not_be_asked_is_asked_again_without_end() {
        let waits = [0, 1, 5, 9, 100_000].map(|unreachable| {
            let wait = unanswered(&HalfCheck { unreachable, ..check(Duration::from_secs(1)) }).wait();
            wait.unwrap().as_secs()
        });
        assert_eq!(waits, [1, 2, 32, 300, 300]);
    }

    #[test]
    fn a_transaction_is_bounded_and_its_ids_are_different() {
        let draft = |id: &str| Draft { id: Some(id.to_owned()), ..Draft::default() };
        let many = |count: usize| (0..count).map(|number| draft(&number.to_string())).collect::<Vec<_>>();
        assert!(wrong(&many(MAX_MESSAGES), TIMEOUT).is_none());
        let elsewhere = Draft { topic: "stock".to_owned(), ..draft("a") };
        assert!(wrong(&[draft("a"), elsewhere], TIMEOUT).is_none(), "the same id on another topic is another message");
        for (drafts, timeout, said) in [
            (many(0), TIMEOUT, "is empty"),
            (many(MAX_MESSAGES + 1), TIMEOUT, "at most 256"),
            (many(1), Duration::ZERO, "`timeout`"),
            (many(1), MAX_TIMEOUT + Duration::from_millis(1), "`timeout`"),
            (vec![draft("a"), draft("b"), draft("a")], TIMEOUT, "have the id \"a\""),
        ] {
            let problem = wrong(&drafts, timeout).unwrap();
            assert!(problem.detail.contains(said), "{problem:?}");
        }
    }
}
