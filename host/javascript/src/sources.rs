//! The modules of a handler: its own, those it imports, the packages of npm
//! that lie beside it, and the SDK, which the host brings along. Each keeps its
//! name, so that an error names the file and line that its author knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use crate::commonjs::{self, Target};
use crate::resolve::{Asks, Found, find};
use crate::strip::{CommonJs, Dialect, Namespace, strip};
use crate::uses::Uses;
use crate::world::World;

/// The SDK's modules, under the names that the runtime knows them by.
const SDK: [(&str, &str); 11] = [
    ("courier:sdk/index.js", include_str!("../../../guest-sdk/js/src/index.js")),
    ("courier:sdk/component.js", include_str!("../../../guest-sdk/js/src/component.js")),
    ("courier:sdk/failure.js", include_str!("../../../guest-sdk/js/src/failure.js")),
    ("courier:sdk/context.js", include_str!("../../../guest-sdk/js/src/context.js")),
    ("courier:sdk/json.js", include_str!("../../../guest-sdk/js/src/json.js")),
    ("courier:sdk/loop.js", include_str!("../../../guest-sdk/js/src/loop.js")),
    ("courier:sdk/clone.js", include_str!("../../../guest-sdk/js/src/clone.js")),
    ("courier:sdk/text.js", include_str!("../../../guest-sdk/js/src/text.js")),
    ("courier:sdk/url.js", include_str!("../../../guest-sdk/js/src/url.js")),
    ("courier:sdk/web.js", include_str!("../../../guest-sdk/js/src/web.js")),
    ("courier:sdk/fetch.js", include_str!("../../../guest-sdk/js/src/fetch.js")),
];
const SDK_PREFIX: &str = "courier:sdk/";
/// The module that joins the SDK to the imports that the component has.
const HOST_MODULE: &str = "courier:sdk/host.js";
/// How the entry imports the handler.
const USER_MODULE: &str = "courier:handler";

const ENTRY_TEXT: &str = "import { component } from \"courier:sdk/component.js\";
import * as module from \"courier:handler\";
const handle = component(module);
";

/// Modules that one handler may have. A mistaken import of a whole tree is told
/// before it fills the memory of the component.
const MAX_MODULES: usize = 2_000;
const MAX_SOURCE_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Clone)]
struct Module {
    text: String,
    /// What it imports: the specifier and the module's name.
    imports: BTreeMap<String, String>,
    shape: Shape,
    /// The names that it imports, each with the specifier.
    names: Vec<(String, String)>,
    namespaces: Vec<Namespace>,
}

#[derive(Clone)]
enum Shape {
    Module,
    Json,
    CommonJs(CommonJs),
}

impl Module {
    /// A module that imports nothing which has to be looked for.
    fn alone(text: String, shape: Shape) -> Self {
        Self { text, imports: BTreeMap::new(), shape, names: Vec::new(), namespaces: Vec::new() }
    }
}

/// All modules of a handler, by name.
#[derive(Clone)]
pub(super) struct Sources {
    modules: BTreeMap<String, Module>,
    user: String,
}

impl Sources {
    /// The name of the module that exports `handle`.
    pub(super) const ENTRY: &str = "courier:sdk/entry.js";

    /// Reads the handler at `path` and all that it imports.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
        let root = path.parent().ok_or_else(|| anyhow!("{} lies in no directory", path.display()))?;
        let user = name_of(root, &path);
        let mut modules = BTreeMap::new();
        let mut queue = VecDeque::from([(user.clone(), path.clone())]);
        while let Some((name, path)) = queue.pop_front() {
            if modules.contains_key(&name) {
                continue;
            }
            if modules.len() >= MAX_MODULES {
                bail!("the handler imports more than {MAX_MODULES} modules");
            }
            let module = read_module(root, &name, &path, &mut queue)?;
            modules.insert(name, module);
        }
        wrap_commonjs(&mut modules);
        let facade = facade_name(&user);
        let user = if modules.contains_key(&facade) { facade } else { user };
        Ok(Self { modules, user })
    }

    /// The texts of the handler's own modules and packages.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> + Clone {
        self.modules.iter().filter(|(name, _)| !name.starts_with(SDK_PREFIX)).map(|(_, module)| module.text.as_str())
    }

    /// Adds the SDK, joined to the interfaces that the component imports.
    pub(super) fn with_sdk(mut self, uses: &Uses, world: World) -> Self {
        for (name, text) in SDK {
            self.modules.insert(name.to_owned(), Module::alone(text.to_owned(), Shape::Module));
        }
        let host = Module::alone(host_module(uses, world), Shape::Module);
        self.modules.insert(HOST_MODULE.to_owned(), host);
        self
    }

    /// The text of the entry, which exports what `world` demands.
    pub(super) fn entry(world: World) -> String {
        format!("{ENTRY_TEXT}export {{ handle as {} }};\n", world.function())
    }

    /// The name of the module that `referrer` means by `specifier`.
    pub(super) fn resolve<'a>(&'a self, referrer: &str, specifier: &'a str) -> Result<&'a str, String> {
        if specifier == USER_MODULE && referrer == Self::ENTRY {
            return Ok(&self.user);
        }
        if let Some(name) = self.modules.get(referrer).and_then(|module| module.imports.get(specifier)) {
            return Ok(name);
        }
        let beside = specifier.strip_prefix("./").filter(|_| referrer.starts_with(SDK_PREFIX));
        let name = beside.map_or_else(|| specifier.to_owned(), |file| format!("{SDK_PREFIX}{file}"));
        match self.modules.get_key_value(&name) {
            Some((name, _)) => Ok(name),
            None => Err(format!("{referrer} imports {specifier:?}, which is not there")),
        }
    }

    pub(super) fn load(&self, name: &str) -> Result<&str, String> {
        self.modules.get(name).map(|module| module.text.as_str()).ok_or_else(|| format!("there is no module {name}"))
    }
}

/// Reads one module and queues what it imports.
fn read_module(
    root: &Path,
    name: &str,
    path: &Path,
    queue: &mut VecDeque<(String, PathBuf)>,
) -> anyhow::Result<Module> {
    let length = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    if length > MAX_SOURCE_BYTES {
        bail!("{name} has {length} bytes, the limit is {MAX_SOURCE_BYTES}");
    }
    let source = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let dialect = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ts" | "mts") => Dialect::TypeScript,
        Some("js" | "mjs" | "cjs") => Dialect::JavaScript,
        Some("json") => {
            serde_json::from_str::<serde::de::IgnoredAny>(&source).with_context(|| format!("{name} is not JSON"))?;
            return Ok(Module::alone(format!("export default {source};"), Shape::Json));
        }
        _ => bail!("{name} is neither JavaScript nor TypeScript: a module ends in .ts, .mts, .js, .mjs, .cjs or .json"),
    };
    let module =
        strip(&source, dialect).map_err(|wrong| anyhow!("{name}:{}: {}", place(&source, wrong.offset), wrong.why))?;
    let mut imports = BTreeMap::new();
    let mut want = |specifier: &str, offset: u32, asks: Asks| -> anyhow::Result<()> {
        let found = find(path, specifier, asks).map_err(|why| anyhow!("{name}:{}: {why}", place(&source, offset)))?;
        let target = match found {
            Found::Sdk => SDK[0].0.to_owned(),
            Found::File(file) => {
                let target = name_of(root, &file);
                queue.push_back((target.clone(), file));
                target
            }
        };
        imports.insert(specifier.to_owned(), target);
        Ok(())
    };
    let shape = match module.commonjs {
        None => {
            module.imports.iter().try_for_each(|(specifier, offset)| want(specifier, *offset, Asks::Import))?;
            Shape::Module
        }
        Some(found) => {
            for require in &found.requires {
                match want(&require.name, require.offset, Asks::Require) {
                    // It is left out, and the module catches what comes of that.
                    Err(_) if require.may_fail => {}
                    result => result?,
                }
            }
            Shape::CommonJs(found)
        }
    };
    // Where a module is imported in other ways too, it has to be one of names.
    let is_alone =
        |one: &Namespace| module.imports.iter().filter(|(specifier, _)| *specifier == one.specifier).count() == 1;
    let namespaces = module.namespaces.into_iter().filter(is_alone).collect();
    Ok(Module { text: module.text, imports, shape, names: module.names, namespaces })
}

/// The name of the module through which ES modules import a CommonJS module.
fn facade_name(name: &str) -> String {
    format!("courier:commonjs/{name}")
}

/// The name of the module through which `import * as` takes a CommonJS module.
fn whole_name(name: &str) -> String {
    format!("courier:commonjs-whole/{name}")
}

/// Makes ES modules of the CommonJS modules, once it is known which are which
/// and what is imported from them, and leads imports to their facades.
fn wrap_commonjs(modules: &mut BTreeMap<String, Module>) {
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in modules.values() {
        for (specifier, name) in &module.names {
            if let Some(target) = module.imports.get(specifier) {
                asked.entry(target.clone()).or_default().insert(name.clone());
            }
        }
    }
    let mut wrapped = Vec::new();
    for (name, module) in &*modules {
        let Shape::CommonJs(found) = &module.shape else { continue };
        let targets = module.imports.iter().map(|(specifier, target)| {
            let target = match modules.get(target).map(|module| &module.shape) {
                Some(Shape::Json) => Target::Json,
                Some(Shape::CommonJs(_)) => Target::CommonJs,
                Some(Shape::Module) | None => Target::Module,
            };
            (specifier.as_str(), target)
        });
        let mut exports = found.exports.clone();
        exports.extend(asked.remove(name).unwrap_or_default());
        wrapped.push((name.clone(), commonjs::wrap(&module.text, targets), commonjs::facade(name, &exports)));
    }
    let mut wholes = BTreeSet::new();
    for module in modules.values_mut().filter(|module| matches!(module.shape, Shape::Module)) {
        for (specifier, target) in &mut module.imports {
            if !wrapped.iter().any(|(name, ..)| name == target) {
                continue;
            }
            let whole = module.namespaces.iter().find(|namespace| namespace.specifier == *specifier);
            let whole = whole.filter(|one| module.text.contains(&format!("import {}", one.text)));
            match whole {
                // The names of an ES module are fixed; those of this one are
                // known once it has run, so the whole of it is a default.
                Some(Namespace { name, text, .. }) => {
                    let padded = format!("import {name:>0$}", text.chars().count());
                    module.text = module.text.replacen(&format!("import {text}"), &padded, 1);
                    wholes.insert(target.clone());
                    *target = whole_name(target);
                }
                None => *target = facade_name(target),
            }
        }
    }
    for name in wholes {
        let mut whole = Module::alone(commonjs::whole(&name), Shape::Module);
        whole.imports.insert(name.clone(), name.clone());
        modules.insert(whole_name(&name), whole);
    }
    for (name, text, facade) in wrapped {
        let mut facade = Module::alone(facade, Shape::Module);
        facade.imports.insert(name.clone(), name.clone());
        modules.insert(facade_name(&name), facade);
        if let Some(module) = modules.get_mut(&name) {
            module.text = text;
        }
    }
}

/// A module's name: its path from the handler's directory.
fn name_of(root: &Path, file: &Path) -> String {
    let shared = root.components().zip(file.components()).take_while(|(left, right)| left == right).count();
    let up = root.components().skip(shared).map(|_| "..".to_owned());
    let down = file.components().skip(shared).map(|part| match part {
        Component::Normal(part) => part.to_string_lossy().into_owned(),
        other => other.as_os_str().to_string_lossy().into_owned(),
    });
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Line and column of a byte, both counted from 1.
fn place(source: &str, offset: u32) -> String {
    let before = source.get(..offset as usize).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{line}:{column}")
}

/// The module through which the SDK reaches what the component imports.
fn host_module(uses: &Uses, world: World) -> String {
    let jobs = ["courier:javascript/jobs"];
    let interfaces: Vec<&str> = uses.interfaces(world).chain(jobs).collect();
    let mut text = String::new();
    for (index, interface) in interfaces.iter().enumerate() {
        text.push_str(&format!("import i{index} from \"{interface}\";\n"));
    }
    text.push_str("export const host = {\n");
    for (index, interface) in interfaces.iter().enumerate() {
        let name = interface.split('@').next().unwrap_or(interface);
        text.push_str(&format!("  \"{name}\": i{index},\n"));
    }
    text.push_str("};\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[track_caller]
    fn refusal(files: &[(&str, &str)]) -> String {
        let dir = project(files);
        match Sources::read(&dir.path().join("handler.ts")) {
            Ok(_) => panic!("it should be refused"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_handler_brings_its_modules_and_packages() {
        let dir = project(&[
            (
                "handler.ts",
                "import { handler } from 'courier-sdk';\nimport { a } from './lib/a.js';\nimport b from 'b';\nimport c from '@x/c/deep';\nimport d from './d.json';\nexport default handler({}, () => a + b + c + d);",
            ),
            ("lib/a.ts", "export const a: number = 1;"),
            ("d.json", "{\"d\": 1}"),
            (
                "node_modules/b/package.json",
                "{\"exports\": {\".\": {\"types\": \"./b.d.ts\", \"import\": \"./b.mjs\", \"require\": \"./b.cjs\"}}}",
            ),
            ("node_modules/b/b.mjs", "export default 2;"),
            ("node_modules/@x/c/package.json", "{}"),
            ("node_modules/@x/c/deep.js", "export default 3;"),
        ]);
        let sources = Sources::read(&dir.path().join("handler.ts")).unwrap();
        assert_eq!(
            sources.modules.keys().collect::<Vec<_>>(),
            ["d.json", "handler.ts", "lib/a.ts", "node_modules/@x/c/deep.js", "node_modules/b/b.mjs"]
        );
        let sources = sources.with_sdk(&Uses::default(), World::Handler);
        assert_eq!(sources.resolve(Sources::ENTRY, USER_MODULE).unwrap(), "handler.ts");
        assert_eq!(sources.resolve("handler.ts", "./lib/a.js").unwrap(), "lib/a.ts");
        assert_eq!(sources.resolve("handler.ts", "courier-sdk").unwrap(), "courier:sdk/index.js");
        assert_eq!(sources.resolve("courier:sdk/index.js", "./json.js").unwrap(), "courier:sdk/json.js");
        assert!(sources.resolve("handler.ts", "./json.js").is_err());
        assert_eq!(sources.load("lib/a.ts").unwrap(), "export const a         = 1;");
    }

    #[test]
    fn packages_in_commonjs_are_taken_with_what_they_require() {
        let dir = project(&[
            (
                "handler.js",
                "import a, { one } from 'a';\nimport events from 'events';\nexport default [a, one, events];",
            ),
            (
                "node_modules/a/index.js",
                "const b = require('./b');\ntry { require('fs') } catch {}\nexports.two = b.two;",
            ),
            ("node_modules/a/b.js", "exports.a = () => require('./index.js');\nexports.two = require('c').two;"),
            ("node_modules/c/package.json", "{\"exports\": {\"import\": \"./c.mjs\", \"require\": \"./c.cjs\"}}"),
            ("node_modules/c/c.cjs", "module.exports = { two: 2 };"),
            ("node_modules/events/index.js", "module.exports = class {};"),
        ]);
        let sources = Sources::read(&dir.path().join("handler.js")).unwrap();
        let text = |name: &str| sources.load(name).unwrap();
        let a = text("node_modules/a/index.js");
        assert!(!a.contains("case \"fs\""), "{a}");
        let a = text("courier:commonjs/node_modules/a/index.js");
        for export in ["as one", "as two", "export default"] {
            assert!(a.contains(export), "{export} is missing: {a}");
        }
        assert!(!text("node_modules/c/c.cjs").contains("as two"), "it is required, not imported");
        assert!(text("courier:commonjs/node_modules/c/c.cjs").contains("as two"));
        assert_eq!(sources.modules.len(), 5 + 4);
        let refused = [
            ("handler.ts", "import a from 'a';\na()"),
            ("node_modules/a/index.js", "\nconst fs = require('fs');\nmodule.exports = fs;"),
        ];
        let refusal = refusal(&refused);
        assert!(refusal.contains("node_modules/a/index.js:2:12: it imports \"fs\" of Node"), "{refusal}");
    }

    #[test]
    fn a_file_that_an_installed_package_does_not_have_is_not_to_be_installed() {
        let told = refusal(&[
            ("handler.ts", "import a from 'a/lib';\na()"),
            ("node_modules/a/package.json", r#"{ "exports": { ".": "./index.js" } }"#),
            ("node_modules/a/index.js", "export default () => {};"),
        ]);
        assert!(told.contains("the package a that is installed has or exports no \"lib\""), "{told}");
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_file_line_and_column() {
        for (text, expected) in [
            (
                "\n  import fs from 'node:fs';\nfs.x()",
                "handler.ts:2:3: it imports \"node:fs\" of Node, which a handler has not",
            ),
            ("import { join } from 'path';\njoin()", "handler.ts:1:1: it imports \"path\" of Node"),
            ("import a from './a.js';\na()", "handler.ts:1:1: it imports \"./a.js\", which is not there"),
            ("import a from 'left-pad';\na()", "install it beside the handler"),
            ("import a from '@/lib/a';\na()", "a path of tsconfig.json may name: those are not followed"),
            ("import a from '#a';\na()", "the `imports` of no package.json above it name"),
            ("import { t } from 'courier-sdk/testing';\nt()", "is for tests"),
            ("namespace A { export const b = 1 }", "handler.ts:1:1: a namespace becomes code"),
            ("const = 1;", "handler.ts:1:7: "),
        ] {
            let refusal = refusal(&[("handler.ts", text)]);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
