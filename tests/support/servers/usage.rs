//! Reads a process's processor time and memory.
//!
//! The figures come from `/proc` (proc(5)), and so have the same meaning for a host,
//! a broker, a database and a peer. They are zero for a process that has ended.

use std::time::Duration;

use super::process::children_of;

/// Processor time of a process and its children, including ended children that were
/// waited for.
#[must_use]
pub fn cpu(process: u32) -> Duration {
    let own = ticks(&format!("/proc/{process}/stat"), 4);
    let children = children_of(process).into_iter().map(|child| ticks(&format!("/proc/{child}/stat"), 4));
    in_time(own + children.sum::<u64>())
}

/// Processor time of a process's threads whose names begin with `name`. The kernel
/// keeps fifteen letters of a name.
#[must_use]
pub fn cpu_of_threads(process: u32, name: &str) -> Duration {
    const KEPT: usize = 15;
    let name = &name.as_bytes()[..name.len().min(KEPT)];
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_name = threads.filter(|thread| {
        let comm = std::fs::read(thread.path().join("comm")).unwrap_or_default();
        comm.trim_ascii_end().starts_with(name)
    });
    in_time(of_name.map(|thread| ticks(&thread.path().join("stat").display().to_string(), 2)).sum())
}

/// Processor time of all processes of the machine since it started, and the time of all
/// its processors.
#[must_use]
pub fn machine_times() -> (Duration, Duration) {
    // user nice system idle iowait irq softirq steal
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let idle: u64 = times.iter().skip(3).take(2).sum();
    let all: u64 = times.iter().sum();
    (in_time(all - idle), in_time(all))
}

/// The most resident memory that a process had so far, in bytes.
#[must_use]
pub fn peak_memory(process: u32) -> u64 {
    status_bytes(process, "VmHWM:")
}

/// A line of `/proc/PID/status` that is in kB, in bytes.
#[must_use]
pub fn status_bytes(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

/// Number of threads of a process.
#[must_use]
pub fn threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task")).map_or(0, |threads| threads.flatten().count())
}

/// The sum of the first `count` of utime, stime, cutime and cstime: the fields
/// 14 to 17, counted after the command in parentheses.
fn ticks(stat: &str, count: usize) -> u64 {
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(count).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn in_time(ticks: u64) -> Duration {
    // SAFETY: a system call that only answers a number.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / a_second.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let own = std::process::id();
        let begin = std::time::Instant::now();
        while cpu(own) < Duration::from_millis(30) {
            std::hint::black_box(vec![1_u8; 1 << 16]);
            assert!(begin.elapsed() < Duration::from_secs(20), "no time was accounted");
        }
        assert!(peak_memory(own) > 1 << 20);
        assert_eq!((cpu(u32::MAX), peak_memory(u32::MAX)), (Duration::ZERO, 0));
    }
}
