//! `cargo xtask tidy`: checks rules that keep the tree readable.
//!
//! Four rules, each with its list of exceptions in [`exceptions`]:
//!
//! - no circle of files of the host in which each uses names that the next defines
//!   ([`modules`] says what counts as an edge);
//! - no type name that is defined twice in one crate;
//! - no file of more than [`MAX_FILE_LINES`] lines;
//! - no function of more than [`MAX_FUNCTION_LINES`] lines in the product.
//!
//! A list may only shrink: an exception that is no longer needed is itself an error.
//! Code that is compiled only for tests is checked for the length of files alone.

mod exceptions;
mod modules;
mod source;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use exceptions::Exceptions;
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
/// Folders of build results.
const SKIPPED: [&str; 3] = ["target", "node_modules", "dist"];

/// Checks the tree and prints the violations. Returns whether there are none.
pub fn run(root: &Path) -> Result<bool> {
    let mut problems = Vec::new();
    let mut crates = Vec::new();
    for file in CRATES {
        crates.push(Crate::read(root, file)?);
    }
    let exceptions = exceptions::present();
    let mut edges = BTreeMap::new();
    let mut functions = BTreeMap::new();
    for one in &crates {
        edges.append(&mut one.edges());
        functions.append(&mut lengths_of_functions(one));
    }
    check_circles(&edges, &exceptions, &mut problems);
    let types: Vec<_> = crates.iter().map(types).collect();
    check_types(&types, &exceptions, &mut problems);
    check_lengths("file", MAX_FILE_LINES, &lengths_of_files(root)?, exceptions.files, &mut problems);
    check_lengths("function", MAX_FUNCTION_LINES, &functions, exceptions.functions, &mut problems);
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

/// Reports each circle that is left without the excepted edges.
fn check_circles(edges: &Edges, exceptions: &Exceptions, problems: &mut Vec<String>) {
    let mut left: BTreeMap<String, BTreeSet<String>> =
        edges.iter().map(|(from, to)| (from.clone(), to.keys().cloned().collect())).collect();
    let mut excepted = Vec::new();
    for (from, to) in exceptions.edges {
        match left.get_mut(*from).map(|known| known.remove(*to)) {
            Some(true) => excepted.push(((*from).to_owned(), (*to).to_owned())),
            _ => problems.push(format!("stale exception: {from} no longer names anything of {to}")),
        }
    }
    for circle in modules::circles(&left) {
        let mut lines = vec![format!("circle of {} files that name one another:", circle.len())];
        for from in &circle {
            for (to, why) in edges[from].iter().filter(|(to, _)| left[from].contains(*to) && circle.contains(to)) {
                lines.push(format!("    {from} -> {to}  ({why})"));
            }
        }
        problems.push(lines.join("\n"));
    }
    for (from, to) in excepted {
        if !modules::leads(&left, &to, &from) {
            problems.push(format!("stale exception: {from} -> {to} is part of no circle"));
        }
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

/// Reports each type name that is defined twice in one crate.
fn check_types(crates: &[Types], exceptions: &Exceptions, problems: &mut Vec<String>) {
    let mut needed = BTreeSet::new();
    for types in crates {
        for (name, places) in types.iter().filter(|(_, places)| places.len() > 1) {
            if exceptions.customary.iter().any(|(customary, _)| customary == name) {
                needed.insert(name.as_str());
                continue;
            }
            let allowed = exceptions.types.iter().find(|(excepted, _)| excepted == name).map_or(1, |(_, count)| *count);
            needed.insert(name.as_str());
            if places.len() > allowed {
                problems.push(format!("type {name} is defined {} times: {}", places.len(), places.join(", ")));
            } else if places.len() < allowed {
                let now = places.len();
                problems.push(format!("stale exception: type {name} is defined {now} times, {allowed} are listed"));
            }
        }
    }
    let listed = exceptions.customary.iter().map(|(name, _)| name).chain(exceptions.types.iter().map(|(name, _)| name));
    for name in listed.filter(|name| !needed.contains(**name)) {
        problems.push(format!("stale exception: type {name} is defined once"));
    }
}

/// Reports files or functions that are too long.
fn check_lengths(
    what: &str,
    limit: usize,
    lengths: &BTreeMap<String, usize>,
    exceptions: &[(&str, usize)],
    problems: &mut Vec<String>,
) {
    for (name, lines) in lengths.iter().filter(|(_, lines)| **lines > limit) {
        let allowed = exceptions.iter().find(|(excepted, _)| excepted == name).map_or(limit, |(_, lines)| *lines);
        if *lines > allowed {
            problems.push(format!("{what} {name} has {lines} lines, {allowed} are allowed"));
        }
    }
    for (name, _) in exceptions {
        if lengths.get(*name).is_none_or(|lines| *lines <= limit) {
            problems.push(format!("stale exception: {what} {name} has at most {limit} lines, or is gone"));
        }
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

    const NONE: Exceptions = Exceptions { edges: &[], customary: &[], types: &[], files: &[], functions: &[] };

    fn edges(pairs: &[(&str, &str)]) -> Edges {
        let mut edges = Edges::new();
        for (from, to) in pairs {
            edges.entry((*to).to_owned()).or_default();
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned(), format!("{to}::Name"));
        }
        edges
    }

    fn circles(pairs: &[(&str, &str)], excepted: &'static [(&str, &str)]) -> Vec<String> {
        let mut problems = Vec::new();
        check_circles(&edges(pairs), &Exceptions { edges: excepted, ..NONE }, &mut problems);
        problems
    }

    #[test]
    fn a_circle_is_reported_with_what_makes_it() {
        let found = circles(&[("a", "b"), ("b", "a"), ("c", "a")], &[]);
        assert_eq!(found, ["circle of 2 files that name one another:\n    a -> b  (b::Name)\n    b -> a  (a::Name)"]);
        assert!(circles(&[("a", "b"), ("b", "c")], &[]).is_empty());
    }

    #[test]
    fn an_excepted_edge_opens_its_circle_and_no_other() {
        assert!(circles(&[("a", "b"), ("b", "a")], &[("a", "b")]).is_empty());
        assert_eq!(circles(&[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")], &[("a", "b")]).len(), 1);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_reported() {
        assert_eq!(circles(&[("a", "b")], &[("b", "a")]), ["stale exception: b no longer names anything of a"]);
        assert_eq!(circles(&[("a", "b")], &[("a", "b")]), ["stale exception: a -> b is part of no circle"]);
    }

    fn defined(names: &[(&str, usize)]) -> Types {
        names.iter().map(|(name, count)| ((*name).to_owned(), vec!["f.rs:1".to_owned(); *count])).collect()
    }

    fn doubled(crates: &[Types], exceptions: &Exceptions) -> Vec<String> {
        let mut problems = Vec::new();
        check_types(crates, exceptions, &mut problems);
        problems
    }

    #[test]
    fn a_type_name_is_defined_once_in_a_crate() {
        assert_eq!(doubled(&[defined(&[("A", 2)])], &NONE), ["type A is defined 2 times: f.rs:1, f.rs:1"]);
        assert!(doubled(&[defined(&[("A", 1)]), defined(&[("A", 1)])], &NONE).is_empty(), "two crates may agree");
    }

    #[test]
    fn a_customary_name_may_repeat_and_a_listed_one_as_often_as_listed() {
        let customary = Exceptions { customary: &[("Args", "one a command")], ..NONE };
        assert!(doubled(&[defined(&[("Args", 9)])], &customary).is_empty());
        let listed = Exceptions { types: &[("A", 2)], ..NONE };
        assert!(doubled(&[defined(&[("A", 2)])], &listed).is_empty());
        assert_eq!(doubled(&[defined(&[("A", 3)])], &listed).len(), 1);
        let fewer = Exceptions { types: &[("A", 3)], ..NONE };
        assert_eq!(
            doubled(&[defined(&[("A", 2)])], &fewer),
            ["stale exception: type A is defined 2 times, 3 are listed"]
        );
        assert_eq!(doubled(&[defined(&[("A", 1)])], &listed), ["stale exception: type A is defined once"]);
        assert_eq!(doubled(&[], &customary), ["stale exception: type Args is defined once"]);
    }

    #[test]
    fn what_is_too_long_is_reported_unless_it_is_listed() {
        let long = |lines, exceptions: &[(&str, usize)]| {
            let mut problems = Vec::new();
            check_lengths("file", 500, &BTreeMap::from([("f.rs".to_owned(), lines)]), exceptions, &mut problems);
            problems
        };
        assert!(long(500, &[]).is_empty());
        assert_eq!(long(501, &[]), ["file f.rs has 501 lines, 500 are allowed"]);
        assert!(long(510, &[("f.rs", 510)]).is_empty());
        assert_eq!(long(511, &[("f.rs", 510)]), ["file f.rs has 511 lines, 510 are allowed"]);
        let stale = "stale exception: file f.rs has at most 500 lines, or is gone";
        assert_eq!(long(500, &[("f.rs", 510)]), [stale]);
    }
}
