//! What [`shared::undelivered`](crate::store::shared::undelivered) leaves to
//! SQLite.

use super::SqliteStore;
use crate::store::shared::undelivered::UndeliveredDialect;

impl UndeliveredDialect for SqliteStore {
    const RESEND: &'static str = "INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record,
             held_until, sender, listed, group_name, created_at, published_on)
         SELECT CASE WHEN $2 THEN $3 ELSE shard END, message_id, CASE WHEN $2 THEN $4 ELSE topic END,
             CASE WHEN $2 THEN $5 ELSE type_name END, source, CASE WHEN $2 THEN $6 ELSE key END,
             CASE WHEN $2 THEN $7 ELSE record END, 0, listed, listed, group_name, created_at,
             nullif(coalesce(published_on, topic), CASE WHEN $2 THEN $4 ELSE topic END)
         FROM undelivered WHERE id = $1 RETURNING message_id, source, coalesce(published_on, topic), listed";
}
