//! The verdict on an attempt, and the outcome that follows from it.

use std::time::Duration;

use crate::message::Timestamp;
use crate::retry::RetryPolicy;
use crate::status::State;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The handler succeeded.
    Success,
    /// The handler failed; the policy decides what follows.
    Error,
    /// The handler failed and asks for another attempt.
    Retry,
    /// The handler says that the message can never be handled.
    Reject,
    /// The handler says that a service it depends on is down.
    Unavailable,
    /// The guest trapped: a panic, an unreachable, a bad access.
    Trap,
    /// The attempt took longer than the binding's `timeout`.
    Timeout,
    /// The attempt used more CPU time than the binding's `cpu`.
    CpuLimit,
    /// The guest asked for more memory than the binding's `memory`.
    MemoryLimit,
    /// The guest overflowed its stack.
    StackOverflow,
    /// The group has no active version of its plugin.
    NoPlugin,
    /// The plugin could not be instantiated.
    Instantiate,
    /// The host had no room for another instance.
    NoRoom,
    /// The circuit breaker of the binding is open.
    CircuitOpen,
    /// The store refused the outcome for its content.
    Unstorable,
    /// The message was already handled within the binding's `dedupe` window.
    Duplicate,
    /// A person gave the delivery up: it ended without an attempt.
    GivenUp,
}

impl Verdict {
    const ALL: [Self; 17] = [
        Self::Success,
        Self::Error,
        Self::Retry,
        Self::Reject,
        Self::Unavailable,
        Self::Trap,
        Self::Timeout,
        Self::CpuLimit,
        Self::MemoryLimit,
        Self::StackOverflow,
        Self::NoPlugin,
        Self::Instantiate,
        Self::NoRoom,
        Self::CircuitOpen,
        Self::Unstorable,
        Self::Duplicate,
        Self::GivenUp,
    ];

    /// The name in the API, the CLI and the console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Unavailable => "unavailable",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::CpuLimit => "cpu_limit",
            Self::MemoryLimit => "memory_limit",
            Self::StackOverflow => "stack_overflow",
            Self::NoPlugin => "no_plugin",
            Self::Instantiate => "instantiate",
            Self::NoRoom => "no_room",
            Self::CircuitOpen => "circuit_open",
            Self::Unstorable => "unstorable",
            Self::Duplicate => "duplicate",
            Self::GivenUp => "given_up",
        }
    }

    /// The number that stores keep; it never changes.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Success => 1,
            Self::Error => 2,
            Self::Retry => 3,
            Self::Reject => 4,
            Self::Unavailable => 5,
            Self::Trap => 6,
            Self::Timeout => 7,
            Self::CpuLimit => 8,
            Self::MemoryLimit => 9,
            Self::StackOverflow => 10,
            Self::NoPlugin => 11,
            Self::Instantiate => 12,
            Self::NoRoom => 13,
            Self::CircuitOpen => 14,
            Self::Unstorable => 15,
            Self::Duplicate => 16,
            Self::GivenUp => 17,
        }
    }

    /// The verdict with this [`code`](Self::code).
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.code() == code)
    }

    /// Whether the handler never ran, or says that it could not work: PUSH_FAIL.
    /// Such an attempt does not count against `max_attempts`.
    #[must_use]
    pub fn never_ran(self) -> bool {
        matches!(self, Self::Unavailable | Self::NoPlugin | Self::Instantiate | Self::NoRoom | Self::CircuitOpen)
    }
}

/// The longest wait of an `unavailable` that is kept. The service may be back
/// earlier than it said, so the delivery probes it after this time anyway.
pub const MAX_UNAVAILABLE_WAIT: Duration = Duration::from_secs(5 * 60);

/// What the host does with a delivery that failed for good (`dead_letter`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeadLetter {
    /// The delivery stays HANDLE_FAIL and its lane goes on.
    #[default]
    Off,
    /// The delivery stays HANDLE_FAIL, and its record is also published on this
    /// topic, or on `dlq.<topic>.<group>` for `None`.
    Topic(Option<String>),
    /// The delivery stays at the head of its lane and waits for a person.
    Hold,
}

/// A binding's rules for deliveries that do not succeed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FailurePolicy {
    /// The schedule by which a failed delivery runs again.
    pub retry: RetryPolicy,
    /// What the host does with a delivery that does not run again.
    pub dead_letter: DeadLetter,
    /// The longest wait of a delivery that could not run, unless it asked for a
    /// longer one. `None` leaves the wait to the schedule, under which a delivery
    /// that probes often waits ever longer.
    pub probe_within: Option<Duration>,
    /// Whether a timeout of the host counts as a retry that the handler asked for.
    /// When a handler only waits for a service, chance decides whether its own
    /// time-out or the host's comes first.
    pub retry_timeouts: bool,
}

/// The attempts of a delivery so far. `number` includes the attempt being
/// judged, `counted` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Invocations, this one included.
    pub number: u32,
    /// Attempts used up before this one.
    pub counted: u32,
    /// The start of the policy's budget: when the host first received the
    /// delivery, or when a rerun was last requested.
    pub budget_from: Timestamp,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// HANDLED, with its effects.
    Handled,
    /// Another attempt; until then the delivery is PUSH_FAIL or HANDLE_FAIL.
    Again {
        /// PUSH_FAIL or HANDLE_FAIL.
        state: State,
        /// When the next attempt is due.
        at: Timestamp,
    },
    /// HANDLE_FAIL, and the lane waits for a person.
    Held,
    /// HANDLE_FAIL for good; the lane goes on.
    Failed {
        /// Whether the record is also published as a dead letter.
        dead_letter: bool,
    },
}

/// Decides the outcome of an attempt that ended `now` with `verdict`.
///
/// `asked` is the wait that a `retry` or an `unavailable` asked for; `chance`
/// is uniform in `[0, 1)`.
#[must_use]
pub fn judge(
    verdict: Verdict,
    asked: Option<Duration>,
    history: History,
    policy: &FailurePolicy,
    now: Timestamp,
    chance: f64,
) -> Outcome {
    let retry = &policy.retry;
    if verdict.never_ran() {
        // The handler could not run, so no attempt is used up.
        let asked = asked.filter(|_| verdict == Verdict::Unavailable).unwrap_or_default().min(MAX_UNAVAILABLE_WAIT);
        let scheduled = retry.wait(history.number.max(1), None, chance);
        let at = now.after(policy.probe_within.map_or(scheduled, |most| scheduled.min(most)).max(asked));
        return Outcome::Again { state: State::PushFail, at };
    }
    let wants_more = match verdict {
        Verdict::Success | Verdict::Duplicate => return Outcome::Handled,
        Verdict::Retry => true,
        Verdict::Timeout if policy.retry_timeouts => true,
        Verdict::Reject | Verdict::Unstorable | Verdict::GivenUp => false,
        _ => retry.on_error,
    };
    let counted = history.counted + 1;
    if wants_more && counted < retry.max_attempts {
        let at = now.after(retry.wait(counted, asked, chance));
        if retry.budget.is_none_or(|budget| at <= history.budget_from.after(budget)) {
            return Outcome::Again { state: State::HandleFail, at };
        }
    }
    match policy.dead_letter {
        DeadLetter::Off => Outcome::Failed { dead_letter: false },
        DeadLetter::Topic(_) => Outcome::Failed { dead_letter: true },
        DeadLetter::Hold => Outcome::Held,
    }
}

/// A hash by which failures that are alike are grouped: 16 hexadecimal digits
/// of FNV-1a, which is stable over versions, of the verdict and the reason
/// without the parts that vary from message to message (numbers, ids, quoted
/// text).
#[must_use]
pub fn fingerprint(verdict: Verdict, reason: &str) -> String {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET_BASIS;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    verdict.as_str().bytes().for_each(&mut take);
    take(0);
    for word in reason.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|word| !word.is_empty()) {
        let varies = word.bytes().any(|byte| byte.is_ascii_digit()) || word.starts_with(['"', '\'', '`']);
        if varies {
            take(b'#')
        } else {
            word.bytes().for_each(&mut take)
        }
        take(b' ');
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn history(counted: u32) -> History {
        History { number: counted + 1, counted, budget_from: Timestamp(0) }
    }

    fn policy(on_error: bool, max_attempts: u32) -> FailurePolicy {
        let retry = RetryPolicy { on_error, max_attempts, jitter: 0.0, ..RetryPolicy::default() };
        FailurePolicy { retry, ..FailurePolicy::default() }
    }

    fn check(verdict: Verdict, counted: u32, policy: &FailurePolicy, expected: Outcome) {
        assert_eq!(judge(verdict, None, history(counted), policy, NOW, 0.5), expected, "{verdict:?} after {counted}");
    }

    const FAILED: Outcome = Outcome::Failed { dead_letter: false };

    fn again(state: State, seconds: u64) -> Outcome {
        Outcome::Again { state, at: NOW.after(Duration::from_secs(seconds)) }
    }

    #[test]
    fn an_error_is_final_unless_the_binding_asks() {
        check(Verdict::Error, 0, &policy(false, 5), FAILED);
        check(Verdict::Trap, 0, &policy(false, 5), FAILED);
        check(Verdict::Error, 0, &policy(true, 5), again(State::HandleFail, 1));
        check(Verdict::Timeout, 3, &policy(true, 5), again(State::HandleFail, 8));
        check(Verdict::Error, 4, &policy(true, 5), FAILED);
    }

    #[test]
    fn a_retry_asks_for_itself_and_a_reject_never() {
        check(Verdict::Retry, 0, &policy(false, 5), again(State::HandleFail, 1));
        check(Verdict::Retry, 4, &policy(false, 5), FAILED);
        check(Verdict::Reject, 0, &policy(true, 5), FAILED);
        check(Verdict::Success, 0, &policy(true, 5), Outcome::Handled);
    }

    /// 259 of 100,000 deliveries to a service that was killed under load ended for
    /// good: the host's time limit had come before the handler's own.
    #[test]
    fn a_time_out_is_a_retry_where_the_handler_only_waits_for_a_service() {
        let push = FailurePolicy { retry_timeouts: true, ..policy(false, 5) };
        check(Verdict::Timeout, 0, &push, again(State::HandleFail, 1));
        check(Verdict::Timeout, 4, &push, FAILED);
        check(Verdict::Trap, 0, &push, FAILED);
        check(Verdict::Timeout, 0, &policy(false, 5), FAILED);
    }

    #[test]
    fn what_never_ran_comes_back_however_often() {
        check(Verdict::Unavailable, 0, &policy(false, 1), again(State::PushFail, 1));
        check(Verdict::NoPlugin, 50, &policy(false, 1), again(State::PushFail, 300));
    }

    #[test]
    fn what_is_unavailable_comes_back_no_earlier_than_it_asked() {
        let judged = |verdict, asked| judge(verdict, asked, history(0), &policy(false, 1), NOW, 0.5);
        let minute = Some(Duration::from_secs(60));
        assert_eq!(judged(Verdict::Unavailable, minute), again(State::PushFail, 60));
        assert_eq!(judged(Verdict::Unavailable, Some(Duration::ZERO)), again(State::PushFail, 1));
        assert_eq!(judged(Verdict::Unavailable, Some(Duration::MAX)), again(State::PushFail, 300));
        assert_eq!(judged(Verdict::NoRoom, minute), again(State::PushFail, 1));
    }

    #[test]
    fn a_delivery_that_probes_comes_back_as_soon_as_the_policy_says() {
        let policy = FailurePolicy { probe_within: Some(Duration::from_secs(4)), ..policy(false, 1) };
        check(Verdict::Unavailable, 0, &policy, again(State::PushFail, 1));
        check(Verdict::Unavailable, 50, &policy, again(State::PushFail, 4));
        let minute = Some(Duration::from_secs(60));
        assert_eq!(judge(Verdict::Unavailable, minute, history(50), &policy, NOW, 0.5), again(State::PushFail, 60));
    }

    #[test]
    fn the_budget_ends_it_before_the_attempts_do() {
        let mut policy = policy(true, 100);
        policy.retry.budget = Some(Duration::from_secs(1_000));
        check(Verdict::Error, 0, &policy, FAILED);
        policy.retry.budget = Some(Duration::from_secs(1_001));
        check(Verdict::Error, 0, &policy, again(State::HandleFail, 1));
    }

    #[test]
    fn the_dead_letter_setting_decides_the_end() {
        let mut policy = policy(false, 1);
        policy.dead_letter = DeadLetter::Topic(None);
        check(Verdict::Error, 0, &policy, Outcome::Failed { dead_letter: true });
        policy.dead_letter = DeadLetter::Hold;
        check(Verdict::Reject, 0, &policy, Outcome::Held);
    }

    /// Stores hold these numbers: one that changes turns the verdicts of all
    /// that was ever settled into others.
    #[test]
    fn each_verdict_keeps_its_number() {
        let numbers: Vec<String> =
            Verdict::ALL.iter().map(|verdict| format!("{} {}", verdict.code(), verdict.as_str())).collect();
        assert_eq!(
            numbers.join(", "),
            "1 success, 2 error, 3 retry, 4 reject, 5 unavailable, 6 trap, 7 timeout, 8 cpu_limit, 9 memory_limit, \
             10 stack_overflow, 11 no_plugin, 12 instantiate, 13 no_room, 14 circuit_open, 15 unstorable, \
             16 duplicate, 17 given_up"
        );
    }

    #[test]
    fn codes_lead_back_to_the_verdict() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_code(verdict.code()), Some(verdict));
        }
        assert_eq!(Verdict::from_code(0), None);
        assert_eq!(Verdict::from_code(99), None);
    }

    #[test]
    fn a_fingerprint_ignores_what_varies() {
        let one = fingerprint(Verdict::Error, "order 4711 not found in \"a\"");
        assert_eq!(one, fingerprint(Verdict::Error, "order 12 not found in \"b\""));
        assert_ne!(one, fingerprint(Verdict::Trap, "order 12 not found in \"b\""));
        assert_ne!(one, fingerprint(Verdict::Error, "stock 12 not found in \"b\""));
        assert_eq!(one.len(), 16);
    }
}
