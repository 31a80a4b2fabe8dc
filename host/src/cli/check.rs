//! `courier check`: checks a configuration without starting anything. With
//! `--connect` it also examines the databases of the outboxes.

use std::path::PathBuf;
use std::process::ExitCode;

use futures::future::join_all;
use serde_json::{Value, json};

use super::{Output, say};
use crate::config::{self, Config, ConfigError, ConfigProblem, OutboxConfig};
use crate::publish::outbox::{SourceError, examine};
use crate::server::sandboxes;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "courier.toml")]
    config: PathBuf,
    /// Also connect to the databases of the outboxes, and check whether they can be
    /// relayed.
    #[arg(long)]
    connect: bool,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
}

/// An outbox and the result of examining its database: warnings, or why nothing
/// can be relayed.
type ExaminedOutbox<'a> = (&'a OutboxConfig, Result<Vec<String>, SourceError>);

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let mut checked = config::load(&args.config);
    if let Ok(config) = &mut checked {
        let slots = sandboxes::capacity(&config.bindings).slots;
        sandboxes::warn_of_shortage(config, slots);
    }
    let outboxes = match &checked {
        Ok(config) if args.connect => config.outboxes.as_slice(),
        _ => &[],
    };
    let seen: Vec<ExaminedOutbox<'_>> =
        join_all(outboxes.iter().map(async |outbox| (outbox, examine(outbox).await))).await;
    match output {
        Output::Json => say(&as_json(&checked, &seen, args.strict))?,
        Output::Table => match &checked {
            Ok(config) => say(&summary(&args.config.display().to_string(), config, &seen, args.strict))?,
            Err(error) => eprintln!("{error}"),
        },
    }
    let right =
        checked.as_ref().is_ok_and(|config| accepted(config, args.strict)) && seen.iter().all(|(_, look)| look.is_ok());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a valid configuration passes: with `strict` only without warnings.
fn accepted(config: &Config, strict: bool) -> bool {
    !strict || config.warnings.is_empty()
}

fn as_json(checked: &Result<Config, ConfigError>, seen: &[ExaminedOutbox<'_>], strict: bool) -> String {
    let placed = |problems: &[ConfigProblem]| -> Vec<Value> {
        let placed = problems.iter().map(|problem| {
            json!({
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "message": problem.message,
                "remedy": problem.remedy,
            })
        });
        placed.collect()
    };
    let problems = placed(checked.as_ref().err().map_or(&[][..], ConfigError::errors));
    let warned = checked.as_ref().map_or(&[][..], |config| config.warnings.as_slice());
    let warnings: Vec<&str> = warned.iter().map(|warning| warning.message.as_str()).collect();
    let valid = checked.as_ref().is_ok_and(|config| accepted(config, strict));
    let outboxes: Vec<_> = seen
        .iter()
        .map(|(outbox, look)| {
            let why = look.as_ref().err().map(ToString::to_string);
            let code = look.as_ref().err().map(|error| error.code);
            let warnings = look.as_deref().unwrap_or_default();
            json!({ "name": outbox.name, "url": outbox.url.to_string(), "why": why, "code": code, "warnings": warnings })
        })
        .collect();
    json!({
        "valid": valid,
        "errors": problems,
        "warnings": warnings,
        "warned": placed(warned),
        "outboxes": outboxes,
    })
    .to_string()
}

fn summary(file: &str, config: &Config, seen: &[ExaminedOutbox<'_>], strict: bool) -> String {
    let refused = if accepted(config, strict) { "" } else { ", and --strict takes its warnings for errors" };
    let mut lines =
        vec![format!("{file} is valid{refused}: node {}, listening on {}", config.server.node, config.server.listen)];
    for binding in &config.bindings {
        let paused = if binding.paused { " (paused)" } else { "" };
        lines.push(format!("  {}: {} -> {}{paused}", binding.group, binding.topics.join(", "), binding.plugin));
        if binding.max_copied_bytes != config::MAX_COPIED_BYTES {
            let bound = config::show_size(binding.max_copied_bytes);
            lines.push(format!(
                "    copies up to {bound} of parked records of a partition into the store before Kafka's retention \
                 removes them; past that the partition pauses and lists what will be lost (max_copied_bytes)"
            ));
        }
    }
    if config.bindings.is_empty() {
        lines.push("  no bindings: messages are taken, and nothing handles them".to_owned());
    }
    lines.extend(seen.iter().map(|(outbox, look)| match look {
        Ok(warnings) => {
            let mut line = format!("  outbox {}: {} can be relayed", outbox.name, outbox.url);
            warnings.iter().for_each(|warning| line.push_str(&format!("\n    warning: {warning}")));
            line
        }
        Err(why) => format!("  outbox {}: {} cannot be relayed: {why}", outbox.name, outbox.url),
    }));
    lines.extend(config.warnings.iter().map(|warning| format!("  warning: {warning}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_file_is_summed_up_and_a_wrong_one_is_told_as_json() {
        let text = "[server]\nnode = \"n\"\n[[binding]]\ngroup = \"g\"\ntopics = [\"a\", \"b\"]\nplugin = \"p\"\n";
        let config = config::parse("courier.toml", text, &|_| None).unwrap();
        let expected = "courier.toml is valid: node n, listening on 127.0.0.1:7070\n  g: a, b -> p";
        assert_eq!(summary("courier.toml", &config, &[], true), expected);

        let copying = config::parse("courier.toml", &format!("{text}max_copied_bytes = \"1GiB\"\n"), &|_| None);
        let said = summary("courier.toml", &copying.unwrap(), &[], true);
        assert!(said.contains("copies up to 1GiB of parked records") && said.contains("(max_copied_bytes)"), "{said}");

        let deduping = config::parse("courier.toml", &format!("{text}dedupe = \"10m\"\n"), &|_| None).unwrap();
        assert!(
            !summary("courier.toml", &deduping, &[], false).contains("warning"),
            "what has its effect needs no warning"
        );
        let longer = config::parse("courier.toml", &format!("{text}dedupe = \"8d\"\n"), &|_| None).unwrap_err();
        assert!(longer.to_string().contains("write at most dedupe = \"7d\""), "{longer}");

        let wrong: serde_json::Value =
            serde_json::from_str(&as_json(&config::parse("courier.toml", "x = 1", &|_| None), &[], false)).unwrap();
        assert_eq!((&wrong["valid"], &wrong["errors"][0]["line"]), (&json!(false), &json!(1)));
    }

    #[test]
    fn a_warning_is_told_with_its_place_and_is_an_error_only_with_strict() {
        let text = "[[binding]]\ngroup = \"g\"\ntopics = [\"a\"]\nplugin = \"p\"\n[binding.grant]\npublish = [\"a\"]\n";
        let config = config::parse("courier.toml", text, &|_| None).unwrap();
        let said = summary("courier.toml", &config, &[], false);
        assert!(said.contains("courier.toml is valid: node"), "{said}");
        assert!(said.contains("  warning: courier.toml:6:12: topics lead into one another"), "{said}");
        assert!(accepted(&config, false) && !accepted(&config, true));
        assert!(summary("courier.toml", &config, &[], true).contains("--strict takes its warnings for errors"));
        let read = |strict| -> Value {
            serde_json::from_str(&as_json(&config::parse("courier.toml", text, &|_| None), &[], strict)).unwrap()
        };
        assert_eq!((&read(false)["valid"], &read(true)["valid"]), (&json!(true), &json!(false)));
        assert_eq!(read(false)["warned"][0]["line"], 6);
        assert!(read(false)["warnings"][0].as_str().unwrap().starts_with("topics lead into one another"));
    }
}
