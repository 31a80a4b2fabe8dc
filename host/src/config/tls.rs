//! `[server.tls]`: the certificate of the HTTP listener.
//!
//! The files are read with the rest of the configuration, so that `courier
//! check` finds their errors, and a changed file is a changed configuration: it
//! takes effect without a restart, and a wrong one changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::reader::{Section, Value};

/// The certificate and private key of the listener. `Debug` does not show the key.
#[derive(Clone)]
pub struct Tls {
    /// The file of the certificate and its chain.
    pub cert: PathBuf,
    /// The file of its private key.
    pub key: PathBuf,
    /// The configuration of the listener.
    pub acceptor: Arc<ServerConfig>,
    /// SHA-256 over the contents of both files.
    digest: [u8; 32],
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).field("key", &self.key).finish_non_exhaustive()
    }
}

/// `[server.tls]`, if the file has it.
pub(super) fn tls(server: &Section<'_>) -> Option<Tls> {
    let section = server.section("tls", &["cert", "key"]);
    let cert = section.require_if_present("cert", "name the file of the certificate: cert = \"tls.crt\"");
    let key = section.require_if_present("key", "name the file of its private key: key = \"tls.key\"");
    let (cert, key) = (cert?, key?);
    let (cert_file, key_file) = (read(&cert, "tls.crt"), read(&key, "tls.key"));
    let ((cert_path, cert_pem), (key_path, key_pem)) = (cert_file?, key_file?);

    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert_pem).collect();
    let Some(chain) = chain.ok().filter(|chain| !chain.is_empty()) else {
        let remedy = "write the certificate into it, and after it those above it, each as PEM (BEGIN CERTIFICATE)";
        cert.wrong(format!("{} has no certificate", cert_path.display()), remedy);
        return None;
    };
    let Ok(private) = PrivateKeyDer::from_pem_slice(&key_pem) else {
        let remedy = "write the private key into it as PEM (BEGIN PRIVATE KEY), not encrypted";
        key.wrong(format!("{} has no private key", key_path.display()), remedy);
        return None;
    };
    match acceptor(chain, private) {
        Ok(acceptor) => {
            let digest = Sha256::new().chain_update(Sha256::digest(&cert_pem)).chain_update(Sha256::digest(&key_pem));
            let digest = digest.finalize().into();
            Some(Tls { cert: cert_path, key: key_path, acceptor: Arc::new(acceptor), digest })
        }
        Err(error) => {
            let remedy = "name the key that belongs to the first certificate of `cert`";
            key.wrong(format!("{} and {} do not work: {error}", cert_path.display(), key_path.display()), remedy);
            None
        }
    }
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, tokio_rustls::rustls::Error> {
    // Named, because no default provider may be installed yet.
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config =
        builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The path and contents of a file that the configuration names.
fn read(value: &Value<'_>, example: &str) -> Option<(PathBuf, Vec<u8>)> {
    let name = value.text(example)?;
    let path = Path::new(value.reader.file).parent().unwrap_or(Path::new("")).join(name);
    value.reader.depends_on(path.clone());
    match std::fs::read(&path) {
        Ok(bytes) => Some((path, bytes)),
        Err(error) => {
            let remedy = "create it and let courier read it; a relative path starts at the directory of this file";
            value.wrong(format!("cannot read {}: {error}", path.display()), remedy);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError, parse};

    /// Beside the certificates of the tests.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata/courier.toml");

    fn parsed(tls: &str) -> Result<Config, ConfigError> {
        parse(FILE, &format!("[server.tls]\n{tls}\n"), &|_| None)
    }

    #[test]
    fn a_certificate_with_its_key_is_taken_and_watched() {
        let config = parsed("cert = \"localhost.crt\"\nkey = \"localhost.key\"").unwrap();
        let tls = config.server.tls.unwrap();
        assert!(tls.cert.ends_with("testdata/localhost.crt"));
        assert_eq!(config.files, [tls.cert.clone(), tls.key.clone()], "a change of one is a change");
        let other = parsed("cert = \"other.crt\"\nkey = \"other.key\"").unwrap().server.tls.unwrap();
        assert_ne!(tls, other);
        assert!(!format!("{tls:?}").contains("acceptor"), "{tls:?}");
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_where_it_is_named() {
        for (tls, line, message) in [
            ("cert = \"localhost.crt\"", 1, "`key` is missing in [server.tls]"),
            ("cert = \"localhost.key\"\nkey = \"localhost.key\"", 2, "has no certificate"),
            ("cert = \"localhost.crt\"\nkey = \"localhost.crt\"", 3, "has no private key"),
            ("cert = \"localhost.crt\"\nkey = \"other.key\"", 3, "do not work"),
            ("cert = \"nowhere.crt\"\nkey = \"localhost.key\"", 2, "cannot read"),
        ] {
            let error = parsed(tls).expect_err(tls);
            let problem = &error.errors()[0];
            assert_eq!((error.errors().len(), problem.line), (1, line), "{error}");
            assert!(problem.message.contains(message), "{error}");
        }
    }
}
