//! The store on PostgreSQL, for several hosts.
//!
//! Each file here holds one family of queries, and this one the pool and the
//! list of verbs. What they share:
//! - Whatever changes the deliveries of a position (settle, claim, ask) locks
//!   the row in `position` first, several of them in the order of their ids.
//!   So open rows need no locks of their own, and no two hosts wait for each
//!   other in a circle. After the positions come `state` rows in key order,
//!   and `counter` rows, of which each host has its own.
//! - No transaction waits for anything but the database, and the server ends
//!   a session that goes silent in one: a frozen host holds nothing back.
//! - A verb that takes longer than [`PROMPT_LIMIT`] or [`VERB_LIMIT`] is given
//!   up here, since a server that hangs or a network that swallows packets
//!   would else hold the caller for ever.
//!
//! Read [`settle`] first: it is what nearly all of the time goes to.

mod accept;
mod address_leases;
mod attempts;
mod audits;
mod broadcast;
mod claim;
mod columns;
mod connect;
mod dedupe;
mod delayed;
mod deliveries;
mod error;
mod groups;
mod half;
mod handled_sets;
mod identities;
mod incarnations;
mod kept_state;
mod log_ends;
mod messages;
mod minutes;
mod node_bindings;
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
mod sessions;
mod settle;
mod settle_open;
mod settle_rows;
mod shards;
mod stale;
mod troubles;
mod undelivered;
mod words;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use sqlx::Transaction;
use sqlx::postgres::{PgPool, Postgres};

use self::columns::Columns;
use self::error::{at_commit, at_statement};
use self::words::Words;
use super::*;

/// No verb on a message's way keeps its caller longer. It is longer than the
/// server lets one wait for a lock (see [`connect`]), and nothing else in such
/// a verb takes more than a moment.
const PROMPT_LIMIT: Duration = Duration::from_secs(10);

/// No other verb keeps its caller longer. It is longer than the server's own
/// limits, which come first unless the network is at fault.
const VERB_LIMIT: Duration = Duration::from_secs(30);

/// Rows of a table that one page of a list reads at most when no index leads
/// to what it wants.
const SLICE_ROWS: i64 = 20_000;

/// A database that several hosts share.
pub struct PostgresStore {
    pool: PgPool,
    /// Nodes and versions by the numbers that rows hold.
    words: Words,
    /// Groups by the numbers that rows hold.
    groups: Words,
}

impl PostgresStore {
    /// Connects to `url`, runs the migrations under a lock that all hosts
    /// respect, and creates the coming days' partitions.
    ///
    /// # Errors
    /// When the database cannot be reached, or was migrated by a newer version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let pool = connect::open(url).await?;
        let store = Self { pool, words: Words::of_words(), groups: Words::of_groups() };
        prune::create_days(&store).await?;
        Ok(store)
    }

    async fn begin_tx(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin().await.map_err(at_statement)
    }
}

/// Commits, and tells a commit that failed from one whose answer was lost.
async fn commit(tx: Transaction<'_, Postgres>) -> Result<(), StoreError> {
    tx.commit().await.map_err(at_commit)
}

/// Bounds a verb whose work may be long.
async fn bounded<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(VERB_LIMIT, verb).await
}

/// Bounds a verb on a message's way.
async fn prompt<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(PROMPT_LIMIT, verb).await
}

/// What was dropped in the middle may still commit.
async fn within<T>(limit: Duration, verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, verb).await {
        Ok(result) => result,
        Err(_) => {
            // The server may be gone without a word: what waits for it in the
            // pool would wait as long.
            stale::mark();
            Err(StoreError::CommitUnknown(format!("no answer within {} s", limit.as_secs())))
        }
    }
}

/// A `Duration` in the unit of the tables.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        let looked =
            sqlx::query("SELECT courier_now() AS now, current_setting('transaction_read_only') = 'on' AS read_only")
                .fetch_one(&self.pool);
        prompt(async {
            let row = looked.await.map_err(at_statement)?;
            if row.take("read_only")? {
                stale::mark();
                return Err(StoreError::StaleSession(
                    "the server takes no writes: it is a standby, or default_transaction_read_only is on".to_owned(),
                ));
            }
            row.time("now")
        })
        .await
    }

    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        let looked = sqlx::query(
            "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes",
        )
        .fetch_one(&self.pool);
        prompt(async {
            let row = looked.await.map_err(at_statement)?;
            Ok(server::weaknesses(row.take("fsync")?, row.take("full_page_writes")?))
        })
        .await
    }

    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
        bounded(nodes::join(self, node, holder, lease)).await
    }

    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
        bounded(nodes::holder(self, node)).await
    }

    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError> {
        bounded(nodes::evict(self, node, holder)).await
    }

    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError> {
        prompt(nodes::renew(self, writer, lease)).await
    }

    async fn leave(&self, writer: WriterId) -> Result<(), StoreError> {
        bounded(nodes::leave(self, writer)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        bounded(nodes::nodes(self)).await
    }

    async fn begin(
        &self,
        group: &str,
        topic: &str,
        topic_id: &str,
        starts: &[(i32, Offset)],
    ) -> Result<(), StoreError> {
        bounded(positions::begin(self, group, topic, topic_id, starts)).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError> {
        bounded(claim::claim(self, claim)).await
    }

    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError> {
        bounded(positions::skip_lost(self, position, epoch, from, to, why)).await
    }

    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError> {
        prompt(settle::settle(self, writer, sequence, parts)).await
    }

    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError> {
        prompt(nodes::sequence(self, writer)).await
    }

    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        prompt(open_rows::open_records(self, position, offsets)).await
    }

    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError> {
        prompt(open_rows::asked(self, positions, since, limit)).await
    }

    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError> {
        prompt(open_rows::asked_lately(self, window)).await
    }

    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError> {
        bounded(reruns::ask(self, delivery)).await
    }

    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError> {
        bounded(plugins::put_version(self, version)).await
    }

    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError> {
        bounded(plugins::host_key(self, name)).await
    }

    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError> {
        bounded(plugins::version_wasm(self, digest)).await
    }

    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        bounded(plugins::plugins(self)).await
    }

    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError> {
        bounded(plugins::activate(self, plugin, digest, by)).await
    }

    async fn active(&self) -> Result<Vec<(String, String)>, StoreError> {
        bounded(plugins::active(self)).await
    }

    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError> {
        bounded(plugins::prepared(self, writer, digest)).await
    }

    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError> {
        bounded(plugins::unprepared(self, digest)).await
    }

    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        prompt(accept::accept(self, messages)).await
    }

    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError> {
        prompt(accept::sent(self, sent)).await
    }

    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError> {
        prompt(accept::release_outbound(self, messages)).await
    }

    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError> {
        prompt(accept::refuse_outbound(self, messages)).await
    }

    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError> {
        prompt(outbound::topics(self)).await
    }

    async fn lease_shards(&self, writer: WriterId, want: u32, lease: Duration) -> Result<Vec<(i32, i64)>, StoreError> {
        prompt(shards::lease_shards(self, writer, want, lease)).await
    }

    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        waiting: &[String],
    ) -> Result<Vec<OutboundRow>, StoreError> {
        prompt(outbound::outbound(self, shards, limit, waiting)).await
    }

    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
        outbound::unsent_lanes(self, lanes).await
    }

    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError> {
        prompt(outbound::choose_partitions(self, shards, chosen)).await
    }

    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError> {
        prompt(relayed::relayed(self, shards, results)).await
    }

    async fn resend(&self, message: &Identity) -> Result<(), StoreError> {
        bounded(outbound::resend(self, message)).await
    }

    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        bounded(messages::messages(self, filter, page)).await
    }

    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError> {
        bounded(messages::messages_with_id(self, id, topics)).await
    }

    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError> {
        bounded(messages::message_of(self, message)).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError> {
        bounded(deliveries::deliveries(self, filter, page)).await
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        bounded(deliveries::delivery(self, key)).await
    }

    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
        bounded(attempts::attempts(self, keys)).await
    }

    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError> {
        bounded(positions::positions(self)).await
    }

    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError> {
        bounded(groups::totals(self)).await
    }

    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError> {
        bounded(positions::lost_ranges(self, filter, limit)).await
    }

    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError> {
        bounded(groups::set_paused(self, group, why)).await
    }

    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError> {
        prompt(groups::paused(self)).await
    }

    async fn prune(&self, retention: Duration) -> Result<bool, StoreError> {
        bounded(prune::prune(self, retention)).await
    }
}
