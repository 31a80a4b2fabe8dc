//! Machine code kept on disk, so that a restart compiles nothing again.
//!
//! A file is named by the component's digest and by what the code depends on:
//! the engine's version and settings, and the processor. It is believed only
//! when it belongs to us, nobody else may write it, and it carries its own
//! digest; any other is ignored and written anew.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::limits::{MAX_ARTEFACT_BYTES, MAX_ARTEFACTS};

/// What a file begins with; the digest of the rest follows.
const MAGIC: &[u8] = b"courier artefact 1\n";
const DIGEST_BYTES: usize = 32;
const SUFFIX: &str = "artefact";

/// The directory of artefacts for one engine.
#[derive(Clone, Debug)]
pub(super) struct Artefacts {
    dir: PathBuf,
    compatibility: u64,
}

impl Artefacts {
    /// The artefacts in `dir`, which is made when it is not there.
    pub(super) fn open(dir: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_owned(), compatibility: hasher.finish() })
    }

    /// The machine code for a component, if it is there and whole.
    pub(super) fn load(&self, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match read(&path) {
            Ok(Some(artefact)) => Some(artefact),
            Ok(None) => {
                tracing::warn!(path = %path.display(), "a cached artefact is damaged or not ours: compiling again");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a cached artefact cannot be read: compiling again");
                None
            }
        }
    }

    /// Keeps the machine code for a component. Failing costs only time later.
    pub(super) fn keep(&self, digest: &str, artefact: &[u8]) {
        let path = self.path(digest);
        if let Err(error) = self.write(&path, artefact).and_then(|()| self.prune()) {
            tracing::warn!(path = %path.display(), %error, "an artefact cannot be kept: it will be compiled again");
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.dir.join(format!("{hex}-{:016x}.{SUFFIX}", self.compatibility))
    }

    fn write(&self, path: &Path, artefact: &[u8]) -> io::Result<()> {
        // Readers see the old file or the whole new one, never a part; two
        // writers of one artefact write the same bytes.
        let unfinished = self.dir.join(format!(".{}", uuid::Uuid::now_v7()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(artefact))?;
            file.write_all(artefact)?;
            std::fs::rename(&unfinished, path)
        };
        write().inspect_err(|_| {
            // What was written is of no use; if it cannot be removed either,
            // the first error tells more.
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

/// The machine code in a file; none when the file is not to be believed.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // SAFETY: the call takes nothing and cannot fail.
    let ours = metadata.uid() == unsafe { libc::geteuid() } && metadata.mode() & 0o022 == 0;
    let most = (MAGIC.len() + DIGEST_BYTES + MAX_ARTEFACT_BYTES) as u64;
    if !ours || !metadata.is_file() || metadata.len() > most {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return Ok(None) };
    let Some((digest, artefact)) = rest.split_at_checked(DIGEST_BYTES) else { return Ok(None) };
    Ok((Sha256::digest(artefact)[..] == *digest).then(|| artefact.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_what_was_touched_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts { dir: dir.path().to_owned(), compatibility: 7 };
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

    #[test]
    fn the_oldest_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts { dir: dir.path().to_owned(), compatibility: 7 };
        for n in 0..MAX_ARTEFACTS + 3 {
            artefacts.keep(&format!("sha256:{n:08x}"), b"code");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MAX_ARTEFACTS);
        assert!(artefacts.load(&format!("sha256:{:08x}", MAX_ARTEFACTS + 2)).is_some());
    }
}
