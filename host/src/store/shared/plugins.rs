//! Plugins, their versions, and which of them is active.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::dialect::{StatementConnection as _, StoreDialect};
use super::statement::{SharedRow, Statement};
use crate::store::{NewVersion, PluginRow, PluginStore, StoreError, VersionRow, WriterId};

/// What each dialect writes by itself: SQLite keeps the components in a table of their own
/// and numbers the plugins, and PostgreSQL has lists as arrays.
#[async_trait]
pub(in crate::store) trait PluginDialect: StoreDialect {
    /// Lists versions `v`: the plugin, digest, size, imports and exports as JSON, what it
    /// wants, who uploaded it and when.
    const VERSIONS: &'static str;
    /// Lists activations `a`: the plugin, digest, time and who did it.
    const ACTIVATIONS: &'static str;
    /// Reads the component with the digest `$1`.
    const COMPONENT: &'static str;
    /// Makes the version `$2` of the plugin `$1` the active one, if the plugin has it.
    const ACTIVATE: &'static str;
    /// Inserts that the version `$2` of the plugin `$1` was activated by `$3`.
    const INSERT_ACTIVATION: &'static str;

    /// Inserts a version of a plugin unless the plugin has it.
    async fn insert_version(connection: &mut Self::Connection, version: &NewVersion) -> Result<(), StoreError>;
}

#[async_trait]
impl<D: PluginDialect> PluginStore for D {
    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            D::insert_version(&mut tx, version).await?;
            let mut select = Statement::new(D::VERSIONS);
            select.push(" WHERE p.name = ").push_bind(&version.plugin);
            select.push(" AND v.digest = ").push_bind(&version.digest);
            let stored = tx.row(select).await?.map(plugin_version).transpose()?;
            let (_, row) = stored.ok_or_else(|| StoreError::Bug("a version was not stored".to_owned()))?;
            tx.note_as(|deed| deed.detail.clone_from(&version.digest)).await?;
            D::commit_writing(tx).await?;
            Ok(row)
        })
        .await
    }

    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError> {
        let found = D::limited(self.read(Statement::new(D::COMPONENT).bind(digest))).await?.into_iter().next();
        let mut row = found.ok_or_else(|| StoreError::NotFound(format!("there is no plugin version {digest}")))?;
        row.bytes()
    }

    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        let mut select_activations = Statement::new(D::ACTIVATIONS);
        select_activations.push(" ORDER BY a.id DESC");
        let mut select_versions = Statement::new(D::VERSIONS);
        select_versions.push(" ORDER BY v.id DESC");
        D::limited(async {
            // The versions are read last, so that the list has every version that an activation names.
            let mut reading = self.begin_reading().await?;
            let found = reading.rows(Statement::new("SELECT name, active FROM plugin ORDER BY name")).await?;
            let mut activations: HashMap<String, Vec<(String, Timestamp, String)>> = HashMap::new();
            for mut row in reading.rows(select_activations).await? {
                activations.entry(row.text()?).or_default().push((row.text()?, row.time()?, row.text()?));
            }
            let mut versions: HashMap<String, Vec<VersionRow>> = HashMap::new();
            for row in reading.rows(select_versions).await? {
                let (plugin, version) = plugin_version(row)?;
                versions.entry(plugin).or_default().push(version);
            }
            let plugin = |mut row: SharedRow| {
                let name = row.text()?;
                Ok(PluginRow {
                    active: row.text_option()?,
                    versions: versions.remove(&name).unwrap_or_default(),
                    activations: activations.remove(&name).unwrap_or_default(),
                    name,
                })
            };
            found.into_iter().map(plugin).collect()
        })
        .await
    }

    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            if tx.execute(Statement::new(D::ACTIVATE).bind(plugin).bind(digest)).await? != 1 {
                return Err(StoreError::NotFound(format!("the plugin {plugin:?} has no version {digest}")));
            }
            tx.execute(Statement::new(D::INSERT_ACTIVATION).bind(plugin).bind(digest).bind(by)).await?;
            tx.note().await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn active(&self) -> Result<Vec<(String, String)>, StoreError> {
        let select = Statement::new("SELECT name, active FROM plugin WHERE active IS NOT NULL ORDER BY name");
        let active = |mut row: SharedRow| Ok((row.text()?, row.text()?));
        D::limited(self.read(select)).await?.into_iter().map(active).collect()
    }

    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO prepared (writer_id, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(writer.0)
            .bind(digest);
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            tx.execute(insert).await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError> {
        // A node that left has no writer, whatever its lease says.
        let select = Statement::new(
            "SELECT n.name FROM node n WHERE n.writer_id IS NOT NULL AND n.lease_until > courier_now()
                 AND NOT EXISTS (SELECT 1 FROM prepared p WHERE p.writer_id = n.writer_id AND p.digest = $1)
             ORDER BY n.name",
        );
        let rows = D::limited(self.read(select.bind(digest))).await?;
        rows.into_iter().map(|mut row| row.text()).collect()
    }

    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError> {
        let select = Statement::new("SELECT value FROM host_key WHERE name = $1").bind(name);
        let new: [u8; 32] = rand::random();
        let insert = Statement::new("INSERT INTO host_key (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(new.as_slice());
        let found = D::limited(async {
            let mut tx = self.begin_writing().await?;
            tx.execute(insert).await?;
            let found = tx.row(select).await?;
            D::commit_writing(tx).await?;
            Ok(found)
        })
        .await?;
        let key = found.ok_or_else(|| StoreError::Bug(format!("the key {name} was not stored")))?.bytes()?;
        key[..].try_into().map_err(|_| StoreError::Bug(format!("the key {name} has not 32 bytes")))
    }
}

/// Reads a row of [`PluginDialect::VERSIONS`]: the plugin and its version.
fn plugin_version(mut row: SharedRow) -> Result<(String, VersionRow), StoreError> {
    let plugin = row.text()?;
    let version = VersionRow {
        digest: row.text()?,
        size: row.number()?,
        imports: names(&row.text()?)?,
        exports: names(&row.text()?)?,
        wants: row.text_option()?,
        by: row.text()?,
        created_at: row.time()?,
    };
    Ok((plugin, version))
}

fn names(json: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Bug(format!("a stored list is not JSON: {error}")))
}
