//! The queue of deliveries that have their lane's turn: live ones first,
//! requested reruns behind them.
//!
//! A redrive requests thousands at once. In a single queue new records would
//! wait until all of them have run. So reruns have a queue of their own, from
//! which a worker takes when the live queue is empty, and at every
//! [`ASKED_SHARE`]th turn, so that live traffic never starves them.
//!
//! Waking a worker costs more than a short handler runs, so a delivery wakes one
//! only while fewer workers compute than the machine has cores. The workers that
//! compute take delivery after delivery. A worker that begins to wait, in its
//! handler or anywhere else, wakes the next in its place.
//!
//! **Invariant:** while deliveries are queued and a worker is idle, as many
//! workers as cores compute or were woken. So a queued delivery never waits for
//! a handler that waits. [`ReadyQueue::wake_next`] keeps it, after each push and each
//! poll of a worker.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

/// One turn in this number begins with the queue of reruns.
const ASKED_SHARE: u32 = 8;

/// Two queues, bounded by what the machines of all partitions may have
/// dispatched, and the workers that take from them.
pub struct ReadyQueue<T> {
    inner: Mutex<Inner<T>>,
    /// Workers that may compute at once before a delivery wakes none.
    cores: usize,
}

struct Inner<T> {
    live: VecDeque<T>,
    asked: VecDeque<T>,
    turns_taken: u32,
    is_closed: bool,
    /// Wakes each worker that is idle; by the worker's number.
    wakers: Vec<Option<Waker>>,
    /// The idle workers. The last one to become idle is woken first.
    idle: Vec<usize>,
    /// Workers that are polled now.
    computing: usize,
    /// Workers that were woken and not polled since.
    woken: usize,
}

impl<T> Default for ReadyQueue<T> {
    fn default() -> Self {
        Self::for_cores(std::thread::available_parallelism().map_or(2, usize::from))
    }
}

impl<T> ReadyQueue<T> {
    fn for_cores(cores: usize) -> Self {
        let inner = Inner {
            live: VecDeque::new(),
            asked: VecDeque::new(),
            turns_taken: 0,
            is_closed: false,
            wakers: Vec::new(),
            idle: Vec::new(),
            computing: 0,
            woken: 0,
        };
        Self { inner: Mutex::new(inner), cores }
    }

    /// Adds an item, to the queue of reruns if it was `asked` for.
    ///
    /// # Errors
    /// The item, when the queue is closed.
    pub fn push(&self, item: T, asked: bool) -> Result<(), T> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return Err(item);
        }
        if asked {
            inner.asked.push_back(item)
        } else {
            inner.live.push_back(item)
        }
        self.wake_next(inner);
        Ok(())
    }

    /// Adds a worker; it is never removed.
    pub fn add_worker(&self) -> Worker<'_, T> {
        let mut inner = self.inner.lock();
        inner.wakers.push(None);
        Worker { queue: self, number: inner.wakers.len() - 1 }
    }

    /// Removes the items that match. The others keep their order.
    pub fn drain_where(&self, mut is_meant: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        let Inner { live, asked, .. } = &mut *inner;
        for queue in [live, asked] {
            let (meant, others) = std::mem::take(queue).into_iter().partition(&mut is_meant);
            *queue = others;
            taken.extend::<VecDeque<T>>(meant);
        }
        taken
    }

    /// Items in both queues.
    pub fn queued(&self) -> usize {
        self.inner.lock().queued()
    }

    /// Wakes an idle worker if one must be woken, and lets the queue go before. One is
    /// enough: when it is polled and leaves items behind, it wakes the next.
    fn wake_next(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        if inner.queued() == 0 || inner.computing + inner.woken >= self.cores {
            return;
        }
        let Some(worker) = inner.idle.pop() else { return };
        inner.woken += 1;
        let waker = inner.wakers[worker].take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Closes the queue: nothing more is added. Workers take what is in it.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        let idle = std::mem::take(&mut inner.idle);
        let wakers: Vec<Waker> = idle.into_iter().filter_map(|worker| inner.wakers[worker].take()).collect();
        inner.woken += wakers.len();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Inner<T> {
    fn queued(&self) -> usize {
        self.live.len() + self.asked.len()
    }

    fn take(&mut self) -> Option<T> {
        let turn = self.turns_taken;
        let (first, second) = match turn % ASKED_SHARE == ASKED_SHARE - 1 {
            true => (&mut self.asked, &mut self.live),
            false => (&mut self.live, &mut self.asked),
        };
        let item = first.pop_front().or_else(|| second.pop_front())?;
        self.turns_taken = turn.wrapping_add(1);
        Some(item)
    }
}

/// A worker's place at the queue.
pub struct Worker<'q, T> {
    queue: &'q ReadyQueue<T>,
    number: usize,
}

impl<T> Worker<'_, T> {
    /// Runs the loop of the worker, which calls [`pop`](Self::pop), and counts the
    /// worker as computing while it is polled. `after_poll` is called whenever the
    /// worker stops computing.
    pub async fn run<O>(&self, work: impl Future<Output = O>, after_poll: impl Fn()) -> O {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            let _computing = Computing::begin(self.queue);
            let polled = work.as_mut().poll(context);
            after_poll();
            polled
        })
        .await
    }

    /// The next item; `None` once the queue is closed and empty.
    pub fn pop(&self) -> Pop<'_, T> {
        Pop { queue: self.queue, worker: self.number, is_idle: false }
    }

    /// The next item, if there is one now.
    pub fn try_pop(&self) -> Option<T> {
        self.queue.inner.lock().take()
    }
}

/// Counts a worker as computing until it is dropped, also when the worker panics.
struct Computing<'q, T>(&'q ReadyQueue<T>);

impl<'q, T> Computing<'q, T> {
    fn begin(queue: &'q ReadyQueue<T>) -> Self {
        queue.inner.lock().computing += 1;
        Self(queue)
    }
}

impl<T> Drop for Computing<'_, T> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.computing -= 1;
        self.0.wake_next(inner);
    }
}

/// Waits for an item. See [`Worker::pop`].
pub struct Pop<'q, T> {
    queue: &'q ReadyQueue<T>,
    worker: usize,
    /// Whether the worker was put among the idle ones.
    is_idle: bool,
}

impl<T> Future for Pop<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inner = self.queue.inner.lock();
        if self.is_idle {
            if let Some(waker) = &mut inner.wakers[self.worker] {
                // Something else woke the task; the worker is still idle.
                waker.clone_from(context.waker());
                return Poll::Pending;
            }
            inner.woken -= 1;
        }
        let next = match inner.take() {
            Some(item) => Poll::Ready(Some(item)),
            None if inner.is_closed => Poll::Ready(None),
            None => {
                inner.wakers[self.worker] = Some(context.waker().clone());
                inner.idle.push(self.worker);
                Poll::Pending
            }
        };
        drop(inner);
        self.is_idle = next.is_pending();
        next
    }
}

impl<T> Drop for Pop<'_, T> {
    /// A worker that is dropped while it is idle is woken no more, and another
    /// one gets what it was woken for.
    fn drop(&mut self) {
        if !self.is_idle {
            return;
        }
        let mut inner = self.queue.inner.lock();
        if inner.wakers[self.worker].take().is_some() {
            inner.idle.retain(|worker| *worker != self.worker);
        } else {
            inner.woken -= 1;
        }
        self.queue.wake_next(inner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::random;

    fn rest<T>(ready: &ReadyQueue<T>) -> Vec<T> {
        let worker = ready.add_worker();
        std::iter::from_fn(|| worker.try_pop()).collect()
    }

    #[tokio::test]
    async fn what_comes_by_itself_goes_first_and_what_was_asked_for_is_not_forgotten() {
        let ready = ReadyQueue::default();
        for number in 0..20 {
            ready.push(("asked", number), true).unwrap();
            ready.push(("live", number), false).unwrap();
        }
        assert_eq!(ready.queued(), 40);
        let worker = ready.add_worker();
        let mut order = Vec::new();
        for _ in 0..16 {
            order.push(worker.pop().await.unwrap().0);
        }
        assert_eq!(order.iter().filter(|line| **line == "asked").count(), 2, "{order:?}");
        assert_eq!(order[..7], ["live"; 7]);
        ready.close();
        assert_eq!(ready.push(("late", 0), false), Err(("late", 0)));
        let mut rest = 0;
        while worker.pop().await.is_some() {
            rest += 1;
        }
        assert_eq!((rest, worker.try_pop()), (24, None), "what stands there is taken to its end");
    }

    #[test]
    fn some_are_taken_out_and_the_others_keep_their_order() {
        let ready = ReadyQueue::default();
        (0..10).for_each(|number| ready.push(number, number >= 8).unwrap());
        assert_eq!(ready.drain_where(|number| number % 3 == 0), [0, 3, 6, 9]);
        assert_eq!(rest(&ready), [1, 2, 4, 5, 7, 8]);
        ready.push(1, false).unwrap();
        ready.close();
        assert_eq!(ready.drain_where(|_| false), Vec::<i32>::new());
        assert_eq!(rest(&ready), [1], "nothing that stays is lost");
    }

    /// Workers, each of which counts in `began` what it takes, and then waits for
    /// `held` before it takes more.
    fn workers(
        ready: &Arc<ReadyQueue<u32>>,
        number: usize,
        took: &Arc<AtomicUsize>,
        held: &Arc<tokio::sync::Semaphore>,
    ) -> Vec<tokio::task::JoinHandle<usize>> {
        let start = |_| {
            let (ready, took, held) = (Arc::clone(ready), Arc::clone(took), Arc::clone(held));
            tokio::spawn(async move {
                let worker = ready.add_worker();
                let mut mine = 0;
                let work = async {
                    while worker.pop().await.is_some() {
                        mine += 1;
                        took.fetch_add(1, Ordering::Relaxed);
                        held.acquire().await.unwrap().forget();
                    }
                };
                worker.run(work, || {}).await;
                mine
            })
        };
        (0..number).map(start).collect()
    }

    async fn until_idle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_worker_that_waits_wakes_the_next_and_one_that_computes_takes_all() {
        let ready = Arc::new(ReadyQueue::for_cores(2));
        let (took, held) = (Arc::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let running = workers(&ready, 5, &took, &held);
        until_idle().await;
        (0..10).for_each(|number| ready.push(number, false).unwrap());
        assert_eq!(ready.inner.lock().woken, 2, "no more are woken than there are cores");
        until_idle().await;
        assert_eq!(took.load(Ordering::Relaxed), 5, "each worker has one, and waits");
        held.add_permits(1_000);
        until_idle().await;
        assert_eq!(ready.queued(), 0);
        // Nothing holds a worker up any more, so a few take everything.
        (0..100).for_each(|number| ready.push(number, false).unwrap());
        ready.close();
        let mut shares = Vec::new();
        for worker in running {
            shares.push(worker.await.unwrap());
        }
        assert_eq!(shares.iter().sum::<usize>(), 110);
        assert!(shares.iter().filter(|share| **share > 5).count() <= 2, "{shares:?}");
        let inner = ready.inner.lock();
        assert_eq!((inner.computing, inner.woken, inner.idle.len()), (0, 0, 0));
    }

    /// Whatever the schedule, nothing stays in the queue while a worker is idle.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_is_left_behind_by_workers_that_wait_now_and_then() {
        const ITEMS: usize = 20_000;
        let ready = Arc::new(ReadyQueue::for_cores(2));
        let took = Arc::new(AtomicUsize::new(0));
        for _ in 0..8 {
            let (ready, took) = (Arc::clone(&ready), Arc::clone(&took));
            tokio::spawn(async move {
                let worker = ready.add_worker();
                let work = async {
                    while worker.pop().await.is_some() {
                        took.fetch_add(1, Ordering::Relaxed);
                        match random::span_id() % 64 {
                            0 => tokio::time::sleep(Duration::from_micros(200)).await,
                            1..16 => tokio::task::yield_now().await,
                            _ => {}
                        }
                    }
                };
                worker.run(work, || {}).await;
            });
        }
        for sent in 1..=ITEMS {
            ready.push(0, sent % 3 == 0).unwrap();
            if sent % 50 == 0 {
                // Each pause lets the queue run empty: every worker becomes idle.
                let begin = tokio::time::Instant::now();
                while took.load(Ordering::Relaxed) < sent {
                    assert!(begin.elapsed() < Duration::from_secs(30), "{} items stand in the queue", ready.queued());
                    tokio::time::sleep(Duration::from_micros(50)).await;
                }
            }
        }
        assert_eq!((took.load(Ordering::Relaxed), ready.queued()), (ITEMS, 0));
    }

    #[tokio::test]
    async fn a_worker_that_is_dropped_passes_its_turn_on() {
        let ready = ReadyQueue::for_cores(1);
        let (first, second) = (ready.add_worker(), ready.add_worker());
        let mut other = pin!(second.pop());
        let mut one = Box::pin(first.pop());
        assert!(futures::poll!(&mut other).is_pending());
        assert!(futures::poll!(&mut one).is_pending());
        ready.push(7, false).unwrap();
        assert_eq!(ready.inner.lock().idle, [1], "the last one to become idle was woken");
        drop(one);
        assert_eq!(futures::poll!(&mut other), Poll::Ready(Some(7)));
    }
}
