//! `log`: writes to the log of the attempt.

use crate::engine::contract::{v1, v2};
use crate::engine::guest::Guest;

/// The interface `log` of one version.
macro_rules! serve {
    ($version:ident) => {
        impl $version::log::Host for Guest {
            fn log(&mut self, level: $version::log::Level, text: String) {
                use $version::log::Level;
                let (word, error) = match level {
                    Level::Debug => ("DEBUG ", false),
                    Level::Info => ("INFO ", false),
                    Level::Warn => ("WARN ", false),
                    Level::Error => ("ERROR ", true),
                };
                let mut log = self.log.lock();
                log.line();
                log.write(word.as_bytes());
                log.print(text.as_bytes(), error);
                log.print(b"\n", error);
            }
        }
    };
}

serve!(v1);
serve!(v2);
