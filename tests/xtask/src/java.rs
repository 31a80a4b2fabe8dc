//! Tests of the Java client, the Spring Boot starter and its sample.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::steps::{self, Count, HostBuild};

/// The folder of test reports in a Maven module.
const REPORTS: &str = "target/surefire-reports";

/// Builds, tests and packages the modules. Their tests start Kafka, PostgreSQL and the
/// host themselves.
pub fn run(root: &Path) -> Result<Count> {
    let parent = root.join("guest-sdk/client/java");
    for module in modules(&parent)? {
        // Reports of removed tests would be counted too.
        let reports = module.join(REPORTS);
        if reports.exists() {
            fs::remove_dir_all(&reports).with_context(|| format!("cannot remove {}", reports.display()))?;
        }
    }
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "verify"]).current_dir(&parent);
    maven.env("COURIER_BIN", HostBuild::Quick.program());
    steps::say(&steps::words(&maven));
    let status = maven.status().context("mvn does not run")?;
    let mut count = Count::default();
    for module in modules(&parent)? {
        count += reported(&module.join(REPORTS))?;
    }
    if !status.success() && count.failed == 0 {
        bail!("{} failed before or after its tests", steps::words(&maven));
    }
    Ok(count)
}

/// The folders of the Maven modules, including the parent.
fn modules(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut modules = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let below = entry?.path();
        if below.join("pom.xml").is_file() {
            modules.extend(self::modules(&below)?);
        }
    }
    Ok(modules)
}

/// Sums up the reports of a module; one without tests has none.
fn reported(reports: &Path) -> Result<Count> {
    let mut count = Count::default();
    if !reports.is_dir() {
        return Ok(count);
    }
    for entry in fs::read_dir(reports).with_context(|| format!("cannot list {}", reports.display()))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "xml") {
            let report = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            count += of_surefire(&report).with_context(|| format!("{} is no report of tests", file.display()))?;
        }
    }
    Ok(count)
}

/// The counts in the first element of a Surefire report:
/// `<testsuite .. tests="6" errors="0" skipped="0" failures="0">`.
fn of_surefire(report: &str) -> Option<Count> {
    let suite = report.split_once("<testsuite ")?.1.split('>').next()?;
    let number = |name: &str| {
        let (_, rest) = suite.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()?.parse::<u64>().ok()
    };
    let failed = number("errors")? + number("failures")?;
    Some(Count { passed: number("tests")?.checked_sub(failed + number("skipped")?)?, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_surefire_is_counted() {
        let suite = |counts: &str| {
            format!("<?xml version=\"1.0\"?>\n<testsuite name=\"a.B\" time=\"0.1\" {counts}>\n<testcase tests=\"9\"/>")
        };
        let report = suite("tests=\"9\" errors=\"1\" skipped=\"2\" failures=\"3\"");
        assert_eq!(of_surefire(&report), Some(Count { passed: 3, failed: 4 }));
        assert_eq!(of_surefire(&suite("tests=\"9\"")), None);
        assert_eq!(of_surefire("<project/>"), None);
    }
}
