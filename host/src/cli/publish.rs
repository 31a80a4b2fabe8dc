//! `courier publish`: sends one message.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::client::HostClient;
use super::shapes::ShownReceipt;
use super::{Output, show};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("content").required(true).args(["body", "file", "stdin", "tombstone"]))]
pub(super) struct Args {
    /// The topic.
    topic: String,
    /// Read the body from standard input.
    #[arg(value_name = "-", value_parser = ["-"])]
    stdin: Option<String>,
    /// The body, as JSON.
    #[arg(long, value_name = "JSON", value_parser = json)]
    body: Option<String>,
    /// A file with the body: JSON is sent as JSON, anything else as bytes.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send no body: on a compacted topic this deletes the messages of the key.
    #[arg(long)]
    tombstone: bool,
    /// What happened, for example OrderCreated.
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,
    /// The primary key: messages of one key are handled in order.
    #[arg(long)]
    key: Option<String>,
    /// The id, random by default. Sending the same id again is harmless.
    #[arg(long)]
    id: Option<String>,
    /// The sending service.
    #[arg(long)]
    source: Option<String>,
    /// A header; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Deliver the message after this delay, for example 2s.
    #[arg(long, value_name = "DURATION", value_parser = delay, conflicts_with = "deliver_at")]
    delay: Option<String>,
    /// Deliver the message at this time, for example 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    deliver_at: Option<String>,
    /// The kind: each group handles an event once, each node of each group a
    /// broadcast.
    #[arg(long, value_parser = ["event", "broadcast"])]
    kind: Option<String>,
    /// Publish a broadcast, which every node of each bound group handles: the same
    /// as --kind broadcast.
    #[arg(long, conflicts_with = "kind")]
    broadcast: bool,
}

fn json(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not JSON ({error}); text needs quotes, '\"text\"', and --file takes any bytes")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn delay(text: &str) -> Result<String, String> {
    crate::config::parse_duration(text).map(|_| text.to_owned())
}

pub(super) fn time(text: &str) -> Result<String, String> {
    let time = text.parse::<jiff::Timestamp>();
    time.map(|_| text.to_owned()).map_err(|_| "write a time with its offset: 2026-01-31T08:00:00Z".to_owned())
}

pub(super) async fn run(client: &HostClient, output: Output, args: Args) -> anyhow::Result<()> {
    let content = content(&args)?;
    let answer = client.post(&["messages"], Some(request(&args, &content)?)).await?;
    show(output, &answer, |receipt: ShownReceipt| {
        let waiting = if receipt.retrying == Some(true) { " (kept: the host goes on sending it)" } else { "" };
        format!("{} {}{waiting}", receipt.id, receipt.state)
    })?;
    if output == Output::Table
        && let Some(warning) = answer.read::<ShownReceipt>()?.warning
    {
        super::warn(&warning);
    }
    Ok(())
}

/// Reads the body from the source that the arguments name.
fn content(args: &Args) -> anyhow::Result<Vec<u8>> {
    if args.tombstone {
        return Ok(Vec::new());
    }
    if let Some(body) = &args.body {
        return Ok(body.clone().into_bytes());
    }
    match &args.file {
        Some(file) if file.as_os_str() != "-" => {
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
        }
        _ => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
            Ok(bytes)
        }
    }
}

/// The JSON to post. It contains a JSON body letter for letter, so that the handler
/// gets its order, spaces and long numbers unchanged.
fn request(args: &Args, content: &[u8]) -> anyhow::Result<String> {
    let mut message = Map::new();
    let mut put = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            message.insert(name.to_owned(), Value::from(value.as_str()));
        }
    };
    put("topic", Some(&args.topic));
    put("type", args.type_name.as_ref());
    put("key", args.key.as_ref());
    put("id", args.id.as_ref());
    put("source", args.source.as_ref());
    let broadcast = args.broadcast.then(|| "broadcast".to_owned());
    put("kind", args.kind.as_ref().or(broadcast.as_ref()));
    put("delay", args.delay.as_ref());
    put("deliver_at", args.deliver_at.as_ref());
    if !args.headers.is_empty() {
        message.insert("headers".to_owned(), headers(&args.headers));
    }
    if args.tombstone {
        message.insert("tombstone".to_owned(), Value::from(true));
        return Ok(serde_json::to_string(&message)?);
    }
    let written = std::str::from_utf8(content).ok().filter(|text| json(text).is_ok());
    if written.is_none() {
        message.insert("body_base64".to_owned(), Value::from(STANDARD.encode(content)));
    }
    let mut request = serde_json::to_string(&message)?;
    if let Some(written) = written {
        request.truncate(request.len() - 1);
        request.push_str(",\"body\":");
        request.push_str(written.trim());
        request.push('}');
    }
    Ok(request)
}

/// Headers by name; a repeated name has an array of its values.
fn headers(headers: &[(String, String)]) -> Value {
    let mut by_name = Map::new();
    for (name, value) in headers {
        let value = Value::from(value.as_str());
        match by_name.get_mut(name) {
            None => {
                by_name.insert(name.clone(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(by_name)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn built(line: &[&str], content: &[u8]) -> String {
        let args = Line::try_parse_from([&["publish"], line].concat()).unwrap().args;
        request(&args, content).unwrap()
    }

    #[test]
    fn json_stands_in_the_request_as_it_was_written() {
        let body = "{ \"b\": 1.00, \"a\": 12345678901234567890123 }";
        let request = built(&["order", "--body", body, "--type", "OrderCreated"], body.as_bytes());
        assert_eq!(request, format!("{{\"topic\":\"order\",\"type\":\"OrderCreated\",\"body\":{body}}}"));
    }

    #[test]
    fn other_bytes_are_sent_as_base64() {
        let request: Value = serde_json::from_str(&built(&["order", "-"], &[0xff, 0])).unwrap();
        assert_eq!(request, json!({ "topic": "order", "body_base64": "/wA=" }));
        let empty: Value = serde_json::from_str(&built(&["order", "--file", "-"], b"")).unwrap();
        assert_eq!(empty["body_base64"], "");
    }

    #[test]
    fn a_tombstone_has_no_body() {
        let request = built(&["order", "--tombstone", "--key", "k"], b"");
        assert_eq!(request, r#"{"key":"k","tombstone":true,"topic":"order"}"#);
        assert!(Line::try_parse_from(["publish", "order", "--tombstone", "--body", "{}"]).is_err());
    }

    #[test]
    fn everything_else_has_its_place() {
        let line = [
            "order",
            "--body",
            "{}",
            "--key",
            "k",
            "--id",
            "i",
            "--source",
            "s",
            "--kind",
            "broadcast",
            "--delay",
            "2s",
            "--header",
            "a=1",
            "--header",
            "b=x=y",
            "--header",
            "a=2",
        ];
        let request: Value = serde_json::from_str(&built(&line, b"{}")).unwrap();
        assert_eq!(
            request,
            json!({
                "topic": "order", "key": "k", "id": "i", "source": "s", "kind": "broadcast",
                "delay": "2s", "headers": { "a": ["1", "2"], "b": "x=y" }, "body": {},
            })
        );
    }
}
