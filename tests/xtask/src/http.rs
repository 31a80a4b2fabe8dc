//! A minimal HTTP client for a host on this machine.
//!
//! A real client would pull in TLS and half a minute of building. With HTTP/1.0 a
//! response simply ends with the connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long one response may take: an upload compiles the plugin, which takes a busy
/// machine a minute if the plugin contains a Python runtime.
const LIMIT: Duration = Duration::from_secs(180);

/// Sends a request and returns the status and the body.
pub fn request(address: &str, method: &str, path: &str, media_type: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("nobody listens on {address}"))?;
    stream.set_read_timeout(Some(LIMIT)).context("cannot set a timeout")?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body))
        .context("the host closed the connection")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("no whole answer to {method} {path}"))?;
    parse(&answer).with_context(|| format!("{method} {path}: the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

/// Sends and receives JSON; a status outside 2xx is an error with the body.
pub fn json(address: &str, method: &str, path: &str, body: &serde_json::Value) -> Result<serde_json::Value> {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let (status, answer) = request(address, method, path, "application/json", &bytes)?;
    if !(200..300).contains(&status) {
        bail!("{method} {path} was answered {status}: {}", String::from_utf8_lossy(&answer));
    }
    serde_json::from_slice(&answer).with_context(|| format!("{method} {path}: the answer is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_apart() {
        assert_eq!(parse(b"HTTP/1.0 202 Accepted\r\nx: y\r\n\r\n{}"), Some((202, b"{}".to_vec())));
        assert_eq!(parse(b"nonsense"), None);
    }
}
