//! Plugins, their versions, and which of them is active.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sqlx::postgres::PgRow;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{NewVersion, PluginRow, PluginStore, StoreError, VersionRow, WriterId};

#[async_trait]
impl PluginStore for PostgresStore {
    async fn put_version(&self, version: &NewVersion) -> Result<VersionRow, StoreError> {
        bounded(put_version(self, version)).await
    }

    async fn version_wasm(&self, digest: &str) -> Result<Bytes, StoreError> {
        bounded(version_wasm(self, digest)).await
    }

    async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        bounded(plugins(self)).await
    }

    async fn activate(&self, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError> {
        bounded(activate(self, plugin, digest, by)).await
    }

    async fn active(&self) -> Result<Vec<(String, String)>, StoreError> {
        bounded(active(self)).await
    }

    async fn prepared(&self, writer: WriterId, digest: &str) -> Result<(), StoreError> {
        bounded(prepared(self, writer, digest)).await
    }

    async fn unprepared(&self, digest: &str) -> Result<Vec<String>, StoreError> {
        bounded(unprepared(self, digest)).await
    }

    async fn host_key(&self, name: &str) -> Result<[u8; 32], StoreError> {
        bounded(host_key(self, name)).await
    }
}

async fn host_key(store: &PostgresStore, name: &str) -> Result<[u8; 32], StoreError> {
    sqlx::query("INSERT INTO host_key (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(clean(name))
        .bind(rand::random::<[u8; 32]>().as_slice())
        .execute(&store.pool)
        .await
        .map_err(at_statement)?;
    let row = sqlx::query("SELECT value FROM host_key WHERE name = $1")
        .bind(clean(name))
        .fetch_one(&store.pool)
        .await
        .map_err(at_statement)?;
    let key: Vec<u8> = row.take("value")?;
    key.try_into().map_err(|_| StoreError::Bug(format!("the key {name} has not 32 bytes")))
}

async fn put_version(store: &PostgresStore, version: &NewVersion) -> Result<VersionRow, StoreError> {
    let mut tx = store.begin_tx().await?;
    sqlx::query("INSERT INTO plugin (name) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(clean(&version.plugin))
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    sqlx::query(
        "INSERT INTO plugin_version (plugin, digest, wasm, imports, exports, wants, by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, courier_now()) ON CONFLICT (plugin, digest) DO NOTHING",
    )
    .bind(clean(&version.plugin))
    .bind(clean(&version.digest))
    .bind(&version.wasm[..])
    .bind(version.imports.iter().map(|import| clean(import)).collect::<Vec<_>>())
    .bind(version.exports.iter().map(|export| clean(export)).collect::<Vec<_>>())
    .bind(clean_opt(version.wants.as_deref()))
    .bind(clean(&version.by))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    // The digest names the bytes. Other bytes under it were altered by hand, and an upload
    // mends them for every plugin that has the version.
    sqlx::query("UPDATE plugin_version SET wasm = $2 WHERE digest = $1 AND wasm <> $2")
        .bind(clean(&version.digest))
        .bind(&version.wasm[..])
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    let row = sqlx::query(
        "SELECT digest, octet_length(wasm) AS size, imports, exports, wants, by, created_at
         FROM plugin_version WHERE plugin = $1 AND digest = $2",
    )
    .bind(clean(&version.plugin))
    .bind(clean(&version.digest))
    .fetch_one(&mut *tx)
    .await
    .map_err(at_statement)?;
    tx.note_as(|deed| deed.detail.clone_from(&version.digest)).await?;
    commit(tx).await?;
    version_row(&row)
}

fn version_row(row: &PgRow) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        digest: row.take("digest")?,
        size: u64::try_from(row.take::<i32>("size")?).unwrap_or(0),
        imports: row.take("imports")?,
        exports: row.take("exports")?,
        wants: row.take("wants")?,
        by: row.take("by")?,
        created_at: row.time("created_at")?,
    })
}

async fn version_wasm(store: &PostgresStore, digest: &str) -> Result<Bytes, StoreError> {
    let row = sqlx::query("SELECT wasm FROM plugin_version WHERE digest = $1 LIMIT 1")
        .bind(clean(digest))
        .fetch_optional(&store.pool)
        .await
        .map_err(at_statement)?;
    let row = row.ok_or_else(|| StoreError::NotFound(format!("no version {digest}")))?;
    Ok(row.bytes("wasm")?.unwrap_or_default())
}

async fn plugins(store: &PostgresStore) -> Result<Vec<PluginRow>, StoreError> {
    let all = |sql: &'static str| async move { sqlx::query(sql).fetch_all(&store.pool).await.map_err(at_statement) };
    let mut versions: HashMap<String, Vec<VersionRow>> = HashMap::new();
    let rows = all("SELECT plugin, digest, octet_length(wasm) AS size, imports, exports, wants, by, created_at
         FROM plugin_version ORDER BY id DESC");
    for row in rows.await? {
        versions.entry(row.take("plugin")?).or_default().push(version_row(&row)?);
    }
    let mut activations: HashMap<String, Vec<(String, Timestamp, String)>> = HashMap::new();
    for row in all("SELECT plugin, digest, at, by FROM activation ORDER BY id DESC").await? {
        let activation = (row.take("digest")?, row.time("at")?, row.take("by")?);
        activations.entry(row.take("plugin")?).or_default().push(activation);
    }
    let mut plugins = Vec::new();
    for row in all("SELECT name, active FROM plugin ORDER BY name").await? {
        let name: String = row.take("name")?;
        plugins.push(PluginRow {
            active: row.take("active")?,
            versions: versions.remove(&name).unwrap_or_default(),
            activations: activations.remove(&name).unwrap_or_default(),
            name,
        });
    }
    Ok(plugins)
}

async fn activate(store: &PostgresStore, plugin: &str, digest: &str, by: &str) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let done = sqlx::query(
        "UPDATE plugin SET active = $2
         WHERE name = $1 AND EXISTS (SELECT FROM plugin_version WHERE plugin = $1 AND digest = $2)",
    )
    .bind(clean(plugin))
    .bind(clean(digest))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    if done.rows_affected() != 1 {
        return Err(StoreError::NotFound(format!("plugin {plugin:?} has no version {digest}")));
    }
    sqlx::query("INSERT INTO activation (plugin, digest, by, at) VALUES ($1, $2, $3, courier_now())")
        .bind(clean(plugin))
        .bind(clean(digest))
        .bind(clean(by))
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    tx.note().await?;
    commit(tx).await
}

async fn active(store: &PostgresStore) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query("SELECT name, active FROM plugin WHERE active IS NOT NULL ORDER BY name")
        .fetch_all(&store.pool)
        .await
        .map_err(at_statement)?;
    rows.iter().map(|row| Ok((row.take("name")?, row.take("active")?))).collect()
}

async fn prepared(store: &PostgresStore, writer: WriterId, digest: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO prepared (writer_id, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(writer.0)
        .bind(clean(digest))
        .execute(&store.pool)
        .await
        .map_err(at_statement)?;
    Ok(())
}

async fn unprepared(store: &PostgresStore, digest: &str) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT name FROM node n WHERE lease_until > courier_now()
             AND NOT EXISTS (SELECT FROM prepared p WHERE p.writer_id = n.writer_id AND p.digest = $1)
         ORDER BY name",
    )
    .bind(clean(digest))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.take("name")).collect()
}
