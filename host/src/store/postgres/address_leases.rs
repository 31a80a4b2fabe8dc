//! Leases on the addresses of pushed services.
//!
//! The hosts of a group decide one after another, since each locks the group's row.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit, micros};
use crate::store::address_leases::share;
use crate::store::shared::text::clean;
use crate::store::{AddressLeaseRow, AddressLeaseStore, AddressShare, AddressWish, StoreError};

#[async_trait]
impl AddressLeaseStore for PostgresStore {
    async fn hold_addresses(&self, wish: &AddressWish) -> Result<AddressShare, StoreError> {
        bounded(hold(self, wish)).await
    }

    async fn release_addresses(
        &self,
        group: &str,
        service: &str,
        node: &str,
        addresses: &[String],
    ) -> Result<(), StoreError> {
        bounded(release(self, group, service, node, addresses)).await
    }

    async fn address_leases(&self) -> Result<Vec<AddressLeaseRow>, StoreError> {
        let read = sqlx::query(
            "SELECT g.name, l.address, l.node, l.until > courier_now() AS live
             FROM address_lease l JOIN consumer_group g ON g.id = l.group_id ORDER BY g.name, l.address, l.until DESC",
        )
        .fetch_all(&self.pool);
        let rows = bounded(async { read.await.map_err(at_statement) }).await?;
        rows.iter()
            .map(|row| {
                Ok(AddressLeaseRow {
                    group: row.take("name")?,
                    address: row.take("address")?,
                    node: row.take("node")?,
                    live: row.take("live")?,
                })
            })
            .collect()
    }
}

async fn hold(store: &PostgresStore, wish: &AddressWish) -> Result<AddressShare, StoreError> {
    let group = store.groups.id(&store.pool, &wish.group).await?;
    let (service, node) = (clean(&wish.service), clean(&wish.node));
    let mut tx = store.begin_tx().await?;
    sqlx::query("SELECT id FROM consumer_group WHERE id = $1 FOR NO KEY UPDATE")
        .bind(group)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    sqlx::query(
        "INSERT INTO address_host (group_id, service, node, until) VALUES ($1, $2, $3, courier_now() + $4)
         ON CONFLICT (group_id, service, node) DO UPDATE SET until = excluded.until",
    )
    .bind(group)
    .bind(&service)
    .bind(&node)
    .bind(micros(wish.lease))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    for over in [
        "DELETE FROM address_host WHERE group_id = $1 AND service = $2 AND until <= courier_now()",
        "DELETE FROM address_lease WHERE group_id = $1 AND service = $2 AND until <= courier_now()",
    ] {
        let over = sqlx::query(over).bind(group).bind(&service);
        over.execute(&mut *tx).await.map_err(at_statement)?;
    }
    let hosts: Vec<String> = sqlx::query_scalar("SELECT node FROM address_host WHERE group_id = $1 AND service = $2")
        .bind(group)
        .bind(&service)
        .fetch_all(&mut *tx)
        .await
        .map_err(at_statement)?;
    let share = share(&node, &hosts, &wish.addresses, &leases(&mut tx, group, &service).await?);
    for address in share.held.iter().chain(&share.surplus) {
        sqlx::query(
            "INSERT INTO address_lease (group_id, service, address, node, until)
             VALUES ($1, $2, $3, $4, courier_now() + $5)
             ON CONFLICT (group_id, service, address) DO UPDATE SET node = excluded.node, until = excluded.until",
        )
        .bind(group)
        .bind(&service)
        .bind(clean(address))
        .bind(&node)
        .bind(micros(wish.lease))
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    }
    commit(tx).await?;
    Ok(share)
}

async fn leases(tx: &mut PgConnection, group: i32, service: &str) -> Result<BTreeMap<String, String>, StoreError> {
    let rows = sqlx::query("SELECT address, node FROM address_lease WHERE group_id = $1 AND service = $2")
        .bind(group)
        .bind(service)
        .fetch_all(tx)
        .await
        .map_err(at_statement)?;
    rows.iter().map(|row| Ok((row.take("address")?, row.take("node")?))).collect()
}

async fn release(
    store: &PostgresStore,
    group: &str,
    service: &str,
    node: &str,
    addresses: &[String],
) -> Result<(), StoreError> {
    let group = store.groups.id(&store.pool, group).await?;
    let mut tx = store.begin_tx().await?;
    sqlx::query(
        "DELETE FROM address_lease WHERE group_id = $1 AND service = $2 AND node = $3
             AND (cardinality($4::text[]) = 0 OR address = ANY($4))",
    )
    .bind(group)
    .bind(clean(service))
    .bind(clean(node))
    .bind(addresses)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    if addresses.is_empty() {
        sqlx::query("DELETE FROM address_host WHERE group_id = $1 AND service = $2 AND node = $3")
            .bind(group)
            .bind(clean(service))
            .bind(clean(node))
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
    }
    commit(tx).await
}
