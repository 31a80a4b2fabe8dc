//! `courier plugin list|activate|rollback`: shows and chooses the version that
//! handles messages.

use anyhow::bail;
use serde_json::json;

use crate::cli::client::HostClient;
use crate::cli::shapes::{ShownPage, ShownPlugin};
use crate::cli::table::{self, or_dash};
use crate::cli::{Output, say, show};

pub(super) async fn list(client: &HostClient, output: Output, name: Option<&str>) -> anyhow::Result<()> {
    match name {
        Some(name) => {
            let answer = client.get(&["plugins", name], &[]).await?;
            show(output, &answer, |plugin: ShownPlugin| versions(&plugin))
        }
        None => {
            let answer = client.list(&["plugins"]).await?;
            show(output, &answer, |page: ShownPage<ShownPlugin>| plugins(&page.items))
        }
    }
}

pub(super) async fn activate(client: &HostClient, output: Output, name: &str, version: &str) -> anyhow::Result<()> {
    let version = if is_whole(version) {
        version.to_owned()
    } else {
        let plugin: ShownPlugin = client.get(&["plugins", name], &[]).await?.read()?;
        whole(&plugin, version)?
    };
    make_active(client, output, name, &version).await
}

pub(super) async fn rollback(client: &HostClient, output: Output, name: &str) -> anyhow::Result<()> {
    let plugin: ShownPlugin = client.get(&["plugins", name], &[]).await?.read()?;
    let Some(version) = previous(&plugin) else {
        bail!("{name} had no other active version: `courier plugin activate {name} VERSION` takes any");
    };
    make_active(client, output, name, version).await
}

async fn make_active(client: &HostClient, output: Output, name: &str, version: &str) -> anyhow::Result<()> {
    let answer = client.post(&["plugins", name, "activate"], Some(json!({ "version": version }).to_string())).await?;
    match output {
        Output::Json => say(answer.text()),
        Output::Table => say(&format!("{name} {version} is active")),
    }
}

fn is_whole(version: &str) -> bool {
    version.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64)
}

/// The only version whose digits begin with `start`.
fn whole(plugin: &ShownPlugin, start: &str) -> anyhow::Result<String> {
    let name = &plugin.name;
    let start = start.strip_prefix("sha256:").unwrap_or(start);
    let begins = |version: &str| version.strip_prefix("sha256:").unwrap_or(version).starts_with(start);
    let found: Vec<&str> =
        plugin.versions.iter().map(|version| version.version.as_str()).filter(|version| begins(version)).collect();
    match found.as_slice() {
        [one] if !start.is_empty() => Ok((*one).to_owned()),
        [] => bail!("{name} has no version {start}: `courier plugin list {name}` shows them"),
        _ => bail!("{} versions of {name} begin with {start:?}: write more digits", found.len()),
    }
}

/// The version that was active before the current one.
fn previous(plugin: &ShownPlugin) -> Option<&str> {
    let active = plugin.active.as_deref();
    // The newest activation comes first.
    let before = plugin.activations.iter().map(|activation| activation.version.as_str());
    before.into_iter().find(|version| Some(*version) != active)
}

fn plugins(plugins: &[ShownPlugin]) -> String {
    let row = |plugin: &ShownPlugin| {
        let active = plugin.active.as_deref();
        if plugin.comes_with_host {
            return [plugin.name.clone(), or_dash(active), "comes with the host".to_owned()];
        }
        [plugin.name.clone(), or_dash(active.map(table::version)), plugin.versions.len().to_string()]
    };
    let nothing = "no plugins: upload one with `courier plugin push FILE`";
    table::table(["NAME", "ACTIVE", "VERSIONS"], plugins.iter().map(row).collect(), nothing)
}

fn versions(plugin: &ShownPlugin) -> String {
    let rows = plugin.versions.iter().map(|version| {
        let mark = if plugin.active.as_ref() == Some(&version.version) { "active" } else { "" };
        // Not a table, which would cut the digest: people copy it from here.
        (version.version.clone(), or_dash(version.size), or_dash(version.created_at.as_ref()), mark)
    });
    let lines: Vec<String> = rows
        .map(|(version, size, created_at, mark)| {
            table::clean(format!("{version}  {size:>9}  {created_at}  {mark}").trim_end())
        })
        .collect();
    if plugin.comes_with_host {
        return format!("{}  comes with the host", or_dash(plugin.active.as_ref()));
    }
    if lines.is_empty() { format!("{} has no versions", plugin.name) } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(active: &str, activations: &[&str]) -> ShownPlugin {
        let activations: Vec<_> = activations.iter().map(|version| json!({ "version": version, "at": "x" })).collect();
        let versions = json!([
            { "version": "sha256:aa11", "size": 1, "created_at": "x" },
            { "version": "sha256:aa22", "size": 2, "created_at": "y" },
        ]);
        let plugin = json!({ "name": "p", "active": active, "versions": versions, "activations": activations });
        serde_json::from_value(plugin).unwrap()
    }

    #[test]
    fn what_comes_with_the_host_is_listed_so() {
        let builtin = json!({ "name": "http-push", "active": "http-push@0.1.0", "comes_with_host": true });
        let builtin: ShownPlugin = serde_json::from_value(builtin).unwrap();
        assert!(plugins(std::slice::from_ref(&builtin)).contains("http-push@0.1.0  comes with the host"));
        assert_eq!(versions(&builtin), "http-push@0.1.0  comes with the host");
    }

    #[test]
    fn a_rollback_goes_to_what_was_active_before() {
        let (a, b) = ("sha256:aa11", "sha256:aa22");
        assert_eq!(previous(&plugin(b, &[b, a])), Some(a));
        assert_eq!(previous(&plugin(b, &[b, b, a])), Some(a), "activated twice");
        assert_eq!(previous(&plugin(a, &[a, b, a])), Some(b), "a second rollback returns");
        assert_eq!(previous(&plugin(a, &[a])), None);
    }

    #[test]
    fn the_first_digits_are_enough_when_they_tell() {
        let plugin = plugin("sha256:aa11", &[]);
        assert_eq!(whole(&plugin, "aa2").unwrap(), "sha256:aa22");
        assert_eq!(whole(&plugin, "sha256:aa1").unwrap(), "sha256:aa11");
        for wrong in ["aa", "ff", ""] {
            assert!(whole(&plugin, wrong).is_err(), "{wrong:?}");
        }
    }
}
