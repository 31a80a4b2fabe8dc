//! Reads the counts of passed and failed tests from the output of other languages'
//! test runners, line by line.

use crate::steps::Count;

/// `node --test` with its reporter for TAP: `# pass 3`, `# fail 1`.
pub fn of_tap(line: &str) -> Option<Count> {
    let (word, number) = line.strip_prefix("# ")?.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "pass" => Some(Count { passed: number, failed: 0 }),
        // A cancelled test did not end: its file or its time was over first.
        "fail" | "cancelled" => Some(Count { passed: 0, failed: number }),
        _ => None,
    }
}

/// pytest's last line: `1 failed, 2 passed, 1 warning in 0.12s`.
pub fn of_pytest(line: &str) -> Option<Count> {
    let (counts, time) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    time.split(' ').next()?.strip_suffix('s')?.parse::<f64>().ok()?;
    let mut count = Count::default();
    for part in counts.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word {
            "passed" => count.passed += number,
            "failed" | "error" | "errors" => count.failed += number,
            _ => {}
        }
    }
    Some(count)
}

/// `go test -v`, test by test: `--- PASS: TestName (0.00s)`; subtests are indented.
pub fn of_go(line: &str) -> Option<Count> {
    let line = line.trim_start();
    if line.starts_with("--- PASS: ") {
        return Some(Count { passed: 1, failed: 0 });
    }
    line.starts_with("--- FAIL: ").then_some(Count { passed: 0, failed: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_lines_are_counted() {
        assert_eq!(of_tap("# pass 31"), Some(Count { passed: 31, failed: 0 }));
        assert_eq!(of_tap("# fail 2"), Some(Count { passed: 0, failed: 2 }));
        assert_eq!(of_tap("# cancelled 1"), Some(Count { passed: 0, failed: 1 }));
        for other in ["ok 1 - a test", "# tests 33", "# Subtest: pass 1", "# pass the salt"] {
            assert_eq!(of_tap(other), None, "{other}");
        }
    }

    #[test]
    fn pytests_last_line_is_counted() {
        assert_eq!(of_pytest("81 passed in 23.90s"), Some(Count { passed: 81, failed: 0 }));
        let all = "==== 1 failed, 2 passed, 3 errors, 1 warning in 65.10s (0:01:05) ====";
        assert_eq!(of_pytest(all), Some(Count { passed: 2, failed: 4 }));
        for other in ["PASSED tests/test_unit.py::test_a", "no tests ran in 0.01s", "what is in 3s"] {
            assert_eq!(of_pytest(other), None, "{other}");
        }
    }

    #[test]
    fn gos_lines_are_counted() {
        assert_eq!(of_go("    --- PASS: TestScenarios/a_message (0.07s)"), Some(Count { passed: 1, failed: 0 }));
        assert_eq!(of_go("--- FAIL: TestScenarios (0.07s)"), Some(Count { passed: 0, failed: 1 }));
        assert_eq!(of_go("=== RUN   TestScenarios"), None);
        assert_eq!(of_go("ok  \tcourier.dev/client\t0.883s"), None);
    }
}
