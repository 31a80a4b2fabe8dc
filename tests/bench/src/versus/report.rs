//! The report: a table for each workload and size.

use std::fmt::Write as _;

use super::contender::Contender;
use super::run::Measured;
use super::svg;
use super::{Plan, Workload};
use crate::load::{KEYS, PARTITIONS};
use crate::table::{machine, spread};

/// All runs of one contender in one workload.
pub struct Cell {
    pub contender: &'static Contender,
    /// Result of each run, or the reason why it did not finish.
    pub runs: Vec<Result<Measured, String>>,
}

impl Cell {
    pub fn new(contender: &'static Contender) -> Self {
        Self { contender, runs: Vec::new() }
    }

    fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.runs.iter().flatten()
    }

    fn figures(&self, of: impl Fn(&Measured) -> Option<f64>) -> Vec<f64> {
        self.measured().filter_map(of).collect()
    }

    fn cell(&self, decimals: usize, of: impl Fn(&Measured) -> Option<f64>) -> String {
        spread(self.figures(of), decimals)
    }

    /// The sum over all runs; unknown when no run has the figure.
    fn sum(&self, of: impl Fn(&Measured) -> Option<u64>) -> String {
        let known: Vec<u64> = self.measured().filter_map(of).collect();
        if known.is_empty() { "-".to_owned() } else { known.iter().sum::<u64>().to_string() }
    }

    /// The median of its rate; none when no run finished.
    pub fn rate(&self) -> Option<f64> {
        let mut rates = self.figures(|run| Some(run.a_second));
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }
}

/// All measurements.
pub struct Report {
    processors: usize,
    apart: bool,
    quick: bool,
    parts: Vec<(Plan, Vec<Cell>)>,
}

impl Report {
    pub fn new(processors: usize, apart: bool, quick: bool) -> Self {
        Self { processors, apart, quick, parts: Vec::new() }
    }

    pub fn add(&mut self, plan: Plan, cells: Vec<Cell>) {
        self.parts.push((plan, cells));
    }

    /// The report as a picture: a bar for each contender.
    pub fn svg(&self) -> String {
        let charts: Vec<svg::Chart> = self
            .parts
            .iter()
            .map(|(plan, cells)| svg::Chart {
                title: format!("{}, {} B: durable messages a second", plan.workload.title(), plan.bytes),
                bars: cells
                    .iter()
                    .map(|cell| svg::Bar {
                        name: cell.contender.title,
                        value: cell.rate(),
                        is_own: cell.contender.is_courier(),
                    })
                    .collect(),
            })
            .collect();
        svg::draw(&charts, &machine())
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Courier beside what one would pick instead\n\n");
        let shared = if self.apart {
            format!("the contender on one half of {} processors, all else on the other", self.processors)
        } else {
            format!(
                "the contender, Kafka's broker, PostgreSQL and this program shared all {} processors",
                self.processors
            )
        };
        let line = |text: &mut String, line: &str| writeln!(text, "{line}").expect("a String takes any text");
        line(&mut text, &format!("- {}", machine()));
        line(&mut text, &format!("- {shared}."));
        line(
            &mut text,
            &format!(
                "- Each run: a topic of {PARTITIONS} partitions and {KEYS} keys filled before, a new group, a new \
                 database; PostgreSQL with fsync, one row of ten columns and four indexes a message, offsets committed \
                 after it (Courier's own row is wider; with a bit a message it has no row). Contenders in turn; median (least to greatest)."
            ),
        );
        line(
            &mut text,
            "- Rates are those of the middle eight tenths of a run, by the commit times that PostgreSQL keeps. Losses \
             are messages below a committed offset without a row or a bit; `again` counts calls of a handler beyond those that \
             were needed; `inverted` counts messages of a key that were begun before an earlier one.",
        );
        if self.quick {
            line(&mut text, "- **A quick look**: one short run each. Its figures are no measurement.");
        }
        for (plan, cells) in &self.parts {
            line(&mut text, &format!("\n## {}, {} B\n", plan.workload.title(), plan.bytes));
            line(&mut text, &format!("{} messages, cut after {} s.\n", plan.messages, plan.limit.as_secs()));
            text.push_str(&table(*plan, cells));
            for cell in cells {
                for (number, error) in
                    cell.runs.iter().enumerate().filter_map(|(at, run)| Some((at, run.as_ref().err()?)))
                {
                    let first = error.lines().next().unwrap_or_default();
                    line(&mut text, &format!("\n{} did not finish run {}: {first}", cell.contender.title, number + 1));
                }
            }
        }
        text
    }
}

fn table(plan: Plan, cells: &[Cell]) -> String {
    // The processor time of a killed process is lost.
    let costs = plan.workload != Workload::W5;
    let latency = !plan.paced.is_zero();
    let mut columns = vec!["", "messages/s", "Courier reused / it", "fresh / it", "goal"];
    if costs {
        columns.extend(["own CPU µs", "PostgreSQL µs", "broker µs", "peak MiB"]);
    }
    if latency {
        columns.extend(["p50 ms at half load", "p99 ms", "at messages/s"]);
    }
    columns.extend(["lost", "again", "inverted", "cut", "failed"]);
    let mut text = row(&columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    text.push_str(&row(&vec!["---".to_owned(); columns.len()]));
    for cell in cells {
        let goal = cell.contender.goals.iter().find(|(workload, _)| *workload == plan.workload);
        let mut values = vec![
            cell.contender.title.to_owned(),
            cell.cell(0, |run| Some(run.a_second)),
            ratios(cells, "courier-reused", cell),
            ratios(cells, "courier-fresh", cell),
            goal.map_or_else(|| "-".to_owned(), |(_, goal)| format!("{goal}x")),
        ];
        if costs {
            values.extend([
                cell.cell(1, |run| Some(run.own_us)),
                cell.cell(1, |run| Some(run.database_us)),
                cell.cell(1, |run| Some(run.broker_us)),
                cell.cell(0, |run| Some(run.peak_mib)),
            ]);
        }
        if latency {
            values.extend([
                cell.cell(1, |run| Some(run.half_load?.p50_ms)),
                cell.cell(1, |run| Some(run.half_load?.p99_ms)),
                cell.cell(0, |run| Some(run.half_load?.a_second)),
            ]);
        }
        values.extend([
            cell.sum(|run| Some(run.lost)),
            cell.sum(|run| run.again),
            cell.sum(|run| run.inverted),
            cell.sum(|run| Some(u64::from(run.cut))),
            cell.runs.iter().filter(|run| run.is_err()).count().to_string(),
        ]);
        text.push_str(&row(&values));
    }
    text
}

/// Throughput of a Courier contender as a multiple of another's, each run compared
/// with the other's run of the same turn.
fn ratios(cells: &[Cell], courier: &str, other: &Cell) -> String {
    let Some(own) = cells.iter().find(|cell| cell.contender.name == courier) else { return "-".to_owned() };
    if own.contender.name == other.contender.name {
        return "1".to_owned();
    }
    let pairs = own.runs.iter().zip(&other.runs);
    let both = pairs.filter_map(|(own, other)| Some((own.as_ref().ok()?, other.as_ref().ok()?)));
    spread(both.map(|(own, other)| own.a_second / other.a_second).collect(), 2)
}

fn row(values: &[String]) -> String {
    format!("| {} |\n", values.join(" | "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::contender::CONTENDERS;
    use super::*;

    fn measured(name: &'static str, a_second: f64) -> Measured {
        Measured {
            name,
            a_second,
            own_us: 1.0,
            broker_us: 1.0,
            database_us: 1.0,
            peak_mib: 10.0,
            half_load: None,
            cut: false,
            lost: 0,
            again: Some(0),
            inverted: Some(0),
        }
    }

    #[test]
    fn the_report_tells_ratios_and_runs_that_failed() {
        let of = |name: &str| Cell::new(CONTENDERS.iter().find(|contender| contender.name == name).unwrap());
        let mut own = of("courier-reused");
        own.runs = vec![Ok(measured("courier-reused", 300.0)), Ok(measured("courier-reused", 500.0))];
        let mut other = of("rust-batched");
        other.runs = vec![Ok(measured("rust-batched", 150.0)), Err("it ended\nlog".to_owned())];
        let mut report = Report::new(2, false, false);
        let limit = Duration::from_secs(1);
        let plan = Plan { workload: Workload::W1, bytes: 100, messages: 10, limit, paced: Duration::ZERO };
        report.add(plan, vec![own, other]);
        let text = report.markdown();
        assert!(text.contains("| Rust, rdkafka + sqlx, one loop, batched | 150 | 2.00 |"), "{text}");
        assert!(text.contains("did not finish run 2: it ended\n"), "{text}");
        assert!(report.svg().contains("one loop"));
    }
}
