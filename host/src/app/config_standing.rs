//! Tracks the state of the configuration: errors of a refused reload, settings
//! that wait for a restart, and warnings.
//!
//! A person who saved a file looks at the console or at `/readyz` and seldom at
//! the log, so both show the state of the file.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::readiness_report::{Note, ReadinessReport};
use crate::causes::{Cause, Causes, Subject};
use crate::config::{ConfigError, ConfigProblem};

/// A configuration file that is gone is known by this word.
const MISSING: &str = "config_missing";

/// The state of the configuration; clones share it.
#[derive(Clone, Debug)]
pub struct ConfigStanding {
    causes: Causes,
    inner: Arc<Mutex<StandingParts>>,
}

#[derive(Debug, Default)]
struct StandingParts {
    warnings: Vec<ConfigProblem>,
    /// Settings that differ from the running ones, and apply at the next start.
    restart: Vec<&'static str>,
    /// Line and column of a file that is not in force.
    refused_at: Option<(usize, usize)>,
}

impl ConfigStanding {
    /// Without a configuration yet; refusals are reported to `causes`.
    #[must_use]
    pub fn new(causes: Causes) -> Self {
        Self { causes, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, StandingParts> {
        self.inner.lock()
    }

    /// Notes a configuration that is in force.
    pub fn taken(&self, warnings: Vec<ConfigProblem>, restart: Vec<&'static str>) {
        self.causes.clear(&Subject::Config);
        let mut inner = self.lock();
        inner.gauge(None);
        inner.warnings = warnings;
        inner.restart = restart;
    }

    /// Notes a wrong file; the earlier one stays in force.
    pub fn refused(&self, error: &ConfigError) {
        let Some(first) = error.errors().first() else { return };
        let why = match error.errors().len() {
            1 => first.to_string(),
            count => format!("{first} (and {} more)", count - 1),
        };
        self.hold_back(&why, (first.line, first.column));
    }

    /// Notes a file that was refused for another reason than an error in it.
    pub fn not_taken(&self, why: &str) {
        self.hold_back(why, (0, 0));
    }

    /// Notes a configuration of which only a part could be put in force.
    pub fn partly_taken(&self, warnings: Vec<ConfigProblem>, restart: Vec<&'static str>, why: &str) {
        self.taken(warnings, restart);
        self.report(format!("the changed configuration is only partly in force: {why}"), (0, 0));
    }

    /// Notes that the file is gone. What it said last stays in force.
    pub fn missing(&self, path: &Path) {
        let why = format!(
            "the configuration {} is missing: the host goes on with what it said last, and would not start again; put \
             the file back",
            path.display()
        );
        let cause = Cause::new(MISSING, why).with("file", path.display());
        self.causes.report(Subject::Config, cause.until_cleared());
    }

    /// Notes that the file is there again.
    pub fn back(&self) {
        self.causes.clear_code(&Subject::Config, MISSING);
    }

    fn hold_back(&self, why: &str, place: (usize, usize)) {
        self.report(format!("the changed configuration is not in force: {why}"), place);
    }

    fn report(&self, why: String, (line, column): (usize, usize)) {
        metrics::counter!("courier_reload_failures_total").increment(1);
        let cause = Cause::new("config_refused", why).with("line", line).with("column", column);
        self.causes.report(Subject::Config, cause.until_cleared());
        self.lock().gauge(Some((line, column)));
    }

    /// Adds the notes that are no causes to the readiness report.
    pub fn tell(&self, ready: &mut ReadinessReport) {
        let inner = self.lock();
        for what in &inner.restart {
            let why = format!("{what} changed in the configuration; that takes effect after a restart");
            ready.notes.push(Note::new("config_restart", what, why.clone()));
            ready.reasons.push(why);
        }
        for warning in &inner.warnings {
            let place = match warning.line {
                0 => warning.file.clone(),
                line => format!("{}:{line}", warning.file),
            };
            ready.notes.push(Note::new("config_warning", &place, warning.to_string()));
        }
    }
}

impl StandingParts {
    /// Sets the gauge of the place of an error.
    fn gauge(&mut self, place: Option<(usize, usize)>) {
        let before = std::mem::replace(&mut self.refused_at, place);
        for (place, value) in [(before, 0.0), (place, 1.0)] {
            if let Some((line, column)) = place {
                let place = [("line", line.to_string()), ("column", column.to_string())];
                metrics::gauge!("courier_config_refused", &place).set(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn told(standing: &ConfigStanding) -> ReadinessReport {
        let mut ready = ReadinessReport::default();
        for cause in standing.causes.shown() {
            ready.degrade_for(&cause);
        }
        standing.tell(&mut ready);
        ready
    }

    #[test]
    fn a_refused_file_is_told_with_its_place_until_one_is_taken() {
        let standing = ConfigStanding::new(Causes::default());
        assert!(told(&standing).degraded.is_empty());
        let error = parse("courier.toml", "[server]\nnod = 1\nlisten = 2\n", &|_| None).unwrap_err();
        standing.refused(&error);
        let ready = told(&standing);
        assert_eq!(ready.degraded[0].what, "config");
        let why = &ready.degraded[0].why;
        assert!(why.contains("courier.toml:2:1: unknown key `nod`") && why.contains("(and 1 more)"), "{why}");
        let cause = standing.causes.of(&Subject::Config).unwrap();
        assert_eq!((cause.fields["line"].as_str(), cause.fields["column"].as_str()), ("2", "1"));
        standing.not_taken("it has no bindings");
        let cause = standing.causes.of(&Subject::Config).unwrap();
        assert!(cause.why.ends_with("it has no bindings"), "{}", cause.why);
        standing.taken(Vec::new(), vec!["[store]"]);
        let ready = told(&standing);
        assert!(ready.degraded.is_empty());
        assert_eq!(ready.reasons, ["[store] changed in the configuration; that takes effect after a restart"]);
        standing.taken(Vec::new(), Vec::new());
        assert!(told(&standing).reasons.is_empty(), "it was changed back");
    }

    /// Issue 16: a `courier.toml` that vanished was not told.
    #[test]
    fn a_missing_file_is_told_until_it_is_back() {
        let standing = ConfigStanding::new(Causes::default());
        standing.not_taken("it has no bindings");
        standing.missing(Path::new("/etc/courier.toml"));
        let degraded = told(&standing).degraded;
        let told_of: Vec<&str> = degraded.iter().map(|one| one.why.as_str()).collect();
        assert!(
            told_of.iter().any(|why| why.starts_with("the configuration /etc/courier.toml is missing")),
            "{told_of:?}"
        );
        assert_eq!(degraded[0].what, "config");
        standing.back();
        let cause = standing.causes.of(&Subject::Config).unwrap();
        assert_eq!(cause.code, "config_refused", "what is wrong with it is another matter");
    }

    /// "is not in force" was told of a configuration whose other groups ran by it.
    #[test]
    fn a_configuration_of_which_a_group_cannot_start_is_partly_in_force() {
        let standing = ConfigStanding::new(Causes::default());
        standing.partly_taken(Vec::new(), vec!["[store]"], "not all of its groups could be started: no threads");
        let ready = told(&standing);
        assert!(ready.degraded[0].why.contains("only partly in force: not all of its groups"), "{:?}", ready.degraded);
        assert_eq!((ready.notes.len(), ready.notes[0].kind), (1, "config_restart"), "the rest of it is told as ever");
        standing.taken(Vec::new(), Vec::new());
        assert!(told(&standing).degraded.is_empty());
    }

    #[test]
    fn warnings_are_told_to_those_who_look() {
        let text = "[[binding]]\ngroup = \"g\"\ntopics = [\"a.b\", \"a_b\"]\nplugin = \"p\"\n";
        let config = parse("courier.toml", text, &|_| None).unwrap();
        let standing = ConfigStanding::new(Causes::default());
        standing.taken(config.warnings, Vec::new());
        let notes = told(&standing).notes;
        assert_eq!((notes.len(), notes[0].kind, notes[0].subject.as_str()), (1, "config_warning", "courier.toml:3"));
        assert!(notes[0].detail.contains("differ only in '.' and '_'"), "{}", notes[0].detail);
    }
}
