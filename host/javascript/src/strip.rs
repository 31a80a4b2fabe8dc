//! Takes the types out of a TypeScript module and leaves everything else where
//! it stands: what is erased becomes blanks, so that a line and a column of the
//! script are those of the source as written.
//!
//! Enums and parameter properties become code, which is written where they
//! stand ([`code`]): their lines stay, columns behind them on the same line do
//! not. Namespaces with values, decorators and `import x = ..` are refused with
//! what to write instead.

mod code;
mod visit;

use std::collections::{BTreeSet, HashSet};

use oxc_allocator::Allocator;
use oxc_ast_visit::Visit as _;
use oxc_parser::Parser;
use oxc_span::{SourceType, Span};

/// A module as the runtime gets it.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) text: String,
    /// The modules it imports, each with the place of the statement.
    pub(super) imports: Vec<(String, u32)>,
    /// The names that it imports from modules: a module and a name.
    pub(super) names: Vec<(String, String)>,
    /// Imports of whole modules by one name.
    pub(super) namespaces: Vec<Namespace>,
    /// What it is beside imports if it has none of them: a CommonJS module.
    pub(super) commonjs: Option<CommonJs>,
}

/// `* as name` of an import, where nothing else is imported by that statement.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) specifier: String,
    pub(super) name: String,
    /// As it is written.
    pub(super) text: String,
}

/// What a CommonJS module takes and gives, as far as its text tells.
#[derive(Clone, Debug, Default)]
pub(super) struct CommonJs {
    pub(super) requires: Vec<Require>,
    pub(super) exports: BTreeSet<String>,
}

/// A call of `require` with a name.
#[derive(Clone, Debug)]
pub(super) struct Require {
    pub(super) name: String,
    pub(super) offset: u32,
    /// Whether the module catches it when there is no such module.
    pub(super) may_fail: bool,
}

/// What is wrong with a source, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) offset: u32,
    pub(super) why: String,
}

/// The dialect of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    TypeScript,
    JavaScript,
}

/// Reads a module, and takes its types out if it has any.
pub(super) fn strip(source: &str, dialect: Dialect) -> Result<Module, Wrong> {
    let allocator = Allocator::default();
    let kind = match dialect {
        Dialect::TypeScript => SourceType::ts(),
        Dialect::JavaScript => SourceType::mjs(),
    };
    let parsed = Parser::new(&allocator, source, kind).parse();
    if let Some(error) = parsed.diagnostics.errors().next() {
        let offset = error.labels.first().map_or(0, |label| label.offset());
        return Err(Wrong { offset, why: error.message.to_string() });
    }
    let has_module_syntax = parsed.module_record.has_module_syntax;
    let mut eraser = Eraser { source, dialect, ..Eraser::default() };
    eraser.visit_program(&parsed.program);
    eraser.leave_out_unused_imports();
    if let Some(wrong) = eraser.wrong {
        return Err(wrong);
    }
    let has_words = ["require", "module", "exports"].iter().any(|name| eraser.values.contains(*name));
    let commonjs = (!has_module_syntax && has_words).then(|| std::mem::take(&mut eraser.commonjs));
    let imports = std::mem::take(&mut eraser.requests);
    let names = std::mem::take(&mut eraser.names);
    let namespaces = std::mem::take(&mut eraser.namespaces);
    Ok(Module { text: eraser.text(), imports, names, namespaces, commonjs })
}

/// An import statement, judged when all values that the module uses are known.
struct Import {
    statement: Span,
    source: String,
    /// The local name and the place of each; none for a bare import.
    names: Option<Vec<(String, Span, bool)>>,
}

/// A part of the source, or a place in it, that is replaced. Line breaks stay.
struct Edit {
    span: Span,
    fill: Fill,
}

/// What stands in place of a part of the source.
enum Fill {
    /// A blank for each character.
    Blanks,
    /// The same, with a semicolon in the first place.
    Semicolon,
    /// Code.
    Code(String),
}

/// The enum whose members are visited: within a value, a name of one of them
/// means that member.
struct EnumScope {
    name: String,
    members: HashSet<String>,
}

struct Eraser<'s> {
    source: &'s str,
    dialect: Dialect,
    edits: Vec<Edit>,
    enum_scope: Option<EnumScope>,
    /// The ends of statements without a semicolon.
    open_ends: HashSet<u32>,
    /// Names that stand for values somewhere.
    values: HashSet<String>,
    pending: Vec<Import>,
    requests: Vec<(String, u32)>,
    names: Vec<(String, String)>,
    namespaces: Vec<Namespace>,
    commonjs: CommonJs,
    /// How many `try` blocks are round the place at hand.
    tries: u32,
    wrong: Option<Wrong>,
}

impl Default for Eraser<'_> {
    fn default() -> Self {
        Self {
            source: "",
            dialect: Dialect::TypeScript,
            edits: Vec::new(),
            enum_scope: None,
            open_ends: HashSet::new(),
            values: HashSet::new(),
            pending: Vec::new(),
            requests: Vec::new(),
            names: Vec::new(),
            namespaces: Vec::new(),
            commonjs: CommonJs::default(),
            tries: 0,
            wrong: None,
        }
    }
}

impl Eraser<'_> {
    fn erase(&mut self, start: u32, end: u32) {
        if start < end {
            self.edits.push(Edit { span: Span::new(start, end), fill: Fill::Blanks });
        }
    }

    /// Erases a whole statement or class member. A semicolon keeps the lines
    /// before and after it apart.
    fn erase_whole(&mut self, span: Span) {
        self.edits.push(Edit { span, fill: Fill::Semicolon });
    }

    /// Writes code in place of a part of the source.
    fn replace(&mut self, start: u32, end: u32, code: impl Into<String>) {
        self.edits.push(Edit { span: Span::new(start, end), fill: Fill::Code(code.into()) });
    }

    fn refuse(&mut self, span: Span, why: &str) {
        if self.wrong.is_none() {
            self.wrong = Some(Wrong { offset: span.start, why: why.to_owned() });
        }
    }

    fn between(&self, start: u32, end: u32) -> &str {
        self.source.get(start as usize..end as usize).unwrap_or("")
    }

    /// Erases a mark such as `?` that stands alone between two places.
    fn erase_mark(&mut self, mark: char, start: u32, end: u32) {
        if let Some(at) = self.between(start, end).find(mark) {
            let at = start + u32::try_from(at).unwrap_or(0);
            self.erase(at, at + 1);
        }
    }

    /// Erases the modifiers of TypeScript that stand between two places.
    fn erase_modifiers(&mut self, start: u32, end: u32) {
        const MODIFIERS: [&str; 7] = ["public", "private", "protected", "readonly", "override", "abstract", "declare"];
        let text = self.between(start, end).to_owned();
        let mut at = 0;
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            if MODIFIERS.contains(&word) {
                let from = start + u32::try_from(at).unwrap_or(0);
                self.erase(from, from + u32::try_from(word.len()).unwrap_or(0));
            }
            at += word.len() + text[at + word.len()..].chars().next().map_or(0, char::len_utf8);
        }
    }

    /// Erases an item of a list with the comma behind it.
    fn erase_item(&mut self, span: Span) {
        let rest = self.between(span.end, u32::try_from(self.source.len()).unwrap_or(span.end));
        let blank = rest.len() - rest.trim_start().len();
        let comma = if rest[blank..].starts_with(',') { blank + 1 } else { 0 };
        self.erase(span.start, span.end + u32::try_from(comma).unwrap_or(0));
    }

    fn note_end(&mut self, span: Span) {
        if !self.between(span.start, span.end).ends_with(';') {
            self.open_ends.insert(span.end);
        }
    }

    /// TypeScript drops an import that no value uses: what it names is a type.
    fn leave_out_unused_imports(&mut self) {
        for import in std::mem::take(&mut self.pending) {
            let Some(names) = import.names else {
                self.requests.push((import.source, import.statement.start));
                continue;
            };
            let is_used = |(name, _, is_type): &(String, Span, bool)| !is_type && self.values.contains(name);
            let drops_unused = self.dialect == Dialect::TypeScript && !names.is_empty();
            if drops_unused && !names.iter().any(is_used) {
                self.erase_whole(import.statement);
                continue;
            }
            let unused: Vec<Span> = match drops_unused {
                true => names.iter().filter(|name| !is_used(name)).map(|(_, span, _)| *span).collect(),
                false => Vec::new(),
            };
            for span in unused {
                self.erase_item(span);
            }
            self.requests.push((import.source, import.statement.start));
        }
    }

    /// The source with its edits.
    fn text(mut self) -> String {
        // A stable order: of two at one place the one that was made first is first.
        self.edits.sort_by_key(|edit| edit.span.start);
        let mut text = String::with_capacity(self.source.len());
        let mut at = 0;
        for edit in &self.edits {
            let (start, end) = (edit.span.start as usize, edit.span.end as usize);
            // This edit lies within an edit that is written already.
            if end < at || (end == at && start < end) {
                continue;
            }
            let start = start.max(at);
            text.push_str(&self.source[at..start]);
            let replaced = &self.source[start..end];
            if let Fill::Code(code) = &edit.fill {
                text.push_str(code);
                text.extend(replaced.chars().filter(|c| matches!(c, '\n' | '\r')));
            } else {
                let needs_end = matches!(edit.fill, Fill::Semicolon) || self.joins_next_line(edit.span.end);
                for (index, c) in replaced.char_indices() {
                    match c {
                        '\n' | '\r' => text.push(c),
                        _ if index == 0 && needs_end => text.push(';'),
                        _ => text.push(' '),
                    }
                }
            }
            at = end;
        }
        text.push_str(&self.source[at..]);
        text
    }

    /// Whether a statement that ends here with a type would run on into the
    /// next line once the type is gone.
    fn joins_next_line(&self, end: u32) -> bool {
        let rest = &self.source[end as usize..];
        let next = rest.trim_start();
        self.open_ends.contains(&end)
            && rest[..rest.len() - next.len()].contains('\n')
            && next.starts_with(['(', '[', '`', '/', '+', '-', '*', '.', ',', '<'])
    }
}

#[cfg(test)]
mod tests;
