//! Handlers in TypeScript and JavaScript: the SDK, which is part of this program,
//! and the files that `courier plugin new --lang ts` writes. The crate
//! courier-javascript builds them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use courier_javascript::ENDINGS;

use super::write::write_file;

/// The stem of the handler's file in a folder.
const HANDLER: &str = "handler";

macro_rules! sdk_files {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../../../../guest-sdk/js/", $file)))),*]
    };
}

/// The files of the SDK that tests and editors need.
const SDK_FILES: [(&str, &str); 17] = sdk_files![
    "package.json",
    "src/clone.js",
    "src/component.js",
    "src/context.js",
    "src/failure.js",
    "src/fetch.js",
    "src/index.d.ts",
    "src/index.js",
    "src/json.js",
    "src/loop.js",
    "src/register.mjs",
    "src/strip.mjs",
    "src/testing.d.ts",
    "src/testing.js",
    "src/text.js",
    "src/url.js",
    "src/web.js",
];

/// The files of a new handler in TypeScript.
pub(super) const TYPESCRIPT_FILES: [(&str, &str); 7] = [
    ("handler.ts", include_str!("template/typescript/handler.ts.txt")),
    ("handler.test.ts", include_str!("template/typescript/handler.test.ts.txt")),
    ("package.json", include_str!("template/typescript/package.json.txt")),
    ("tsconfig.json", include_str!("template/typescript/tsconfig.json.txt")),
    ("courier.toml", include_str!("template/typescript/courier.toml.txt")),
    ("README.md", include_str!("template/typescript/README.md.txt")),
    (".gitignore", IGNORED),
];

/// The files of a new handler in JavaScript.
pub(super) const JAVASCRIPT_FILES: [(&str, &str); 6] = [
    ("handler.js", include_str!("template/javascript/handler.js.txt")),
    ("handler.test.js", include_str!("template/javascript/handler.test.js.txt")),
    ("package.json", include_str!("template/javascript/package.json.txt")),
    ("courier.toml", include_str!("template/typescript/courier.toml.txt")),
    ("README.md", include_str!("template/javascript/README.md.txt")),
    (".gitignore", IGNORED),
];

const IGNORED: &str = "node_modules/\n/*.wasm\n";

/// The folder of the SDK in a new handler, for tests and editors.
const NEW_SDK: &str = ".courier/courier-sdk";

/// The file of the handler at a path: the file itself, or `handler.*` in a folder.
pub(super) fn handler_file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return ENDINGS.map(|ending| path.join(format!("{HANDLER}.{ending}"))).into_iter().find(|file| file.is_file());
    }
    let is_script = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
    (is_script && path.is_file()).then(|| path.to_owned())
}

/// Builds the handler in `file` into a component beside it.
pub(super) fn build(file: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    let name = plugin_name(&file)?;
    let output = file.with_file_name(format!("{name}.wasm"));
    say(&format!("building {}", file.display()));
    let component = courier_javascript::build(&file, &name)?;
    std::fs::write(&output, component).with_context(|| format!("cannot write {}", output.display()))?;
    Ok(output)
}

/// Puts the SDK into the folder of a new handler.
pub(super) fn write_sdk(dir: &Path) -> anyhow::Result<()> {
    SDK_FILES.iter().try_for_each(|(name, text)| write_file(&dir.join(NEW_SDK).join(name), text))
}

/// The plugin's name: that of the file, or of the folder when the file is called
/// `handler` or `index`.
fn plugin_name(file: &Path) -> anyhow::Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != HANDLER && *stem != "index");
    let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let name = stem.or(folder).unwrap_or(HANDLER).to_ascii_lowercase();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    ensure!(!name.is_empty(), "{} gives the plugin no name: rename it", file.display());
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_called_after_its_file_or_folder() {
        for (file, expected) in [
            ("/shop/greeter.ts", "greeter"),
            ("/shop/Order_Handler.mjs", "order-handler"),
            ("/shop/greeter/handler.ts", "greeter"),
            ("/shop/index.js", "shop"),
            ("/handler.ts", "handler"),
        ] {
            assert_eq!(plugin_name(Path::new(file)).unwrap(), expected, "{file}");
        }
        assert!(plugin_name(Path::new("/--.ts")).is_err());
    }

    #[test]
    fn a_handler_is_a_file_or_lies_in_a_folder() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(handler_file(temp.path()), None);
        for name in ["handler.js", "notes.txt", "order.mts"] {
            std::fs::write(temp.path().join(name), "").unwrap();
        }
        assert_eq!(handler_file(temp.path()), Some(temp.path().join("handler.js")));
        assert_eq!(handler_file(&temp.path().join("order.mts")), Some(temp.path().join("order.mts")));
        assert_eq!(handler_file(&temp.path().join("notes.txt")), None);
        assert_eq!(handler_file(&temp.path().join("gone.ts")), None);
    }
}
