//! Plugins and their versions. The API uploads and activates them, and
//! `consume/attempt/` loads the active ones.

use async_trait::async_trait;
use bytes::Bytes;

use super::{NewVersion, PluginRow, StoreError, VersionRow, WriterId};

/// Stores versions of plugins and which of them is active.
#[async_trait]
pub trait PluginStore: Send + Sync + 'static {
    /// Stores an uploaded version. The same digest again is the same version.
    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError>;

    /// Reads the component of a version.
    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError>;

    /// Lists all plugins with their versions and activations, newest first.
    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError>;

    /// Makes a version the active one and appends to the plugin's history.
    /// `NotFound` when the plugin has no such version.
    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError>;

    /// Reads the active digest of each plugin, which nodes poll.
    async fn active(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Records that `writer` compiled a version and can run it.
    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError>;

    /// Lists the live nodes that have not compiled the version yet.
    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError>;

    /// Reads the key of this name that all hosts share: 32 random bytes, made at the
    /// first call.
    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError>;
}
