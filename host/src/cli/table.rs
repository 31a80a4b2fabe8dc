//! Tables for people: plain columns that also read well through a pipe.
//!
//! The contents of messages are untrusted, so control characters are shown escaped
//! and never reach the terminal.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets};

/// Columns of the terminal between two cells.
const GAP: usize = 2;
/// Narrowest width of a column, in columns of the terminal.
const MIN_CELL: usize = 12;

/// The table of a list, or `nothing` when it has no rows. On a terminal its
/// widest cells are cut to the terminal's width; in a pipe nothing is cut.
pub(super) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, nothing: &str) -> String {
    within(terminal_width(), header, rows, nothing)
}

/// A table that is never cut, for commands that show one thing.
pub(super) fn whole<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, nothing: &str) -> String {
    within(None, header, rows, nothing)
}

fn within<const N: usize>(width: Option<usize>, header: [&str; N], rows: Vec<[String; N]>, nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| one_line(&cell))).collect();
    let mut widths = header.map(columns);
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(columns(cell));
        }
    }
    if let Some(width) = width {
        fit(&mut widths, width.saturating_sub(GAP * N.saturating_sub(1)));
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row.iter().zip(widths).map(|(cell, width)| cut(cell, width)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Narrows the widest columns until all of them fit, as far as that is possible.
fn fit(widths: &mut [usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > MIN_CELL) else { return };
        *widest -= 1;
    }
}

/// Width of the terminal; `None` when standard output is no terminal.
fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request fills the struct that it is handed, and standard output
    // stays open for as long as the process runs.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(letter: char) -> usize {
    // East Asian letters take two columns.
    if matches!(letter, '\u{1100}'..='\u{115f}' | '\u{2e80}'..) { 2 } else { 1 }
}

/// Names with their values, one a line; absent values are left out.
pub(super) fn fields(fields: &[(&str, Option<String>)]) -> String {
    let present = || fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let width = present().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = present().map(|(name, value)| format!("{name:width$}  {}", clean(value))).collect();
    lines.join("\n")
}

/// The value, or `-` if it is absent.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A key as people see it: text, or Base64 marked as such.
pub(super) fn key(text: Option<&String>, base64: Option<&String>) -> Option<String> {
    text.cloned().or_else(|| base64.map(|base64| format!("base64:{base64}")))
}

/// The digest's first twelve digits, which are enough to distinguish versions.
pub(super) fn version(digest: &str) -> String {
    digest.char_indices().nth("sha256:".len() + 12).map_or(digest, |(end, _)| &digest[..end]).to_owned()
}

/// Text without characters that act on a terminal; lines stay lines.
pub(super) fn clean(text: &str) -> String {
    let odd = |c: char| (c.is_control() && c != '\n' && c != '\t') || turns_text_round(c);
    let each = text.chars().map(|c| if odd(c) { c.escape_default().to_string() } else { c.to_string() });
    each.collect()
}

/// Whether a character changes the direction of the text after it: with one of
/// these `gpj.exe` is shown as `exe.jpg`.
fn turns_text_round(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text on one line, without characters that act on a terminal.
pub(super) fn one_line(text: &str) -> String {
    clean(&text.replace(['\n', '\t'], " "))
}

/// The beginning of a line that fits into `width` columns.
fn cut(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |letter: &char| {
        let fits = columns_of(*letter) <= left;
        left = left.saturating_sub(columns_of(*letter));
        fits
    };
    line.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_headers() {
        let rows = vec![["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], rows, "none"), "NAME    N\na       1\nlonger  2");
        assert_eq!(table(["NAME"], vec![], "none"), "none");
    }

    #[test]
    fn what_a_message_contains_cannot_act_on_the_terminal() {
        let rows = vec![["\u{1b}[2Jgone\nnext".to_owned()]];
        assert_eq!(table(["REASON"], rows, ""), "REASON\n\\u{1b}[2Jgone next");
        assert_eq!(fields(&[("log", Some("a\n\u{7}b".to_owned())), ("x", None)]), "log  a\n\\u{7}b");
    }

    /// Item 16: a key with such a character showed another key.
    #[test]
    fn what_turns_text_round_is_shown_and_not_obeyed() {
        for c in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}'] {
            let shown = clean(&format!("a{c}b"));
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        assert_eq!(clean("шаг 订单 ‰"), "шаг 订单 ‰");
    }

    #[test]
    fn a_remedy_is_whole_in_a_pipe_and_where_one_thing_is_shown() {
        let remedy = "denied: binding of group pricing does not grant cache: set cache = true in [binding.grant]";
        let rows = || vec![["pricing".to_owned(), remedy.to_owned()]];
        assert!(whole(["GROUP", "REASON"], rows(), "").contains(remedy));
        assert!(within(None, ["GROUP", "REASON"], rows(), "").contains(remedy));
    }

    #[test]
    fn a_list_is_cut_to_the_width_of_the_terminal() {
        let rows = vec![["pricing".to_owned(), "é".repeat(100)], ["mail".to_owned(), "short".to_owned()]];
        let shown = within(Some(40), ["GROUP", "REASON"], rows, "");
        let longest = shown.lines().map(columns).max();
        assert_eq!(longest, Some(40), "{shown}");
        assert!(shown.contains("é…") && shown.contains("pricing") && shown.contains("short"), "{shown}");
        let rows = vec![["订单".repeat(20), "x".to_owned()]];
        let shown = within(Some(30), ["KEY", "N"], rows, "");
        assert!(shown.lines().all(|line| columns(line) <= 30), "{shown}");
    }

    #[test]
    fn a_version_is_told_by_its_first_digits() {
        assert_eq!(version(&format!("sha256:{}", "ab".repeat(32))), "sha256:abababababab");
    }
}
