//! Lists the files of a folder, and says whether what was made of them is current.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All files below a folder, without those in folders of the names in `skipped`.
pub fn files(folder: &Path, skipped: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !path.is_dir() {
                found.push(path);
            } else if !skipped.contains(&name.as_ref()) {
                open.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether a file is there and newer than all of its sources.
pub fn is_newer(file: &Path, sources: &[PathBuf]) -> Result<bool> {
    let Ok(made) = std::fs::metadata(file).and_then(|metadata| metadata.modified()) else {
        return Ok(false);
    };
    for source in sources {
        let changed = std::fs::metadata(source).and_then(|metadata| metadata.modified());
        if changed.with_context(|| format!("cannot read {}", source.display()))? >= made {
            return Ok(false);
        }
    }
    Ok(true)
}
