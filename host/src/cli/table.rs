//! Tables for people: plain columns that also read well through a pipe.
//!
//! What messages contain comes from anywhere, so characters that would act on
//! a terminal are shown and not sent.

use comfy_table::{ContentArrangement, Table, presets};

/// The longest text of a cell; `show` and `--output json` give the whole.
const MAX_CELL: usize = 60;

/// A table, or `nothing` when it has no rows.
pub(super) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| short(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Names with their values, one a line; what is absent is left out.
pub(super) fn fields(fields: &[(&str, Option<String>)]) -> String {
    let present = || fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let width = present().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = present().map(|(name, value)| format!("{name:width$}  {}", clean(value))).collect();
    lines.join("\n")
}

/// What stands for a value that is not there.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A key as people see it: text, or Base64 marked as such.
pub(super) fn key(text: Option<&String>, base64: Option<&String>) -> Option<String> {
    text.cloned().or_else(|| base64.map(|base64| format!("base64:{base64}")))
}

/// The digest's first twelve digits, which tell versions apart.
pub(super) fn version(digest: &str) -> String {
    digest.char_indices().nth("sha256:".len() + 12).map_or(digest, |(end, _)| &digest[..end]).to_owned()
}

/// Text without characters that act on a terminal; lines stay lines.
pub(super) fn clean(text: &str) -> String {
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    let each = text.chars().map(|c| if odd(c) { c.escape_default().to_string() } else { c.to_string() });
    each.collect()
}

fn short(text: &str) -> String {
    let line: String = clean(&text.replace(['\n', '\t'], " "));
    if line.chars().count() <= MAX_CELL {
        return line;
    }
    line.chars().take(MAX_CELL - 1).chain(['…']).collect()
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

    #[test]
    fn long_cells_are_cut() {
        let cut = short(&"é".repeat(100));
        assert_eq!(cut.chars().count(), MAX_CELL);
        assert!(cut.ends_with('…'));
        assert_eq!(version(&format!("sha256:{}", "ab".repeat(32))), "sha256:abababababab");
    }
}
