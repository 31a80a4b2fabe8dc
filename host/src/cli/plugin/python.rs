//! Handlers in Python: the SDK, which is part of this program, and the files that
//! `courier plugin new --lang python` writes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::write::write_file;
use crate::cli::python;

/// The virtual environment of a handler, in its folder.
const VENV: &str = ".venv";

/// The folder of the SDK in a virtual environment.
const SDK: &str = "courier-sdk";

macro_rules! sdk_files {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../../../../guest-sdk/python/courier_sdk/", $file)))),*]
    };
}

/// The SDK. It is part of this program, so that a handler is built for the contract
/// of this version.
const SDK_FILES: [(&str, &str); 17] = sdk_files![
    "__init__.py",
    "build.py",
    "context.py",
    "failures.py",
    "handler.py",
    "http.py",
    "message.py",
    "py.typed",
    "run.py",
    "shapes.py",
    "testing.py",
    "wire.py",
    "wire_http.py",
    "wit/deps/clocks.wit",
    "wit/deps/courier.wit",
    "wit/deps/http.wit",
    "wit/deps/io.wit",
];

/// The files of a new handler.
pub(super) const FILES: [(&str, &str); 5] = [
    ("handler.py", include_str!("template/python/handler.py.txt")),
    ("test_handler.py", include_str!("template/python/test_handler.py.txt")),
    ("courier.toml", include_str!("template/python/courier.toml.txt")),
    ("README.md", include_str!("template/python/README.md.txt")),
    (".gitignore", "/.venv/\n__pycache__/\n.pytest_cache/\n/*.wasm\n"),
];

/// Builds the handler in `file` into a component beside it, called after its
/// folder.
pub(super) fn build(file: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    let folder = file.parent().with_context(|| format!("{} stands in no folder", file.display()))?;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("handler");
    let (venv, output) = (folder.join(VENV), folder.join(format!("{name}.wasm")));
    // The environment comes first: it is made in an empty folder.
    python::prepare(&venv, folder, say)?;
    let sdk = venv.join(SDK);
    write_sdk(&sdk)?;
    python::build_component(&file, &venv, &sdk, &output, say)?;
    Ok(output)
}

/// Writes the SDK into a folder. Files that are the same already are left alone.
fn write_sdk(sdk: &Path) -> anyhow::Result<()> {
    for (name, text) in SDK_FILES {
        write_file(&sdk.join("courier_sdk").join(name), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was forgotten here would be missing only on the machines of
    /// users, which have no checkout.
    #[test]
    fn the_whole_sdk_is_part_of_the_program() {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && path.file_name().unwrap() != "__pycache__" {
                    walk(&path, found);
                } else if path.is_file() {
                    found.push(path);
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk/python/courier_sdk");
        let mut found = Vec::new();
        walk(&root, &mut found);
        let mut found: Vec<String> =
            found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
        found.sort();
        let mut known: Vec<&str> = SDK_FILES.iter().map(|(name, _)| *name).collect();
        known.sort_unstable();
        assert_eq!(found, known);
    }

    #[test]
    fn the_sdk_is_written_once() {
        let temp = tempfile::tempdir().unwrap();
        write_sdk(temp.path()).unwrap();
        let file = temp.path().join("courier_sdk/__init__.py");
        let first = file.metadata().unwrap().modified().unwrap();
        write_sdk(temp.path()).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), first);
        assert!(temp.path().join("courier_sdk/wit/deps/courier.wit").is_file());
    }

    #[test]
    fn a_folder_with_a_handler_and_a_file_are_taken() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(python::handler_file(temp.path()), None);
        let file = temp.path().join(python::HANDLER);
        std::fs::write(&file, "").unwrap();
        assert_eq!(python::handler_file(temp.path()).as_deref(), Some(file.as_path()));
        assert_eq!(python::handler_file(&file).as_deref(), Some(file.as_path()));
        assert_eq!(python::handler_file(&temp.path().join("other.py")), None);
        std::fs::write(temp.path().join("x.wasm"), "").unwrap();
        assert_eq!(python::handler_file(&temp.path().join("x.wasm")), None);
    }
}
