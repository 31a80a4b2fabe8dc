//! `cargo xtask tidy`: checks rules that keep the tree readable.
//!
//! Four rules:
//!
//! - no circle of files of the host in which each uses names that the next defines
//!   ([`modules`] says what counts as an edge);
//! - no type name that is defined twice in one crate, but for [`CUSTOMARY`] ones;
//! - no file of more than [`MAX_FILE_LINES`] lines;
//! - no function of more than [`MAX_FUNCTION_LINES`] lines in the product.
//!
//! Code that is compiled only for tests is checked for the length of files alone.

mod modules;
mod source;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use modules::Crate;

use crate::tree;

/// Most lines of a file. A longer file has two subjects.
const MAX_FILE_LINES: usize = 500;
/// Most lines of a function. A longer function does two things.
const MAX_FUNCTION_LINES: usize = 80;
/// The root files of the product's crates.
const CRATES: [&str; 2] = ["host/src/lib.rs", "host/core/src/lib.rs"];
/// The folders whose files are checked for their length, including tests.
const FOLDERS: [&str; 6] = ["host/src", "host/core/src", "tests", "guest-sdk/rust", "guest-sdk/client/rust", "plugins"];
/// Type names that repeat by custom, with the reason. One that no longer repeats is
/// itself an error.
const CUSTOMARY: &[(&str, &str)] = &[
    ("Args", "one a command of the CLI"),
    ("Command", "one a command of the CLI that has commands of its own"),
    ("HeaderIn", "one a version of the contract: the macro that both versions use names it"),
    ("MessageIn", "one a version of the contract: the macro that both versions use names it"),
];
/// Folders of build results.
const SKIPPED: [&str; 3] = ["target", "node_modules", "dist"];

/// Checks the tree and prints the violations. Returns whether there are none.
pub fn run(root: &Path) -> Result<bool> {
    let mut problems = Vec::new();
    let mut crates = Vec::new();
    for file in CRATES {
        crates.push(Crate::read(root, file)?);
    }
    let mut edges = BTreeMap::new();
    let mut functions = BTreeMap::new();
    for one in &crates {
        edges.append(&mut one.edges());
        functions.append(&mut lengths_of_functions(one));
    }
    check_circles(&edges, &mut problems);
    let types: Vec<_> = crates.iter().map(types).collect();
    check_types(&types, CUSTOMARY, &mut problems);
    check_lengths("file", MAX_FILE_LINES, &lengths_of_files(root)?, &mut problems);
    check_lengths("function", MAX_FUNCTION_LINES, &functions, &mut problems);
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => println!("tidy: nothing found"),
        count => println!("tidy: {count} found"),
    }
    Ok(problems.is_empty())
}

type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// Reports each circle.
fn check_circles(edges: &Edges, problems: &mut Vec<String>) {
    let files: BTreeMap<String, BTreeSet<String>> =
        edges.iter().map(|(from, to)| (from.clone(), to.keys().cloned().collect())).collect();
    for circle in modules::circles(&files) {
        let mut lines = vec![format!("circle of {} files that name one another:", circle.len())];
        for from in &circle {
            for (to, why) in edges[from].iter().filter(|(to, _)| circle.contains(to)) {
                lines.push(format!("    {from} -> {to}  ({why})"));
            }
        }
        problems.push(lines.join("\n"));
    }
}

/// Where each type of a crate is defined.
type Types = BTreeMap<String, Vec<String>>;

fn types(one: &Crate) -> Types {
    let mut found = Types::new();
    for (file, source) in &one.files {
        for item in source.items.iter().filter(|item| item.is_type && !item.test) {
            found.entry(item.name.clone()).or_default().push(format!("{file}:{}", item.line));
        }
    }
    found
}

/// Reports each type name that is defined twice in one crate and is not customary.
fn check_types(crates: &[Types], customary: &[(&str, &str)], problems: &mut Vec<String>) {
    let mut repeated = BTreeSet::new();
    for types in crates {
        for (name, places) in types.iter().filter(|(_, places)| places.len() > 1) {
            repeated.insert(name.as_str());
            if customary.iter().all(|(custom, _)| custom != name) {
                problems.push(format!("type {name} is defined {} times: {}", places.len(), places.join(", ")));
            }
        }
    }
    for (name, _) in customary.iter().filter(|(name, _)| !repeated.contains(name)) {
        problems.push(format!("customary type {name} is defined once"));
    }
}

/// Reports files or functions that are too long.
fn check_lengths(what: &str, limit: usize, lengths: &BTreeMap<String, usize>, problems: &mut Vec<String>) {
    for (name, lines) in lengths.iter().filter(|(_, lines)| **lines > limit) {
        problems.push(format!("{what} {name} has {lines} lines, {limit} are allowed"));
    }
}

/// The lines of every function of a crate, as `file::name`; of several functions of
/// one name the longest counts.
fn lengths_of_functions(one: &Crate) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (file, source) in &one.files {
        for function in source.functions.iter().filter(|function| !function.test) {
            let longest: &mut usize = found.entry(format!("{file}::{}", function.name)).or_default();
            *longest = function.lines.max(*longest);
        }
    }
    found
}

fn lengths_of_files(root: &Path) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for folder in FOLDERS {
        for path in tree::files(&root.join(folder), &SKIPPED)? {
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let short = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.insert(short, text.lines().count());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(&str, &str)]) -> Edges {
        let mut edges = Edges::new();
        for (from, to) in pairs {
            edges.entry((*to).to_owned()).or_default();
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned(), format!("{to}::Name"));
        }
        edges
    }

    fn circles(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut problems = Vec::new();
        check_circles(&edges(pairs), &mut problems);
        problems
    }

    #[test]
    fn a_circle_is_reported_with_what_makes_it() {
        let found = circles(&[("a", "b"), ("b", "a"), ("c", "a")]);
        assert_eq!(found, ["circle of 2 files that name one another:\n    a -> b  (b::Name)\n    b -> a  (a::Name)"]);
        assert!(circles(&[("a", "b"), ("b", "c")]).is_empty());
    }

    fn defined(names: &[(&str, usize)]) -> Types {
        names.iter().map(|(name, count)| ((*name).to_owned(), vec!["f.rs:1".to_owned(); *count])).collect()
    }

    fn doubled(crates: &[Types], customary: &[(&str, &str)]) -> Vec<String> {
        let mut problems = Vec::new();
        check_types(crates, customary, &mut problems);
        problems
    }

    #[test]
    fn a_type_name_is_defined_once_in_a_crate_unless_it_is_customary() {
        let twice = || [defined(&[("A", 2)])];
        assert_eq!(doubled(&twice(), &[]), ["type A is defined 2 times: f.rs:1, f.rs:1"]);
        assert!(doubled(&[defined(&[("A", 1)]), defined(&[("A", 1)])], &[]).is_empty(), "two crates may agree");
        assert!(doubled(&twice(), &[("A", "one a command")]).is_empty());
        assert_eq!(doubled(&[], &[("A", "one a command")]), ["customary type A is defined once"]);
    }

    #[test]
    fn what_is_too_long_is_reported() {
        let long = |lines| {
            let mut problems = Vec::new();
            check_lengths("file", 500, &BTreeMap::from([("f.rs".to_owned(), lines)]), &mut problems);
            problems
        };
        assert!(long(500).is_empty());
        assert_eq!(long(501), ["file f.rs has 501 lines, 500 are allowed"]);
    }
}
