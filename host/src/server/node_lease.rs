//! Takes the lease on this node's name.
//!
//! A second process with the same name must not run, and a process that was
//! killed must be able to come back in a moment, long before its lease ends.
//! The difference is whether the earlier process still lives, which is certain
//! only on the same machine in the same boot.

use std::time::Duration;

use anyhow::Context as _;

use super::open_store::once_it_answers;
use crate::said;
use crate::store::{Holder, Joined, SharedStore, StoreError};

/// How long a node's name is held without a renewal.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How often a name that another process holds is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Takes the lease on `node`.
///
/// # Errors
/// When another living process holds it.
pub async fn join(store: &SharedStore, node: &str) -> anyhow::Result<Joined> {
    let me = this_process();
    let begun = std::time::Instant::now();
    loop {
        let held = once_it_answers(|| store.holder(node)).await.context("cannot ask who holds this node's name")?;
        if let Some((holder, _)) = held {
            match fate(&holder, &me) {
                HolderLiveness::Dead => {
                    tracing::info!(node, pid = holder.pid, "an earlier process of this name is gone; taking over");
                    once_it_answers(|| store.evict(node, &holder)).await?;
                }
                HolderLiveness::Alive => anyhow::bail!(
                    "node {node} already runs as process {} on this machine: stop it, or give this one another \
                     name ([server] node)",
                    holder.pid
                ),
                HolderLiveness::Unknown => {}
            }
        }
        match once_it_answers(|| store.join(node, &me, LEASE)).await {
            Ok(joined) => return Ok(joined),
            // On another machine, or before a reboot: only the end of the lease is certain.
            Err(StoreError::Fenced(why)) if begun.elapsed() < LEASE + RETRY * 4 => {
                if let Some(unsaid) = said::again("waiting for the lease") {
                    tracing::warn!(node, why, unsaid, "waiting for the lease on this node's name to end");
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(StoreError::Fenced(why)) => {
                anyhow::bail!("{why}: stop the other process, or give this one another name ([server] node)")
            }
            Err(error) => return Err(error).context("cannot take this node's name"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum HolderLiveness {
    Alive,
    Dead,
    Unknown,
}

fn fate(holder: &Holder, me: &Holder) -> HolderLiveness {
    if holder.boot.is_empty() || holder.boot != me.boot {
        return HolderLiveness::Unknown;
    }
    // The process id may belong to another process by now, which has another
    // start time.
    match started(holder.pid) {
        Some(at) if at == holder.started && holder.pid != me.pid => HolderLiveness::Alive,
        _ => HolderLiveness::Dead,
    }
}

fn this_process() -> Holder {
    let pid = std::process::id();
    Holder {
        incarnation: uuid::Uuid::now_v7().to_string(),
        boot: boot(),
        pid,
        started: started(pid).unwrap_or_default(),
    }
}

/// The boot's id, with the process namespace: ids of processes in another
/// container mean nothing here.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.trim().is_empty() {
        return String::new();
    }
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", id.trim(), namespace.display())
}

/// When a process started, in clock ticks since the boot: field 22 of
/// `/proc/PID/stat`, counted after the command in parentheses (proc(5)). None
/// for a process that is gone, or that only waits to be reaped.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_reused_id_is_not() {
        let me = this_process();
        assert!(me.started > 0, "the start of a process can be read here");
        let other = Holder { pid: 1, started: started(1).unwrap_or_default(), ..me.clone() };
        assert_eq!(fate(&other, &me), HolderLiveness::Alive);
        let reused = Holder { started: other.started + 1, ..other.clone() };
        assert_eq!(fate(&reused, &me), HolderLiveness::Dead);
        let elsewhere = Holder { boot: "another boot".to_owned(), ..other };
        assert_eq!(fate(&elsewhere, &me), HolderLiveness::Unknown);
    }
}
