//! Pages of lists: the arguments that select one, and the note on what follows it.

use super::{point_in_time, table};

/// The part of a list to show.
#[derive(Debug, clap::Args)]
pub(super) struct PageRange {
    /// Select entries from this time on, for example 2026-01-31T08:00:00Z, or from
    /// that long ago: 15m.
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub from: Option<String>,
    /// Select entries before this time, or before that long ago.
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub to: Option<String>,
    #[command(flatten)]
    pub page: Paging,
}

/// The page of a list to show.
#[derive(Debug, clap::Args)]
pub(super) struct Paging {
    /// Continue after the page that printed this cursor.
    #[arg(long)]
    pub cursor: Option<String>,
    /// The largest number of entries to show.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
}

/// A page's table, and how to get the entries that it left out.
pub(super) fn with_end(mut table: String, next: Option<&str>, truncated: bool) -> String {
    if let Some(next) = next {
        table.push_str(&format!("\n\nmore: --cursor {}", table::clean(next)));
    }
    if truncated {
        table.push_str(
            "\n\nonly part of the time was searched: narrow it with --from and --to, or name a group, key or id",
        );
    }
    table
}
