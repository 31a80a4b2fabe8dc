//! The errors of a configuration, drawn into the lines that they are about.
//!
//! A [`ConfigError`] holds every [`ConfigProblem`] of one file in the order of its
//! lines. Secrets that somebody wrote into the file are hidden before a line is
//! quoted, because these errors end up in logs.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::secret;

/// A range of bytes of the file.
pub(super) type ByteRange = Range<usize>;

/// One error or warning, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 when the file could not be read.
    pub line: usize,
    /// The column in characters, from 1; 0 when the file could not be read.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub remedy: String,
    span: ByteRange,
    also: Option<(ByteRange, &'static str)>,
}

impl ConfigProblem {
    pub(super) fn new(file: &str, text: &str, span: ByteRange, message: String, remedy: String) -> Self {
        let start = floor(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
            remedy,
            span: start..floor(text, span.end.max(start)),
            also: None,
        }
    }

    /// A problem without a place in the file.
    #[must_use]
    pub fn without_place(file: &str, message: String, remedy: String) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, message, remedy, span: 0..0, also: None }
    }

    /// Its first byte in the file.
    pub(super) fn start(&self) -> usize {
        self.span.start
    }

    /// Adds a second place, which is shown with a label.
    pub(super) fn and(mut self, text: &str, span: &ByteRange, label: &'static str) -> Self {
        self.also = Some((floor(text, span.start)..floor(text, span.end), label));
        self
    }
}

impl fmt::Display for ConfigProblem {
    /// On one line, for logs and lists.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, remedy, .. } = self;
        match line {
            0 => write!(f, "{message}; {remedy}"),
            _ => write!(f, "{file}:{line}:{column}: {message}; {remedy}"),
        }
    }
}

/// Every problem of one configuration file; never empty.
#[derive(Clone)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
    /// Other files that the configuration names, as far as they could be read.
    files: Vec<PathBuf>,
    /// The file with its secrets hidden.
    text: String,
}

impl ConfigError {
    pub(super) fn new(text: &str, hidden: &[ByteRange], mut problems: Vec<ConfigProblem>) -> Self {
        problems.sort_by_key(|problem| problem.span.start);
        Self { problems, files: Vec::new(), text: secret::hide(text, hidden) }
    }

    pub(super) fn at(file: &str, text: &str, offset: usize, message: &str, remedy: &str) -> Self {
        let problem = ConfigProblem::new(file, text, offset..offset, message.to_owned(), remedy.to_owned());
        Self::new(text, &[], vec![problem])
    }

    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let problem = ConfigProblem {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: format!("cannot read {file}: {error}"),
            remedy: "create the file, or name another one with --config".to_owned(),
            span: 0..0,
            also: None,
        };
        Self { problems: vec![problem], files: Vec::new(), text: String::new() }
    }

    pub(super) fn depending_on(self, files: Vec<PathBuf>) -> Self {
        Self { files, ..self }
    }

    /// The other files that the configuration names: a change of one may mend it.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What is wrong, in the order of the file.
    #[must_use]
    pub fn errors(&self) -> &[ConfigProblem] {
        &self.problems
    }

    fn draw(&self, renderer: &Renderer, problem: &ConfigProblem) -> String {
        let title = Level::ERROR.primary_title(&problem.message);
        let help = Level::HELP.message(&problem.remedy);
        if problem.line == 0 {
            return renderer.render(&[title.element(help)]);
        }
        let mut snippet = Snippet::source(&self.text)
            .path(&problem.file)
            .annotation(AnnotationKind::Primary.span(problem.span.clone()));
        if let Some((span, label)) = &problem.also {
            snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(*label));
        }
        renderer.render(&[title.element(snippet).element(help)])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for problem in &self.problems {
            writeln!(f, "{}\n", self.draw(&renderer, problem))?;
        }
        let file = self.problems.first().map_or("", |problem| &problem.file);
        match self.problems.len() {
            1 => write!(f, "{file}: 1 error"),
            count => write!(f, "{file}: {count} errors"),
        }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigError").field(&self.problems).finish()
    }
}

impl std::error::Error for ConfigError {}

/// The last boundary between characters at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}
