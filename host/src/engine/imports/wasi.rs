//! WASI 0.2 with nothing behind it.
//!
//! The standard libraries of Rust, Python and JavaScript import files, sockets
//! and an environment whether a handler uses them or not, so these interfaces
//! are linked; they lead nowhere. There are no directories, no variables, no
//! arguments, standard input is at its end, and no socket can be made. Real
//! are only the clocks, the random generator, and standard output and error,
//! which go to the attempt's log; and HTTP requests, where the binding allows
//! them ([`http`](super::http)).

use wasmtime::component::Linker;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::log::Printed;
use crate::engine::guest::Guest;
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
/// Any patch of WASI 0.2 shares its shapes.
pub(in crate::engine) const VERSIONS: &str = "0.2.";

/// Makes the interfaces known to a linker.
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
