//! What the host owes Kafka and can never deliver as it is.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};

use super::columns::{PgRowExt, count};
use super::error::at_statement;
use super::{PostgresStore, audits, commit};
use crate::store::shared::text::clean;
use crate::store::undelivered::{
    NewUndelivered, Repaired, UndeliveredFilter, UndeliveredRow, UndeliveredStore, UndeliveredTotal,
};
use crate::store::{Listing, MAX_PAGE, Page, StoreError};

/// The columns that [`row`] reads, but for the record.
const COLUMNS: &str = "id, message_id, topic, type_name, source, key, octet_length(record)::bigint AS bytes, group_name, \
                       outbox, outbox_row, code, reason, tries, created_at, kept_at";

#[async_trait]
impl UndeliveredStore for PostgresStore {
    async fn keep_undelivered(&self, rows: &[NewUndelivered]) -> Result<(), StoreError> {
        let mut tx = self.begin_tx().await?;
        for row in rows {
            let (outbox, outbox_row) = row.outbox.clone().unzip();
            sqlx::query(
                "INSERT INTO undelivered (shard, message_id, topic, type_name, source, key, record, listed, outbox,
                     outbox_row, code, reason, tries, created_at, kept_at)
                 SELECT $1, $2, $3, $4, $5, $6, $7, false, $8, $9, $10, $11, 0, now.at, now.at
                 FROM (SELECT courier_now() AS at) AS now
                 WHERE NOT EXISTS (SELECT FROM undelivered WHERE outbox = $8 AND outbox_row = $9)",
            )
            .bind(row.shard)
            .bind(clean(&row.message_id))
            .bind(clean(&row.topic))
            .bind(clean(&row.type_name))
            .bind(clean(&row.source))
            .bind(row.key.as_deref())
            .bind(&row.record[..])
            .bind(outbox.as_deref().map(clean))
            .bind(outbox_row.as_deref().map(clean))
            .bind(clean(&row.code))
            .bind(clean(&row.reason))
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
        }
        commit(tx).await
    }

    async fn undelivered(
        &self,
        filter: &UndeliveredFilter,
        page: &Page,
    ) -> Result<Listing<UndeliveredRow>, StoreError> {
        let wrong = |text: &str| StoreError::NotFound(format!("there is no cursor {text:?}"));
        let below = page.cursor.as_deref().map(|text| text.parse::<i64>().map_err(|_| wrong(text))).transpose()?;
        let limit = page.limit.clamp(1, MAX_PAGE);
        let mut query = QueryBuilder::<Postgres>::new(format!("SELECT {COLUMNS} FROM undelivered WHERE true"));
        if let Some(below) = below {
            query.push(" AND id < ").push_bind(below);
        }
        if let Some(topics) = &filter.topics {
            query.push(" AND topic = ANY(").push_bind(topics.clone()).push(")");
        }
        if let Some(groups) = &filter.groups {
            query.push(" AND (group_name IS NULL OR group_name = ANY(").push_bind(groups.clone()).push("))");
        }
        let equal = [
            ("topic", &filter.topic),
            ("group_name", &filter.group),
            ("outbox", &filter.outbox),
            ("message_id", &filter.message_id),
        ];
        for (column, value) in equal {
            if let Some(value) = value {
                query.push(format_args!(" AND {column} = ")).push_bind(clean(value).into_owned());
            }
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit) + 1);
        let rows = query.build().persistent(false).fetch_all(&self.pool).await.map_err(at_statement)?;
        let mut items: Vec<UndeliveredRow> = rows.iter().map(row).collect::<Result<_, _>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Listing { items, next, truncated: false })
    }

    async fn undelivered_one(&self, id: i64) -> Result<Option<UndeliveredRow>, StoreError> {
        let found = sqlx::query("SELECT *, octet_length(record)::bigint AS bytes FROM undelivered WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(at_statement)?;
        let whole = |found: &PgRow| Ok(UndeliveredRow { record: found.bytes("record")?, ..row(found)? });
        found.as_ref().map(whole).transpose()
    }

    async fn resend_undelivered(&self, id: i64, repaired: Option<&Repaired>) -> Result<(), StoreError> {
        let mut tx = self.begin_tx().await?;
        let moved = sqlx::query(
            "WITH gone AS (DELETE FROM undelivered WHERE id = $1 RETURNING *)
             INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record, listed, group_name,
                 created_at, published_on)
             SELECT CASE WHEN $2 THEN $3 ELSE shard END, message_id, CASE WHEN $2 THEN $4 ELSE topic END,
                 CASE WHEN $2 THEN $5 ELSE type_name END, source, CASE WHEN $2 THEN $6 ELSE key END,
                 CASE WHEN $2 THEN $7 ELSE record END, listed, group_name, created_at,
                 nullif(coalesce(published_on, topic), CASE WHEN $2 THEN $4 ELSE topic END)
             FROM gone RETURNING message_id, source, coalesce(published_on, topic) AS published_on, listed",
        )
        .bind(id)
        .bind(repaired.is_some())
        .bind(repaired.map(|repaired| repaired.shard))
        .bind(repaired.map(|repaired| clean(&repaired.topic)))
        .bind(repaired.map(|repaired| clean(&repaired.type_name)))
        .bind(repaired.and_then(|repaired| repaired.key.as_deref()))
        .bind(repaired.map(|repaired| &repaired.record[..]))
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| gone(id))?;
        if moved.take::<bool>("listed")? {
            // From here on its outbound row has the record.
            sqlx::query(
                "UPDATE message SET retrying = true, record = NULL
                 WHERE id = $1 AND source = $2 AND topic = $3 AND state = 1",
            )
            .bind(moved.take::<String>("message_id")?)
            .bind(moved.take::<String>("source")?)
            .bind(moved.take::<String>("published_on")?)
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
        }
        audits::note(&mut tx).await?;
        commit(tx).await
    }

    async fn give_up_undelivered(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.begin_tx().await?;
        let given_up = sqlx::query(
            "DELETE FROM undelivered WHERE id = $1
             RETURNING message_id, source, coalesce(published_on, topic) AS published_on, listed",
        )
        .bind(id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| gone(id))?;
        if given_up.take::<bool>("listed")? {
            sqlx::query(
                "UPDATE message SET reason = $4, record = NULL
                 WHERE id = $1 AND source = $2 AND topic = $3 AND state = 1 AND NOT retrying",
            )
            .bind(given_up.take::<String>("message_id")?)
            .bind(given_up.take::<String>("source")?)
            .bind(given_up.take::<String>("published_on")?)
            .bind(clean(reason))
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
        }
        audits::note(&mut tx).await?;
        commit(tx).await
    }

    async fn undelivered_totals(&self) -> Result<Vec<UndeliveredTotal>, StoreError> {
        let rows = sqlx::query(
            "SELECT topic, count(*) AS rows, sum(octet_length(record))::bigint AS bytes FROM undelivered
             GROUP BY topic ORDER BY topic",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(at_statement)?;
        let total = |row: &PgRow| {
            Ok(UndeliveredTotal { topic: row.take("topic")?, rows: row.take("rows")?, bytes: row.take("bytes")? })
        };
        rows.iter().map(total).collect()
    }
}

fn gone(id: i64) -> StoreError {
    StoreError::NotFound(format!("nothing undelivered has the id {id}: it was sent again or given up"))
}

fn row(row: &PgRow) -> Result<UndeliveredRow, StoreError> {
    Ok(UndeliveredRow {
        id: row.take("id")?,
        message_id: row.take("message_id")?,
        topic: row.take("topic")?,
        type_name: row.take("type_name")?,
        source: row.take("source")?,
        key: row.bytes("key")?,
        record: None,
        bytes: row.take("bytes")?,
        group: row.take("group_name")?,
        outbox: row.take("outbox")?,
        outbox_row: row.take("outbox_row")?,
        code: row.take("code")?,
        reason: row.take("reason")?,
        tries: count(row.take("tries")?),
        created_at: row.time("created_at")?,
        kept_at: row.time("kept_at")?,
    })
}
