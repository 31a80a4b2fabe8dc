//! `courier dev`: runs a host with Kafka and store built in, for trying things out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use reqwest::Url;

use super::client::HostClient;
use super::watch;
use crate::server::DevOptions;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file whose bindings are run; its Kafka and store are
    /// replaced by built-in ones. By default courier.toml, as soon as it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on, instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The directory of the store; without it every start is empty. The built-in
    /// broker keeps nothing: messages that were not handled when the host stops
    /// are lost.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Watch a handler, as `courier plugin push` takes it: build, upload and
    /// activate it whenever one of its sources is saved, and print its next
    /// attempts.
    #[arg(long, value_name = "HANDLER")]
    watch: Option<PathBuf>,
}

pub(super) async fn run(ask: impl FnOnce(&Url) -> anyhow::Result<HostClient>, args: Args) -> anyhow::Result<()> {
    let Args { config, listen, data, watch } = args;
    let Some(handler) = watch else { return crate::server::dev(DevOptions { config, listen, data }).await };
    if !handler.exists() {
        bail!("{} is not there: `courier plugin new NAME --lang ts` writes a handler", handler.display());
    }
    let client = ask(&url(listen, config.as_deref())?)?;
    tokio::select! {
        ended = crate::server::dev(DevOptions { config, listen, data }) => ended,
        ended = watch::run(client, handler) => match ended? {},
    }
}

/// The URL at which the host will listen. The host, not this function, reports an
/// invalid configuration.
fn url(listen: Option<SocketAddr>, config: Option<&Path>) -> anyhow::Result<Url> {
    let usual = || crate::config::parse("courier dev", "", &|_| None).expect("an empty configuration is valid");
    let server = crate::config::load(config.unwrap_or(Path::new("courier.toml"))).unwrap_or_else(|_| usual()).server;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    Ok(Url::parse(&format!("{scheme}://{}", listen.unwrap_or(server.listen)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command asked a host with TLS over plain HTTP, in vain and in silence.
    #[test]
    fn a_host_with_tls_is_asked_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("courier.toml");
        let url_of = |toml: &str, listen: Option<&str>| {
            std::fs::write(&file, toml).unwrap();
            url(listen.map(|listen| listen.parse().unwrap()), Some(&file)).unwrap().to_string()
        };
        assert_eq!(url_of("", None), "http://127.0.0.1:7070/");
        assert_eq!(url_of("[server]\nlisten = \"127.0.0.1:7\"\n", None), "http://127.0.0.1:7/");
        let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata/localhost");
        let tls = format!("[server.tls]\ncert = \"{certificates}.crt\"\nkey = \"{certificates}.key\"\n");
        assert_eq!(url_of(&tls, None), "https://127.0.0.1:7070/");
        assert_eq!(url_of(&tls, Some("127.0.0.1:8")), "https://127.0.0.1:8/");
        assert_eq!(url_of("nod = 1", None), "http://127.0.0.1:7070/", "the host tells what is wrong");
    }
}
