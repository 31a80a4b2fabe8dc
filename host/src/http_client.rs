//! The builder of every HTTP client of the host.

use std::sync::Once;

use reqwest::ClientBuilder;
use tokio_rustls::rustls::crypto::ring;

/// A builder of an HTTP client whose TLS uses ring.
///
/// The HTTP library is built without a crypto provider, because a second one
/// beside ring would be compiled for nothing. It panics in a process that has
/// none, so ring is installed here, before the first client.
#[allow(clippy::disallowed_methods, reason = "the one place that begins a client")]
pub fn builder() -> ClientBuilder {
    static RING: Once = Once::new();
    RING.call_once(|| {
        // An error means that the process has a provider already, which serves too.
        let _ = ring::default_provider().install_default();
    });
    reqwest::Client::builder()
}
