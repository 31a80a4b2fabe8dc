//! The servers that tests talk to, as real processes: Kafka and PostgreSQL.
//!
//! Everything under this module needs nothing but std, `anyhow` and `libc`,
//! because `cargo xtask` includes these very files: setting a machine up and
//! starting a server on it is then written once, and xtask stays quick to
//! build. Clients live elsewhere (`kafka_client`, `host`).
//!
//! [`setup`] installs programs, [`kafka`] and [`postgres`] run the servers,
//! [`process`] ends them with their owner, [`usage`] reads their processor time and
//! memory.

pub mod kafka;
pub mod pooler;
pub mod postgres;
pub mod process;
pub mod setup;
pub mod usage;

pub use kafka::{Kafka, Sasl};
pub use pooler::Pooler;
pub use postgres::Postgres;
