//! All tests that need more than one crate, in one binary, which starts its
//! servers once and shares them.
//!
//! Run them with `cargo xtask test`, which builds what they need, or by name:
//! `cargo test --release -p courier-tests journey::`.

mod api_fuzz;
mod audited;
mod broadcast;
mod centre;
mod cluster;
mod cold_starts;
mod config;
mod console;
mod contract;
mod crash;
mod dedupe;
mod delayed;
mod dev;
mod doors;
mod each_address;
mod failover;
mod failures;
mod fairness;
mod http;
mod journey;
mod kinds;
mod languages;
mod logs;
mod loops;
mod newcomer;
mod ordering;
mod outage;
mod outbox;
mod push;
mod push_killed;
mod redrive;
mod reload;
mod retention;
mod scripts;
mod sender;
mod servers;
mod store_conformance;
mod strangers;
mod tenants;
mod topics;
mod trace;
mod transactions;
mod uploads;
mod walls;
mod way_out;
