//! Reads the CPU quota of the control group of this process.
//!
//! The second version of cgroups has `cpu.max` in each folder of its tree, a
//! quota and a period in microseconds (`cgroup-v2.rst` of the kernel); the first
//! has `cpu.cfs_quota_us` and `cpu.cfs_period_us` in the tree of `cpu`
//! (`sched-bwc.rst`). A folder is bound by those above it as well.

use std::path::Path;

/// Where the cgroup trees are usually mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// CPUs that the process may use on average, often a fraction; `None` without a
/// quota.
pub fn quota() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest(&groups, |path| std::fs::read_to_string(path).ok())
}

/// The tightest quota of the groups that `/proc/self/cgroup` names.
fn tightest(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, folder) = line.split_once(':')?.1.split_once(':')?;
        let second = controllers.is_empty();
        if !second && !controllers.split(',').any(|controller| controller == "cpu") {
            return None;
        }
        let root = Path::new(ROOT).join(if second { "" } else { "cpu" });
        let folder = root.join(folder.trim_start_matches('/'));
        let above = folder.ancestors().take_while(|above| above.starts_with(&root));
        above.filter_map(|folder| of_folder(folder, second, &read)).min_by(f64::total_cmp)
    });
    quotas.min_by(f64::total_cmp)
}

fn of_folder(folder: &Path, second: bool, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let text = |name: &str| read(&folder.join(name));
    let (quota, period) = if second {
        let line = text("cpu.max")?;
        let (quota, period) = line.trim().split_once(' ')?;
        (quota.to_owned(), period.to_owned())
    } else {
        (text("cpu.cfs_quota_us")?, text("cpu.cfs_period_us")?)
    };
    // "max" and -1 are no quota.
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(groups: &str, files: &[(&str, &str)]) -> Option<f64> {
        tightest(groups, |path| {
            files.iter().find(|(name, _)| Path::new(ROOT).join(name) == path).map(|(_, text)| format!("{text}\n"))
        })
    }

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let two = "0::/pods/courier\n";
        assert_eq!(of(two, &[("pods/courier/cpu.max", "150000 100000")]), Some(1.5));
        assert_eq!(of(two, &[("pods/courier/cpu.max", "max 100000"), ("pods/cpu.max", "50000 100000")]), Some(0.5));
        assert_eq!(of(two, &[("pods/courier/cpu.max", "max 100000")]), None);
        assert_eq!(of("0::/\n", &[("cpu.max", "200000 100000")]), Some(2.0), "a container sees itself as the root");
        assert_eq!(of("0::/../other\n", &[]), None);
    }

    #[test]
    fn the_first_version_is_understood() {
        let one = "3:memory:/a\n2:cpu,cpuacct:/a/b\n";
        let files = |quota| [("cpu/a/b/cpu.cfs_quota_us", quota), ("cpu/a/b/cpu.cfs_period_us", "100000")];
        assert_eq!(of(one, &files("250000")), Some(2.5));
        assert_eq!(of(one, &files("-1")), None);
        assert_eq!(of("3:memory:/a\n", &files("250000")), None);
    }
}
