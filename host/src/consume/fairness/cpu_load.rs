//! Measures how busy the CPUs of this process are, and how much CPU time some
//! of its threads took.
//!
//! Linux reports in `/proc` how long each CPU was idle, and which CPUs a
//! process may use (proc(5)). For a process with a [quota] the idle time says
//! nothing: its use of the quota counts instead.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::nanos;

/// Measures the load between two calls.
#[derive(Debug, Default)]
pub struct CpuLoadMeter {
    last: Option<CpuCounters>,
}

/// The counters of one reading.
#[derive(Debug)]
struct CpuCounters {
    at: Instant,
    /// Ticks of all usable CPUs, and the idle ones among them.
    all: u64,
    idle: u64,
    /// CPU time of this process.
    own: Duration,
}

/// How busy the CPUs were between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuLoad {
    /// CPUs that the process may use; a fraction under a quota.
    pub count: f64,
    /// The fraction of their time that they were busy.
    pub busy: f64,
    /// The fraction that this process used.
    pub own: f64,
}

impl CpuLoadMeter {
    /// The load since the last call; `None` at the first call, and where
    /// `/proc` does not say.
    pub fn load(&mut self) -> Option<CpuLoad> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let allowed = allowed(&read("/proc/self/status")?)?;
        let (all, idle) = times(&read("/proc/stat")?, &allowed);
        let own = Duration::from_nanos(nanos(libc::CLOCK_PROCESS_CPUTIME_ID));
        let now = CpuCounters { at: Instant::now(), all, idle, own };
        let before = self.last.replace(now)?;
        let now = self.last.as_ref()?;
        let processors = allowed.iter().map(|(first, last)| f64::from(last.saturating_sub(*first) + 1)).sum();
        Some(load(&before, now, processors, crate::consume::fairness::cgroup::quota()))
    }
}

fn load(before: &CpuCounters, now: &CpuCounters, processors: f64, quota: Option<f64>) -> CpuLoad {
    let count = quota.unwrap_or(processors).min(processors);
    let seconds = now.at.duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64();
    let own = (now.own.saturating_sub(before.own).as_secs_f64() / seconds / count).clamp(0.0, 1.0);
    let all = now.all.saturating_sub(before.all) as f64;
    let idle = now.idle.saturating_sub(before.idle) as f64;
    // Other programs may keep the CPUs busy while the quota still leaves enough.
    let busy = if count < processors || all == 0.0 { own } else { (1.0 - idle / all).clamp(own, 1.0) };
    CpuLoad { count, busy, own }
}

/// The CPU time of some threads of this process.
#[derive(Debug, Default)]
pub struct Threads(Mutex<Vec<libc::clockid_t>>);

impl Threads {
    /// Adds the calling thread.
    pub fn join(&self) {
        let mut clock = 0;
        // SAFETY: the thread that asks lives, and `clock` is a valid place for
        // the call to write to.
        if unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0 {
            self.clocks().push(clock);
        }
    }

    /// CPU time of the threads that live; threads that ended are forgotten. A
    /// thread that joined has used some, so zero means that it ended.
    pub fn used(&self) -> Duration {
        let mut used = 0;
        self.clocks().retain(|clock| {
            let shown = nanos(*clock);
            used += shown;
            shown > 0
        });
        Duration::from_nanos(used)
    }

    fn clocks(&self) -> parking_lot::MutexGuard<'_, Vec<libc::clockid_t>> {
        self.0.lock()
    }
}

/// The CPUs that `/proc/self/status` allows, as ranges of their numbers.
fn allowed(status: &str) -> Option<Vec<(u32, u32)>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    list.trim().split(',').map(range).collect()
}

/// All ticks and the idle ticks of these CPUs in `/proc/stat`.
fn times(stat: &str, allowed: &[(u32, u32)]) -> (u64, u64) {
    let (mut all, mut idle) = (0, 0);
    for line in stat.lines() {
        let mut columns = line.split_ascii_whitespace();
        let number = columns.next().and_then(|name| name.strip_prefix("cpu")).and_then(|number| number.parse().ok());
        let Some(number) = number else { continue };
        if !allowed.iter().any(|(first, last)| (*first..=*last).contains(&number)) {
            continue;
        }
        // user, nice, system, idle, iowait, irq, softirq, steal; time of guests
        // is part of user.
        let ticks: Vec<u64> = columns.take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        all += ticks.iter().sum::<u64>();
        idle += ticks.iter().skip(3).take(2).sum::<u64>();
    }
    (all, idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_processors_count_that_may_be_used() {
        let ranges = allowed("Name:\tcourier\nCpus_allowed:\tb\nCpus_allowed_list:\t0-1,3\n").unwrap();
        assert_eq!(ranges, [(0, 1), (3, 3)]);
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 8 9 10\ncpu2 100 0 0 100 0 0 0 0 0 0\n\
                    cpu3 10 0 0 20 0 0 0 0 0 0\nintr 1 2 3\n";
        assert_eq!(times(stat, &ranges), (72 + 30, 45 + 20));
        assert!(allowed("Name:\tcourier\n").is_none());
    }

    #[test]
    fn only_threads_that_joined_are_counted() {
        let threads = Threads::default();
        let work = |joins: bool| {
            if joins {
                threads.join();
            }
            let until = Instant::now() + Duration::from_millis(50);
            while Instant::now() < until {}
            threads.used()
        };
        let used = std::thread::scope(|scope| {
            let (other, one) = (scope.spawn(|| work(false)), scope.spawn(|| work(true)));
            other.join().unwrap();
            one.join().unwrap()
        });
        assert!(used > Duration::ZERO && used < Duration::from_millis(80), "{used:?}");
        // A thread is joined a moment before the kernel has let it go.
        while threads.used() > Duration::ZERO {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_busy_process_is_seen() {
        let mut processors = CpuLoadMeter::default();
        assert!(processors.load().is_none(), "there is nothing to compare with");
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {}
        let load = processors.load().expect("Linux tells");
        assert!(load.own > 0.3 / load.count && load.busy >= load.own && load.busy <= 1.0, "{load:?}");
    }

    #[test]
    fn under_a_quota_only_its_own_time_counts() {
        let at = Instant::now();
        let before = CpuCounters { at, all: 0, idle: 0, own: Duration::ZERO };
        let now = CpuCounters { at: at + Duration::from_secs(1), all: 400, idle: 100, own: Duration::from_millis(600) };
        assert_eq!(load(&before, &now, 4.0, None), CpuLoad { count: 4.0, busy: 0.75, own: 0.15 });
        assert_eq!(load(&before, &now, 4.0, Some(1.2)), CpuLoad { count: 1.2, busy: 0.5, own: 0.5 });
        assert_eq!(load(&before, &now, 4.0, Some(0.5)), CpuLoad { count: 0.5, busy: 1.0, own: 1.0 });
        assert_eq!(load(&before, &now, 4.0, Some(8.0)).busy, 0.75);
    }
}
