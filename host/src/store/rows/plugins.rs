//! Plugins and their versions.

use bytes::Bytes;
use courier_core::message::Timestamp;

/// A version that was uploaded.
#[derive(Clone, Debug)]
pub struct NewVersion {
    pub plugin: String,
    /// `sha256:<hex>`.
    pub digest: String,
    /// The component.
    pub wasm: Bytes,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Its description of itself, as JSON.
    pub wants: Option<String>,
    /// The token that uploaded it.
    pub by: String,
}

/// A stored version.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Size of the component.
    pub size: u64,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Its description of itself, as JSON.
    pub wants: Option<String>,
    /// The token that uploaded it.
    pub by: String,
    pub created_at: Timestamp,
}

/// A plugin with its history.
#[derive(Clone, Debug)]
pub struct PluginRow {
    pub name: String,
    /// The active digest, if one was activated.
    pub active: Option<String>,
    /// Versions, newest first.
    pub versions: Vec<VersionRow>,
    /// Activations (digest, when, by whom), newest first.
    pub activations: Vec<(String, Timestamp, String)>,
}
