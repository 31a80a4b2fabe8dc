//! Walks the spanned tree of a TOML file and collects its errors.
//!
//! A [`Section`] is a table, a [`Value`] is the value of one of its keys. Each
//! method that reads a value reports a wrong one itself and returns `None`, so
//! that reading goes on with the default and finds the other errors too. The
//! default is never used, because [`FileReader::finish`] gives no configuration
//! once anything was reported.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{ByteRange, ConfigError, ConfigProblem};
use super::{secret, units};

/// What reading found beside the settings.
pub(super) struct Findings {
    /// Warnings, in the order of the file.
    pub warnings: Vec<ConfigProblem>,
    /// Other files that the file names.
    pub files: Vec<PathBuf>,
}

/// One file being read.
pub(super) struct FileReader<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    problems: RefCell<Vec<ConfigProblem>>,
    warnings: RefCell<Vec<ConfigProblem>>,
    hidden: RefCell<Vec<ByteRange>>,
    files: RefCell<Vec<PathBuf>>,
}

impl<'a> FileReader<'a> {
    pub fn new(file: &'a str, text: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            file,
            text,
            env,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            hidden: RefCell::default(),
            files: RefCell::default(),
        }
    }

    /// Reports an error.
    pub fn problem(&self, span: &ByteRange, message: impl Into<String>, remedy: impl Into<String>) {
        let problem = ConfigProblem::new(self.file, self.text, span.clone(), message.into(), remedy.into());
        self.problems.borrow_mut().push(problem);
    }

    /// Reports two places that do not go together.
    pub fn clash(
        &self,
        span: &ByteRange,
        first: &ByteRange,
        label: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let problem = ConfigProblem::new(self.file, self.text, span.clone(), message.into(), remedy.into());
        self.problems.borrow_mut().push(problem.and(self.text, first, label));
    }

    /// Warns of a setting that is valid and will not work well.
    pub fn warn(&self, span: &ByteRange, message: impl Into<String>, remedy: impl Into<String>) {
        let warning = ConfigProblem::new(self.file, self.text, span.clone(), message.into(), remedy.into());
        self.warnings.borrow_mut().push(warning);
    }

    /// Warns of two places that do not go together.
    pub fn warn_of_two(
        &self,
        span: &ByteRange,
        first: &ByteRange,
        label: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let warning = ConfigProblem::new(self.file, self.text, span.clone(), message.into(), remedy.into());
        self.warnings.borrow_mut().push(warning.and(self.text, first, label));
    }

    /// Notes that the configuration depends on another file, readable or not.
    pub fn depends_on(&self, path: PathBuf) {
        self.files.borrow_mut().push(path);
    }

    /// Keeps this part of the file out of every message.
    pub fn hide(&self, span: &ByteRange) {
        self.hidden.borrow_mut().push(span.clone());
    }

    /// What was found beside the settings, if no error was reported.
    pub fn finish(self) -> Result<Findings, ConfigError> {
        let (problems, mut warnings) = (self.problems.into_inner(), self.warnings.into_inner());
        let mut files = self.files.into_inner();
        files.sort_unstable();
        files.dedup();
        if problems.is_empty() {
            warnings.sort_by_key(ConfigProblem::start);
            return Ok(Findings { warnings, files });
        }
        Err(ConfigError::new(self.text, &self.hidden.into_inner(), problems).depending_on(files))
    }

    /// The errors of the TOML parser.
    pub fn syntax(self, errors: &[toml::de::Error]) -> ConfigError {
        for error in errors {
            let message = error.message().lines().next().unwrap_or("invalid TOML").to_owned();
            let remedy = if message.contains("duplicate key") {
                "a key may stand once in a table: keep one of the two"
            } else if message.contains("string") {
                "text stands in double quotes on one line: key = \"text\""
            } else {
                "correct the TOML here: key = \"text\", key = 1, key = true, key = [..], [section] (see https://toml.io)"
            };
            self.problem(&error.span().unwrap_or(0..0), message, remedy);
        }
        let hidden = self.hidden.into_inner();
        ConfigError::new(self.text, &hidden, self.problems.into_inner())
    }
}

/// A table whose keys are known; empty when the file does not have it.
pub(super) struct Section<'a> {
    pub reader: &'a FileReader<'a>,
    /// Its place: its header, or the start of the file.
    pub span: ByteRange,
    /// `binding.retry`, for messages; empty for the file.
    path: String,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(reader: &'a FileReader<'a>, tree: &'a Spanned<DeTable<'a>>, known: &[&str]) -> Self {
        let section = Self { reader, span: 0..0, path: String::new(), table: Some(tree.get_ref()) };
        section.refuse_unknown(known);
        section
    }

    /// Whether the file has it.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let (name, node) = self.table?.get_key_value(key)?;
        Some(self.value(name, node))
    }

    /// Every key with its value, in the order of the keys.
    pub fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        let entries = self.table.into_iter().flatten();
        entries.map(|(name, node)| (name.get_ref().as_ref(), self.value(name, node))).collect()
    }

    fn value(&self, name: &'a Spanned<std::borrow::Cow<'a, str>>, node: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value {
            reader: self.reader,
            path: join(&self.path, name.get_ref()),
            key: name.get_ref(),
            key_span: name.span(),
            span: node.span(),
            node: node.get_ref(),
        }
    }

    /// A value that must be there.
    pub fn require(&self, key: &str, remedy: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.reader.problem(&self.span, format!("`{key}` is missing in {}", self.title()), remedy);
        }
        value
    }

    /// A value that must be there if the table is.
    pub fn require_if_present(&self, key: &str, remedy: &str) -> Option<Value<'a>> {
        if self.is_present() { self.require(key, remedy) } else { None }
    }

    /// A table within this one; empty when it is absent.
    pub fn section(&self, key: &str, known: &[&str]) -> Self {
        self.get(key).and_then(|value| value.section(known)).unwrap_or_else(|| Self {
            reader: self.reader,
            span: self.span.clone(),
            path: join(&self.path, key),
            table: None,
        })
    }

    /// A table within this one whose keys are free.
    pub fn open_section(&self, key: &str) -> Self {
        self.get(key).and_then(|value| value.open_section()).unwrap_or_else(|| Self {
            reader: self.reader,
            span: self.span.clone(),
            path: join(&self.path, key),
            table: None,
        })
    }

    /// The elements of an array of tables, `[[key]]`.
    pub fn sections(&self, key: &str, known: &[&str]) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.node else {
            let remedy = format!("write [[{key}]], with two brackets: there may be several");
            self.reader.problem(&value.key_span, format!("`{key}` must be an array of tables"), remedy);
            return Vec::new();
        };
        items.iter().filter_map(|item| value.item(item).section(known)).collect()
    }

    fn title(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("[{}]", self.path) }
    }

    fn refuse_unknown(&self, known: &[&str]) {
        for (name, value) in self.entries() {
            if known.contains(&name) {
                continue;
            }
            let remedy = match (units::closest(name, known), home(name)) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(home)) => format!("`{name}` belongs in {home}"),
                (None, None) => format!("{} knows {}", self.title(), units::listed(known)),
            };
            if secret::is_secret_name(name) {
                self.reader.hide(&value.span);
            }
            self.reader.problem(&value.key_span, format!("unknown key `{name}` in {}", self.title()), remedy);
        }
    }
}

/// The table of a key that is often written in another one.
fn home(key: &str) -> Option<&'static str> {
    Some(match key {
        "max_attempts" | "initial" | "multiplier" | "max" | "jitter" | "budget" => "[binding.retry]",
        "publish" | "state" | "state_bytes" | "state_keys" | "state_ttl" | "cache" => "[binding.grant]",
        "allow" => "[binding.http]",
        "listen" | "node" | "public_url" => "[server]",
        "cert" => "[server.tls]",
        "bootstrap_servers" | "max_record" => "[kafka]",
        "retention" => "[store]",
        "tokens" => "[auth]",
        "check_urls" => "[transactions]",
        "partitions" | "replication" => "[kafka.topics]",
        "group" | "plugin" | "topics" | "dead_letter" | "concurrency" | "ordering" => "[[binding]]",
        _ => return None,
    })
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The value of a key, or an element of an array.
pub(super) struct Value<'a> {
    pub reader: &'a FileReader<'a>,
    /// `binding.retry.max`, for messages.
    pub path: String,
    /// The key, or that of the array.
    pub key: &'a str,
    /// The place of the key.
    pub key_span: ByteRange,
    /// The place of the value.
    pub span: ByteRange,
    node: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Reports that the value is wrong.
    pub fn wrong(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.reader.problem(&self.span, message, remedy);
    }

    fn not_a(&self, wanted: &str, example: &str) {
        let found = match self.node {
            DeValue::String(_) => "text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(
            format!("`{}` is {found}, and {wanted} is wanted", self.path),
            format!("write {} = {example}", self.key),
        );
    }

    /// The text, when it is one; nothing is reported.
    pub fn as_text(&self) -> Option<&'a str> {
        self.node.as_str()
    }

    /// The flag, when it is one; nothing is reported.
    pub fn as_flag(&self) -> Option<bool> {
        self.node.as_bool()
    }

    /// Whether it is an array with something in it; nothing is reported.
    pub fn has_items(&self) -> bool {
        self.node.as_array().is_some_and(|items| !items.is_empty())
    }

    /// Whether it is an array with nothing in it; nothing is reported.
    pub fn is_empty_array(&self) -> bool {
        self.node.as_array().is_some_and(|items| items.is_empty())
    }

    /// The elements, when it is an array; nothing is reported.
    pub fn as_items(&self) -> Vec<Self> {
        let DeValue::Array(items) = self.node else { return Vec::new() };
        items.iter().map(|item| self.item(item)).collect()
    }

    fn item(&self, item: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            reader: self.reader,
            path: self.path.clone(),
            key: self.key,
            key_span: item.span(),
            span: item.span(),
            node: item.get_ref(),
        }
    }

    /// The table with free keys, when it is one; nothing is reported.
    pub fn as_open_section(&self) -> Option<Section<'a>> {
        let table = self.node.as_table()?;
        Some(Section { reader: self.reader, span: self.span.clone(), path: self.path.clone(), table: Some(table) })
    }

    /// A scalar as text; nothing is reported.
    pub fn as_scalar(&self) -> Option<String> {
        Some(match self.node {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().trim_start_matches('+').to_owned(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => return None,
        })
    }

    /// Text.
    pub fn text(&self, example: &str) -> Option<&'a str> {
        let text = self.as_text();
        if text.is_none() {
            self.not_a("text", &format!("{example:?}"));
        }
        text
    }

    /// True or false.
    pub fn flag(&self) -> Option<bool> {
        let flag = self.as_flag();
        if flag.is_none() {
            self.not_a("true or false", "true");
        }
        flag
    }

    /// A whole number within bounds.
    pub fn integer(&self, bounds: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(number) = self.node else {
            self.not_a("a whole number", &bounds.start().to_string());
            return None;
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|value| bounds.contains(value));
        if value.is_none() {
            let remedy = format!("it must be from {} to {}", bounds.start(), bounds.end());
            self.wrong(format!("`{}` is {}", self.path, number.as_str()), remedy);
        }
        value
    }

    /// A number that `right` accepts.
    pub fn number(&self, right: impl Fn(f64) -> bool, remedy: &str) -> Option<f64> {
        let written = match self.node {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => {
                self.wrong(format!("`{}` is not a number", self.path), remedy);
                return None;
            }
        };
        let value = written.parse::<f64>().ok().filter(|value| value.is_finite() && right(*value));
        if value.is_none() {
            self.wrong(format!("`{}` is {written}", self.path), remedy);
        }
        value
    }

    /// A duration within bounds.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text("5s")?;
        let duration = match units::duration(text) {
            Ok(duration) => duration,
            Err(remedy) => {
                self.wrong(format!("`{}` is {text:?}, which is no duration", self.path), remedy);
                return None;
            }
        };
        if bounds.contains(&duration) {
            return Some(duration);
        }
        let (least, most) = (units::show_duration(*bounds.start()), units::show_duration(*bounds.end()));
        self.wrong(format!("`{}` is {text}", self.path), format!("it must be from {least} to {most}"));
        None
    }

    /// A size in bytes within bounds.
    pub fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text("64MiB")?;
        let size = match units::size(text) {
            Ok(size) => size,
            Err(remedy) => {
                self.wrong(format!("`{}` is {text:?}, which is no size", self.path), remedy);
                return None;
            }
        };
        if bounds.contains(&size) {
            return Some(size);
        }
        let (least, most) = (units::show_size(*bounds.start()), units::show_size(*bounds.end()));
        self.wrong(format!("`{}` is {text}", self.path), format!("it must be from {least} to {most}"));
        None
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(words[0].0)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!("`{}` is {text:?}", self.path), format!("it may be {}", units::quoted(&known)));
        }
        found
    }

    /// The elements of an array.
    pub fn items(&self, example: &str) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.node else {
            self.not_a("an array", example);
            return None;
        };
        Some(items.iter().map(|item| self.item(item)).collect())
    }

    /// An array of texts, each read by `read`; a repeated text is reported.
    pub fn texts<T>(&self, example: &str, read: impl Fn(&Self, &'a str) -> Option<T>) -> Option<Vec<T>> {
        let items = self.items(&format!("[{example:?}]"))?;
        let mut seen: Vec<(&str, ByteRange)> = Vec::new();
        let mut read_items = Vec::new();
        for item in items {
            let Some(text) = item.text(example) else { continue };
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == text) {
                let message = format!("{text:?} stands twice in `{}`", self.path);
                self.reader.clash(&item.span, first, "first here", message, "remove one of the two");
                continue;
            }
            seen.push((text, item.span.clone()));
            read_items.extend(read(&item, text));
        }
        Some(read_items)
    }

    /// A table whose keys are known.
    pub fn section(&self, known: &[&str]) -> Option<Section<'a>> {
        let section = self.open_section()?;
        section.refuse_unknown(known);
        Some(section)
    }

    /// A table whose keys are free.
    pub fn open_section(&self) -> Option<Section<'a>> {
        let section = self.as_open_section();
        if section.is_none() {
            let message = format!("`{}` must be one table", self.path);
            self.reader.problem(&self.key_span, message, format!("write [{}], with single brackets, once", self.path));
        }
        section
    }
}
