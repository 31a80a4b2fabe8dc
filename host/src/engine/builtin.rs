//! The plugins that come with the host: components in the tree, so that a plain
//! build of the host has them, with the digest that their bytes must have.

use std::borrow::Cow;

/// A plugin that nobody needs to upload.
#[derive(Debug)]
pub struct Builtin {
    /// The name by which a binding asks for it.
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    digest_line: &'static str,
}

/// All of them. `cargo xtask builtin` builds them anew.
static ALL: [Builtin; 1] = [Builtin {
    name: crate::config::HTTP_PUSH,
    wasm: include_bytes!("builtin/http-push.wasm"),
    digest_line: include_str!("builtin/http-push.sha256"),
}];

impl Builtin {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|builtin| builtin.name == name)
    }

    /// `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &'static str {
        self.digest_line.trim()
    }

    /// As which version people see it.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}@{}", self.name, env!("CARGO_PKG_VERSION"))
    }
}

/// As which version people see the component of this digest.
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
