//! The store of a single host, in one SQLite file.
//!
//! It is as durable as the other dialect: the log is synced at every commit.
//! It does not serve several hosts, though several processes may open the
//! file, as the command line does beside a running host.
//!
//! [`connect`] opens the file, [`writing`] has the transactions, and [`script`]
//! saves trips to a connection's thread. Each family of verbs has a file, of the
//! same name as in the other dialect, but for what only SQLite needs: [`checkpoint`]
//! keeps the log short, [`slots`] the indexes of final rows small, and [`slices`]
//! bounds the walks of lists. The schema is in `migrations`.

mod accept;
mod address_leases;
mod attempts;
mod audits;
mod broadcast;
mod bulk;
mod checkpoint;
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
mod host_lock;
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
mod script;
mod seek;
mod sessions;
mod settle;
mod settle_open;
mod settle_rows;
mod shards;
mod slices;
mod slots;
mod troubles;
mod undelivered;
mod words;
mod writing;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};

use super::*;
use connect::Connections;
pub use host_lock::HostLock;
use words::Words;

/// A SQLite file.
pub struct SqliteStore {
    connections: Connections,
    words: Words,
}

impl SqliteStore {
    /// Opens or creates the file of a `sqlite://path` URL and runs its
    /// migrations.
    ///
    /// # Errors
    /// When the file cannot be opened, or was migrated by a newer version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { connections: Connections::open(url).await?, words: Words::default() })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        sqlx::query("SELECT 1").execute(&self.connections.readers).await.map_err(error::fault)?;
        self.connections.probe().await?;
        Ok(columns::now())
    }

    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&self.connections.readers)
            .await
            .map_err(error::fault)?;
        Ok(connect::weaknesses(&mode))
    }

    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
        self.take_node(node, holder, lease).await
    }

    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
        self.node_holder(node).await
    }

    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError> {
        self.evict_node(node, holder).await
    }

    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError> {
        self.renew_node(writer, lease).await
    }

    async fn leave(&self, writer: WriterId) -> Result<(), StoreError> {
        self.leave_node(writer).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.all_nodes().await
    }

    async fn begin(
        &self,
        group: &str,
        topic: &str,
        topic_id: &str,
        starts: &[(i32, Offset)],
    ) -> Result<(), StoreError> {
        self.begin_topic(group, topic, topic_id, starts).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError> {
        self.claim_position(claim).await
    }

    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError> {
        self.skip_range(position, epoch, from, to, why).await
    }

    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError> {
        self.settle_parts(writer, sequence, parts).await
    }

    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError> {
        self.writer_sequence(writer).await
    }

    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        self.load_open_records(position, offsets).await
    }

    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError> {
        self.asked_rows(positions, since, limit).await
    }

    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError> {
        self.count_asked(window).await
    }

    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError> {
        self.ask_delivery(delivery).await
    }

    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError> {
        self.store_version(version).await
    }

    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError> {
        self.shared_key(name).await
    }

    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError> {
        self.component(digest).await
    }

    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        self.all_plugins().await
    }

    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError> {
        self.activate_version(plugin, digest, by).await
    }

    async fn active(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.active_versions().await
    }

    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError> {
        self.mark_prepared(writer, digest).await
    }

    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError> {
        self.nodes_not_prepared(digest).await
    }

    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        self.accept_messages(messages).await
    }

    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError> {
        self.mark_sent(sent).await
    }

    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError> {
        self.release_held(messages).await
    }

    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError> {
        self.refuse_held(messages).await
    }

    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError> {
        self.outbound_topics().await
    }

    async fn lease_shards(&self, writer: WriterId, want: u32, lease: Duration) -> Result<Vec<(i32, i64)>, StoreError> {
        self.lease_relay_shards(writer, want, lease).await
    }

    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        waiting: &[String],
    ) -> Result<Vec<OutboundRow>, StoreError> {
        self.due_outbound(shards, limit, waiting).await
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
        self.lanes_with_outbound(lanes).await
    }

    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError> {
        self.choose_outbound_partitions(shards, chosen).await
    }

    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError> {
        self.settle_relayed(shards, results).await
    }

    async fn resend(&self, message: &Identity) -> Result<(), StoreError> {
        self.resend_message(message).await
    }

    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        self.list_messages(filter, page).await
    }

    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError> {
        self.all_with_id(id, topics).await
    }

    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError> {
        self.one_message(message).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError> {
        self.list_deliveries(filter, page).await
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        self.one_delivery(key).await
    }

    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
        self.load_attempts(keys).await
    }

    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError> {
        self.all_positions().await
    }

    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError> {
        self.group_totals().await
    }

    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError> {
        self.newest_lost_ranges(filter, limit).await
    }

    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError> {
        self.pause_group(group, why).await
    }

    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.paused_groups().await
    }

    async fn prune(&self, retention: Duration) -> Result<bool, StoreError> {
        self.prune_chunk(retention).await
    }
}
