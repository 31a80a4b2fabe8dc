//! `courier check`: says whether a configuration is right, and starts nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Output, say};
use crate::config::{self, Config, ConfigError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "courier.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let checked = config::load(&args.config);
    let code = if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match output {
        Output::Json => say(&as_json(&checked))?,
        Output::Table => match &checked {
            Ok(config) => say(&summary(&args.config.display().to_string(), config))?,
            Err(error) => eprintln!("{error}"),
        },
    }
    Ok(code)
}

fn as_json(checked: &Result<Config, ConfigError>) -> String {
    let problems = checked.as_ref().err().map_or(&[][..], ConfigError::errors);
    let problems: Vec<_> = problems
        .iter()
        .map(|problem| {
            json!({
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "message": problem.message,
                "remedy": problem.remedy,
            })
        })
        .collect();
    let warnings = checked.as_ref().map(Config::without_effect).unwrap_or_default();
    json!({ "valid": checked.is_ok(), "errors": problems, "warnings": warnings }).to_string()
}

fn summary(file: &str, config: &Config) -> String {
    let mut lines =
        vec![format!("{file} is valid: node {}, listening on {}", config.server.node, config.server.listen)];
    for binding in &config.bindings {
        let paused = if binding.paused { " (paused)" } else { "" };
        lines.push(format!("  {}: {} -> {}{paused}", binding.group, binding.topics.join(", "), binding.plugin));
    }
    if config.bindings.is_empty() {
        lines.push("  no bindings: messages are taken, and nothing handles them".to_owned());
    }
    lines.extend(config.without_effect().into_iter().map(|warning| format!("  warning: {warning}")));
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
        assert_eq!(summary("courier.toml", &config), expected);

        let deduping = config::parse("courier.toml", &format!("{text}dedupe = \"10m\"\n"), &|_| None).unwrap();
        assert!(!summary("courier.toml", &deduping).contains("warning"), "what has its effect needs no warning");
        let longer = config::parse("courier.toml", &format!("{text}dedupe = \"8d\"\n"), &|_| None).unwrap_err();
        assert!(longer.to_string().contains("write at most dedupe = \"7d\""), "{longer}");

        let wrong: serde_json::Value =
            serde_json::from_str(&as_json(&config::parse("courier.toml", "x = 1", &|_| None))).unwrap();
        assert_eq!((&wrong["valid"], &wrong["errors"][0]["line"]), (&json!(false), &json!(1)));
    }
}
