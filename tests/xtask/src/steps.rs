//! Runs other programs as steps: each step prints its name and the program's output,
//! and ends with a duration and a verdict.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::servers::setup;

/// A cargo command in the repository's root, of the cargo that runs this program.
pub fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(arguments);
    // Cargo describes xtask's own package in these variables, which would mislead a
    // child that builds another package.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// How the host is compiled. Its dependencies are the same ones either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBuild {
    /// As it ships.
    Optimised,
    /// Without optimisation, for tests and the demo: optimising the host takes minutes,
    /// and they gain less than that by it.
    Quick,
}

impl HostBuild {
    /// A cargo command that builds or runs the host, or whatever depends on it.
    pub fn cargo(self, root: &Path, arguments: &[&str]) -> Command {
        let mut cargo = cargo(root, &[]);
        if self == Self::Quick {
            cargo.args(["--config", "profile.release.package.courier.opt-level=0"]);
        }
        cargo.args(arguments);
        cargo
    }

    /// Where [`build`](Self::build) puts the host's program.
    pub fn program(self) -> PathBuf {
        let target = setup::target_directory();
        let folder = match self {
            Self::Optimised => "release",
            Self::Quick => "tested",
        };
        std::path::absolute(&target).unwrap_or(target).join(folder).join("courier")
    }

    /// Builds the host's program. Cargo has one place for all builds of it, and a person
    /// runs the program there: a quick build does not stay in it.
    pub fn build(self, root: &Path) -> Result<()> {
        let build = || must("build the host", &mut self.cargo(root, &["build", "--release", "-p", "courier"]));
        let (built, program) = (Self::Optimised.program(), self.program());
        if built == program {
            return build();
        }
        let moved = |from: &Path, to: &Path| {
            std::fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
        };
        let aside = built.with_extension("optimised");
        let is_there = built.is_file();
        if is_there {
            moved(&built, &aside)?;
        }
        let result = build().and_then(|()| {
            let folder = program.parent().context("the program has no folder")?;
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            moved(&built, &program)
        });
        if is_there {
            moved(&aside, &built)?;
        }
        result
    }
}

/// Prints the name of the next step.
pub fn say(what: &str) {
    println!("\x1b[1m==> {what}\x1b[0m");
    std::io::stdout().flush().ok();
}

/// The command line.
pub fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_string_lossy();
    let arguments = command.get_args().map(|word| word.to_string_lossy());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end with its output shown; fails when it fails.
pub fn must(what: &str, command: &mut Command) -> Result<()> {
    say(&format!("{what}: {}", words(command)));
    let status = command.status().with_context(|| format!("{} does not run", words(command)))?;
    if !status.success() {
        bail!("{what} failed: {} ended with {status}", words(command));
    }
    Ok(())
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
}

impl Count {
    /// Reads libtest's last line: `test result: ok. 3 passed; 0 failed; ..`.
    fn read(line: &str) -> Option<Self> {
        let (_, numbers) = line.split_once("test result: ")?.1.split_once(". ")?;
        let number = |word: &str| {
            let part = numbers.split(';').find(|part| part.trim_end().ends_with(word))?;
            part.trim().split(' ').next()?.parse::<u64>().ok()
        };
        Some(Self { passed: number(" passed")?, failed: number(" failed")? })
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs tests of libtest with their output shown, and counts them. The second
/// value says whether the command itself succeeded.
pub fn count_tests(command: &mut Command) -> Result<(Count, bool)> {
    count_tests_by(command, Count::read)
}

/// [`count_tests`] for another test runner; `read` reads the counts of a line.
pub fn count_tests_by(command: &mut Command, read: fn(&str) -> Option<Count>) -> Result<(Count, bool)> {
    println!("    {}", words(command));
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("{} does not run", words(command)))?;
    let mut count = Count::default();
    let output = child.stdout.take().expect("the pipe was asked for above");
    // Bytes, not text: a test may print anything.
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output of the tests")?;
        let text = String::from_utf8_lossy(&line);
        println!("{text}");
        if let Some(result) = read(&text) {
            count += result;
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    Ok((count, status.success()))
}

/// One finished step of a longer run.
#[derive(Debug)]
pub struct Done {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Its counts of tests; zero for a step without tests.
    pub count: Count,
    /// Why it failed, or `None`.
    pub failure: Option<String>,
}

/// Runs a step and returns its verdict; a failure does not end the run.
pub fn step(name: &'static str, what: &str, work: impl FnOnce() -> Result<Count>) -> Done {
    say(&format!("{name}: {what}"));
    let begin = Instant::now();
    let (count, failure) = match work() {
        Ok(count) if count.failed == 0 => (count, None),
        Ok(count) => (count, Some(format!("{} tests failed", count.failed))),
        Err(error) => {
            eprintln!("error: {error:#}");
            (Count::default(), Some(error.to_string()))
        }
    };
    Done { name, took: begin.elapsed(), count, failure }
}

/// Prints the table of steps and the sums. Returns whether nothing failed.
pub fn summary(steps: &[Done]) -> bool {
    println!();
    let mut total = Count::default();
    for step in steps {
        let verdict = step.failure.as_deref().map_or("ok", |why| why.lines().next().unwrap_or("failed"));
        let Count { passed, failed } = step.count;
        println!(
            "{:<12} {:>7.1} s {passed:>6} passed {failed:>4} failed   {verdict}",
            step.name,
            step.took.as_secs_f64()
        );
        total += step.count;
        if step.failure.is_some() && failed == 0 {
            // A failed step without tests (formatting, licences) counts as one failure.
            total.failed += 1;
        }
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtests_last_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s";
        assert_eq!(Count::read(line), Some(Count { passed: 12, failed: 3 }));
        assert_eq!(Count::read("test result: ok. 0 passed; 0 failed; 0 ignored"), Some(Count::default()));
        assert_eq!(Count::read("running 3 tests"), None);
    }

    #[test]
    fn a_failed_check_without_tests_counts_as_one_failure() {
        let fine = step("a", "works", || Ok(Count { passed: 2, failed: 0 }));
        assert!(summary(&[fine]));
        let broken = step("b", "breaks", || anyhow::bail!("no"));
        assert!(!summary(&[broken]));
    }
}
