//! Notices changes of the configuration file and of the files that it names,
//! such as schemas and token files.
//!
//! A change counts only once two looks in a row find the same: an editor or a
//! copy writes a file in pieces, and half of a configuration is often a valid
//! one with fewer bindings. A configuration that stays away is told once, since
//! the host would not start again without it, and so is that it is back.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks in a row that find no configuration before it counts as missing: an
/// editor replaces a file within a moment.
const LOOKS_UNTIL_MISSING: u32 = 3;

/// What the looks found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// The files differ from those in force.
    Changed,
    /// The configuration itself is no longer there.
    Missing,
    /// It is there again.
    Back,
}

/// The stamp of a file: when it was written, and its length; `None` for a
/// missing file.
type Stamp = Option<(SystemTime, u64)>;

/// Notices changes of a file and of the files that it names.
pub struct Changes {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// The stamps of the configuration in force.
    seen: Vec<Stamp>,
    /// Different stamps, which the last look found.
    pending: Option<Vec<Stamp>>,
    /// Looks in a row that found no configuration.
    missing_looks: u32,
}

impl Changes {
    /// Changes of `path`, and of the `files` that it names, from now on.
    #[must_use]
    pub fn of(path: &Path, files: &[PathBuf]) -> Self {
        let (path, files) = (path.to_path_buf(), files.to_vec());
        let mut changes = Self { path, files, seen: Vec::new(), pending: None, missing_looks: 0 };
        changes.catch_up();
        changes
    }

    /// Notes that the files are in force as they are now.
    pub fn catch_up(&mut self) {
        self.seen = self.stamps();
        self.pending = None;
    }

    /// Watches these files from now on, beside the configuration. A file that
    /// changed while it was read is still noticed.
    pub fn watch(&mut self, files: &[PathBuf]) {
        if files == self.files {
            return;
        }
        let known =
            |path: &PathBuf| self.files.iter().position(|file| file == path).and_then(|at| self.seen.get(at + 1));
        let seen = files.iter().map(|path| known(path).copied().unwrap_or_else(|| stamp(path)));
        self.seen = self.seen.first().copied().into_iter().chain(seen).collect();
        self.files = files.to_vec();
        self.pending = None;
    }

    /// Waits for what comes next; that the file appears is a change. A file that
    /// is missing for a moment, as when an editor replaces it, is nothing.
    pub async fn next(&mut self) -> ConfigChange {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(found) = self.look() {
                return found;
            }
        }
    }

    /// Looks once. A change is one on which two looks agree.
    fn look(&mut self) -> Option<ConfigChange> {
        let now = self.stamps();
        if now.first().is_none_or(Option::is_none) {
            self.pending = None;
            self.missing_looks = self.missing_looks.saturating_add(1);
            // One that never was there, as with `courier dev`, is not missed.
            let is_missed = self.missing_looks == LOOKS_UNTIL_MISSING && self.seen.first().is_some_and(Option::is_some);
            return is_missed.then_some(ConfigChange::Missing);
        }
        if std::mem::take(&mut self.missing_looks) >= LOOKS_UNTIL_MISSING {
            return Some(ConfigChange::Back);
        }
        if now == self.seen {
            self.pending = None;
            return None;
        }
        if self.pending.as_ref() != Some(&now) {
            self.pending = Some(now);
            return None;
        }
        self.seen = now;
        self.pending = None;
        Some(ConfigChange::Changed)
    }

    fn stamps(&self) -> Vec<Stamp> {
        std::iter::once(&self.path).chain(&self.files).map(|path| stamp(path)).collect()
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    /// What some looks in a row find.
    fn looks(changes: &mut Changes, count: usize) -> Vec<ConfigChange> {
        (0..count).filter_map(|_| changes.look()).collect()
    }

    #[test]
    fn a_change_counts_once_two_looks_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("courier.toml");
        write(&path, "one");
        let mut changes = Changes::of(&path, &[]);
        assert_eq!(looks(&mut changes, 2), [], "nothing changed");
        write(&path, "half");
        assert_eq!(changes.look(), None, "it may still be written");
        write(&path, "the whole of it");
        assert_eq!(changes.look(), None, "it was still being written");
        assert_eq!(changes.look(), Some(ConfigChange::Changed));
        assert_eq!(changes.look(), None, "each change is told once");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looks(&mut changes, 2), [], "an editor replaces it");
        write(&path, "new file");
        assert_eq!(looks(&mut changes, 2), [ConfigChange::Changed]);
    }

    /// Issue 16: a `courier.toml` that vanished was not told.
    #[test]
    fn a_configuration_that_stays_away_is_told_once_and_so_is_that_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let [path, aside] = ["courier.toml", "aside.toml"].map(|name| folder.path().join(name));
        write(&path, "one");
        let mut changes = Changes::of(&path, &[]);
        std::fs::rename(&path, &aside).unwrap();
        assert_eq!(looks(&mut changes, 9), [ConfigChange::Missing]);
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(looks(&mut changes, 9), [ConfigChange::Back], "it is as it was");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looks(&mut changes, 3), [ConfigChange::Missing], "each time");
        write(&path, "another one");
        assert_eq!(looks(&mut changes, 9), [ConfigChange::Back, ConfigChange::Changed]);
        let mut never_there = Changes::of(&aside, &[]);
        assert_eq!(looks(&mut never_there, 9), []);
        write(&aside, "first");
        assert_eq!(looks(&mut never_there, 9), [ConfigChange::Back, ConfigChange::Changed]);
    }

    /// Changed schema and token files were not noticed.
    #[test]
    fn files_that_the_configuration_names_are_watched_too() {
        let folder = tempfile::tempdir().unwrap();
        let [path, token, schema] = ["courier.toml", "token", "schema.json"].map(|name| folder.path().join(name));
        write(&path, "toml");
        write(&token, "secret");
        let mut changes = Changes::of(&path, std::slice::from_ref(&token));
        write(&token, "another secret");
        assert_eq!(looks(&mut changes, 2), [ConfigChange::Changed]);
        changes.watch(&[schema.clone(), token.clone()]);
        assert_eq!(changes.look(), None, "that more is watched is no change");
        write(&schema, "{}");
        assert_eq!(looks(&mut changes, 2), [ConfigChange::Changed], "a file that was missing came");
        std::fs::remove_file(&token).unwrap();
        assert_eq!(
            looks(&mut changes, 2),
            [ConfigChange::Changed],
            "a file that is gone is a change; the reload says so"
        );
        write(&schema, "{ }");
        changes.catch_up();
        assert_eq!(changes.look(), None, "a signal took it in");
    }
}
