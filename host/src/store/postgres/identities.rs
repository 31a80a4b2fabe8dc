//! Identities as arrays, and the locks under which they are taken.
//!
//! An identity is taken by a row among the messages, or reserved by a prepared
//! transaction, and no index spans the two tables. So a transaction that takes identities
//! locks their stripes (there are [`STRIPES`]) against one that reserves, and one that
//! reserves locks them against all. Stripes are locked before any row of either table, in
//! ascending order.

use std::collections::{BTreeSet, HashMap};

use sqlx::postgres::PgConnection;

use super::columns::PgRowExt;
use super::error::at_statement;
use crate::store::shared::text::clean;
use crate::store::{Identity, StoreError};

/// The first key of the advisory locks.
const IDENTITY_LOCK: i32 = 0x636f_7569;
/// The number of stripes: accepting a thousand messages takes no more locks than these.
const STRIPES: i32 = 64;

/// Identities as arrays, one for each column.
#[derive(Default)]
pub(super) struct IdentityColumns {
    pub(super) id: Vec<String>,
    pub(super) source: Vec<String>,
    pub(super) topic: Vec<String>,
}

impl<'i> FromIterator<&'i Identity> for IdentityColumns {
    fn from_iter<T: IntoIterator<Item = &'i Identity>>(identities: T) -> Self {
        let mut columns = Self::default();
        for identity in identities {
            columns.id.push(clean(&identity.id).into_owned());
            columns.source.push(clean(&identity.source).into_owned());
            columns.topic.push(clean(&identity.topic).into_owned());
        }
        columns
    }
}

/// Locks identities against a transaction that reserves them. Several transactions may
/// hold this lock.
pub(super) async fn lock_for_taking(tx: &mut PgConnection, identities: &[&Identity]) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1, s.stripe) FROM unnest($2::integer[]) AS s (stripe)")
        .bind(IDENTITY_LOCK)
        .bind(stripes(identities))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    Ok(())
}

/// Locks identities against every transaction that takes or reserves them.
pub(super) async fn lock_for_reserving(tx: &mut PgConnection, identities: &[&Identity]) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, s.stripe) FROM unnest($2::integer[]) AS s (stripe)")
        .bind(IDENTITY_LOCK)
        .bind(stripes(identities))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    Ok(())
}

/// The stripes of identities, ascending. Hosts of all versions must find the same ones, and
/// the id alone spreads them well enough.
fn stripes(identities: &[&Identity]) -> Vec<i32> {
    let sum = |id: &str| id.bytes().fold(0_i32, |sum, byte| sum.wrapping_mul(31).wrapping_add(i32::from(byte)));
    let stripe = |identity: &&Identity| sum(&identity.id).rem_euclid(STRIPES);
    identities.iter().map(stripe).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Reads which prepared transactions hold these identities.
pub(super) async fn reserved(
    tx: &mut PgConnection,
    identities: &[Identity],
) -> Result<HashMap<Identity, String>, StoreError> {
    let columns: IdentityColumns = identities.iter().collect();
    let rows = sqlx::query(
        "SELECT h.message_id, h.source, h.topic, h.half_id
         FROM unnest($1::text[], $2::text[], $3::text[]) AS r (id, source, topic)
         JOIN half_item h ON h.message_id = r.id AND h.source = r.source AND h.topic = r.topic AND h.reserved",
    )
    .bind(&columns.id)
    .bind(&columns.source)
    .bind(&columns.topic)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    rows.iter()
        .map(|row| {
            let identity =
                Identity { id: row.take("message_id")?, source: row.take("source")?, topic: row.take("topic")? };
            Ok((identity, row.take("half_id")?))
        })
        .collect()
}
