//! What [`shared::undelivered`](crate::store::shared::undelivered) leaves to
//! PostgreSQL.

use super::PostgresStore;
use crate::store::shared::undelivered::UndeliveredDialect;

impl UndeliveredDialect for PostgresStore {
    const RESEND: &'static str = "WITH gone AS (DELETE FROM undelivered WHERE id = $1 RETURNING *)
         INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record, listed, group_name, created_at,
             published_on)
         SELECT CASE WHEN $2 THEN $3 ELSE shard END, message_id, CASE WHEN $2 THEN $4 ELSE topic END,
             CASE WHEN $2 THEN $5 ELSE type_name END, source, CASE WHEN $2 THEN $6 ELSE key END,
             CASE WHEN $2 THEN $7 ELSE record END, listed, group_name, created_at,
             nullif(coalesce(published_on, topic), CASE WHEN $2 THEN $4 ELSE topic END)
         FROM gone RETURNING message_id, source, coalesce(published_on, topic), listed";
}
