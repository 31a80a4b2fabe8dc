//! `config`: the values of `[binding.config]` and `[binding.secrets]`. A name that
//! the binding does not have is none; a handler cannot list the names.

use secrecy::ExposeSecret;

use crate::engine::contract::{v1, v2};
use crate::engine::guest::Guest;

/// The interface `config` of one version.
macro_rules! serve {
    ($version:ident) => {
        impl $version::config::Host for Guest {
            fn get(&mut self, key: String) -> Option<String> {
                self.policy.config.get(&key).cloned()
            }

            fn secret(&mut self, key: String) -> Option<String> {
                self.policy.secrets.get(&key).map(|secret| secret.expose_secret().to_owned())
            }
        }
    };
}

serve!(v1);
serve!(v2);
