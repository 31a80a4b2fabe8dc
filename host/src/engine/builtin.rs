//! The plugins that come with the host: components in the source tree, so that a
//! plain build has them, each with the digest of its bytes.

use std::borrow::Cow;

/// A plugin that comes with the host.
#[derive(Debug)]
pub struct Builtin {
    /// The name that a binding names as its plugin.
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    digest_line: &'static str,
}

/// The plugins; `cargo xtask builtin` builds them anew.
static ALL: [Builtin; 1] = [Builtin {
    name: crate::config::HTTP_PUSH,
    wasm: include_bytes!("builtin/http-push.wasm"),
    digest_line: include_str!("builtin/http-push.sha256"),
}];

impl Builtin {
    /// All plugins that come with the host.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The plugin of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|builtin| builtin.name == name)
    }

    /// The digest of the component: `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &'static str {
        self.digest_line.trim()
    }

    /// The version that the API and the console show: the plugin's name, `@` and the
    /// version of the host.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}@{}", self.name, env!("CARGO_PKG_VERSION"))
    }
}

/// The version to show for a component's digest: a builtin's name and version, or
/// the digest itself.
#[must_use]
pub fn shown_version(digest: &str) -> Cow<'_, str> {
    match ALL.iter().find(|builtin| builtin.digest() == digest) {
        Some(builtin) => builtin.version().into(),
        None => digest.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{World, digest, inspect};
    use super::*;

    #[test]
    fn each_has_the_digest_beside_it_and_is_a_handler() {
        for builtin in &ALL {
            assert_eq!(digest(builtin.wasm), builtin.digest(), "{}", builtin.name);
            assert_eq!(inspect(builtin.wasm).unwrap().world, World::BatchHandler);
            assert_eq!(shown_version(builtin.digest()), format!("{}@{}", builtin.name, env!("CARGO_PKG_VERSION")));
        }
        assert_eq!(shown_version("sha256:00"), "sha256:00");
    }
}
