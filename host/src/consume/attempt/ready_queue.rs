//! The deliveries of a binding that have their lane's turn, and which of them a
//! worker takes next: what came by itself before what somebody asked for.
//!
//! A redrive asks for thousands at once. In one line with them, what comes in
//! meanwhile would wait until they have run. So they stand in a line of their
//! own, from which a worker takes when the other is empty, and once in
//! [`ASKED_SHARE`] turns, so that no traffic holds them up for ever.

use std::sync::atomic::{AtomicU32, Ordering};

use async_channel::{Receiver, Sender};
use parking_lot::Mutex;

/// One turn in so many begins with what was asked for.
const ASKED_SHARE: u32 = 8;

/// Two lines and who is next. Bounded by what the machines of all partitions
/// may have dispatched.
pub struct ReadyQueue<T> {
    live: ClassQueue<T>,
    asked: ClassQueue<T>,
    taken: AtomicU32,
    /// Held by whoever takes some out: two at once would hide items from each
    /// other.
    taking_out: Mutex<()>,
}

/// One line: where to stand, and its front.
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
    /// Puts an item in its line, `asked` if somebody asked for it.
    ///
    /// # Errors
    /// The item, when the lines are closed.
    pub fn put(&self, item: T, asked: bool) -> Result<(), T> {
        let (end, _) = if asked { &self.asked } else { &self.live };
        end.try_send(item).map_err(async_channel::TrySendError::into_inner)
    }

    /// The next item; none once the lines are closed and empty.
    pub async fn next(&self) -> Option<T> {
        let (first, second) = self.order();
        let found = tokio::select! {
            biased;
            found = first.recv() => found,
            found = second.recv() => found,
        };
        match found {
            Ok(item) => Some(item),
            Err(_) => self.next_now(),
        }
    }

    /// The next item, if one stands there now.
    pub fn next_now(&self) -> Option<T> {
        let (first, second) = self.order();
        first.try_recv().or_else(|_| second.try_recv()).ok()
    }

    /// Takes out those that are meant, wherever they stand. The others stay, in
    /// their order unless somebody takes or puts some meanwhile.
    pub fn take_out(&self, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let _alone = self.taking_out.lock();
        let mut taken = Vec::new();
        for (end, front) in [&self.live, &self.asked] {
            // Once around; what a worker takes meanwhile is its own.
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

    /// Items that stand in the lines.
    pub fn standing(&self) -> usize {
        self.live.1.len() + self.asked.1.len()
    }

    /// Lets nothing more in.
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
        let turns = ReadyQueue::default();
        for number in 0..20 {
            turns.put(("asked", number), true).unwrap();
            turns.put(("live", number), false).unwrap();
        }
        assert_eq!(turns.standing(), 40);
        let mut order = Vec::new();
        for _ in 0..16 {
            order.push(turns.next().await.unwrap().0);
        }
        assert_eq!(order.iter().filter(|line| **line == "asked").count(), 2, "{order:?}");
        assert_eq!(order[..7], ["live"; 7]);
        turns.close();
        assert_eq!(turns.put(("late", 0), false), Err(("late", 0)));
        let mut rest = 0;
        while turns.next().await.is_some() {
            rest += 1;
        }
        assert_eq!((rest, turns.next_now()), (24, None), "what stands there is taken to its end");
    }

    #[tokio::test]
    async fn some_are_taken_out_and_the_others_keep_their_order() {
        let turns = ReadyQueue::default();
        (0..10).for_each(|number| turns.put(number, number >= 8).unwrap());
        assert_eq!(turns.take_out(|number| number % 3 == 0), [0, 3, 6, 9]);
        let mut rest = Vec::new();
        while let Some(number) = turns.next_now() {
            rest.push(number);
        }
        assert_eq!(rest, [1, 2, 4, 5, 7, 8]);
        turns.put(1, false).unwrap();
        turns.close();
        assert_eq!(turns.take_out(|_| false), [1], "nothing that cannot stay is lost");
    }
}
