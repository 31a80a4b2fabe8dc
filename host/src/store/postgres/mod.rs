//! The store on PostgreSQL, for several hosts.
//!
//! Each file here holds one family of queries and the verbs that run them, and
//! [`store`] the pool. What they share:
//! - Whatever changes the deliveries of a position (settle, claim, ask) locks
//!   the row in `position` first, several of them in the order of their ids.
//!   So open rows need no locks of their own, and no two hosts wait for each
//!   other in a circle. After the positions come `state` rows in key order,
//!   and `counter` rows, of which each host has its own.
//! - No transaction waits for anything but the database, and the server ends
//!   a session that goes silent in one: a frozen host holds nothing back.
//! - A verb that takes longer than its limit in [`store`] is given up there: a
//!   server that hangs, or a network that swallows packets, would otherwise hold
//!   the caller for ever.
//!
//! Read [`settle`] first: it is what nearly all of the time goes to.

mod accept;
mod attempts;
mod audits;
mod broadcast;
mod claim;
mod columns;
mod connect;
mod dedupe;
mod delayed;
mod deliveries;
mod dialect;
mod error;
mod groups;
mod half;
mod handled_sets;
mod health;
mod identities;
mod incarnations;
mod kept_state;
mod log_ends;
mod messages;
mod minutes;
mod nodes;
mod open_rows;
mod outbound;
mod outbox;
mod plugins;
mod positions;
mod prune;
mod record_copies;
mod redrive;
mod redrive_items;
mod redrive_plan;
mod relayed;
mod reruns;
mod seek;
mod server;
mod settle;
mod settle_open;
mod settle_rows;
mod shards;
mod stale;
mod store;
mod troubles;
mod undelivered;
mod words;

pub use self::store::PostgresStore;
use self::store::{SLICE_ROWS, bounded, commit, micros, prompt};
use super::StoreError;

impl PostgresStore {
    /// Connects to `url`, runs the migrations under a lock that all hosts
    /// respect, and creates the coming days' partitions.
    ///
    /// # Errors
    /// When the database cannot be reached, or was migrated by a newer version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::of(connect::open(url).await?);
        prune::create_days(&store).await?;
        Ok(store)
    }
}
