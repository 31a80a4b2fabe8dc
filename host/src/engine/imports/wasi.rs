//! WASI 0.2 with nothing behind it.
//!
//! The standard libraries of Rust, Python and JavaScript import files, sockets and
//! an environment even if a handler uses none of them, so these interfaces are
//! linked and lead nowhere: there are no directories, variables or arguments,
//! standard input is at its end, and no socket can be made. Only the clocks and
//! the random generator are real, standard output and error, which go to the
//! attempt's log, and HTTP requests where the binding allows them
//! ([`http`](super::http)).

use wasmtime::component::Linker;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::engine::guest::Guest;
use crate::engine::handler_log::Printed;
use crate::engine::limits::MAX_RANDOM_BYTES;

/// The interfaces that are offered, by package.
pub(in crate::engine) const INTERFACES: [(&str, &[&str]); 7] = [
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:clocks", &["wall-clock", "monotonic-clock"]),
    ("wasi:filesystem", &["types", "preopens"]),
    (
        "wasi:sockets",
        &["network", "instance-network", "ip-name-lookup", "tcp", "tcp-create-socket", "udp", "udp-create-socket"],
    ),
    ("wasi:random", &["random", "insecure", "insecure-seed"]),
    ("wasi:http", &["types", "outgoing-handler"]),
];
/// The versions of WASI that are served: every patch of 0.2 has the same types.
pub(in crate::engine) const VERSIONS: &str = "0.2.";

/// Adds the interfaces to a linker.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let log = &self.log;
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut builder = WasiCtx::builder();
            builder
                .stdout(Printed { log: log.clone(), error: false })
                .stderr(Printed { log: log.clone(), error: true })
                .max_random_size(MAX_RANDOM_BYTES)
                .allow_tcp(false)
                .allow_udp(false)
                .allow_ip_name_lookup(false)
                .socket_addr_check(|_, _: SocketAddrUse| Box::pin(async { false }));
            builder.build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}
