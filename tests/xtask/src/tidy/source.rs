//! Reads one source file: its modules, items, imports, paths and functions, and
//! whether each belongs to tests.

use super::tokens::{Kind, Token, tokens};

/// The contents of one file.
#[derive(Debug, Default)]
pub struct Source {
    /// The file holds tests only: `#![cfg(test)]`.
    pub test: bool,
    pub lines: usize,
    pub modules: Vec<Module>,
    pub items: Vec<Item>,
    pub imports: Vec<Import>,
    pub paths: Vec<Path>,
    pub functions: Vec<Function>,
}

/// `mod name;`, within the inline modules of the file in `inside`.
#[derive(Debug)]
pub struct Module {
    pub inside: Vec<String>,
    pub name: String,
    /// The file that `#[path]` names.
    pub file: Option<String>,
    /// `mod name { .. }`: its content is in this file.
    pub inline: bool,
    pub test: bool,
}

/// A named item of a module: a type, function, constant or macro.
#[derive(Debug)]
pub struct Item {
    pub inside: Vec<String>,
    pub name: String,
    pub is_type: bool,
    pub line: usize,
    pub test: bool,
}

/// One name that a `use` imports; `*` imports all.
#[derive(Debug)]
pub struct Import {
    pub inside: Vec<String>,
    pub path: Vec<String>,
    /// The name in this module.
    pub name: String,
    /// `pub use`, of any visibility, which re-exports the name.
    pub public: bool,
    pub test: bool,
}

/// A path of at least two parts in the code, outside of `use`.
#[derive(Debug)]
pub struct Path {
    pub inside: Vec<String>,
    pub parts: Vec<String>,
    pub test: bool,
}

/// A function with a body.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    /// From the line of `fn` to that of the closing brace.
    pub lines: usize,
    pub test: bool,
}

/// Reads a file.
pub fn read(text: &str) -> Source {
    let tokens = tokens(text);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        scopes: Vec::new(),
        next: None,
        attribute: Attribute::default(),
        found: Source::default(),
    };
    while reader.at < tokens.len() {
        reader.step();
    }
    reader.found.lines = text.lines().count();
    reader.found
}

/// A block around the current token.
struct Scope {
    kind: ScopeKind,
    test: bool,
}

enum ScopeKind {
    Module(String),
    /// `impl` or `trait`: its types and functions are associated.
    Associated,
    Function {
        name: String,
        line: usize,
    },
    Braces,
}

/// The attributes before the next item.
#[derive(Default)]
struct Attribute {
    test: bool,
    file: Option<String>,
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    scopes: Vec<Scope>,
    /// The kind of the next brace at the level of items.
    next: Option<ScopeKind>,
    attribute: Attribute,
    found: Source,
}

impl Reader<'_> {
    fn name(&self, ahead: usize) -> Option<&str> {
        self.tokens.get(self.at + ahead).and_then(Token::name)
    }

    fn sign(&self, ahead: usize, sign: char) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|token| token.is(sign))
    }

    fn test(&self) -> bool {
        self.found.test || self.attribute.test || self.scopes.iter().any(|scope| scope.test)
    }

    fn inside(&self) -> Vec<String> {
        let modules = self.scopes.iter().filter_map(|scope| match &scope.kind {
            ScopeKind::Module(name) => Some(name.clone()),
            _ => None,
        });
        modules.collect()
    }

    fn associated(&self) -> bool {
        self.scopes.last().is_some_and(|scope| matches!(scope.kind, ScopeKind::Associated))
    }

    /// Whether an item may begin here: `impl` is also a part of types.
    fn at_item(&self) -> bool {
        let before = self.at.checked_sub(1).map(|at| &self.tokens[at]);
        before.is_none_or(|token| {
            token.is(';') || token.is('{') || token.is('}') || token.is(']') || token.name() == Some("unsafe")
        })
    }

    fn step(&mut self) {
        let token = &self.tokens[self.at];
        match &token.kind {
            Kind::Sign('#') if self.sign(1, '[') || (self.sign(1, '!') && self.sign(2, '[')) => self.attributes(),
            Kind::Sign('{') => self.open(),
            Kind::Sign('}') => self.close(),
            Kind::Sign(';' | ',') => {
                // The comma in `impl<A, B>` ends no item.
                if self.next.is_none() {
                    self.attribute = Attribute::default();
                }
                self.at += 1;
            }
            Kind::Name(name) => match name.as_str() {
                "mod" if self.name(1).is_some() => self.module(),
                "use" if !self.sign(1, '<') => self.import(),
                "struct" | "enum" | "trait" | "union" | "type" if self.name(1).is_some() => self.type_item(),
                "fn" if self.name(1).is_some() => self.function(),
                "const" | "static" if self.name(1).is_some() => self.constant(),
                "macro_rules" if self.sign(1, '!') => {
                    if let Some(name) = self.name(2).map(str::to_owned) {
                        self.item(name, false);
                    }
                    self.at += 3;
                }
                "impl" if self.at_item() => {
                    self.next = Some(ScopeKind::Associated);
                    self.at += 1;
                }
                _ => self.path(),
            },
            _ => self.at += 1,
        }
    }

    /// Reads `#[..]` or `#![..]`; only `cfg(test)` and `path` matter.
    fn attributes(&mut self) {
        let inner = self.sign(1, '!');
        self.at += if inner { 2 } else { 1 };
        let start = self.at;
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            if self.sign(0, '[') {
                depth += 1;
            } else if self.sign(0, ']') {
                depth -= 1;
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        let content = &self.tokens[start..self.at];
        let named = |at: usize, name: &str| content.get(at).and_then(Token::name) == Some(name);
        let test = named(1, "cfg") && named(3, "test") && content.get(4).is_some_and(|token| token.is(')'));
        if inner {
            self.found.test |= test && self.scopes.is_empty();
            return;
        }
        self.attribute.test |= test;
        if named(1, "path")
            && let Some(Token { kind: Kind::Text(file), .. }) = content.get(3)
        {
            self.attribute.file = Some(file.clone());
        }
    }

    fn open(&mut self) {
        let test = std::mem::take(&mut self.attribute).test;
        let kind = self.next.take().unwrap_or(ScopeKind::Braces);
        self.scopes.push(Scope { kind, test });
        self.at += 1;
    }

    fn close(&mut self) {
        let end = self.tokens[self.at].line;
        let test = self.test();
        if let Some(Scope { kind: ScopeKind::Function { name, line }, .. }) = self.scopes.pop() {
            self.found.functions.push(Function { name, lines: end + 1 - line, test });
        }
        self.attribute = Attribute::default();
        self.at += 1;
    }

    fn module(&mut self) {
        let name = self.name(1).unwrap_or_default().to_owned();
        let (declared, inline) = (self.sign(2, ';'), self.sign(2, '{'));
        if declared || inline {
            let (inside, test, file) = (self.inside(), self.test(), self.attribute.file.take());
            self.found.modules.push(Module { inside, name: name.clone(), file, inline, test });
        }
        if inline {
            self.next = Some(ScopeKind::Module(name));
        }
        self.at += 2;
    }

    fn item(&mut self, name: String, is_type: bool) {
        let (inside, line, test) = (self.inside(), self.tokens[self.at].line, self.test());
        self.found.items.push(Item { inside, name, is_type, line, test });
    }

    fn type_item(&mut self) {
        let keyword = self.name(0).unwrap_or_default();
        let (associated, is_trait) = (keyword == "type" && self.associated(), keyword == "trait");
        // `union` is an ordinary name unless a type follows.
        let is_union = keyword != "union" || (self.sign(2, '{') || self.sign(2, '<'));
        if !associated && is_union {
            let name = self.name(1).unwrap_or_default().to_owned();
            self.item(name, true);
        }
        if is_trait {
            self.next = Some(ScopeKind::Associated);
        }
        self.at += 2;
    }

    fn function(&mut self) {
        let name = self.name(1).unwrap_or_default().to_owned();
        let line = self.tokens[self.at].line;
        if !self.associated() {
            self.item(name.clone(), false);
        }
        self.at += 2;
        // The signature may name types by paths, so it is read as code. This loop only
        // finds out whether a body follows.
        let mut depth = 0_i32;
        let mut ahead = 0;
        while let Some(token) = self.tokens.get(self.at + ahead) {
            match token.kind {
                Kind::Sign('(' | '[') => depth += 1,
                Kind::Sign(')' | ']') => depth -= 1,
                Kind::Sign(';') if depth == 0 => return,
                Kind::Sign('{') if depth == 0 => break,
                _ => {}
            }
            ahead += 1;
        }
        let body = self.at + ahead;
        let test = self.attribute.test;
        while self.at < body {
            self.step();
            // A comma between parameters ends no item.
            self.attribute.test = test;
        }
        self.next = Some(ScopeKind::Function { name, line });
    }

    fn constant(&mut self) {
        let name = self.name(1).unwrap_or_default().to_owned();
        if !self.associated()
            && !matches!(name.as_str(), "fn" | "unsafe" | "async" | "extern" | "mut")
            && self.tokens.get(self.at + 2).is_some_and(|token| token.is(':'))
        {
            self.item(name, false);
        }
        self.at += 1;
    }

    fn import(&mut self) {
        let public = self.at.checked_sub(1).is_some_and(|at| {
            let before = &self.tokens[at];
            before.name() == Some("pub") || before.is(')')
        });
        self.at += 1;
        let (inside, test) = (self.inside(), self.test());
        let make = |path: Vec<String>, name| Import { inside: inside.clone(), path, name, public, test };
        self.tree(&mut Vec::new(), &make);
    }

    /// Reads one tree of a `use` up to its `,`, `}` or `;`.
    fn tree(&mut self, prefix: &mut Vec<String>, make: &dyn Fn(Vec<String>, String) -> Import) {
        let depth = prefix.len();
        loop {
            if self.sign(0, '{') {
                self.at += 1;
                while self.at < self.tokens.len() && !self.sign(0, '}') {
                    self.tree(prefix, make);
                    if self.sign(0, ',') {
                        self.at += 1;
                    }
                }
                self.at += 1;
                break;
            }
            if self.sign(0, '*') {
                self.at += 1;
                self.found.imports.push(make(prefix.clone(), "*".to_owned()));
                break;
            }
            let Some(part) = self.name(0).map(str::to_owned) else {
                self.at += 1;
                if self.at >= self.tokens.len() || self.sign(0, ';') {
                    break;
                }
                continue;
            };
            self.at += 1;
            // `a::{self}` is `a` itself.
            if part != "self" || prefix.is_empty() {
                prefix.push(part);
            }
            if self.tokens.get(self.at).is_some_and(|token| token.kind == Kind::Path) {
                self.at += 1;
                continue;
            }
            let mut name = prefix.last().cloned().unwrap_or_default();
            if self.name(0) == Some("as") {
                name = self.name(1).unwrap_or("_").to_owned();
                self.at += 2;
            }
            self.found.imports.push(make(prefix.clone(), name));
            break;
        }
        prefix.truncate(depth);
    }

    /// Reads a path in the code; a name alone is skipped.
    fn path(&mut self) {
        let before = self.at.checked_sub(1).map(|at| &self.tokens[at]);
        // After a dot a name is a field or method; after `in` a visibility.
        let skipped = before.is_some_and(|token| {
            token.is('.') || token.kind == Kind::Path || token.name() == Some("in") && self.name(0) == Some("crate")
        });
        let mut parts = vec![self.name(0).unwrap_or_default().to_owned()];
        self.at += 1;
        while self.tokens.get(self.at).is_some_and(|token| token.kind == Kind::Path)
            && let Some(next) = self.name(1).map(str::to_owned)
        {
            parts.push(next);
            self.at += 2;
        }
        if !skipped && parts.len() > 1 {
            let (inside, test) = (self.inside(), self.test());
            self.found.paths.push(Path { inside, parts, test });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(source: &str) -> Vec<(String, String)> {
        read(source).imports.iter().map(|import| (import.path.join("::"), import.name.clone())).collect()
    }

    #[test]
    fn nested_imports_are_listed_one_by_one() {
        let pairs = [("crate::a::B", "B"), ("crate::a::c", "c"), ("crate::a::c::D", "E"), ("super::f", "*")];
        let found = imported("use crate::a::{B, c::{self, D as E}};\npub use super::f::*;");
        assert_eq!(found, pairs.map(|(path, name)| (path.to_owned(), name.to_owned())));
        assert!(read("pub(crate) use a::B;").imports[0].public);
        assert!(!read("fn f() {} use a::B;").imports[0].public);
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_brace() {
        let source = "impl A {\n    pub fn f(\n        x: [u8; { 2 }],\n    ) -> impl B {\n        if x { }\n    }\n    fn g();\n}";
        let functions = read(source).functions;
        assert_eq!(functions.len(), 1);
        assert_eq!((functions[0].name.as_str(), functions[0].lines), ("f", 5));
    }

    #[test]
    fn associated_types_are_no_types_of_their_own() {
        let source =
            "trait A { type B; } impl A for C { type B = D; } type E = F; struct G; enum H {} fn f() { struct I; }";
        let found = read(source);
        let types: Vec<_> = found.items.iter().filter(|item| item.is_type).map(|item| item.name.as_str()).collect();
        assert_eq!(types, ["A", "E", "G", "H", "I"]);
    }

    #[test]
    fn what_belongs_to_tests_is_told_from_the_rest() {
        let source = "use a::A;\n#[cfg(test)]\nuse b::B;\n#[cfg(test)]\nmod tests { use c::C; struct D; fn f() {} }\nstruct E;\n#[cfg(test)]\nfn g(x: u8, y: u8) { h::i(); }\nfn j() {}";
        let found = read(source);
        assert_eq!(found.imports.iter().map(|import| import.test).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(found.paths.iter().map(|path| path.test).collect::<Vec<_>>(), [true]);
        assert_eq!(found.functions.iter().map(|function| function.test).collect::<Vec<_>>(), [true, true, false]);
        assert!(!found.items.iter().any(|item| item.name == "E" && item.test));
    }

    #[test]
    fn paths_in_the_code_are_seen_and_fields_are_not() {
        let found = read("fn f(a: crate::b::C) { d.e; super::g::h(); i::<J>(); }");
        let paths: Vec<_> = found.paths.iter().map(|path| path.parts.join("::")).collect();
        assert_eq!(paths, ["crate::b::C", "super::g::h"]);
    }

    #[test]
    fn a_module_may_name_its_file() {
        let found = read("#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\nmod y;");
        assert_eq!(found.modules[0].file.as_deref(), Some("x_tests.rs"));
        assert!(found.modules[0].test && !found.modules[1].test && found.modules[1].file.is_none());
    }
}
