//! Writes the files of a handler and of its SDK.

use std::path::Path;

use anyhow::Context as _;

/// Writes a file and its folders. A file with this content is left alone, so that
/// build tools do not take it for changed.
pub(super) fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
