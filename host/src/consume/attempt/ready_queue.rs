//! The queue of deliveries that have their lane's turn: live ones first,
//! requested reruns behind them.
//!
//! A redrive requests thousands at once. In a single queue new records would
//! wait until all of them have run. So reruns have a queue of their own, from
//! which a worker takes when the live queue is empty, and at every
//! [`ASKED_SHARE`]th turn, so that live traffic never starves them.

use std::sync::atomic::{AtomicU32, Ordering};

use async_channel::{Receiver, Sender};
use parking_lot::Mutex;

/// One turn in this number begins with the queue of reruns.
const ASKED_SHARE: u32 = 8;

/// Two queues, bounded by what the machines of all partitions may have
/// dispatched.
pub struct ReadyQueue<T> {
    live: ClassQueue<T>,
    asked: ClassQueue<T>,
    taken: AtomicU32,
    /// Serializes `drain_where`: two at once would hide items from each other.
    taking_out: Mutex<()>,
}

/// Both ends of one queue.
type ClassQueue<T> = (Sender<T>, Receiver<T>);

impl<T> Default for ReadyQueue<T> {
    fn default() -> Self {
        Self {
            live: async_channel::unbounded(),
            asked: async_channel::unbounded(),
            taken: AtomicU32::new(0),
            taking_out: Mutex::new(()),
        }
    }
}

impl<T> ReadyQueue<T> {
    /// Adds an item, to the queue of reruns if it was `asked` for.
    ///
    /// # Errors
    /// The item, when the queue is closed.
    pub fn push(&self, item: T, asked: bool) -> Result<(), T> {
        let (end, _) = if asked { &self.asked } else { &self.live };
        end.try_send(item).map_err(async_channel::TrySendError::into_inner)
    }

    /// The next item; `None` once the queue is closed and empty.
    pub async fn pop(&self) -> Option<T> {
        let (first, second) = self.order();
        let found = tokio::select! {
            biased;
            found = first.recv() => found,
            found = second.recv() => found,
        };
        match found {
            Ok(item) => Some(item),
            Err(_) => self.try_pop(),
        }
    }

    /// The next item, if there is one now.
    pub fn try_pop(&self) -> Option<T> {
        let (first, second) = self.order();
        first.try_recv().or_else(|_| second.try_recv()).ok()
    }

    /// Removes the items that match. The others keep their order, unless the
    /// queue is used meanwhile.
    pub fn drain_where(&self, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let _alone = self.taking_out.lock();
        let mut taken = Vec::new();
        for (end, front) in [&self.live, &self.asked] {
            // Once around: what a worker takes meanwhile is not returned here.
            for _ in 0..front.len() {
                let Ok(item) = front.try_recv() else { break };
                if is_meant(&item) {
                    taken.push(item);
                } else if let Err(closed) = end.try_send(item) {
                    taken.push(closed.into_inner());
                }
            }
        }
        taken
    }

    /// Items in both queues.
    pub fn queued(&self) -> usize {
        self.live.1.len() + self.asked.1.len()
    }

    /// Closes the queue: nothing more is added.
    pub fn close(&self) {
        self.live.0.close();
        self.asked.0.close();
    }

    fn order(&self) -> (&Receiver<T>, &Receiver<T>) {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        let (live, asked) = (&self.live.1, &self.asked.1);
        if turn % ASKED_SHARE == ASKED_SHARE - 1 { (asked, live) } else { (live, asked) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_by_itself_goes_first_and_what_was_asked_for_is_not_forgotten() {
        let ready = ReadyQueue::default();
        for number in 0..20 {
            ready.push(("asked", number), true).unwrap();
            ready.push(("live", number), false).unwrap();
        }
        assert_eq!(ready.queued(), 40);
        let mut order = Vec::new();
        for _ in 0..16 {
            order.push(ready.pop().await.unwrap().0);
        }
        assert_eq!(order.iter().filter(|line| **line == "asked").count(), 2, "{order:?}");
        assert_eq!(order[..7], ["live"; 7]);
        ready.close();
        assert_eq!(ready.push(("late", 0), false), Err(("late", 0)));
        let mut rest = 0;
        while ready.pop().await.is_some() {
            rest += 1;
        }
        assert_eq!((rest, ready.try_pop()), (24, None), "what stands there is taken to its end");
    }

    #[tokio::test]
    async fn some_are_taken_out_and_the_others_keep_their_order() {
        let ready = ReadyQueue::default();
        (0..10).for_each(|number| ready.push(number, number >= 8).unwrap());
        assert_eq!(ready.drain_where(|number| number % 3 == 0), [0, 3, 6, 9]);
        let mut rest = Vec::new();
        while let Some(number) = ready.try_pop() {
            rest.push(number);
        }
        assert_eq!(rest, [1, 2, 4, 5, 7, 8]);
        ready.push(1, false).unwrap();
        ready.close();
        assert_eq!(ready.drain_where(|_| false), [1], "nothing that cannot stay is lost");
    }
}
