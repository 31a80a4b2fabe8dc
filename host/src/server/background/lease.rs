//! Renews the lease on this node's name.

use std::time::Duration;

use crate::causes::{Cause, Causes, Subject};
use crate::server::node_lease::LEASE;
use crate::store::{SharedStore, StoreError, WriterId};

/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(3);

/// Renews the lease on the node's name. Returns why the host must stop, when
/// another process took the name.
pub async fn keep_lease(store: SharedStore, writer: WriterId, causes: Causes) -> String {
    let subject = Subject::Host("node name".to_owned());
    loop {
        tokio::time::sleep(RENEW).await;
        match store.renew(writer, LEASE).await {
            Ok(()) => causes.clear(&subject),
            Err(StoreError::Fenced(why)) => return why,
            Err(error) => {
                let why = format!("the lease on this node's name is not renewed: {error}");
                causes.report(subject.clone(), Cause::new("lease_not_renewed", why));
            }
        }
    }
}
