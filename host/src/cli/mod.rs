//! The command line: one command a file.
//!
//! `serve`, `dev`, `check`, `openapi`, `outbox` and parts of `plugin` act on this
//! machine. The other commands call a running host over its HTTP API ([`client`])
//! and show the response, as a table for people ([`table`]) or, with `--output
//! json`, as the JSON of the API, unchanged.
//!
//! Nothing here uses the store, Kafka or the engine directly.

mod answer;
mod audit;
mod check;
mod client;
#[cfg(test)]
mod console_examples;
mod deliveries;
mod dev;
mod failures;
mod groups;
mod log_fields;
mod messages;
mod nodes;
mod openapi;
mod outbox;
mod outboxes;
mod page;
mod plugin;
mod publish;
mod python;
mod redrive;
mod serve;
mod shapes;
mod table;
mod toolchain;
mod transactions;
mod undelivered;
mod watch;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use reqwest::Url;
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use self::answer::{Output, point_in_time, say, show, warn};
use self::client::HostClient;

/// The exit codes and streams that scripts may rely on.
const EXIT_CODES: &str = "Exit status: 0 when it is done; 1 when it failed or was refused, with the reason on standard error; \
2 when the command line is wrong. What was asked for is on standard output, and nothing else.";

/// A message service on Kafka that runs WebAssembly handlers.
#[derive(Debug, Parser)]
#[command(name = "courier", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// The form in which results are shown.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, help_heading = "Global options")]
    output: Output,
    /// The URL of the host.
    #[arg(
        long,
        global = true,
        env = "COURIER_SERVER",
        default_value = "http://127.0.0.1:7070",
        value_name = "URL",
        value_parser = server,
        help_heading = "Global options"
    )]
    server: Url,
    /// The token for the host, if the host needs one.
    #[arg(long, global = true, env = "COURIER_TOKEN", hide_env_values = true, help_heading = "Global options")]
    token: Option<SecretString>,
    /// The file of a CA certificate (PEM) to trust beside those of this machine.
    #[arg(long, global = true, env = "COURIER_CA", value_name = "FILE", help_heading = "Global options")]
    ca: Option<PathBuf>,
    /// The format of the log on standard error. RUST_LOG filters its lines.
    #[arg(
        long,
        global = true,
        env = "COURIER_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a host.
    Serve(serve::Args),
    /// Run a host for trying things out, with Kafka and store built in.
    Dev(dev::Args),
    /// Check courier.toml without starting anything.
    Check(check::Args),
    /// Publish a message.
    Publish(publish::Args),
    /// List and show messages and their deliveries.
    #[command(subcommand)]
    Messages(messages::Command),
    /// Prepare messages that depend on a transaction, and end the transaction.
    #[command(subcommand)]
    Transactions(transactions::Command),
    /// List, show and retry deliveries.
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// Show failures, grouped by their fingerprint.
    Failures(failures::Args),
    /// List and pause consumer groups, and move their positions.
    #[command(subcommand)]
    Groups(groups::Command),
    /// List the hosts that share the store.
    Nodes,
    /// Show who changed what, and whether the audit log was altered.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Write, build, upload and activate plugins.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Run many settled or failed deliveries again.
    #[command(subcommand)]
    Redrive(redrive::Command),
    /// Print the outbox table for a sender's database.
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Print the OpenAPI description of the HTTP API.
    Openapi,
    /// Show the outboxes of senders, and how far they are relayed.
    #[command(subcommand)]
    Outboxes(outboxes::Command),
    /// List undelivered messages, and resend, repair or give them up.
    #[command(subcommand)]
    Undelivered(undelivered::Command),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Starts logging: from `info` for a host, from `warn` for other commands, whose
    /// results are on the same terminal.
    pub fn trace(&self) {
        // wasmtime-wasi-http warns of mistakes of guests, so that any guest could
        // fill this log. They are in the logs of the attempts.
        let usual = match self.command {
            Command::Serve(_) | Command::Dev(_) => "info,wasmtime_wasi_http=error",
            _ => "warn",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => {
                log.with_ansi(std::io::stderr().is_terminal()).fmt_fields(log_fields::of_one_line()).init()
            }
            LogFormat::Json => log.json().init(),
        }
    }

    /// Runs the command. An error is printed before it returns.
    pub async fn run(self) -> ExitCode {
        let log_format = self.log_format;
        match self.dispatch().await {
            Ok(code) => code,
            // A reader that stops early, such as `head`, is no failure.
            Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => {
                let text = table::clean(&format!("{error:#}"));
                if log_format == LogFormat::Json {
                    // The last line of a JSON log is JSON too.
                    tracing::error!(error = text, "courier cannot go on");
                    return ExitCode::FAILURE;
                }
                // Errors of a configuration have a heading already.
                let heading = if text.starts_with("error: ") { "" } else { "error: " };
                let _ = writeln!(std::io::stderr(), "{heading}{text}");
                ExitCode::FAILURE
            }
        }
    }

    async fn dispatch(self) -> anyhow::Result<ExitCode> {
        let output = self.output;
        let ask_of = |server: &Url| HostClient::new(server, self.token.as_ref(), self.ca.as_deref());
        let ask = || ask_of(&self.server);
        match self.command {
            Command::Serve(args) => serve::run(args).await?,
            Command::Dev(args) => dev::run(ask_of, args).await?,
            Command::Check(args) => return check::run(&args, output).await,
            Command::Publish(args) => publish::run(&ask()?, output, args).await?,
            Command::Messages(command) => messages::run(&ask()?, output, command).await?,
            Command::Transactions(command) => transactions::run(&ask()?, output, command).await?,
            Command::Deliveries(command) => deliveries::run(&ask()?, output, command).await?,
            Command::Failures(args) => failures::run(&ask()?, output, args).await?,
            Command::Nodes => nodes::run(&ask()?, output).await?,
            Command::Audit(command) => return audit::run(&ask()?, output, command).await,
            Command::Openapi => openapi::run()?,
            Command::Groups(command) => groups::run(&ask()?, output, command).await?,
            Command::Plugin(command) => plugin::run(ask, output, command).await?,
            Command::Redrive(command) => redrive::run(&ask()?, output, command).await?,
            Command::Outbox(command) => outbox::run(output, &command)?,
            Command::Outboxes(command) => outboxes::run(&ask()?, output, command).await?,
            Command::Undelivered(command) => undelivered::run(&ask()?, output, command).await?,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "courier", &mut script);
                std::io::stdout().write_all(&script)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The address of a host: http or https.
fn server(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "write a URL such as http://127.0.0.1:7070".to_owned())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_written_wrong_is_refused_before_anything_is_asked() {
        let refused = |line: &str| Cli::try_parse_from(line.split(' ')).err().map(|error| error.exit_code());
        for line in [
            "courier",
            "courier serv",
            "courier --server localhost:7070 groups list",
            "courier messages list --state DONE",
            "courier messages list --from yesterday",
            "courier publish order",
            "courier publish order --body {} --file x",
            "courier publish order --body {} --delay 2",
            "courier publish order --body {} --header novalue",
            "courier groups seek stock --topic order --to earliest",
            "courier transactions prepare --check-url https://a/b",
            "courier transactions list --state DONE",
            "courier messages delayed --from soon",
            "courier outbox schema --for mysql",
            // It would print the program's version and exit 0.
            "courier plugin activate stock --version sha256:ab",
            "courier publish --version",
            "courier deliveries give-up abc",
        ] {
            assert_eq!(refused(line), Some(2), "{line}");
        }
        for line in [
            "courier serve",
            "courier check --config other.toml --output json",
            "courier publish order -",
            "courier publish order --file - --type OrderCreated --key 1 --header a=b --header c=d=e --delay 2s",
            "courier messages list --state HANDLED --from 15m --limit 1000",
            "courier deliveries retry abc --token secret",
            "courier deliveries show abc",
            "courier deliveries give-up abc --reason double --dead-letter",
            "courier messages delayed --topic order --from 2031-01-31T08:00:00Z",
            "courier messages cancel abc --output json",
            "courier transactions prepare --message {} --message {} --timeout 30s",
            "courier transactions list --state PREPARED",
            "courier groups seek stock --topic order --to 42 --confirm stock",
            "courier plugin push a.wasm --activate",
            "courier redrive plan --group stock --state HANDLE_FAIL --rate 500",
            "courier completions bash",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let cli = Cli::try_parse_from(["courier", "--token", "hunter2", "groups", "list"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
