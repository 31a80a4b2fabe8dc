//! Which processors a program may run on.
//!
//! What a hostile group does to others on its host is measured with the host on
//! processors of its own. Elsewhere the broker, the database and the producer
//! would wait for the hostile guests as well, which they never do on machines
//! of their own, and the figure would tell how full the one machine is.

use std::collections::BTreeSet;
use std::io::Error;

use anyhow::{Context as _, Result};

/// Processors, one bit each.
pub struct Processors(libc::cpu_set_t);

impl Processors {
    /// Those of this thread in two halves; none when there is only one.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn halves() -> Result<Option<[Self; 2]>> {
        // SAFETY: a set of no processors is all zeros.
        let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `all` is a valid place of the size that is named.
        let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&all), &raw mut all) } != 0;
        if failed {
            return Err(Error::last_os_error()).context("cannot read which processors there are");
        }
        // SAFETY: the number is within the set.
        let numbers = 0..libc::CPU_SETSIZE.unsigned_abs() as usize;
        let mine: Vec<usize> = numbers.filter(|&number| unsafe { libc::CPU_ISSET(number, &all) }).collect();
        let (first, second) = mine.split_at(mine.len() / 2);
        Ok((!first.is_empty()).then(|| [Self::of(first), Self::of(second)]))
    }

    fn of(numbers: &[usize]) -> Self {
        // SAFETY: a set of no processors is all zeros.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for &number in numbers {
            // SAFETY: the number came out of such a set.
            unsafe { libc::CPU_SET(number, &mut set) };
        }
        Self(set)
    }

    /// Keeps a process on these: all its threads, and what they start from now
    /// on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep(&self, process: u32) -> Result<()> {
        let mut kept = BTreeSet::new();
        loop {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).context("cannot list the threads")?;
            let threads: BTreeSet<i32> =
                tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
            // One that was started meanwhile may have been so by one that was
            // not kept yet.
            if threads.is_subset(&kept) {
                return Ok(());
            }
            for &thread in threads.difference(&kept) {
                self.keep_thread(thread)?;
            }
            kept.extend(threads);
        }
    }

    fn keep_thread(&self, thread: libc::pid_t) -> Result<()> {
        // SAFETY: the set is valid and of the size that is named.
        match unsafe { libc::sched_setaffinity(thread, size_of_val(&self.0), &raw const self.0) } {
            0 => Ok(()),
            // One that ended in between needs no place.
            _ if Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => Ok(()),
            _ => Err(Error::last_os_error()).context("cannot keep a thread on its processors"),
        }
    }
}
