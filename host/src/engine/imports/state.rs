//! `state`: the group's key/value state. Reads see the attempt's own writes first,
//! then committed values; writes are collected and committed when the attempt
//! succeeds. [`state_quota`](crate::engine::state_quota) bounds what the group may
//! keep, and [`state_reads`](crate::engine::state_reads) the reads that run at once.

use std::sync::Arc;

use bytes::Bytes;

use super::check_pair;
use crate::engine::StateHeld;
use crate::engine::contract::{Refusal, v1, v2};
use crate::engine::guest::Guest;

/// The interfaces `state` and `batch-state` of one version.
macro_rules! serve {
    ($version:ident) => {
        impl $version::state::Host for Guest {
            async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, $version::types::Refusal> {
                self.single("state")?;
                Ok(self.read(0, key).await?)
            }

            async fn set(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), $version::types::Refusal> {
                self.single("state")?;
                Ok(self.write(0, key, value).await?)
            }
        }

        impl $version::batch_state::Host for Guest {
            async fn get(&mut self, item: u32, key: String) -> Result<Option<Vec<u8>>, $version::types::Refusal> {
                Ok(self.read(item, key).await?)
            }

            async fn set(
                &mut self,
                item: u32,
                key: String,
                value: Option<Vec<u8>>,
            ) -> Result<(), $version::types::Refusal> {
                Ok(self.write(item, key, value).await?)
            }
        }
    };
}

serve!(v1);
serve!(v2);

impl Guest {
    fn check_state(&self) -> Result<(), Refusal> {
        if self.policy.state { Ok(()) } else { Err(self.denied("state", "set state = true in [binding.grant]")) }
    }

    async fn read(&mut self, item: u32, key: String) -> Result<Option<Vec<u8>>, Refusal> {
        self.check_state()?;
        check_pair(&key, None)?;
        if let Some(written) = self.item(item)?.state_writes.get(&key) {
            return Ok(written.as_ref().map(|value| value.to_vec()));
        }
        let ttl = self.policy.state_quota.ttl;
        match self.state.get(&self.policy, &self.meter, &key, ttl).await {
            Ok(value) => Ok(value.map(Into::into)),
            Err(why) => Err(Refusal::Unavailable(why)),
        }
    }

    async fn write(&mut self, item: u32, key: String, value: Option<Vec<u8>>) -> Result<(), Refusal> {
        self.check_state()?;
        check_pair(&key, value.as_deref())?;
        self.item(item)?;
        // A key that is written twice counts twice.
        self.spend(key.len() + value.as_ref().map_or(0, Vec::len))?;
        if let Some(value) = &value {
            self.keep(&key, value.len()).await?;
        }
        self.item(item)?.state_writes.insert(key, value.map(Bytes::from));
        Ok(())
    }

    /// Keeps a value within the group's quota. Deleting is always allowed.
    async fn keep(&mut self, key: &str, value: usize) -> Result<(), Refusal> {
        let more = StateHeld { keys: 1, bytes: (key.len() + value) as u64 };
        let kept = self.kept.and(more);
        let policy = Arc::clone(&self.policy);
        if !policy.state_quota.admits(more) {
            let held = self.state.held(&policy, &self.meter).await.map_err(Refusal::Unavailable)?;
            policy.state_quota.hear(held);
            if !policy.state_quota.admits(kept) {
                let replaced = self.state.get(&policy, &self.meter, key, None).await.map_err(Refusal::Unavailable)?;
                let replaced = replaced.map_or_else(StateHeld::default, |old| StateHeld {
                    keys: 1,
                    bytes: (key.len() + old.len()) as u64,
                });
                // A value that replaces a larger one is always allowed.
                if replaced.bytes < more.bytes {
                    policy.state_quota.check(&policy.group, held, kept, replaced)?;
                }
            }
        }
        self.kept = kept;
        Ok(())
    }
}
