use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn outbox() -> Subject {
    Subject::Outbox("shop".to_owned())
}

fn codes(board: &mut Board, now: Timestamp) -> Vec<(&'static str, Timestamp)> {
    board.shown(now).iter().map(|standing| (standing.code, standing.since)).collect()
}

#[test]
fn a_cause_is_shown_once_it_has_stood_for_a_while_and_keeps_its_beginning() {
    let mut board = Board::default();
    for second in 0..15 {
        board.report(at(second), outbox(), Cause::new("denied", "no").with("table", second));
    }
    assert_eq!(codes(&mut board, at(9)), []);
    assert_eq!(codes(&mut board, at(15)), [("denied", at(0))]);
    assert_eq!(board.shown(at(15))[0].fields["table"], "14");
    board.clear(at(16), &outbox(), None);
    assert_eq!(codes(&mut board, at(17)), []);
    board.report(at(18), outbox(), Cause::new("denied", "no"));
    assert_eq!(codes(&mut board, at(30)), [("denied", at(18))]);
}

#[test]
fn a_cause_that_explains_the_ones_before_takes_their_place() {
    let mut board = Board::default();
    board.report(at(0), outbox(), Cause::new("silent", "no answer"));
    board.report(at(0), Subject::Store, Cause::new("silent", "no answer"));
    board.report_instead(at(20), outbox(), Cause::new("missing", "there is no table"));
    board.report_instead(at(31), outbox(), Cause::new("missing", "there is no table"));
    assert_eq!(codes(&mut board, at(32)), [("missing", at(20)), ("silent", at(0))], "the store's own stays");
}

#[test]
fn a_cause_that_nobody_reports_again_is_forgotten_unless_it_is_kept() {
    let mut board = Board::default();
    board.report(at(0), outbox(), Cause::new("denied", "no"));
    board.report(at(0), Subject::Config, Cause::new("refused", "line 3").until_cleared());
    assert_eq!(codes(&mut board, at(1)), [("refused", at(0))]);
    assert_eq!(codes(&mut board, at(30)).len(), 2);
    assert_eq!(codes(&mut board, at(90)), [("refused", at(0))]);
    board.clear(at(91), &Subject::Config, Some("other"));
    assert_eq!(codes(&mut board, at(92)).len(), 1);
    board.clear(at(93), &Subject::Config, Some("refused"));
    assert_eq!(codes(&mut board, at(94)), []);
}

#[test]
fn what_stands_still_is_told_before_what_is_foreseen_and_what_a_person_wants() {
    let causes = Causes::default();
    let of = || causes.of(&outbox()).map(|standing| (standing.code, standing.degrades()));
    causes.report(outbox(), Cause::new(PAUSED, "night").awaits_person());
    assert_eq!(of(), Some((PAUSED, false)));
    causes.report(outbox(), Cause::new(RETENTION_NEAR, "soon").foreseen());
    assert_eq!(of(), Some((RETENTION_NEAR, false)));
    causes.report(outbox(), Cause::new(COPIED_FULL, "no room").at_once());
    assert_eq!(of(), Some((COPIED_FULL, true)));
}

#[test]
fn a_cause_that_comes_and_goes_is_logged_with_back_off() {
    let lines_until = |end: i64, clears: bool| {
        let (mut board, mut lines) = (Board::default(), Vec::new());
        for second in 0..end {
            let next = board.entries.values().next().map(|entry| entry.log_at);
            board.report(at(second), outbox(), Cause::new("denied", "no"));
            if next.is_some_and(|next| next != board.entries.values().next().unwrap().log_at) {
                lines.push(second);
            }
            if clears {
                board.clear(at(second), &outbox(), None);
            }
        }
        lines
    };
    assert_eq!(lines_until(400, true), [10, 70, 190]);
    assert_eq!(lines_until(7_200, false), [10, 70, 190, 430, 910, 1_870, 3_790]);
}

#[test]
fn a_cause_that_passes_is_not_logged_and_one_that_cannot_pass_is_at_once() {
    let mut board = Board::default();
    board.report(at(0), outbox(), Cause::new("denied", "no"));
    board.clear(at(2), &outbox(), None);
    assert_eq!(board.entries.values().next().unwrap().log_at, at(10));
    board.report(at(30), Subject::Config, Cause::new("refused", "line 3").until_cleared());
    let (_, config) = board.entries.first_key_value().unwrap();
    assert_eq!((board.entries.len(), config.log_at), (1, at(90)), "the one that passed is forgotten");
}

/// The text of each source file of the host, without its tests.
fn sources() -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.starts_with("tests") && name != "testing.rs" {
                let text = std::fs::read_to_string(path).unwrap();
                texts.push(text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned());
            }
        }
    }
    texts
}

/// The texts between each `start` and the next of `end`.
fn after<'t>(text: &'t str, start: &str, end: &[char]) -> Vec<&'t str> {
    let parts = text.split(start).skip(1);
    parts.filter_map(|part| part.trim_start().split(end).next()).collect()
}

/// The values of the text constants of a source, by their names.
fn constants(text: &str) -> BTreeMap<&str, &str> {
    let constant = |line| -> Option<(&str, &str)> {
        let (name, value) = str::split_once(line, ": &str = \"")?;
        Some((name.split_whitespace().last()?, value.split('"').next()?))
    };
    text.lines().filter_map(constant).collect()
}

/// All codes that the sources name.
fn all_codes() -> BTreeSet<String> {
    let sources = sources();
    let board = sources.iter().find(|text| text.contains("pub struct Causes {")).unwrap();
    let shared = constants(board);
    let mut codes = BTreeSet::new();
    for text in &sources {
        let own = constants(text);
        for named in after(text, "Cause::new(", &[',', ')']) {
            // A name that is neither a text nor a constant is a parameter: its codes are
            // named by the callers.
            let literal = named.strip_prefix('"').map(|literal| literal.trim_end_matches('"'));
            codes.extend(literal.or_else(|| own.get(named).or(shared.get(named)).copied()).map(ToOwned::to_owned));
        }
        codes.extend(after(text, "SourceError::new(\"", &['"']).into_iter().map(ToOwned::to_owned));
        codes.extend(after(text, "Self::new(\"outbox_", &['"']).into_iter().map(|rest| format!("outbox_{rest}")));
        codes.extend(after(text, " code: \"", &['"']).into_iter().map(ToOwned::to_owned));
        for body in text.split("fn code(&self) -> &'static str {").skip(1) {
            let body = body.split("\n    }\n").next().unwrap_or_default();
            codes.extend(body.split('"').skip(1).step_by(2).map(ToOwned::to_owned));
        }
    }
    codes
}

/// Programs distinguish causes by their codes, so all codes have one form; and the
/// console has a text for each code in both languages.
#[test]
fn every_code_is_words_joined_by_underscores_and_the_console_knows_it() {
    let codes = all_codes();
    for known in ["store_refuses", "relay_without_rows", "store_fsync_off", "outbox_column", "topic_refused"] {
        assert!(codes.contains(known), "the sources name {known}: {codes:?}");
    }
    let console = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/src/ui/causes.ts");
    let console = std::fs::read_to_string(console).unwrap();
    for code in &codes {
        let words = code.split('_').all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
        assert!(words, "{code:?} is not words in small letters joined by underscores");
        assert_eq!(console.matches(&format!("\n    {code}: ")).count(), 2, "{code} in {}", "console/src/ui/causes.ts");
    }
}
