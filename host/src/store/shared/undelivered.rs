//! What the host owes Kafka and can never deliver as it is.

use async_trait::async_trait;

use super::dialect::{StatementConnection as _, StoreDialect};
use super::paging::{number_of, page_of};
use super::statement::{SharedRow, Statement};
use crate::store::undelivered::{
    NewUndelivered, Repaired, UndeliveredFilter, UndeliveredRow, UndeliveredStore, UndeliveredTotal,
};
use crate::store::{Listing, MAX_PAGE, Page, StoreError};

/// A statement for the columns that [`undelivered_row`] reads, in its order.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, message_id, topic, type_name, source, key, octet_length(record), group_name, outbox, outbox_row,
                 code, reason, tries, created_at, kept_at",
            $rest
        )
    };
}

/// What each dialect writes by itself.
pub(in crate::store) trait UndeliveredDialect: StoreDialect {
    /// Makes an outbound row of the undelivered one `$1`. Where `$2` is true, the
    /// shard `$3`, topic `$4`, type `$5`, key `$6` and record `$7` replace its own.
    /// Returns the message's id, source and topic, and whether people see it.
    const RESEND: &'static str;
}

#[async_trait]
impl<D: UndeliveredDialect> UndeliveredStore for D {
    async fn keep_undelivered(&self, rows: &[NewUndelivered]) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            for row in rows {
                let outbox = row.outbox.as_ref();
                let insert = Statement::new(
                    "INSERT INTO undelivered (shard, message_id, topic, type_name, source, key, record, listed, outbox,
                         outbox_row, code, reason, tries, created_at, kept_at)
                     SELECT $1, $2, $3, $4, $5, $6, $7, false, $8, $9, $10, $11, 0, now.at, now.at
                     FROM (SELECT courier_now() AS at) AS now
                     WHERE NOT EXISTS (SELECT 1 FROM undelivered WHERE outbox = $8 AND outbox_row = $9)",
                )
                .bind(row.shard)
                .bind(&row.message_id)
                .bind(&row.topic)
                .bind(&row.type_name)
                .bind(&row.source)
                .bind(row.key.as_deref())
                .bind(&row.record[..])
                .bind(outbox.map(|(outbox, _)| outbox.as_str()))
                .bind(outbox.map(|(_, row)| row.as_str()))
                .bind(&row.code)
                .bind(&row.reason);
                tx.execute(insert).await?;
            }
            D::commit_writing(tx).await
        })
        .await
    }

    async fn undelivered(
        &self,
        filter: &UndeliveredFilter,
        page: &Page,
    ) -> Result<Listing<UndeliveredRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let mut query = Statement::new(select!(" FROM undelivered WHERE true"));
        if let Some(below) = number_of(page.cursor.as_deref())? {
            query.push(" AND id < ").push_bind(below);
        }
        narrow(&mut query, filter);
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit) + 1);
        let rows = D::limited(self.read(query)).await?;
        let items = rows.into_iter().map(|mut row| undelivered_row(&mut row)).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit as usize, |last: &UndeliveredRow| last.id.to_string()))
    }

    async fn undelivered_one(&self, id: i64) -> Result<Option<UndeliveredRow>, StoreError> {
        let read = self.read(Statement::new(select!(", record FROM undelivered WHERE id = $1")).bind(id));
        let found = D::limited(read).await?;
        let whole = |mut row: SharedRow| {
            let undelivered = undelivered_row(&mut row)?;
            Ok(UndeliveredRow { record: row.bytes_option()?, ..undelivered })
        };
        found.into_iter().next().map(whole).transpose()
    }

    async fn resend_undelivered(&self, id: i64, repaired: Option<&Repaired>) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            let resend = Statement::new(D::RESEND)
                .bind(id)
                .bind(repaired.is_some())
                .bind(repaired.map(|repaired| i64::from(repaired.shard)))
                .bind(repaired.map(|repaired| repaired.topic.as_str()))
                .bind(repaired.map(|repaired| repaired.type_name.as_str()))
                .bind(repaired.and_then(|repaired| repaired.key.as_deref()))
                .bind(repaired.map(|repaired| &repaired.record[..]));
            let mut moved = tx.row(resend).await?.ok_or_else(|| gone(id))?;
            let (message_id, source, topic) = (moved.text()?, moved.text()?, moved.text()?);
            tx.execute(Statement::new("DELETE FROM undelivered WHERE id = $1").bind(id)).await?;
            if moved.flag()? {
                // From here on its outbound row has the record.
                let update = Statement::new(
                    "UPDATE message SET retrying = true, record = NULL
                     WHERE id = $1 AND source = $2 AND topic = $3 AND state = 1",
                )
                .bind(message_id)
                .bind(source)
                .bind(topic);
                tx.execute(update).await?;
            }
            tx.note().await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn give_up_undelivered(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            let delete = Statement::new(
                "DELETE FROM undelivered WHERE id = $1
                 RETURNING message_id, source, coalesce(published_on, topic), listed",
            )
            .bind(id);
            let mut given_up = tx.row(delete).await?.ok_or_else(|| gone(id))?;
            let (message_id, source, topic) = (given_up.text()?, given_up.text()?, given_up.text()?);
            if given_up.flag()? {
                let update = Statement::new(
                    "UPDATE message SET reason = $4, record = NULL
                     WHERE id = $1 AND source = $2 AND topic = $3 AND state = 1 AND NOT retrying",
                )
                .bind(message_id)
                .bind(source)
                .bind(topic)
                .bind(reason);
                tx.execute(update).await?;
            }
            tx.note().await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn undelivered_totals(&self, filter: &UndeliveredFilter) -> Result<Vec<UndeliveredTotal>, StoreError> {
        let mut select = Statement::new(
            "SELECT topic, count(*), CAST(sum(octet_length(record)) AS bigint) FROM undelivered WHERE true",
        );
        narrow(&mut select, filter);
        select.push(" GROUP BY topic ORDER BY topic");
        let total =
            |mut row: SharedRow| Ok(UndeliveredTotal { topic: row.text()?, rows: row.number()?, bytes: row.number()? });
        D::limited(self.read(select)).await?.into_iter().map(total).collect()
    }
}

/// Adds the conditions of a filter to a statement that ends in its `WHERE`.
fn narrow<'v>(query: &mut Statement<'v>, filter: &'v UndeliveredFilter) {
    if let Some(topics) = &filter.topics {
        query.push(" AND topic").push_in(topics);
    }
    if let Some(groups) = &filter.groups {
        query.push(" AND (group_name IS NULL OR group_name").push_in(groups).push(")");
    }
    let equal = [
        (" AND topic = ", &filter.topic),
        (" AND group_name = ", &filter.group),
        (" AND outbox = ", &filter.outbox),
        (" AND message_id = ", &filter.message_id),
    ];
    for (column, value) in equal {
        if let Some(value) = value {
            query.push(column).push_bind(value);
        }
    }
}

fn gone(id: i64) -> StoreError {
    StoreError::NotFound(format!("nothing undelivered has the id {id}: it was sent again or given up"))
}

fn undelivered_row(row: &mut SharedRow) -> Result<UndeliveredRow, StoreError> {
    Ok(UndeliveredRow {
        id: row.number()?,
        message_id: row.text()?,
        topic: row.text()?,
        type_name: row.text()?,
        source: row.text()?,
        key: row.bytes_option()?,
        record: None,
        bytes: row.number()?,
        group: row.text_option()?,
        outbox: row.text_option()?,
        outbox_row: row.text_option()?,
        code: row.text()?,
        reason: row.text()?,
        tries: row.number()?,
        created_at: row.time()?,
        kept_at: row.time()?,
    })
}
