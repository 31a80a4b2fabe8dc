//! CommonJS modules as ES modules. Each becomes two: in the first ([`wrap`]) the
//! module's text is a function, which runs when it is required first; the
//! second ([`facade`]) is what an ES module imports, runs the first, and exports
//! by name; `import * as` takes a third ([`whole`]). If the first ran by itself, modules that require one another in a
//! circle would run in the order of their imports, and not of their `require`s.
//!
//! The text begins on the first line, so that the lines of errors stay right.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What a module that is required is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Module,
    CommonJs,
    Json,
}

/// An ES module that runs the CommonJS module `text` when it is required.
pub(super) fn wrap<'a>(text: &str, requires: impl Iterator<Item = (&'a str, Target)>) -> String {
    let (mut imports, mut cases) = (String::new(), String::new());
    for (index, (specifier, target)) in requires.enumerate() {
        let from = quoted(specifier);
        let (what, value) = match target {
            Target::CommonJs => (format!("{{ $courier_require as $courier_{index} }}"), format!("$courier_{index}()")),
            Target::Json => (format!("$courier_{index}"), format!("$courier_{index}")),
            Target::Module => (format!("* as $courier_{index}"), format!("$courier_{index}")),
        };
        let _ = write!(imports, "import {what} from {from}; ");
        let _ = write!(cases, "case {from}: return {value}; ");
    }
    // What begins with #! is a comment only at the beginning of a script.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let hash = if text.starts_with("#!") { "//" } else { "" };
    format!(
        "{imports}var $courier_module; export function $courier_require() {{ if ($courier_module === undefined) {{ \
         $courier_module = {{ exports: {{}} }}; $courier_body.call($courier_module.exports, $courier_module, \
         $courier_module.exports, $courier_find); }} return $courier_module.exports; }} function $courier_find(name) {{ \
         switch (name) {{ {cases}}} throw new Error(`there is no module ${{name}}`); }} \
         function $courier_body(module, exports, require) {{ {hash}{text}\n}}\n"
    )
}

/// The ES module through which others import the CommonJS module `name`.
pub(super) fn facade(name: &str, exports: &BTreeSet<String>) -> String {
    let from = quoted(name);
    let mut module = format!(
        "import {{ $courier_require }} from {from};\n\
         const $courier_all = $courier_require();\n\
         export default $courier_all != null && $courier_all.__esModule && \"default\" in $courier_all ? \
         $courier_all.default : $courier_all;\n"
    );
    let named = exports.iter().filter(|name| is_name(name));
    for (index, name) in named.enumerate() {
        let _ = writeln!(
            module,
            "const $courier_export{index} = $courier_all?.{name}; export {{ $courier_export{index} as {name} }};"
        );
    }
    module
}

/// The ES module whose default is all that the CommonJS module `name` exports,
/// by name, with what it exports as a whole as `default`.
pub(super) fn whole(name: &str) -> String {
    let from = quoted(name);
    format!(
        "import {{ $courier_require }} from {from};\n\
         const $courier_all = $courier_require();\n\
         const $courier_whole = Object.create(null);\n\
         for (const name in Object($courier_all)) $courier_whole[name] = $courier_all[name];\n\
         if (!($courier_all?.__esModule && \"default\" in $courier_all)) $courier_whole.default = $courier_all;\n\
         export default $courier_whole;\n"
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether it can be exported as it stands. The default is another matter.
fn is_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit()) && name != "default"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strip::{Dialect, strip};

    #[test]
    fn a_wrapped_module_keeps_its_lines_and_exports_by_name() {
        let requires = [("./b", Target::CommonJs), ("./c.json", Target::Json), ("d", Target::Module)];
        let exports = ["sum", "default", "odd-name"].map(ToOwned::to_owned).into();
        let text = wrap("const b = require('./b');\nexports.sum = b;", requires.into_iter());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("const b = require('./b');"), "{text}");
        assert_eq!(lines[1], "exports.sum = b;");
        let facade = facade("a.js", &exports);
        assert_eq!(facade.matches(" as sum ").count(), 1, "{facade}");
        assert!(!facade.contains("odd-name") && !facade.contains("as default"), "{facade}");
        assert!(strip(&facade, Dialect::JavaScript).is_ok(), "{facade}");
        let module = strip(&text, Dialect::JavaScript).unwrap_or_else(|wrong| panic!("{wrong:?}: {text}"));
        assert_eq!(module.imports.len(), 3);
        assert!(module.commonjs.is_none());
    }
}
