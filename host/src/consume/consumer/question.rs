//! A question of a consumer to the store, asked in a task of its own.
//!
//! A consumer that waited for the answer itself would answer no revocation and no stop
//! until then, which is up to half a minute where the store hangs. Its loop takes the
//! answer as one more event.

use tokio::task::JoinSet;

use crate::supervise::{self, Task};

/// A question that is asked again and again, once at a time. It ends with its consumer.
#[derive(Debug)]
pub(in crate::consume) struct StoreQuestion<A> {
    /// The answer that is awaited, if one is.
    answer: JoinSet<Option<A>>,
    is_wanted_again: bool,
}

impl<A> Default for StoreQuestion<A> {
    fn default() -> Self {
        Self { answer: JoinSet::new(), is_wanted_again: false }
    }
}

impl<A: Send + 'static> StoreQuestion<A> {
    /// Asks, or notes that it is to be asked again: the answer that is awaited may be
    /// older than what gave rise to the question.
    pub(super) fn ask(&mut self, task: Task, question: impl Future<Output = Option<A>> + Send + 'static) {
        if self.answer.is_empty() {
            self.is_wanted_again = false;
            self.answer.spawn(supervise::unbroken(task, question));
        } else {
            self.is_wanted_again = true;
        }
    }

    /// The answer, with whether the question is to be asked again; none when whoever was
    /// asked does not answer. Waits for ever while nothing is asked.
    pub(super) async fn answered(&mut self) -> (Option<A>, bool) {
        match self.answer.join_next().await {
            Some(answer) => (answer.ok().flatten(), self.is_wanted_again),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_answer_is_awaited_at_a_time_and_nothing_that_was_wanted_meanwhile_is_forgotten() {
        let (mut question, gate) = (StoreQuestion::default(), Arc::new(Notify::new()));
        assert!(futures::poll!(Box::pin(question.answered())).is_pending(), "nothing is asked");
        let slow = |answer: u32| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Some(answer)
            }
        };
        question.ask(Task::EventConsumer, slow(1));
        question.ask(Task::EventConsumer, slow(2));
        assert!(futures::poll!(Box::pin(question.answered())).is_pending(), "whoever waits may do other things");
        gate.notify_one();
        assert_eq!(question.answered().await, (Some(1), true));
        question.ask(Task::EventConsumer, async { None });
        assert_eq!(question.answered().await, (None, false));
    }
}
