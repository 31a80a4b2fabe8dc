//! What [`shared::plugins`](crate::store::shared::plugins) leaves to SQLite.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{json, now};
use super::error::fault;
use crate::store::shared::plugins::PluginDialect;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{NewVersion, StoreError};

#[async_trait]
impl PluginDialect for SqliteStore {
    const VERSIONS: &'static str =
        "SELECT p.name, v.digest, v.size, v.imports, v.exports, v.wants, v.actor, v.created_at
         FROM plugin_version v JOIN plugin p ON p.id = v.plugin_id";

    const ACTIVATIONS: &'static str =
        "SELECT p.name, a.digest, a.activated_at, a.actor FROM activation a JOIN plugin p ON p.id = a.plugin_id";

    const COMPONENT: &'static str = "SELECT wasm FROM component WHERE digest = $1";

    const ACTIVATE: &'static str = "UPDATE plugin SET active = $2
         WHERE name = $1 AND EXISTS (SELECT 1 FROM plugin_version v WHERE v.plugin_id = plugin.id AND v.digest = $2)";

    const INSERT_ACTIVATION: &'static str = "INSERT INTO activation (plugin_id, digest, actor, activated_at)
         SELECT id, $2, $3, courier_now() FROM plugin WHERE name = $1";

    async fn insert_version(connection: &mut SqliteConnection, version: &NewVersion) -> Result<(), StoreError> {
        // The update changes nothing. Without it RETURNING would have no row for a plugin
        // that exists.
        let plugin: i64 = sqlx::query_scalar(
            "INSERT INTO plugin (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
        )
        .bind(clean(&version.plugin))
        .fetch_one(&mut *connection)
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
        .execute(&mut *connection)
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
        .execute(&mut *connection)
        .await
        .map_err(fault)?;
        Ok(())
    }
}
