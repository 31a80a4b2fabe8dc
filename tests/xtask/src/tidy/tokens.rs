//! Splits Rust source into tokens: names, signs and strings, each with its line.
//!
//! Comments are dropped. Everything inside a literal is one token, so that a
//! brace or a keyword in a string is never taken for code.

/// One token and the line on which it begins, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or keyword; raw identifiers keep their `r#`.
    Name(String),
    /// A string's content as written, escapes included.
    Text(String),
    /// A character, byte, number or lifetime.
    Other,
    /// `::`
    Path,
    /// `->` or `=>`, whose `>` closes nothing.
    Arrow,
    /// Any other sign.
    Sign(char),
}

impl Token {
    /// The identifier or keyword, if it is one.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }

    /// Whether the token is this sign.
    pub fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// Splits a source file into tokens.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source.chars().collect(), at: 0, line: 1, found: Vec::new() };
    while lexer.at < lexer.rest.len() {
        lexer.step();
    }
    lexer.found
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.rest.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) -> char {
        let next = self.peek(0);
        self.at += 1;
        if next == '\n' {
            self.line += 1;
        }
        next
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.found.push(Token { kind, line });
    }

    fn step(&mut self) {
        let line = self.line;
        match (self.peek(0), self.peek(1)) {
            (space, _) if space.is_whitespace() => {
                self.bump();
            }
            ('/', '/') => {
                while self.at < self.rest.len() && self.peek(0) != '\n' {
                    self.bump();
                }
            }
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(line),
            ('\'', _) => self.quote(line),
            (first, _) if first.is_alphabetic() || first == '_' => self.name(line),
            (digit, _) if digit.is_ascii_digit() => {
                while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                    self.bump();
                }
                self.push(Kind::Other, line);
            }
            (':', ':') => self.two(Kind::Path, line),
            ('-' | '=', '>') => self.two(Kind::Arrow, line),
            (sign, _) => {
                self.bump();
                self.push(Kind::Sign(sign), line);
            }
        }
    }

    fn two(&mut self, kind: Kind, line: usize) {
        self.bump();
        self.bump();
        self.push(kind, line);
    }

    /// Block comments nest in Rust.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.rest.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.bump();
                }
                ('*', '/') => {
                    depth -= 1;
                    self.bump();
                }
                _ => {}
            }
            self.bump();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self, line: usize) {
        self.bump();
        let mut text = String::new();
        while self.at < self.rest.len() {
            match self.bump() {
                '"' => break,
                '\\' => {
                    text.push('\\');
                    text.push(self.bump());
                }
                other => text.push(other),
            }
        }
        self.push(Kind::Text(text), line);
    }

    fn raw_string(&mut self, line: usize) {
        let mut hashes = 0_usize;
        while self.peek(0) == '#' {
            hashes += 1;
            self.bump();
        }
        self.bump();
        let mut text = String::new();
        while self.at < self.rest.len() {
            let next = self.bump();
            if next == '"' && (0..hashes).all(|ahead| self.peek(ahead) == '#') {
                self.at += hashes;
                break;
            }
            text.push(next);
        }
        self.push(Kind::Text(text), line);
    }

    /// A character, or a lifetime: `'a'` closes after one character, `'a` does not.
    fn quote(&mut self, line: usize) {
        self.bump();
        if self.peek(0) == '\\' {
            self.bump();
            self.bump();
            while self.at < self.rest.len() && self.bump() != '\'' {}
        } else if self.peek(1) == '\'' {
            self.bump();
            self.bump();
        } else {
            while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                self.bump();
            }
        }
        self.push(Kind::Other, line);
    }

    fn name(&mut self, line: usize) {
        let start = self.at;
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            self.bump();
        }
        let name: String = self.rest[start..self.at].iter().collect();
        let raw = matches!(name.as_str(), "r" | "br" | "cr");
        match (self.peek(0), self.peek(1)) {
            ('"', _) if raw => self.raw_string(line),
            ('#', '"' | '#') if raw => self.raw_string(line),
            ('#', _) if name == "r" => {
                self.bump();
                let start = self.at;
                while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                    self.bump();
                }
                let name: String = self.rest[start..self.at].iter().collect();
                self.push(Kind::Name(format!("r#{name}")), line);
            }
            ('"', _) if matches!(name.as_str(), "b" | "c") => self.string(line),
            ('\'', _) if name == "b" => self.quote(line),
            _ => self.push(Kind::Name(name), line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        tokens(source).iter().filter_map(|token| token.name().map(str::to_owned)).collect()
    }

    #[test]
    fn comments_and_literals_hold_no_code() {
        let source = "a // use b;\n/* c /* d */ e */ \"f { \\\" g\" r#\"h \" i\"# 'j' '\\'' '{' b'k' b\"l\" m";
        assert_eq!(names(source), ["a", "m"]);
        assert!(tokens(source).iter().all(|token| !token.is('{')), "a brace inside a literal is no brace");
    }

    #[test]
    fn lifetimes_do_not_swallow_what_follows() {
        assert_eq!(names("fn f<'a>(x: &'a str, c: &'static T) {}"), ["fn", "f", "x", "str", "c", "T"]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let found = tokens("/*\n\n*/ a \"x\ny\" b");
        assert_eq!(found.iter().map(|token| token.line).collect::<Vec<_>>(), [3, 3, 4]);
    }

    #[test]
    fn raw_names_are_no_keywords() {
        assert_eq!(names("r#type r#use"), ["r#type", "r#use"]);
    }
}
