//! Tables of figures: one row for each measure, one column for each contender.

use std::fmt;

/// Widths in characters of the first column and of each other column.
const WIDTHS: (usize, usize) = (37, 27);

/// A table with one column for each contender.
pub struct Table {
    lines: Vec<String>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        let mut table = Self { lines: Vec::new() };
        table.line("", columns);
        table
    }

    /// A row of figures: the median of each column with its spread.
    pub fn row<const N: usize>(&mut self, name: &str, decimals: usize, figures: [Vec<f64>; N]) {
        self.line(name, figures.map(|figures| spread(figures, decimals)));
    }

    /// A row of plain counts.
    pub fn counts<const N: usize>(&mut self, name: &str, counts: [u64; N]) {
        self.line(name, counts);
    }

    fn line<const N: usize>(&mut self, name: &str, cells: [impl fmt::Display; N]) {
        let (first, other) = WIDTHS;
        let cells = cells.map(|cell| format!("{:<other$}", cell.to_string())).concat();
        self.lines.push(format!("{name:<first$}{cells}").trim_end().to_owned());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(to, "{line}"))
    }
}

/// The median of figures, with the least and the greatest.
#[must_use]
pub fn spread(mut figures: Vec<f64>, decimals: usize) -> String {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => "-".to_owned(),
        [only] => format!("{only:.decimals$}"),
        [least, .., greatest] => {
            // For an even number of figures, the mean of the two in the middle.
            let median = f64::midpoint(figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
            format!("{median:.decimals$} ({least:.decimals$} to {greatest:.decimals$})")
        }
    }
}

/// Describes this machine in one line.
#[must_use]
pub fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "machine: {cores} cores of {}, {} of memory, Linux {}",
        value(&read("/proc/cpuinfo"), "model name"),
        value(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_two_is_between_them() {
        assert_eq!(spread(vec![3.0, 1.0], 1), "2.0 (1.0 to 3.0)");
        assert_eq!(spread(vec![3.0, 1.0, 9.0], 0), "3 (1 to 9)");
        assert_eq!((spread(vec![2.0], 1), spread(Vec::new(), 1)), ("2.0".to_owned(), "-".to_owned()));
    }
}
