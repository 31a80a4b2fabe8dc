//! What [`shared::plugins`](crate::store::shared::plugins) leaves to PostgreSQL.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::PostgresStore;
use super::error::at_statement;
use crate::store::shared::plugins::PluginDialect;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{NewVersion, StoreError};

#[async_trait]
impl PluginDialect for PostgresStore {
    const VERSIONS: &'static str =
        "SELECT p.name, v.digest, octet_length(v.wasm), array_to_json(v.imports)::text, array_to_json(v.exports)::text,
             v.wants, v.by, v.created_at
         FROM plugin_version v JOIN plugin p ON p.name = v.plugin";

    const ACTIVATIONS: &'static str = "SELECT a.plugin, a.digest, a.at, a.by FROM activation a";

    const COMPONENT: &'static str = "SELECT wasm FROM plugin_version WHERE digest = $1 LIMIT 1";

    const ACTIVATE: &'static str = "UPDATE plugin SET active = $2
         WHERE name = $1 AND EXISTS (SELECT 1 FROM plugin_version WHERE plugin = $1 AND digest = $2)";

    const INSERT_ACTIVATION: &'static str =
        "INSERT INTO activation (plugin, digest, by, at) VALUES ($1, $2, $3, courier_now())";

    async fn insert_version(connection: &mut PgConnection, version: &NewVersion) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO plugin (name) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(clean(&version.plugin))
            .execute(&mut *connection)
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
        .execute(&mut *connection)
        .await
        .map_err(at_statement)?;
        // The digest names the bytes. Other bytes under it were altered by hand, and an upload
        // mends them for every plugin that has the version.
        sqlx::query("UPDATE plugin_version SET wasm = $2 WHERE digest = $1 AND wasm <> $2")
            .bind(clean(&version.digest))
            .bind(&version.wasm[..])
            .execute(&mut *connection)
            .await
            .map_err(at_statement)?;
        Ok(())
    }
}
