//! What the host owes Kafka and can never deliver as it is.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use super::{SqliteStore, audits};
use crate::store::shared::text::clean;
use crate::store::undelivered::{
    NewUndelivered, Repaired, UndeliveredFilter, UndeliveredRow, UndeliveredStore, UndeliveredTotal,
};
use crate::store::{Identity, Listing, MAX_PAGE, Page, StoreError};

/// The columns that [`row`] reads, in its order.
const COLUMNS: &str = "id, message_id, topic, type_name, source, key, length(record), group_name, outbox, outbox_row, \
                       code, reason, tries, created_at, kept_at";

#[async_trait]
impl UndeliveredStore for SqliteStore {
    async fn keep_undelivered(&self, rows: &[NewUndelivered]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let now = now();
        for row in rows {
            let (outbox, outbox_row) = row.outbox.clone().unzip();
            sqlx::query(
                "INSERT INTO undelivered (shard, message_id, topic, type_name, source, key, record, listed, outbox,
                     outbox_row, code, reason, tries, created_at, kept_at)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, 0, ?12, ?12
                 WHERE NOT EXISTS (SELECT 1 FROM undelivered WHERE outbox = ?8 AND outbox_row = ?9)",
            )
            .bind(row.shard)
            .bind(clean(&row.message_id))
            .bind(clean(&row.topic))
            .bind(clean(&row.type_name))
            .bind(clean(&row.source))
            .bind(row.key.as_deref())
            .bind(row.record.as_ref())
            .bind(outbox.as_deref().map(clean))
            .bind(outbox_row.as_deref().map(clean))
            .bind(clean(&row.code))
            .bind(clean(&row.reason))
            .bind(now.0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn undelivered(
        &self,
        filter: &UndeliveredFilter,
        page: &Page,
    ) -> Result<Listing<UndeliveredRow>, StoreError> {
        let wrong = |text: &str| StoreError::NotFound(format!("there is no cursor {text:?}"));
        let below = page.cursor.as_deref().map(|text| text.parse::<i64>().map_err(|_| wrong(text))).transpose()?;
        let limit = page.limit.clamp(1, MAX_PAGE);
        let mut query = QueryBuilder::<Sqlite>::new(format!("SELECT {COLUMNS} FROM undelivered WHERE TRUE"));
        if let Some(below) = below {
            query.push(" AND id < ").push_bind(below);
        }
        if let Some(topics) = &filter.topics {
            query.push(" AND topic IN (SELECT value FROM json_each(").push_bind(json(topics)?).push("))");
        }
        if let Some(groups) = &filter.groups {
            query.push(" AND (group_name IS NULL OR group_name IN (SELECT value FROM json_each(");
            query.push_bind(json(groups)?).push(")))");
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
        let rows = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let mut items: Vec<UndeliveredRow> = rows.iter().map(row).collect::<Result<_, _>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Listing { items, next, truncated: false })
    }

    async fn undelivered_one(&self, id: i64) -> Result<Option<UndeliveredRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(format!("SELECT {COLUMNS}, record FROM undelivered WHERE id = "));
        query.push_bind(id);
        let found = query.build().fetch_optional(&self.connections.readers).await.map_err(fault)?;
        let whole = |found: &SqliteRow| {
            let record: Vec<u8> = found.try_get("record").map_err(fault)?;
            Ok(UndeliveredRow { record: Some(record.into()), ..row(found)? })
        };
        found.as_ref().map(whole).transpose()
    }

    async fn resend_undelivered(&self, id: i64, repaired: Option<&Repaired>) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let moved = sqlx::query(
            "INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record, held_until, sender, listed,
                 group_name, created_at, published_on)
             SELECT CASE WHEN ?2 THEN ?3 ELSE shard END, message_id, CASE WHEN ?2 THEN ?4 ELSE topic END,
                 CASE WHEN ?2 THEN ?5 ELSE type_name END, source, CASE WHEN ?2 THEN ?6 ELSE key END,
                 CASE WHEN ?2 THEN ?7 ELSE record END, 0, listed, listed, group_name, created_at,
                 nullif(coalesce(published_on, topic), CASE WHEN ?2 THEN ?4 ELSE topic END)
             FROM undelivered WHERE id = ?1 RETURNING message_id, source, coalesce(published_on, topic), listed",
        )
        .bind(id)
        .bind(repaired.is_some())
        .bind(repaired.map(|repaired| repaired.shard))
        .bind(repaired.map(|repaired| clean(&repaired.topic)))
        .bind(repaired.map(|repaired| clean(&repaired.type_name)))
        .bind(repaired.and_then(|repaired| repaired.key.as_deref()))
        .bind(repaired.map(|repaired| repaired.record.as_ref()))
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?
        .ok_or_else(|| gone(id))?;
        let (message, listed) = message_and_listed(&moved)?;
        sqlx::query("DELETE FROM undelivered WHERE id = ?").bind(id).execute(&mut *tx).await.map_err(fault)?;
        if listed {
            // From here on its outbound row has the record.
            sqlx::query(
                "UPDATE message SET retrying = 1, record = NULL WHERE id = ? AND source = ? AND topic = ? AND state = 1",
            )
            .bind(message.id)
            .bind(message.source)
            .bind(message.topic)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn give_up_undelivered(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let given_up = sqlx::query(
            "DELETE FROM undelivered WHERE id = ?
             RETURNING message_id, source, coalesce(published_on, topic), listed",
        )
        .bind(id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?
        .ok_or_else(|| gone(id))?;
        let (message, listed) = message_and_listed(&given_up)?;
        if listed {
            sqlx::query(
                "UPDATE message SET reason = ?, record = NULL
                 WHERE id = ? AND source = ? AND topic = ? AND state = 1 AND retrying = 0",
            )
            .bind(clean(reason))
            .bind(message.id)
            .bind(message.source)
            .bind(message.topic)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn undelivered_totals(&self) -> Result<Vec<UndeliveredTotal>, StoreError> {
        let rows =
            sqlx::query("SELECT topic, count(*), sum(length(record)) FROM undelivered GROUP BY topic ORDER BY topic")
                .fetch_all(&self.connections.readers)
                .await
                .map_err(fault)?;
        let total = |row: &SqliteRow| {
            let mut columns = Columns::of(row);
            Ok(UndeliveredTotal { topic: columns.take()?, rows: columns.take()?, bytes: columns.take()? })
        };
        rows.iter().map(total).collect()
    }
}

fn gone(id: i64) -> StoreError {
    StoreError::NotFound(format!("nothing undelivered has the id {id}: it was sent again or given up"))
}

/// The message that a row stands for, and whether people see it.
fn message_and_listed(row: &SqliteRow) -> Result<(Identity, bool), StoreError> {
    let mut columns = Columns::of(row);
    let message = Identity { id: columns.take()?, source: columns.take()?, topic: columns.take()? };
    Ok((message, columns.flag()?))
}

fn row(row: &SqliteRow) -> Result<UndeliveredRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(UndeliveredRow {
        id: columns.take()?,
        message_id: columns.take()?,
        topic: columns.take()?,
        type_name: columns.take()?,
        source: columns.take()?,
        key: columns.bytes_option()?,
        record: None,
        bytes: columns.take()?,
        group: columns.take()?,
        outbox: columns.take()?,
        outbox_row: columns.take()?,
        code: columns.take()?,
        reason: columns.take()?,
        tries: columns.number()?,
        created_at: columns.time()?,
        kept_at: columns.time()?,
    })
}
