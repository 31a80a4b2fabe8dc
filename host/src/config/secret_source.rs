//! Fetches secrets from the environment or a file.

use std::path::Path;

use super::reader::Value;
use super::secret::Secret;

impl Value<'_> {
    /// A secret: `{ env = ".." }` or `{ file = ".." }`.
    pub fn secret(&self) -> Option<Secret> {
        read(self, self.key)
    }
}

/// Reads `{ env = ".." }` or `{ file = ".." }`; `key` is the key in messages.
pub(super) fn read(value: &Value<'_>, key: &str) -> Option<Secret> {
    let Some(section) = value.as_open_section() else {
        value.reader.hide(&value.span);
        value.wrong(format!("the secret `{}` stands in plain text", value.path), remedy(key));
        return None;
    };
    let mut sources = Vec::new();
    for (name, source) in section.entries() {
        if matches!(name, "env" | "file") {
            sources.push(source);
        } else {
            value.reader.hide(&source.span);
            let message = format!("unknown key `{name}` in the secret `{}`", value.path);
            value.reader.problem(&source.key_span, message, remedy(key));
        }
    }
    match sources.as_slice() {
        [source] => fetch(source),
        [] if section.entries().is_empty() => {
            value.wrong(format!("the secret `{}` has no source", value.path), remedy(key));
            None
        }
        [] => None,
        [_, second, ..] => {
            let message = format!("the secret `{}` has two sources", value.path);
            value.reader.problem(&second.key_span, message, "keep either `env` or `file`");
            None
        }
    }
}

fn remedy(key: &str) -> String {
    let key = if key.contains('.') { format!("{key:?}") } else { key.to_owned() };
    format!("take it from outside: {key} = {{ env = \"NAME\" }} or {key} = {{ file = \"path\" }}")
}

/// Fetches the secret that `env = ".."` or `file = ".."` names.
pub(super) fn fetch(source: &Value<'_>) -> Option<Secret> {
    let reader = source.reader;
    if source.key == "env" {
        let name = source.text("SHOP_TOKEN")?;
        return match (reader.env)(name) {
            Some(secret) if !secret.is_empty() => Some(secret.into()),
            Some(_) => {
                source.wrong(format!("the environment variable {name} is empty"), format!("set {name} to the secret"));
                None
            }
            None => {
                let remedy = format!("set it before you start courier: export {name}=.., or use `file`");
                source.wrong(format!("the environment variable {name} is not set"), remedy);
                None
            }
        };
    }
    let name = source.text("/run/secrets/shop")?;
    let path = Path::new(reader.file).parent().unwrap_or(Path::new("")).join(name);
    reader.depends_on(path.clone());
    match std::fs::read_to_string(&path) {
        Ok(secret) if !secret.trim_end_matches(['\r', '\n']).is_empty() => {
            Some(secret.trim_end_matches(['\r', '\n']).into())
        }
        Ok(_) => {
            source.wrong(format!("the secret file {} is empty", path.display()), "write the secret into it");
            None
        }
        Err(error) => {
            let remedy = "create it and let courier read it; a relative path starts at the directory of this file";
            source.wrong(format!("cannot read the secret file {}: {error}", path.display()), remedy);
            None
        }
    }
}
