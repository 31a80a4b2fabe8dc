//! Leases on the addresses of pushed services.
//!
//! The hosts of a group decide one after another, since each locks the group's row.

use async_trait::async_trait;

use super::dialect::{StatementConnection as _, StoreDialect};
use super::statement::{SharedRow, Statement};
use super::text::clean;
use crate::store::address_leases::share;
use crate::store::{AddressLeaseRow, AddressLeaseStore, AddressShare, AddressWish, StoreError};

#[async_trait]
impl<D: StoreDialect> AddressLeaseStore for D {
    async fn hold_addresses(&self, wish: &AddressWish) -> Result<AddressShare, StoreError> {
        D::limited(async {
            let (mut tx, group) = self.begin_for_group(&wish.group).await?;
            let about_service = |sql| Statement::new(sql).bind(group).bind(&wish.service);
            let lock = Statement::new("SELECT id FROM consumer_group WHERE id = $1 FOR NO KEY UPDATE").bind(group);
            tx.rows(lock).await?;
            let upsert_host = about_service(
                "INSERT INTO address_host (group_id, service, node, until) VALUES ($1, $2, $3, courier_now() + $4)
                 ON CONFLICT (group_id, service, node) DO UPDATE SET until = excluded.until",
            );
            tx.execute(upsert_host.bind(&wish.node).bind(wish.lease)).await?;
            for delete_over in [
                "DELETE FROM address_host WHERE group_id = $1 AND service = $2 AND until <= courier_now()",
                "DELETE FROM address_lease WHERE group_id = $1 AND service = $2 AND until <= courier_now()",
            ] {
                tx.execute(about_service(delete_over)).await?;
            }
            let hosts = "SELECT node FROM address_host WHERE group_id = $1 AND service = $2";
            let hosts = tx.rows(about_service(hosts)).await?;
            let hosts = hosts.into_iter().map(|mut row| row.text()).collect::<Result<Vec<_>, _>>()?;
            let leases = "SELECT address, node FROM address_lease WHERE group_id = $1 AND service = $2";
            let leases = tx.rows(about_service(leases)).await?;
            let lease = |mut row: SharedRow| Ok((row.text()?, row.text()?));
            let leases = leases.into_iter().map(lease).collect::<Result<_, StoreError>>()?;
            let share = share(&clean(&wish.node), &hosts, &wish.addresses, &leases);
            for address in share.held.iter().chain(&share.surplus) {
                let upsert_lease = about_service(
                    "INSERT INTO address_lease (group_id, service, address, node, until)
                     VALUES ($1, $2, $3, $4, courier_now() + $5)
                     ON CONFLICT (group_id, service, address) DO UPDATE SET node = excluded.node, until = excluded.until",
                );
                tx.execute(upsert_lease.bind(address).bind(&wish.node).bind(wish.lease)).await?;
            }
            D::commit_writing(tx).await?;
            Ok(share)
        })
        .await
    }

    async fn release_addresses(
        &self,
        group: &str,
        service: &str,
        node: &str,
        addresses: &[String],
    ) -> Result<(), StoreError> {
        D::limited(async {
            let (mut tx, group) = self.begin_for_group(group).await?;
            let of_node = |sql| Statement::new(sql).bind(group).bind(service).bind(node);
            let mut leases = of_node("DELETE FROM address_lease WHERE group_id = $1 AND service = $2 AND node = $3");
            if addresses.is_empty() {
                tx.execute(leases).await?;
                let host = "DELETE FROM address_host WHERE group_id = $1 AND service = $2 AND node = $3";
                tx.execute(of_node(host)).await?;
            } else {
                leases.push(" AND address").push_in(addresses);
                tx.execute(leases).await?;
            }
            D::commit_writing(tx).await
        })
        .await
    }

    async fn address_leases(&self) -> Result<Vec<AddressLeaseRow>, StoreError> {
        let select = self.read(Statement::new(
            "SELECT g.name, l.address, l.node, l.until > courier_now() FROM address_lease l
             JOIN consumer_group g ON g.id = l.group_id ORDER BY g.name, l.address, l.until DESC",
        ));
        let lease = |mut row: SharedRow| {
            Ok(AddressLeaseRow { group: row.text()?, address: row.text()?, node: row.text()?, live: row.flag()? })
        };
        D::limited(select).await?.into_iter().map(lease).collect()
    }
}
