//! Reads the plans of a request's statements: `EXPLAIN (ANALYZE, BUFFERS)` of the
//! host's own statements, as `auto_explain` writes it into the server's log.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use courier_tests::servers::Postgres;
use serde_json::Value;
use sqlx::PgConnection;

/// Tables whose statements are shown; the host's housekeeping, which runs at the
/// same time, is left out.
const TABLES: [&str; 5] = ["delivery", "open_delivery", "message", "attempt", "dead_letter"];
/// Wait before the log is read: a plan may become readable after the answer.
const LOG_DELAY: Duration = Duration::from_millis(50);

/// The log of a server with `auto_explain`.
pub struct Plans {
    log: PathBuf,
}

impl Plans {
    /// Turns `auto_explain` on for sessions that begin from now on.
    pub async fn begin(database: &mut PgConnection, server: &Postgres) -> Result<Self> {
        let log = server.log().context("plans are read from the server's log")?;
        sqlx::raw_sql(
            "DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET session_preload_libraries = auto_explain', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_analyze = on', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_buffers = on', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_format = json', current_database());
             END $$",
        )
        .execute(database)
        .await
        .context("auto_explain is switched on")?;
        Ok(Self { log })
    }

    /// The present end of the log.
    pub fn mark(&self) -> Result<usize> {
        Ok(std::fs::metadata(&self.log)?.len().try_into()?)
    }

    /// The plans that were written after a mark.
    pub fn since(&self, mark: usize) -> Result<Vec<Plan>> {
        std::thread::sleep(LOG_DELAY);
        let log = std::fs::read(&self.log)?;
        let text = String::from_utf8_lossy(log.get(mark..).unwrap_or_default());
        let mut found = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((_, duration)) = line.split_once("duration: ").filter(|_| line.ends_with("plan:")) else {
                continue;
            };
            let mut json = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                json.push_str(line);
                json.push('\n');
            }
            // A statement's own line breaks stand raw in the log.
            let json: Value = serde_json::from_str(&json.replace(['\t', '\n'], " ")).context("a plan is read")?;
            let took = duration.split(' ').next().unwrap_or_default().to_owned();
            let plan = Plan { took, root: json["Plan"].clone() };
            if plan.scans().keys().any(|scan| TABLES.contains(&scan.0.as_str())) {
                found.push(plan);
            }
        }
        Ok(found)
    }
}

/// The plan of one statement.
pub struct Plan {
    took: String,
    root: Value,
}

impl Plan {
    /// Rows read, by table and access path.
    fn scans(&self) -> BTreeMap<(String, String), u64> {
        let mut scans = BTreeMap::new();
        walk(&self.root, 0, &mut |node, _| {
            let Some(table) = node["Relation Name"].as_str() else { return };
            let way = index_of(node).map_or_else(|| "the whole table".to_owned(), parent);
            *scans.entry((parent(table), way)).or_default() += read(node);
        });
        scans.retain(|_, rows| *rows > 0);
        scans
    }

    /// One line with the rows read by each index, and the number of pages.
    pub fn summary(&self) -> String {
        let number = |name: &str| self.root[name].as_u64().unwrap_or(0);
        let scans: Vec<_> =
            self.scans().iter().map(|((table, way), rows)| format!("{rows} of {table} by {way}")).collect();
        let pages = number("Shared Hit Blocks") + number("Shared Read Blocks");
        format!("{} ms, {pages} pages: {}", self.took, scans.join(", "))
    }

    /// The whole plan, a line a node.
    pub fn tree(&self) -> String {
        let mut tree = String::new();
        walk(&self.root, 0, &mut |node, depth| {
            let text = |name: &str| node[name].as_str().unwrap_or_default();
            let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
            let _ = writeln!(
                tree,
                "      {}{} {} {} (rows {}, loops {}, {:.2} ms, pages {})",
                "  ".repeat(depth),
                text("Node Type"),
                text("Relation Name"),
                text("Index Name"),
                number("Actual Rows"),
                number("Actual Loops"),
                number("Actual Total Time"),
                number("Shared Hit Blocks") + number("Shared Read Blocks"),
            );
            for condition in ["Index Cond", "Filter", "Sort Key"] {
                if !node[condition].is_null() {
                    let _ = writeln!(tree, "      {}  {condition}: {}", "  ".repeat(depth), node[condition]);
                }
            }
        });
        tree
    }
}

fn walk(node: &Value, depth: usize, visit: &mut impl FnMut(&Value, usize)) {
    visit(node, depth);
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, depth + 1, visit);
    }
}

/// The index of a scan, which a bitmap scan has in a node below its own.
fn index_of(node: &Value) -> Option<&str> {
    let below = || node["Plans"].as_array().into_iter().flatten().find_map(index_of);
    node["Index Name"].as_str().or_else(|| (node["Node Type"] == "Bitmap Heap Scan").then(below).flatten())
}

/// Rows that a scan read, including the rows that its filter removed.
fn read(node: &Value) -> u64 {
    let of_loop = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"];
    let rows: f64 = of_loop.iter().filter_map(|name| node[name].as_f64()).sum();
    (rows * node["Actual Loops"].as_f64().unwrap_or(1.0)) as u64
}

/// The name of a day's table or index without the day.
fn parent(name: &str) -> String {
    let Some((front, rest)) = name.split_once("_day_") else { return name.to_owned() };
    format!("{front}{}", rest.trim_start_matches(|letter: char| letter.is_ascii_digit()))
}
