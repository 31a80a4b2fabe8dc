//! The lock that lets one host at a time use a file.
//!
//! A host on SQLite keeps unsent keys and cached words in memory, since no other host writes
//! beside it. Two hosts would send messages of one key out of order, and neither would
//! notice. The lock is one of the operating system on a file beside the store's, so that it
//! ends with its process, however that ends. Only hosts take it; a command that opens the
//! store does not wait for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::sqlite::SqliteConnectOptions;

use super::connect::FILE_MODE;
use super::error::fault;
use crate::store::StoreError;

/// The end of the lock file's name, after the store's.
const SUFFIX: &str = ".lock";
/// Most bytes of the lock file that are read to name the other host.
const MAX_HOLDER_BYTES: u64 = 300;

/// The lock of one host on a file, which ends when it is dropped.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl HostLock {
    /// Takes the lock of the file that `url` names, for the host of this name.
    ///
    /// # Errors
    /// `Conflict` while another host has it.
    pub fn take(url: &str, node: &str) -> Result<Option<Self>, StoreError> {
        let store = SqliteConnectOptions::from_str(url).map_err(fault)?.get_filename().to_path_buf();
        // One file may have several names.
        let store = store.canonicalize().unwrap_or(store);
        let mut path = store.clone().into_os_string();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let mut file =
            opened.map_err(|error| StoreError::Refused(format!("{} cannot be opened: {error}", path.display())))?;
        match file.try_lock() {
            Ok(()) => {
                // The note is for people; the lock holds without it.
                let note = format!("node {node}, process {}", std::process::id());
                let noted = file.set_len(0).and_then(|()| file.write_all(note.as_bytes()));
                if let Err(error) = noted {
                    tracing::debug!(%error, file = %path.display(), "cannot note who uses the store");
                }
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Err(StoreError::Conflict(format!(
                "the SQLite file {} is in use by another Courier host{}, and serves one host at a time: stop that one, \
                 name another file in [store] url, or use PostgreSQL (postgres://..), which serves several hosts",
                store.display(),
                holder(&mut file).map(|holder| format!(" ({holder})")).unwrap_or_default(),
            ))),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    %error, file = %path.display(),
                    "the file system has no locks: a second host on this SQLite file would not be refused"
                );
                Ok(None)
            }
        }
    }
}

/// Reads the note of the host that has the lock.
fn holder(file: &mut File) -> Option<String> {
    let mut noted = String::new();
    file.rewind().ok()?;
    file.take(MAX_HOLDER_BYTES).read_to_string(&mut noted).ok()?;
    Some(noted.trim().to_owned()).filter(|noted| !noted.is_empty() && !noted.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 16: two nodes on one SQLite file were not refused.
    #[test]
    fn a_second_host_on_a_file_is_refused_by_name_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("courier.db");
        let url = format!("sqlite://{}", file.display());
        std::fs::write(&file, "").unwrap();
        let first = HostLock::take(&url, "host-1").unwrap();
        assert!(first.is_some());
        let link = folder.path().join("other-name.db");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for url in [url.clone(), format!("sqlite://{}", link.display())] {
            let Err(StoreError::Conflict(why)) = HostLock::take(&url, "host-2") else {
                panic!("{url} was not refused")
            };
            for part in ["courier.db", "node host-1", &std::process::id().to_string(), "PostgreSQL"] {
                assert!(why.contains(part), "{why}");
            }
        }
        let other = format!("sqlite://{}", folder.path().join("another.db").display());
        assert!(HostLock::take(&other, "host-2").unwrap().is_some(), "another file is another store");
        drop(first);
        assert!(HostLock::take(&url, "host-2").unwrap().is_some(), "the lock ends with its holder");
    }
}
