//! Leases on the addresses of pushed services.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::SqliteStore;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use super::groups::group_number;
use crate::store::address_leases::share;
use crate::store::shared::text::clean;
use crate::store::{AddressLeaseRow, AddressLeaseStore, AddressShare, AddressWish, StoreError};

#[async_trait]
impl AddressLeaseStore for SqliteStore {
    async fn hold_addresses(&self, wish: &AddressWish) -> Result<AddressShare, StoreError> {
        let (service, node) = (clean(&wish.service), clean(&wish.node));
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, &wish.group).await?;
        let (now, until) = (now(), now().after(wish.lease));
        sqlx::query(
            "INSERT INTO address_host (group_id, service, node, until) VALUES (?, ?, ?, ?)
             ON CONFLICT (group_id, service, node) DO UPDATE SET until = excluded.until",
        )
        .bind(group)
        .bind(&service)
        .bind(&node)
        .bind(until.0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        for over in [
            "DELETE FROM address_host WHERE group_id = ? AND service = ? AND until <= ?",
            "DELETE FROM address_lease WHERE group_id = ? AND service = ? AND until <= ?",
        ] {
            let over = sqlx::query(over).bind(group).bind(&service).bind(now.0);
            over.execute(&mut *tx).await.map_err(fault)?;
        }
        let hosts: Vec<String> = sqlx::query_scalar("SELECT node FROM address_host WHERE group_id = ? AND service = ?")
            .bind(group)
            .bind(&service)
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
        let leases: Vec<(String, String)> =
            sqlx::query_as("SELECT address, node FROM address_lease WHERE group_id = ? AND service = ?")
                .bind(group)
                .bind(&service)
                .fetch_all(&mut *tx)
                .await
                .map_err(fault)?;
        let leases: BTreeMap<String, String> = leases.into_iter().collect();
        let share = share(&node, &hosts, &wish.addresses, &leases);
        for address in share.held.iter().chain(&share.surplus) {
            sqlx::query(
                "INSERT INTO address_lease (group_id, service, address, node, until) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (group_id, service, address) DO UPDATE SET node = excluded.node, until = excluded.until",
            )
            .bind(group)
            .bind(&service)
            .bind(clean(address))
            .bind(&node)
            .bind(until.0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(share)
    }

    async fn release_addresses(
        &self,
        group: &str,
        service: &str,
        node: &str,
        addresses: &[String],
    ) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, group).await?;
        sqlx::query(
            "DELETE FROM address_lease WHERE group_id = ?1 AND service = ?2 AND node = ?3
                 AND (json_array_length(?4) = 0 OR address IN (SELECT value FROM json_each(?4)))",
        )
        .bind(group)
        .bind(clean(service))
        .bind(clean(node))
        .bind(json(&addresses)?)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        if addresses.is_empty() {
            sqlx::query("DELETE FROM address_host WHERE group_id = ? AND service = ? AND node = ?")
                .bind(group)
                .bind(clean(service))
                .bind(clean(node))
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn address_leases(&self) -> Result<Vec<AddressLeaseRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.name, l.address, l.node, l.until > ? FROM address_lease l
             JOIN consumer_group g ON g.id = l.group_id ORDER BY g.name, l.address, l.until DESC",
        )
        .bind(now().0)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(AddressLeaseRow {
                    group: columns.take()?,
                    address: columns.take()?,
                    node: columns.take()?,
                    live: columns.flag()?,
                })
            })
            .collect()
    }
}
