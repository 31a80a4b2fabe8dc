//! Durations, sizes and names, as `courier.toml` writes them.
//!
//! The functions here are pure. Their error is a remedy; the caller knows the place
//! of the text.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The longest name that Kafka takes for a topic.
pub(super) const MAX_NAME: usize = 249;

/// Reads a duration: a whole number and `ms`, `s`, `m`, `h` or `d`.
///
/// The error says what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        let near = text.trim().to_lowercase().replace(' ', "");
        if in_shape(&near, &DURATIONS) && scaled(&near, &DURATIONS).is_none() {
            return format!("it is too long: the longest duration is {}d", u64::MAX / 86_400_000);
        }
        let hint = match scaled(&near, &DURATIONS) {
            Some(_) => format!(": {near:?}"),
            None if !near.is_empty() && near.bytes().all(|byte| byte.is_ascii_digit()) => format!(": \"{near}s\""),
            None => ": \"500ms\", \"5s\" or \"7d\"".to_owned(),
        };
        format!("a duration is a whole number and one of ms, s, m, h, d{hint}")
    })
}

/// Reads a size in bytes: a whole number and `KiB`, `MiB` or `GiB`.
///
/// The error says what would be right.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES).ok_or_else(|| {
        let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        let unit = text.trim()[digits.len()..].trim().to_lowercase();
        let hint = match unit.chars().next() {
            Some('k') if !digits.is_empty() => format!(": \"{digits}KiB\""),
            Some('m') if !digits.is_empty() => format!(": \"{digits}MiB\""),
            Some('g') if !digits.is_empty() => format!(": \"{digits}GiB\""),
            _ => ": \"64KiB\" or \"64MiB\"".to_owned(),
        };
        format!("a size is a whole number and one of KiB, MiB, GiB{hint}")
    })
}

/// Whether the text is a number and a unit, whatever the size of the number.
fn in_shape(text: &str, units: &[(&str, u64)]) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && units.iter().any(|(name, _)| *name == unit)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration as the TOML writes it, in the largest unit that is exact.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "ms")
}

/// A size as the TOML writes it, in the largest unit that is exact.
pub fn show_size(size: u64) -> String {
    show(size, &SIZES, " bytes")
}

fn show(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let exact = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{value}{smallest}"), |(unit, factor)| format!("{}{unit}", value / factor))
}

/// Checks the name of a topic, group or node; the error says what would be right.
pub(super) fn name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("give it a name of 1 to 249 letters, digits, '.', '_' and '-'".to_owned());
    }
    if text.len() > MAX_NAME {
        return Err(format!("shorten it: a name has at most {MAX_NAME} characters, this one {}", text.chars().count()));
    }
    if text == "." || text == ".." {
        return Err("\".\" and \"..\" are no names".to_owned());
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(odd) => Err(format!("a name consists of letters, digits, '.', '_' and '-': remove {odd:?}")),
        None => Ok(()),
    }
}

/// Checks the name of a plugin or an outbox.
///
/// # Errors
/// What would be right, when it is no such name.
pub fn plugin_name(text: &str) -> Result<(), String> {
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=64).contains(&text.len()) && text.chars().all(right) && !text.starts_with('-') {
        return Ok(());
    }
    let near: String = text.to_lowercase().chars().map(|c| if right(c) { c } else { '-' }).take(64).collect();
    let near = near.trim_start_matches('-');
    let example = if near.is_empty() { "order-handler" } else { near };
    Err(format!("it consists of 1 to 64 small letters, digits and '-', for example {example:?}"))
}

/// The known word that was probably meant.
pub fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let near = known.iter().map(|known| (distance(&word, &plain(known)), *known));
    near.filter(|(distance, _)| *distance <= allowed).min().map(|(_, known)| known)
}

/// The edit distance of two words: letters added, removed, changed or swapped with
/// their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let changed = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// `a, b and c`.
pub(super) fn listed(words: &[&str]) -> String {
    join(words, "and", |word| format!("`{word}`"))
}

/// `"a", "b" or "c"`.
pub(super) fn quoted(words: &[&str]) -> String {
    join(words, "or", |word| format!("{word:?}"))
}

fn join(words: &[&str], last: &str, show: impl Fn(&str) -> String) -> String {
    match words {
        [] => String::new(),
        [one] => show(one),
        [first @ .., end] => {
            let first: Vec<String> = first.iter().map(|word| show(word)).collect();
            format!("{} {last} {}", first.join(", "), show(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit_and_nothing_else() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in
            ["", "5", "s", "1.5s", "-1s", "5 s", "5sec", "99999999999999999999s", "18446744073709551615d", "5S"]
        {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        assert!(duration("5 S").unwrap_err().ends_with(": \"5s\""));
        assert!(duration("30").unwrap_err().ends_with(": \"30s\""));
        assert!(duration("999999999999d").unwrap_err().starts_with("it is too long"));
    }

    #[test]
    fn sizes_are_a_number_and_a_unit_and_nothing_else() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("4GiB"), Ok(1 << 32));
        for wrong in ["", "64", "64MB", "64 MiB", "1.5MiB", "64mib", "MiB", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
        assert!(size("64 MB").unwrap_err().ends_with(": \"64MiB\""));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["1ms", "90s", "5m", "1h", "7d", "1500ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(1000), "1000 bytes");
    }

    #[test]
    fn the_word_that_was_meant_is_found() {
        let known = ["timeout", "topics", "types", "concurrency"];
        assert_eq!(closest("tiemout", &known), Some("timeout"));
        assert_eq!(closest("topic", &known), Some("topics"));
        assert_eq!(closest("Concurency", &known), Some("concurrency"));
        assert_eq!(closest("banana", &known), None);
    }
}
