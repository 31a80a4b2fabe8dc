//! `courier outbox`: prints the table that a sender inserts into, in its own
//! transaction, and that Courier relays.

use clap::ValueEnum;

use super::{Output, say};

const POSTGRES: &str = include_str!("postgres.sql");
const NOTIFY: &str = include_str!("postgres_notify.sql");
const SQLITE: &str = include_str!("sqlite.sql");

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the statements that create the outbox table.
    Schema {
        /// The sender's database.
        #[arg(long = "for", value_enum, value_name = "DATABASE")]
        database: Database,
        /// Add the trigger that wakes Courier at each commit instead of at its next
        /// poll. PostgreSQL serializes commits that notify, which costs a busy
        /// sender a good part of its rate.
        #[arg(long)]
        notify: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Database {
    /// PostgreSQL 13 or newer.
    Postgres,
    /// SQLite 3.38 or newer.
    Sqlite,
}

pub(super) fn run(output: Output, command: &Command) -> anyhow::Result<()> {
    let Command::Schema { database, notify } = command;
    let (name, schema) = match (database, notify) {
        (Database::Postgres, false) => ("postgres", POSTGRES.to_owned()),
        (Database::Postgres, true) => ("postgres", format!("{POSTGRES}\n{NOTIFY}")),
        (Database::Sqlite, false) => ("sqlite", SQLITE.to_owned()),
        (Database::Sqlite, true) => {
            anyhow::bail!("SQLite cannot notify another process: leave out --notify; Courier looks by itself")
        }
    };
    match output {
        Output::Table => say(&schema),
        Output::Json => say(&serde_json::json!({ "for": name, "schema": schema }).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row with the three columns that have no default can be inserted, and
    /// gets an id and a time.
    #[tokio::test]
    async fn sqlite_takes_the_schema_and_the_shortest_insert() {
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql(SQLITE).execute(&pool).await.unwrap();
        let insert = "INSERT INTO courier_outbox (topic, type, body) VALUES ('order', 'OrderCreated', '{}')";
        for _ in 0..2 {
            sqlx::query(insert).execute(&pool).await.unwrap();
        }
        let row: (String, String, String, String) =
            sqlx::query_as("SELECT id, kind, headers, created_at FROM courier_outbox LIMIT 1")
                .fetch_one(&pool)
                .await
                .unwrap();
        assert_eq!((row.0.len(), row.1.as_str(), row.2.as_str()), (36, "event", "{}"));
        assert!(row.3.parse::<jiff::Timestamp>().is_ok(), "{}", row.3);
        let odd = "INSERT INTO courier_outbox (topic, type, body, kind) VALUES ('order', 'A', '{}', 'other')";
        assert!(sqlx::query(odd).execute(&pool).await.is_err());
    }

    #[test]
    fn every_column_is_explained() {
        for schema in [POSTGRES, SQLITE] {
            for column in
                ["id", "source", "topic", "type", "key", "kind", "body", "headers", "deliver_at", "created_at"]
            {
                let line = schema.lines().position(|line| line.trim_start().starts_with(&format!("{column} ")));
                let before = line.and_then(|line| schema.lines().nth(line - 1)).unwrap_or("");
                assert!(before.trim_start().starts_with("--"), "{column} in\n{schema}");
            }
        }
    }
}
