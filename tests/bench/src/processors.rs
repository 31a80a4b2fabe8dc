//! Restricts programs to some processors.
//!
//! The effect of a hostile group on others is measured with the host on its own
//! processors. Otherwise the broker, the database and the producer would compete
//! with the hostile guests too, which they do not on separate machines, and the
//! figure would measure the load of the whole machine.

use std::collections::BTreeSet;
use std::io::Error;

use anyhow::{Context as _, Result};

/// A set of processors, one bit each.
pub struct Processors(libc::cpu_set_t);

impl Processors {
    /// This thread's processors in two halves; none when it has only one.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn halves() -> Result<Option<[Self; 2]>> {
        // SAFETY: a set of no processors is all zeros.
        let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `all` is valid for writes of the given size.
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
            // SAFETY: the number was read from such a set.
            unsafe { libc::CPU_SET(number, &mut set) };
        }
        Self(set)
    }

    /// Restricts a process to these: all its threads, and the threads and
    /// processes that they start from now on.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn keep(&self, process: u32) -> Result<()> {
        let mut kept = BTreeSet::new();
        loop {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).context("cannot list the threads")?;
            let threads: BTreeSet<i32> =
                tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
            // Another pass, while there are new threads: a thread that was not
            // restricted yet may have started them.
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
        // SAFETY: the set is valid for reads of the given size.
        match unsafe { libc::sched_setaffinity(thread, size_of_val(&self.0), &raw const self.0) } {
            0 => Ok(()),
            // The thread has ended.
            _ if Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => Ok(()),
            _ => Err(Error::last_os_error()).context("cannot keep a thread on its processors"),
        }
    }
}
