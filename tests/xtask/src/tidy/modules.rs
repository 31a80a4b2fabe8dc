//! Reads the modules of one crate, from its root file through every `mod`, and
//! resolves paths to files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::source::{self, Source};

/// Most re-exports that are followed for one name: more are a circle.
const MAX_HOPS: usize = 16;

/// The files of a crate that belong to the product, by their module.
#[derive(Debug, Default)]
pub struct Crate {
    /// The files by their paths in the repository.
    pub files: BTreeMap<String, Source>,
    modules: BTreeMap<Vec<String>, Scope>,
}

/// The names of one module.
#[derive(Debug, Default)]
struct Scope {
    file: String,
    children: BTreeSet<String>,
    items: BTreeSet<String>,
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

impl Crate {
    /// Reads the crate with this root file, without code that is compiled only for
    /// tests.
    pub fn read(root: &Path, file: &str) -> Result<Self> {
        let mut all = Self::default();
        all.load(root, Path::new(file), Vec::new(), true)?;
        Ok(all)
    }

    fn load(&mut self, root: &Path, file: &Path, module: Vec<String>, owns_folder: bool) -> Result<()> {
        let full = root.join(file);
        let text = std::fs::read_to_string(&full).with_context(|| format!("cannot read {}", full.display()))?;
        let source = source::read(&text);
        if source.test {
            return Ok(());
        }
        let name = file.to_string_lossy().into_owned();
        self.add(&name, &module, &source);
        let here = file.parent().unwrap_or(Path::new(""));
        let folder = if owns_folder { here.to_owned() } else { file.with_extension("") };
        for declared in source.modules.iter().filter(|declared| !declared.inline && !declared.test) {
            let mut child = module.clone();
            child.extend(declared.inside.iter().cloned());
            child.push(declared.name.clone());
            let within = declared.inside.iter().fold(folder.clone(), |path, part| path.join(part));
            let (path, owns) = match &declared.file {
                Some(named) => (here.join(named), true),
                None => find(root, &within, &declared.name),
            };
            self.load(root, &path, child, owns)?;
        }
        self.files.insert(name, source);
        Ok(())
    }

    fn add(&mut self, file: &str, module: &[String], source: &Source) {
        let at = |inside: &[String]| [module, inside].concat();
        self.scope(file, at(&[]));
        for declared in source.modules.iter().filter(|declared| !declared.test) {
            if declared.inline {
                self.scope(file, at(&[declared.inside.as_slice(), std::slice::from_ref(&declared.name)].concat()));
            }
            self.scope(file, at(&declared.inside)).children.insert(declared.name.clone());
        }
        for item in source.items.iter().filter(|item| !item.test) {
            self.scope(file, at(&item.inside)).items.insert(item.name.clone());
        }
        for import in source.imports.iter().filter(|import| !import.test) {
            let scope = self.scope(file, at(&import.inside));
            match import.name.as_str() {
                "*" => scope.globs.push(import.path.clone()),
                name => {
                    scope.imports.insert(name.to_owned(), import.path.clone());
                }
            }
        }
    }

    fn scope(&mut self, file: &str, module: Vec<String>) -> &mut Scope {
        let scope = self.modules.entry(module).or_default();
        if scope.file.is_empty() {
            file.clone_into(&mut scope.file);
        }
        scope
    }

    /// The file of a module.
    #[cfg(test)]
    fn file_of(&self, module: &[&str]) -> Option<&str> {
        let module: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
        self.modules.get(&module).map(|scope| scope.file.as_str())
    }

    /// The edges from each file to the files whose names it uses, each with one path as
    /// an example.
    ///
    /// An edge leads to the file that defines the name: re-exports are followed. So
    /// `mod child;` and `pub use child::Name;` are no edges, because a parent that lists
    /// its children does not depend on them. A parent that uses a child's item has an
    /// edge, and so has a child that uses `super::Name` of its parent.
    pub fn edges(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut edges: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let modules = self.modules_of_files();
        for (file, source) in &self.files {
            let Some(module) = modules.get(file.as_str()) else { continue };
            let to = edges.entry(file.clone()).or_default();
            let mut note = |inside: &[String], parts: &[String]| {
                let from = [module.as_slice(), inside].concat();
                if let Some(target) = self.resolve(&from, parts, 0)
                    && let Some(target) = target.file(self)
                    && target != file
                {
                    to.entry(target.to_owned()).or_insert_with(|| parts.join("::"));
                }
            };
            for import in source.imports.iter().filter(|import| !import.test && !import.public) {
                note(&import.inside, &import.path);
                if import.name == "*" {
                    let mut all = import.path.clone();
                    all.push("*".to_owned());
                    note(&import.inside, &all);
                }
            }
            for path in source.paths.iter().filter(|path| !path.test) {
                note(&path.inside, &path.parts);
            }
        }
        edges
    }

    fn modules_of_files(&self) -> BTreeMap<&str, &Vec<String>> {
        let mut found: BTreeMap<&str, &Vec<String>> = BTreeMap::new();
        for (module, scope) in &self.modules {
            let shortest = found.entry(scope.file.as_str()).or_insert(module);
            if module.len() < shortest.len() {
                *shortest = module;
            }
        }
        found
    }

    fn resolve(&self, from: &[String], parts: &[String], hops: usize) -> Option<Target> {
        if hops > MAX_HOPS {
            return None;
        }
        let mut module = from.to_vec();
        let mut parts = parts.iter().peekable();
        match parts.peek()?.as_str() {
            "crate" => {
                module.clear();
                parts.next();
            }
            "self" => {
                parts.next();
            }
            "super" => {
                while parts.peek().is_some_and(|part| part.as_str() == "super") {
                    module.pop()?;
                    parts.next();
                }
            }
            first => {
                // A plain first name belongs to this module, or to another crate.
                let scope = self.modules.get(&module)?;
                let known =
                    scope.children.contains(first) || scope.imports.contains_key(first) || scope.items.contains(first);
                if !known {
                    return None;
                }
            }
        }
        for part in parts {
            let scope = self.modules.get(&module)?;
            if scope.children.contains(part) {
                module.push(part.clone());
            } else if let Some(path) = scope.imports.get(part) {
                // An import of itself, such as `use serde;`, leads to another crate.
                if path.len() == 1 && path[0] == *part {
                    return None;
                }
                match self.resolve(&module, path, hops + 1)? {
                    Target::Module(found) => module = found,
                    item @ Target::Item(_) => return Some(item),
                }
            } else if scope.items.contains(part) {
                return Some(Target::Item(module));
            } else {
                return self.through_globs(scope, &module, part, hops).or(Some(Target::Item(module)));
            }
        }
        Some(Target::Module(module))
    }

    /// The target of a name that `pub use path::*` may have brought in.
    fn through_globs(&self, scope: &Scope, module: &[String], part: &str, hops: usize) -> Option<Target> {
        scope.globs.iter().find_map(|glob| {
            let Some(Target::Module(source)) = self.resolve(module, glob, hops + 1) else { return None };
            let inside = self.modules.get(&source)?;
            let known =
                inside.items.contains(part) || inside.imports.contains_key(part) || inside.children.contains(part);
            if known { self.resolve(&source, &["self".to_owned(), part.to_owned()], hops + 1) } else { None }
        })
    }
}

/// The target of a path.
enum Target {
    /// A module itself; the items used of it are in other paths.
    Module(Vec<String>),
    /// An item that this module defines.
    Item(Vec<String>),
}

impl Target {
    fn file(self, all: &Crate) -> Option<&str> {
        match self {
            Self::Module(_) => None,
            Self::Item(module) => all.modules.get(&module).map(|scope| scope.file.as_str()),
        }
    }
}

/// The file of a declared module, and whether its children lie beside it.
fn find(root: &Path, folder: &Path, name: &str) -> (PathBuf, bool) {
    let own = folder.join(name).join("mod.rs");
    if root.join(&own).is_file() { (own, true) } else { (folder.join(format!("{name}.rs")), false) }
}

/// The files that lie on a circle of edges, one list a circle.
pub fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = edges.keys().map(|from| (from, reachable(edges, from))).collect();
    let mut left: BTreeSet<&String> = edges.keys().collect();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        if !reach[first].contains(first) {
            continue;
        }
        let mut circle = vec![first.clone()];
        circle.extend(
            left.iter()
                .filter(|other| reach[first].contains(*other) && reach[*other].contains(first))
                .map(|other| (*other).clone()),
        );
        left.retain(|other| !circle.contains(other));
        found.push(circle);
    }
    found
}

/// Every file that can be reached from this one by at least one edge.
fn reachable<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&String> = edges.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(edges.get(next).into_iter().flatten());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of these files in a folder of its own.
    fn planted(name: &str, files: &[(&str, &str)]) -> Crate {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder");
            std::fs::write(path, text).expect("the file");
        }
        let read = Crate::read(&root, "src/lib.rs").expect("the planted crate is whole");
        std::fs::remove_dir_all(&root).expect("the folder was just made");
        read
    }

    fn pairs(all: &Crate) -> Vec<(String, String)> {
        let short = |file: &str| file.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
        let edges = all.edges();
        edges.iter().flat_map(|(from, to)| to.keys().map(move |to| (short(from), short(to)))).collect()
    }

    fn expect(all: &Crate, wanted: &[(&str, &str)]) {
        let wanted: Vec<_> = wanted.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        assert_eq!(pairs(all), wanted);
    }

    #[test]
    fn imports_lead_to_the_file_that_defines_the_name() {
        let all = planted(
            "defines",
            &[
                ("src/lib.rs", "pub mod a;\nmod b;\npub mod out;"),
                ("src/a/mod.rs", "mod deep;\npub use deep::Thing;\npub use self::other::*;\nmod other;"),
                ("src/a/deep.rs", "pub struct Thing;"),
                ("src/a/other.rs", "pub struct Else;"),
                ("src/b.rs", "use crate::a::{Else, Thing};\nuse std::fmt;"),
                ("src/out.rs", "use crate::a;\nfn f(_: a::Thing) {}"),
            ],
        );
        expect(&all, &[("b", "a/deep"), ("b", "a/other"), ("out", "a/deep")]);
        assert_eq!(all.file_of(&["a", "deep"]), Some("src/a/deep.rs"));
    }

    #[test]
    fn a_parent_and_its_child_make_a_circle_only_when_each_uses_the_other() {
        let lists = [
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod b;\npub use b::B;\npub struct A;"),
            ("src/a/b.rs", "use super::A;\npub struct B(A);"),
        ];
        expect(&planted("lists", &lists), &[("a/b", "a")]);
        let uses = [
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod b;\nuse b::B;\npub struct A(B);"),
            ("src/a/b.rs", "pub struct B(Option<super::A>);"),
        ];
        expect(&planted("uses", &uses), &[("a", "a/b"), ("a/b", "a")]);
    }

    #[test]
    fn tests_make_no_edges() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;"),
            ("src/a.rs", "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse crate::b::B;\npub struct A;"),
            ("src/a/tests.rs", "use crate::b::B;"),
            ("src/b.rs", "use crate::a::A;\npub struct B(A);"),
        ];
        expect(&planted("tests", &files), &[("b", "a")]);
    }

    #[test]
    fn circles_are_found_with_all_their_files_and_nothing_else() {
        let edges =
            [("a", &["b"][..]), ("b", &["c"]), ("c", &["a", "d"]), ("d", &["e"]), ("e", &[]), ("f", &["a", "f"])];
        let edges = edges.map(|(from, to)| (from.to_owned(), to.iter().map(|to| (*to).to_owned()).collect()));
        let found = circles(&BTreeMap::from(edges));
        assert_eq!(found, [vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], vec!["f".to_owned()]]);
    }
}
