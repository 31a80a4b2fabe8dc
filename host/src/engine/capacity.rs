//! Computes how many instances this machine can hold.
//!
//! The pool has as many slots as the sum of the bindings' `concurrency`, within
//! two bounds: memory, and the number of mappings that the kernel allows a
//! process (`vm.max_map_count`), past which the host's own allocations fail.

use std::path::Path;

use super::limits::{LEAST_BYTES_PER_SLOT, MAPPINGS_PER_SLOT, MAX_SLOTS, MIN_SLOTS};

/// Mappings left to the rest of the process: libraries, threads, heaps and the
/// code of components.
const OTHER_MAPPINGS: u64 = 16_384;
/// The kernel's default of `vm.max_map_count`.
const USUAL_MAX_MAP_COUNT: u64 = 65_530;
/// The divisor of the machine's memory: waiting instances may take half of it.
const PART_OF_MEMORY: u64 = 2;

/// The size of the pool, and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Instances that the bindings may need at once: the sum of their
    /// `concurrency`.
    pub wanted: u64,
    /// Instances that the pool has room for.
    pub slots: u32,
    /// Instances that the kernel's `vm.max_map_count` allows.
    pub by_mappings: u64,
    /// Instances that the memory of the machine or of the control group allows;
    /// `None` when neither is known.
    pub by_memory: Option<u64>,
}

/// A warning that the bindings may need more instances than the pool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The warning, with its numbers.
    pub message: String,
    /// What the operator can do.
    pub remedy: &'static str,
}

impl Capacity {
    /// The capacity of this machine for bindings that may need `wanted` instances
    /// at once.
    #[must_use]
    pub fn of_this_machine(wanted: u64) -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
        Self::from(wanted, &read)
    }

    fn from(wanted: u64, read: &dyn Fn(&str) -> Option<String>) -> Self {
        let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
        let mappings = number("/proc/sys/vm/max_map_count").unwrap_or(USUAL_MAX_MAP_COUNT);
        let by_mappings = mappings.saturating_sub(OTHER_MAPPINGS) / MAPPINGS_PER_SLOT;
        let limited = [number("/sys/fs/cgroup/memory.max"), read("/proc/meminfo").as_deref().and_then(total)];
        let memory = limited.into_iter().flatten().min();
        let by_memory = memory.map(|bytes| bytes / PART_OF_MEMORY / LEAST_BYTES_PER_SLOT);
        let most = by_mappings.min(by_memory.unwrap_or(u64::MAX)).clamp(1, u64::from(MAX_SLOTS));
        let slots = wanted.max(u64::from(MIN_SLOTS)).min(most);
        Self { wanted, slots: u32::try_from(slots).unwrap_or(MAX_SLOTS), by_mappings, by_memory }
    }

    /// The warning when the bindings may need more than a pool of `slots`; `None`
    /// when they fit.
    #[must_use]
    pub fn shortage(&self, slots: u32) -> Option<Shortage> {
        (self.wanted > u64::from(slots)).then(|| {
            let memory = self.by_memory.map_or_else(String::new, |by| format!(" and its memory for {by}"));
            let remedy = if u64::from(self.slots) >= self.wanted {
                "a restart makes the pool larger"
            } else {
                "lower `concurrency`, or raise the kernel's vm.max_map_count or the memory"
            };
            let message = format!(
                "the `concurrency` of all bindings adds up to {}, and this host has {slots} sandboxes (vm.max_map_count \
                 of the machine has room for {}{memory}): each group keeps to its share, and attempts beyond it wait or \
                 end as no_room",
                self.wanted, self.by_mappings
            );
            Shortage { message, remedy }
        })
    }
}

/// The machine's memory in bytes, from the text of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wanted: u64, maps: &str, meminfo: &str, group: Option<&str>) -> Capacity {
        Capacity::from(wanted, &|path| match path {
            "/proc/sys/vm/max_map_count" => Some(format!("{maps}\n")),
            "/proc/meminfo" => Some(format!("MemTotal:       {meminfo} kB\nMemFree: 1 kB\n")),
            "/sys/fs/cgroup/memory.max" => group.map(|bytes| format!("{bytes}\n")),
            _ => None,
        })
    }

    #[test]
    fn the_pool_follows_what_the_bindings_want_up_to_what_the_machine_allows() {
        let large = "33554432";
        assert_eq!(of(10, "65530", large, None).slots, MIN_SLOTS);
        assert_eq!(of(5_000, "65530", large, Some("max")).slots, 5_000, "5,000 waiting handlers fit by default");
        assert_eq!(of(50_000, "65530", large, None).slots, 6_143, "what the mappings allow");
        assert_eq!(of(50_000, "1048576", large, None).slots, MAX_SLOTS);
        let small = of(5_000, "65530", large, Some("1073741824"));
        assert_eq!((small.slots, small.by_memory), (2_048, Some(2_048)), "the control group counts");
        assert_eq!(of(5_000, "65530", "262144", None).slots, 512);
    }

    #[test]
    fn a_sum_of_concurrency_above_the_pool_is_told_with_the_numbers() {
        let small = of(5_000, "65530", "33554432", Some("1073741824"));
        let told = small.shortage(small.slots).unwrap();
        for part in ["adds up to 5000", "has 2048 sandboxes (vm.max_map_count", "room for 6143 and its memory for 2048"]
        {
            assert!(told.message.contains(part), "{part}: {told:?}");
        }
        assert!(told.remedy.starts_with("lower `concurrency`"));
        let grown = of(3_000, "65530", "33554432", None);
        assert_eq!(grown.shortage(1_024).unwrap().remedy, "a restart makes the pool larger");
        assert_eq!(grown.shortage(grown.slots), None);
    }
}
