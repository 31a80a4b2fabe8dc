//! Plugins and their versions. The API uploads and activates them, and
//! `consume/attempt/` loads the active ones.

use async_trait::async_trait;
use bytes::Bytes;

use super::{NewVersion, PluginRow, StoreError, VersionRow, WriterId};

/// The verbs of plugins.
#[async_trait]
pub trait PluginStore: Send + Sync + 'static {
    /// Stores an uploaded version; the same digest again is the same version.
    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError>;

    /// The component of a version.
    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError>;

    /// All plugins with their versions (newest first) and activations.
    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError>;

    /// Makes a version the active one; `NotFound` when the plugin has none
    /// such. Appends to the plugin's history.
    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError>;

    /// The active digest of each plugin: what nodes poll.
    async fn active(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Says that `writer` compiled a version and can run it.
    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError>;

    /// The live nodes that did not prepare `digest` yet.
    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError>;

    /// The key of this name that all hosts of the store share: 32 random bytes,
    /// made when it is first asked for.
    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError>;
}
