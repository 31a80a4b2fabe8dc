//! `courier audit`: who changed what, and whether the log was touched.

use std::process::ExitCode;

use serde::Deserialize;

use super::client::HostClient;
use super::page::{PageRange, with_end};
use super::shapes::ShownPage;
use super::table::{self, or_dash};
use super::{Output, show};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List changes, the newest first.
    List(AuditListArgs),
    /// Check the chain of hashes from the oldest entry to the newest, and fail if
    /// it is broken.
    Verify,
}

#[derive(Debug, clap::Args)]
pub(super) struct AuditListArgs {
    /// Select changes made with this token.
    #[arg(long)]
    by: Option<String>,
    /// Select changes of this kind, for example pause.
    #[arg(long)]
    action: Option<String>,
    /// Select changes of this subject, for example a group.
    #[arg(long)]
    subject: Option<String>,
    #[command(flatten)]
    span: PageRange,
}

#[derive(Debug, Deserialize)]
struct ShownEntry {
    id: i64,
    at: String,
    by: String,
    action: String,
    subject: String,
    detail: Option<String>,
    hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ShownVerification {
    ok: bool,
    checked: u64,
    broken_at: Option<i64>,
    head: Option<String>,
    #[serde(default)]
    truncated: bool,
}

pub(super) async fn run(client: &HostClient, output: Output, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(AuditListArgs { by, action, subject, span }) => {
            let query = [
                ("by", by),
                ("action", action),
                ("subject", subject),
                ("from", span.from),
                ("to", span.to),
                ("cursor", span.page.cursor),
                ("limit", span.page.limit.map(|limit| limit.to_string())),
            ];
            let answer = client.get(&["audit"], &query).await?;
            show(output, &answer, |page: ShownPage<ShownEntry>| {
                with_end(list(&page.items), page.next.as_deref(), page.truncated)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify => {
            let answer = client.get(&["audit", "verify"], &[]).await?;
            let verified: ShownVerification = answer.read()?;
            show(output, &answer, |verified: ShownVerification| said(&verified))?;
            Ok(if verified.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn list(entries: &[ShownEntry]) -> String {
    let row = |entry: &ShownEntry| {
        [
            entry.id.to_string(),
            entry.at.clone(),
            entry.by.clone(),
            entry.action.clone(),
            entry.subject.clone(),
            or_dash(entry.detail.clone()),
            or_dash(entry.hash.as_ref().map(|hash| hash.chars().take(12).collect::<String>())),
        ]
    };
    let header = ["ID", "AT", "BY", "ACTION", "SUBJECT", "DETAIL", "HASH"];
    table::table(header, entries.iter().map(row).collect(), "nothing was changed yet")
}

fn said(verified: &ShownVerification) -> String {
    let head = or_dash(verified.head.as_ref());
    match verified.broken_at {
        _ if verified.ok && verified.truncated => {
            format!("whole as far as it was checked: {} entries, and there are more", verified.checked)
        }
        _ if verified.ok => format!("whole: {} entries, head {head}", verified.checked),
        Some(entry) => format!(
            "BROKEN at entry {entry}, after {} that fit: it was altered, or entries before it were taken out or put in",
            verified.checked
        ),
        None => format!("BROKEN after {} entries that fit", verified.checked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_chain_is_said_loudly() {
        let whole =
            ShownVerification { ok: true, checked: 3, broken_at: None, head: Some("ab".into()), truncated: false };
        assert_eq!(said(&whole), "whole: 3 entries, head ab");
        let broken = ShownVerification { ok: false, broken_at: Some(7), ..whole };
        assert!(said(&broken).starts_with("BROKEN at entry 7"));
    }
}
