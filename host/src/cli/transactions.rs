//! `courier transactions`: prepares half messages, and commits or rolls them back.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::value::RawValue;

use super::client::{HostClient, ResponseText};
use super::page::{Paging, with_end};
use super::shapes::{ShownPage, Transaction};
use super::table::{self, or_dash};
use super::{Output, show};

const STATES: [&str; 4] = ["PREPARED", "COMMITTED", "ROLLED_BACK", "ABANDONED"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Prepare messages, which are sent if the transaction commits.
    Prepare(PrepareArgs),
    /// Commit a transaction, so that its messages are sent.
    Commit {
        /// The transaction's id.
        id: String,
    },
    /// Roll a transaction back, so that its messages are never sent.
    Rollback {
        /// The transaction's id.
        id: String,
    },
    /// Show a transaction.
    Show {
        /// The transaction's id.
        id: String,
    },
    /// List transactions, the newest first.
    List {
        /// Select transactions in this state.
        #[arg(long, value_parser = STATES)]
        state: Option<String>,
        #[command(flatten)]
        page: Paging,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("content").required(true).multiple(true).args(["messages", "file"]))]
pub(super) struct PrepareArgs {
    /// A message in the JSON of the API, for example
    /// '{"topic":"order","type":"OrderCreated","body":{}}'; may be given
    /// several times.
    #[arg(long = "message", value_name = "JSON")]
    messages: Vec<String>,
    /// A file with a message or an array of messages; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The URL that is asked for the outcome if the transaction is not ended.
    #[arg(long, value_name = "URL")]
    check_url: Option<String>,
    /// How long to wait before that URL is asked, for example 30s.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<String>,
}

fn timeout(text: &str) -> Result<String, String> {
    crate::config::parse_duration(text).map(|_| text.to_owned())
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Prepare(prepare) => {
            let request = request(&prepare, &content(prepare.file.as_ref())?)?;
            state(output, &client.post(&["transactions"], Some(request)).await?)
        }
        Command::Commit { id } => state(output, &client.post(&["transactions", &id, "commit"], None).await?),
        Command::Rollback { id } => state(output, &client.post(&["transactions", &id, "rollback"], None).await?),
        Command::Show { id } => {
            let answer = client.get(&["transactions", &id], &[]).await?;
            show(output, &answer, |transaction: Transaction| whole(&transaction))
        }
        Command::List { state, page } => {
            let limit = page.limit.map(|limit| limit.to_string());
            let answer =
                client.get(&["transactions"], &[("state", state), ("cursor", page.cursor), ("limit", limit)]).await?;
            show(output, &answer, |page: ShownPage<Transaction>| {
                let rows = page.items.iter().map(row).collect();
                let header = ["ID", "STATE", "MESSAGES", "CREATED", "CHECKS", "NEXT CHECK", "REASON"];
                with_end(table::table(header, rows, "no transactions"), page.next.as_deref(), page.truncated)
            })
        }
    }
}

/// The text of the file with messages; empty without one.
fn content(file: Option<&PathBuf>) -> anyhow::Result<String> {
    match file {
        None => Ok(String::new()),
        Some(file) if file.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            Ok(text)
        }
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The JSON to post. It contains the messages letter for letter, so that handlers
/// get them unchanged.
fn request(prepare: &PrepareArgs, content: &str) -> anyhow::Result<String> {
    let mut messages: Vec<&RawValue> = Vec::new();
    for text in &prepare.messages {
        messages.push(serde_json::from_str(text).with_context(|| format!("--message {text:?} is no JSON"))?);
    }
    let content = content.trim();
    if content.starts_with('[') {
        let mut many: Vec<&RawValue> = serde_json::from_str(content).context("the file is no JSON")?;
        messages.append(&mut many);
    } else if !content.is_empty() {
        messages.push(serde_json::from_str(content).context("the file is no JSON")?);
    } else if prepare.file.is_some() {
        bail!("the file is empty");
    }
    let mut request = serde_json::Map::new();
    let more = [("check_url", &prepare.check_url), ("timeout", &prepare.timeout)];
    for (name, value) in more {
        if let Some(value) = value {
            request.insert(name.to_owned(), value.as_str().into());
        }
    }
    let mut text = serde_json::to_string(&request)?;
    text.truncate(text.len() - 1);
    if !request.is_empty() {
        text.push(',');
    }
    let messages: Vec<&str> = messages.iter().map(|message| message.get()).collect();
    text.push_str(&format!("\"messages\":[{}]}}", messages.join(",")));
    Ok(text)
}

fn state(output: Output, answer: &ResponseText) -> anyhow::Result<()> {
    show(output, answer, |transaction: Transaction| format!("{} {}", table::clean(&transaction.id), transaction.state))
}

fn row(transaction: &Transaction) -> [String; 7] {
    [
        transaction.id.clone(),
        transaction.state.clone(),
        transaction.messages.len().to_string(),
        or_dash(transaction.created_at.as_ref()),
        or_dash(transaction.checks),
        or_dash(transaction.next_check_at.as_ref()),
        or_dash(transaction.reason.as_ref()),
    ]
}

fn whole(transaction: &Transaction) -> String {
    let mut text = table::fields(&[
        ("id", Some(transaction.id.clone())),
        ("state", Some(transaction.state.clone())),
        ("reason", transaction.reason.clone()),
        ("created at", transaction.created_at.clone()),
        ("timeout", transaction.timeout.clone()),
        ("deadline", transaction.deadline.clone()),
        ("check url", transaction.check_url.clone()),
        ("checks", transaction.checks.map(|checks| checks.to_string())),
        ("next check at", transaction.next_check_at.clone()),
        ("last answer", transaction.last_answer.clone()),
        ("ended at", transaction.ended_at.clone()),
    ]);
    let rows = transaction.messages.iter().map(|message| {
        [
            message.id.clone(),
            message.topic.clone(),
            or_dash(message.type_name.as_ref()),
            or_dash(table::key(message.key.as_ref(), message.key_base64.as_ref())),
        ]
    });
    text.push_str("\n\n");
    text.push_str(&table::whole(["MESSAGE", "TOPIC", "TYPE", "KEY"], rows.collect(), "no messages"));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        prepare: PrepareArgs,
    }

    #[test]
    fn messages_stand_in_the_request_as_they_were_written() {
        let line = ["prepare", "--message", r#"{"body": 1.10}"#, "--file", "f", "--timeout", "30s", "--check-url", "u"];
        let prepare = Line::try_parse_from(line).unwrap().prepare;
        let expected = r#"{"check_url":"u","timeout":"30s","messages":[{"body": 1.10},{"a":1},{"b": 2}]}"#;
        assert_eq!(request(&prepare, "[{\"a\":1},{\"b\": 2}]\n").unwrap(), expected);
        let prepare = Line::try_parse_from(["prepare", "--message", "{}"]).unwrap().prepare;
        assert_eq!(request(&prepare, "").unwrap(), r#"{"messages":[{}]}"#);
        let prepare = Line::try_parse_from(["prepare", "--file", "f"]).unwrap().prepare;
        assert_eq!(request(&prepare, "{}").unwrap(), r#"{"messages":[{}]}"#);
        assert!(request(&prepare, " ").is_err());
        assert!(Line::try_parse_from(["prepare"]).is_err());
    }
}
