//! `cache`: values shared by the handlers of one group on one node. A write takes
//! effect at once and is not durable.

use bytes::Bytes;

use super::check_pair;
use crate::engine::contract::{Refusal, v1, v2};
use crate::engine::guest::Guest;

/// The interface `cache` of one version.
macro_rules! serve {
    ($version:ident) => {
        impl $version::cache::Host for Guest {
            fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, $version::types::Refusal> {
                self.check_cache()?;
                check_pair(&key, None)?;
                Ok(self.cache.get(&key).map(Into::into))
            }

            fn set(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), $version::types::Refusal> {
                self.check_cache()?;
                check_pair(&key, value.as_deref())?;
                self.cache.set(key, value.map(Bytes::from));
                Ok(())
            }
        }
    };
}

serve!(v1);
serve!(v2);

impl Guest {
    fn check_cache(&self) -> Result<(), Refusal> {
        if self.policy.cache { Ok(()) } else { Err(self.denied("cache", "set cache = true in [binding.grant]")) }
    }
}
