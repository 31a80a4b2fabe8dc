//! Machine code kept on disk, so that a restart does not compile again.
//!
//! A file is named by the component's digest and by a hash of what the code
//! depends on: the engine's version and settings, and the processor. Both are
//! under the file's checksum too, so that a renamed file is refused. A file is
//! loaded only when it belongs to this user, no other user may write it, and
//! its checksum is right; any other file is ignored and written anew. The key
//! of the checksum is known to the store and its hosts only, so that somebody
//! who can write to the directory still cannot give the host code to run.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::limits::{MAX_ARTEFACT_BYTES, MAX_ARTEFACTS};

/// The first bytes of a file; the checksum and the machine code follow.
const MAGIC: &[u8] = b"courier artefact 3\n";
const CHECKSUM_BYTES: usize = 32;
const SUFFIX: &str = "artefact";

/// The directory of artefacts for one engine.
#[derive(Clone, Debug)]
pub(super) struct Artefacts {
    dir: PathBuf,
    compatibility: u64,
    key: Key,
}

/// The key of the checksums.
#[derive(Clone)]
struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Artefacts {
    /// Opens `dir`, and creates it when it does not exist.
    ///
    /// # Errors
    /// When it cannot be created, or when another user may write to it.
    pub(super) fn open(dir: &Path, engine: &wasmtime::Engine, key: [u8; 32]) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = std::fs::metadata(dir)?;
        if !is_ours_alone(&metadata) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "it belongs to user {} with mode {:04o}, and others than this program could put code there: it must \
                     be its own and writable by nobody else (chmod go-w)",
                    metadata.uid(),
                    metadata.mode() & 0o7777
                ),
            ));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_owned(), compatibility: hasher.finish(), key: Key(key) })
    }

    /// The machine code for a component, if it is there and whole.
    pub(super) fn load(&self, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match self.read(&path, digest) {
            Ok(Some(artefact)) => Some(artefact),
            Ok(None) => {
                tracing::warn!(path = %path.display(), "ignored a cached artefact that is damaged or writable by others: compiling again");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "failed to read a cached artefact: compiling again");
                None
            }
        }
    }

    /// Stores the machine code for a component. A failure costs only time later.
    pub(super) fn keep(&self, digest: &str, artefact: &[u8]) {
        let path = self.path(digest);
        if let Err(error) = self.write(&path, digest, artefact).and_then(|()| self.prune()) {
            tracing::warn!(path = %path.display(), %error, "failed to keep an artefact: it will be compiled again");
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.dir.join(format!("{hex}-{:016x}.{SUFFIX}", self.compatibility))
    }

    /// The checksum of a file, an HMAC-SHA-256 of the machine code, the digest of
    /// its component and the engine that it was made for.
    fn checksum(&self, digest: &str, artefact: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let padded = |byte: u8| {
            let mut block = [byte; 64];
            block.iter_mut().zip(self.key.0).for_each(|(pad, key)| *pad ^= key);
            block
        };
        let mut inner = Sha256::new();
        inner.update(padded(0x36));
        inner.update(MAGIC);
        // The length comes before a part of varying length, so that no two inputs
        // have the same bytes.
        inner.update((digest.len() as u64).to_le_bytes());
        inner.update(digest);
        inner.update(self.compatibility.to_le_bytes());
        inner.update(artefact);
        let mut outer = Sha256::new();
        outer.update(padded(0x5c));
        outer.update(inner.finalize());
        outer.finalize().into()
    }

    /// The machine code in a file; `None` when the file is not to be trusted.
    fn read(&self, path: &Path, digest: &str) -> io::Result<Option<Vec<u8>>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let most = (MAGIC.len() + CHECKSUM_BYTES + MAX_ARTEFACT_BYTES) as u64;
        if !is_ours_alone(&metadata) || !metadata.is_file() || metadata.len() > most {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        file.take(most).read_to_end(&mut bytes)?;
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Ok(None) };
        let Some((checksum, artefact)) = rest.split_at_checked(CHECKSUM_BYTES) else { return Ok(None) };
        Ok(bool::from(self.checksum(digest, artefact)[..].ct_eq(checksum)).then(|| artefact.to_vec()))
    }

    fn write(&self, path: &Path, digest: &str, artefact: &[u8]) -> io::Result<()> {
        // Readers see the old file or the whole new one, never a part. Two writers of
        // one artefact write the same bytes.
        let unfinished = self.dir.join(format!(".{}", uuid::Uuid::now_v7()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(MAGIC)?;
            file.write_all(&self.checksum(digest, artefact))?;
            file.write_all(artefact)?;
            std::fs::rename(&unfinished, path)
        };
        write().inspect_err(|_| {
            // The unfinished file is of no use; if removing it fails too, the first
            // error says more.
            let _ = std::fs::remove_file(&unfinished);
        })
    }

    /// Removes the oldest artefacts past the bound.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == SUFFIX) {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        for (_, path) in files.iter().take(files.len().saturating_sub(MAX_ARTEFACTS)) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Whether a file or directory belongs to this process's user and no other user may write it.
fn is_ours_alone(metadata: &Metadata) -> bool {
    // SAFETY: the call takes nothing and cannot fail.
    metadata.uid() == unsafe { libc::geteuid() } && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_what_was_touched_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts { dir: dir.path().to_owned(), compatibility: 7, key: Key([1; 32]) };
        assert_eq!(artefacts.load("sha256:ab"), None);
        artefacts.keep("sha256:ab", b"code");
        assert_eq!(artefacts.load("sha256:ab").as_deref(), Some(&b"code"[..]));
        assert_eq!(Artefacts { compatibility: 8, ..artefacts.clone() }.load("sha256:ab"), None);

        let path = artefacts.path("sha256:ab");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(artefacts.load("sha256:ab"), None);
        artefacts.keep("sha256:ab", b"code");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(artefacts.load("sha256:ab"), None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(artefacts.load("sha256:ab"), None);
        artefacts.keep("sha256:ab", b"code");
        assert_eq!(artefacts.load("sha256:ab").as_deref(), Some(&b"code"[..]));
    }

    /// Two files that were renamed to each other's names ran the wrong code.
    #[test]
    fn a_file_under_another_name_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts { dir: dir.path().to_owned(), compatibility: 7, key: Key([1; 32]) };
        artefacts.keep("sha256:ab", b"code of ab");
        artefacts.keep("sha256:cd", b"code of cd");
        let (one, other) = (artefacts.path("sha256:ab"), artefacts.path("sha256:cd"));
        std::fs::rename(&one, dir.path().join("aside")).unwrap();
        std::fs::rename(&other, &one).unwrap();
        std::fs::rename(dir.path().join("aside"), &other).unwrap();
        assert_eq!((artefacts.load("sha256:ab"), artefacts.load("sha256:cd")), (None, None));

        artefacts.keep("sha256:ab", b"code of ab");
        let newer = Artefacts { compatibility: 8, ..artefacts.clone() };
        std::fs::rename(artefacts.path("sha256:ab"), newer.path("sha256:ab")).unwrap();
        assert_eq!(newer.load("sha256:ab"), None, "code for another engine");
    }

    /// Somebody who could write to the directory could write code for the host to run.
    #[test]
    fn a_file_that_was_written_without_the_key_of_the_store_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts { dir: dir.path().to_owned(), compatibility: 7, key: Key([1; 32]) };
        let stranger = Artefacts { key: Key([0; 32]), ..artefacts.clone() };
        stranger.keep("sha256:ab", b"code");
        assert_eq!(stranger.load("sha256:ab").as_deref(), Some(&b"code"[..]));
        assert_eq!(artefacts.load("sha256:ab"), None);
    }

    /// A directory of mode 0777 was accepted.
    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let engine = wasmtime::Engine::default();
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o775, 0o720] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            let refused = Artefacts::open(dir.path(), &engine, [1; 32]).unwrap_err().to_string();
            assert!(refused.contains(&format!("mode {mode:04o}")), "{refused}");
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Artefacts::open(dir.path(), &engine, [1; 32]).unwrap();
        Artefacts::open(&dir.path().join("made/here"), &engine, [1; 32]).unwrap();
    }

    #[test]
    fn the_oldest_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts { dir: dir.path().to_owned(), compatibility: 7, key: Key([1; 32]) };
        for n in 0..MAX_ARTEFACTS + 3 {
            artefacts.keep(&format!("sha256:{n:08x}"), b"code");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MAX_ARTEFACTS);
        assert!(artefacts.load(&format!("sha256:{:08x}", MAX_ARTEFACTS + 2)).is_some());
    }
}
