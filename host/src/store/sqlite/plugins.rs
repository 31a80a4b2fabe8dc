//! Plugins, their versions, and which of them is active.

use async_trait::async_trait;
use bytes::Bytes;

use super::SqliteStore;
use super::columns::{Columns, expect_rows, json, now};
use super::error::{commit_fault, fault};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{NewVersion, PluginRow, PluginStore, StoreError, VersionRow, WriterId};

#[async_trait]
impl PluginStore for SqliteStore {
    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError> {
        let mut tx = self.connections.write().await?;
        // The update changes nothing. Without it RETURNING would have no row for a plugin
        // that exists.
        let plugin: i64 = sqlx::query_scalar(
            "INSERT INTO plugin (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
        )
        .bind(clean(&version.plugin))
        .fetch_one(&mut *tx)
        .await
        .map_err(fault)?;
        // The digest names the bytes. Other bytes under it were altered by hand, and an
        // upload mends them.
        sqlx::query(
            "INSERT INTO component (digest, wasm) VALUES (?, ?)
             ON CONFLICT (digest) DO UPDATE SET wasm = excluded.wasm WHERE component.wasm <> excluded.wasm",
        )
        .bind(&version.digest)
        .bind(version.wasm.as_ref())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        sqlx::query(
            "INSERT INTO plugin_version (plugin_id, digest, size, imports, exports, wants, actor, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (plugin_id, digest) DO NOTHING",
        )
        .bind(plugin)
        .bind(&version.digest)
        .bind(i64::try_from(version.wasm.len()).unwrap_or(i64::MAX))
        .bind(json(&version.imports)?)
        .bind(json(&version.exports)?)
        .bind(clean_opt(version.wants.as_deref()))
        .bind(clean(&version.by))
        .bind(now().0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        let row = sqlx::query(
            "SELECT digest, size, imports, exports, wants, actor, created_at FROM plugin_version
             WHERE plugin_id = ? AND digest = ?",
        )
        .bind(plugin)
        .bind(&version.digest)
        .fetch_one(&mut *tx)
        .await
        .map_err(fault)?;
        let row = version_row(&mut Columns::of(&row))?;
        tx.note_as(|deed| deed.detail.clone_from(&version.digest)).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(row)
    }

    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError> {
        let wasm: Option<Vec<u8>> = sqlx::query_scalar("SELECT wasm FROM component WHERE digest = ?")
            .bind(clean(digest))
            .fetch_optional(&self.connections.readers)
            .await
            .map_err(fault)?;
        wasm.map(Bytes::from).ok_or_else(|| StoreError::NotFound(format!("there is no plugin version {digest}")))
    }

    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        // One snapshot, so that every activation names a version that is listed.
        let mut tx = self.connections.readers.begin().await.map_err(fault)?;
        let rows = sqlx::query("SELECT id, name, active FROM plugin ORDER BY name")
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
        let mut plugins = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut columns = Columns::of(row);
            let (id, name, active): (i64, String, Option<String>) = (columns.take()?, columns.take()?, columns.take()?);
            let versions = sqlx::query(
                "SELECT digest, size, imports, exports, wants, actor, created_at FROM plugin_version
                 WHERE plugin_id = ? ORDER BY id DESC",
            )
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
            let versions = versions.iter().map(|row| version_row(&mut Columns::of(row))).collect::<Result<_, _>>()?;
            let activations =
                sqlx::query("SELECT digest, activated_at, actor FROM activation WHERE plugin_id = ? ORDER BY id DESC")
                    .bind(id)
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(fault)?;
            let activations = activations
                .iter()
                .map(|row| {
                    let mut columns = Columns::of(row);
                    Ok((columns.take()?, columns.time()?, columns.take()?))
                })
                .collect::<Result<_, StoreError>>()?;
            plugins.push(PluginRow { name, active, versions, activations });
        }
        tx.rollback().await.map_err(fault)?;
        Ok(plugins)
    }

    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT p.id FROM plugin p JOIN plugin_version v ON v.plugin_id = p.id WHERE p.name = ? AND v.digest = ?",
        )
        .bind(clean(plugin))
        .bind(clean(digest))
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
        let id = id.ok_or_else(|| StoreError::NotFound(format!("the plugin {plugin:?} has no version {digest}")))?;
        let changed = sqlx::query("UPDATE plugin SET active = ? WHERE id = ?")
            .bind(digest)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        expect_rows("activating a version", 1, changed.rows_affected())?;
        sqlx::query("INSERT INTO activation (plugin_id, digest, actor, activated_at) VALUES (?, ?, ?, ?)")
            .bind(id)
            .bind(digest)
            .bind(clean(by))
            .bind(now().0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        tx.note().await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn active(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query("SELECT name, active FROM plugin WHERE active IS NOT NULL ORDER BY name")
            .fetch_all(&self.connections.readers)
            .await
            .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((columns.take()?, columns.take()?))
            })
            .collect()
    }

    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        sqlx::query("INSERT INTO prepared (writer_id, digest) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(writer.0)
            .bind(clean(digest))
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT n.name FROM node n WHERE n.writer_id IS NOT NULL AND n.lease_until > ?
                 AND NOT EXISTS (SELECT 1 FROM prepared p WHERE p.writer_id = n.writer_id AND p.digest = ?)
             ORDER BY n.name",
        )
        .bind(now().0)
        .bind(clean(digest))
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)
    }

    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError> {
        let mut tx = self.connections.write().await?;
        sqlx::query("INSERT INTO host_key (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
            .bind(clean(name))
            .bind(rand::random::<[u8; 32]>().as_slice())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        let key: Vec<u8> = sqlx::query_scalar("SELECT value FROM host_key WHERE name = ?")
            .bind(clean(name))
            .fetch_one(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        key.try_into().map_err(|_| StoreError::Bug(format!("the key {name} has not 32 bytes")))
    }
}

fn version_row(columns: &mut Columns<'_>) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        digest: columns.take()?,
        size: columns.number()?,
        imports: names(&columns.take::<String>()?)?,
        exports: names(&columns.take::<String>()?)?,
        wants: columns.take()?,
        by: columns.take()?,
        created_at: columns.time()?,
    })
}

fn names(json: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Bug(format!("a stored list is not JSON: {error}")))
}
