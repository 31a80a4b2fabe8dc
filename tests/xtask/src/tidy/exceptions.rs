//! Present violations of the rules of `cargo xtask tidy`. A list may only shrink: an
//! entry that is no longer needed fails the check.

/// The exceptions to each rule.
pub struct Exceptions {
    /// Edges between files that are ignored in the search for circles.
    pub edges: &'static [(&'static str, &'static str)],
    /// Type names that repeat by custom, with the reason.
    pub customary: &'static [(&'static str, &'static str)],
    /// Type names that repeat, with how often.
    pub types: &'static [(&'static str, usize)],
    /// Files that are too long, with the lines that each may have.
    pub files: &'static [(&'static str, usize)],
    /// Functions that are too long, as `file::name`, with the lines allowed.
    pub functions: &'static [(&'static str, usize)],
}

/// The present exceptions.
pub fn present() -> Exceptions {
    Exceptions { edges: EDGES, customary: CUSTOMARY, types: TYPES, files: FILES, functions: FUNCTIONS }
}

const CUSTOMARY: &[(&str, &str)] = &[
    ("Args", "one a command of the CLI"),
    ("Command", "one a command of the CLI that has commands of its own"),
    ("HeaderIn", "one a version of the contract: the macro that both versions use names it"),
    ("MessageIn", "one a version of the contract: the macro that both versions use names it"),
];

const EDGES: &[(&str, &str)] = &[];

const TYPES: &[(&str, usize)] = &[];

const FILES: &[(&str, usize)] = &[];

const FUNCTIONS: &[(&str, usize)] = &[];
