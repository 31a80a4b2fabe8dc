//! The support of the tests: real servers, the real host, and clients other than
//! Courier's own.
//!
//! - [`servers`] starts Kafka and PostgreSQL; [`kafka`] and [`postgres`] are
//!   the ones that all tests of a run share.
//! - [`host::Host`] is the `courier` binary as a child process, used only as users
//!   do: by TOML, HTTP and signals.
//! - [`kafka_client`] is any other program on the same Kafka.
//! - [`proxy`] is an address that leads to another server after a fail-over.
//! - [`ledger`] makes load and checks its results.
//!
//! Everything here panics with a whole sentence when it fails; functions that a test
//! may want to see fail are named `try_..`.

pub mod api;
pub mod host;
pub mod kafka_client;
pub mod ledger;
pub mod proxy;
pub mod random;
pub mod servers;
pub mod shapes;
pub mod turn;
pub mod wait;

use std::path::PathBuf;
use std::sync::OnceLock;

pub use api::encode;
pub use host::{Host, Store, scripted, scripted_binding};
pub use random::Random;
pub use shapes::{Accepted, Attempt, Delivery, Group, Message};
pub use wait::wait_until;

pub use servers::usage;
use servers::{Kafka, Postgres, setup};

/// The Kafka that all tests of this run share; started by the first that asks.
#[must_use]
pub fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(|| Kafka::obtain("shared").unwrap_or_else(|error| panic!("no Kafka to test with: {error:#}")))
}

/// The PostgreSQL that all tests of this run share.
#[must_use]
pub fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| {
        Postgres::obtain("shared").unwrap_or_else(|error| panic!("no PostgreSQL to test with: {error:#}"))
    })
}

/// The component of a plugin or test guest, by the name of its folder.
#[must_use]
pub fn guest(name: &str) -> Vec<u8> {
    let file = setup::target_directory().join(format!("guests/{name}.wasm"));
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}; build it with `cargo xtask guests`", file.display()))
}

/// The host's binary: `COURIER_BIN`, else what `cargo build --release` made.
#[must_use]
pub fn courier() -> PathBuf {
    let binary = match std::env::var_os("COURIER_BIN") {
        Some(binary) => PathBuf::from(binary),
        None => setup::target_directory().join("release/courier"),
    };
    assert!(binary.is_file(), "there is no {}: build it with `cargo build --release -p courier`", binary.display());
    binary
}

/// How much a test does: `small` by default, `full` with `COURIER_TEST_SCALE=full`,
/// which `cargo xtask faults` sets.
#[must_use]
pub fn scale<T>(small: T, full: T) -> T {
    match std::env::var("COURIER_TEST_SCALE").as_deref() {
        Ok("full") => full,
        Ok("small" | "") | Err(_) => small,
        Ok(other) => panic!("COURIER_TEST_SCALE is {other:?}: it is `small` or `full`"),
    }
}

/// A name that no other test of this or another run uses on the same servers.
#[must_use]
pub fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &id[..8])
}
