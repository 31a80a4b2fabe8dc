//! Uploading a component as a version of a plugin, and activating a version.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::import_rules::ImportRules;
use crate::consume::attempt::plugin_versions::PluginVersions;
use crate::engine::{Engine, PrepareError};
use crate::store::{NewVersion, SharedStore, StoreError};

/// A version that was uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Uploaded {
    /// `sha256:<hex>`.
    pub version: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The description in the component.
    pub wants: Option<Value>,
}

/// Why a component was not taken. What the component causes is its sender's to
/// mend, whatever it is; only what the host causes is the host's.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The component cannot be a version of the plugin.
    #[error("{0}")]
    Refused(String),
    /// The host cannot prepare it.
    #[error("{0}")]
    Host(String),
    /// The store did not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PrepareError> for UploadError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Refused(why) => Self::Refused(why.to_string()),
            PrepareError::Host(why) => Self::Host(why),
        }
    }
}

/// Takes and activates versions of plugins.
pub struct PluginUploads {
    /// Where versions are kept.
    pub store: SharedStore,
    /// What compiles and runs them.
    pub plugins: Arc<PluginVersions>,
    /// What they may import.
    pub imports: ImportRules,
}

impl PluginUploads {
    /// Checks, compiles and stores a component, in the name of `by`.
    ///
    /// # Errors
    /// When the component is refused, or cannot be compiled or kept now.
    pub async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, UploadError> {
        let inspection = Engine::inspect(wasm.clone()).await?;
        self.imports.check(name, &inspection.imports).map_err(UploadError::Refused)?;
        self.plugins.prepare(wasm.clone()).await?;
        let version = NewVersion {
            plugin: name.to_owned(),
            digest: inspection.digest.clone(),
            wasm,
            imports: inspection.imports.clone(),
            exports: inspection.exports.clone(),
            wants: inspection.wants.as_ref().map(ToString::to_string),
            by: by.to_owned(),
        };
        self.store.put_version(&version).await?;
        self.plugins.wake();
        Ok(Uploaded {
            version: inspection.digest,
            imports: inspection.imports,
            exports: inspection.exports,
            wants: inspection.wants,
        })
    }

    /// Activates a stored version on every node, in the name of `by`.
    ///
    /// # Errors
    /// When there is no such version, or the store is away.
    pub async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), StoreError> {
        self.store.activate(name, digest, by).await?;
        self.plugins.wake();
        Ok(())
    }
}
