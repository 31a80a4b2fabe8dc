//! Notices changes of the configuration file and of the files that it names,
//! such as schemas and token files.
//!
//! A change counts only once two looks in a row find the same: an editor or a
//! copy writes a file in pieces, and half of a configuration is often a valid
//! one with fewer bindings.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

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
}

impl Changes {
    /// Changes of `path`, and of the `files` that it names, from now on.
    #[must_use]
    pub fn of(path: &Path, files: &[PathBuf]) -> Self {
        let mut changes = Self { path: path.to_path_buf(), files: files.to_vec(), seen: Vec::new(), pending: None };
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

    /// Waits for the next change; that the file appears is one. A file that is
    /// missing for a moment, as when an editor replaces it, is none.
    pub async fn next(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.look() {
                return;
            }
        }
    }

    /// Looks once, and returns whether two looks agree on a change.
    fn look(&mut self) -> bool {
        let now = self.stamps();
        if now.first().is_none_or(Option::is_none) || now == self.seen {
            self.pending = None;
            return false;
        }
        if self.pending.as_ref() != Some(&now) {
            self.pending = Some(now);
            return false;
        }
        self.seen = now;
        self.pending = None;
        true
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

    #[test]
    fn a_change_counts_once_two_looks_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("courier.toml");
        write(&path, "one");
        let mut changes = Changes::of(&path, &[]);
        assert!(!changes.look() && !changes.look(), "nothing changed");
        write(&path, "half");
        assert!(!changes.look(), "it may still be written");
        write(&path, "the whole of it");
        assert!(!changes.look(), "it was still being written");
        assert!(changes.look());
        assert!(!changes.look(), "each change is told once");
        std::fs::remove_file(&path).unwrap();
        assert!(!changes.look() && !changes.look(), "an editor replaces it");
        write(&path, "new file");
        assert!(!changes.look() && changes.look());
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
        assert!(!changes.look() && changes.look());
        changes.watch(&[schema.clone(), token.clone()]);
        assert!(!changes.look(), "that more is watched is no change");
        write(&schema, "{}");
        assert!(!changes.look() && changes.look(), "a file that was missing came");
        std::fs::remove_file(&token).unwrap();
        assert!(!changes.look() && changes.look(), "a file that is gone is a change, and the reload says so");
        write(&schema, "{ }");
        changes.catch_up();
        assert!(!changes.look(), "a signal took it in");
    }
}
