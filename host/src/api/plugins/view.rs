//! Plugins, as the API shows them.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::ports::{BindingView, BuiltinPlugin};
use crate::api::problem::Problem;
use crate::rfc3339;
use crate::store::PluginRow;

/// A plugin.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// The active version.
    #[schema(required = true)]
    pub active: Option<String>,
    /// Versions, newest first.
    pub versions: Vec<VersionView>,
    /// Activations, newest first.
    pub activations: Vec<ActivationView>,
    /// Whether it is built into the host, and no plugin of its name was uploaded.
    pub comes_with_host: bool,
}

/// One uploaded component.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VersionView {
    /// `sha256:` and its digest.
    pub version: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was uploaded.
    pub created_at: String,
    /// Who uploaded it.
    pub by: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The description in the component: topics, group and types.
    #[schema(required = true, value_type = Option<Object>)]
    pub wants: Option<Value>,
}

/// An activation of a version.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ActivationView {
    /// The version.
    pub version: String,
    /// When.
    pub at: String,
    /// By whom.
    pub by: String,
}

impl From<PluginRow> for PluginView {
    fn from(row: PluginRow) -> Self {
        let versions = row.versions.into_iter().map(|version| VersionView {
            version: version.digest,
            size: version.size,
            created_at: rfc3339::format(version.created_at),
            by: version.by,
            imports: version.imports,
            exports: version.exports,
            wants: version.wants.and_then(|text| serde_json::from_str(&text).ok()),
        });
        let activations = row.activations.into_iter().map(|(version, at, by)| ActivationView {
            version,
            at: rfc3339::format(at),
            by,
        });
        Self {
            name: row.name,
            active: row.active,
            versions: versions.collect(),
            activations: activations.collect(),
            comes_with_host: false,
        }
    }
}

impl From<BuiltinPlugin> for PluginView {
    fn from(builtin: BuiltinPlugin) -> Self {
        let BuiltinPlugin { name, version } = builtin;
        Self { name, active: Some(version), versions: Vec::new(), activations: Vec::new(), comes_with_host: true }
    }
}

/// All plugins that the caller may see, by name: for a token that reaches only
/// some topics or groups, those that a binding within its reach names.
pub(super) async fn all(app: &App, caller: &Caller) -> Result<Vec<PluginView>, Problem> {
    let mut plugins: Vec<PluginView> = app.store.plugins().await?.into_iter().map(PluginView::from).collect();
    let mut builtin = app.plugins.builtin();
    builtin.retain(|builtin| plugins.iter().all(|plugin| plugin.name != builtin.name));
    plugins.extend(builtin.into_iter().map(PluginView::from));
    plugins.retain(|plugin| sees(app, caller, &plugin.name));
    plugins.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(plugins)
}

/// Whether a caller sees a plugin: all, or those of the bindings in scope.
pub(in crate::api) fn sees(app: &App, caller: &Caller, plugin: &str) -> bool {
    let of_binding =
        |binding: &BindingView| binding.plugin_name() == plugin && caller.sees_binding(&binding.group, &binding.topics);
    caller.sees_all() || app.groups.bindings().iter().any(of_binding)
}

/// One plugin; 404 when the caller may see none of this name.
pub(super) async fn one(app: &App, caller: &Caller, name: &str) -> Result<PluginView, Problem> {
    let found = all(app, caller).await?.into_iter().find(|plugin| plugin.name == name);
    found.ok_or_else(|| Problem::not_found(format!("no plugin {name:?} was uploaded")))
}

/// Refuses a name that no binding can use.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let refuse = |why| Problem::bad_request("bad name", format!("{name:?} is no name for a plugin: {why}"));
    crate::config::plugin_name(name).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use courier_core::message::Timestamp;

    use super::*;
    use crate::store::VersionRow;

    #[test]
    fn a_plugin_has_exactly_the_members_that_programs_rely_on() {
        let row = PluginRow {
            name: "order-handler".into(),
            active: Some("sha256:aa".into()),
            versions: vec![VersionRow {
                digest: "sha256:aa".into(),
                size: 7,
                imports: vec!["courier:plugin/log@0.1.0".into()],
                exports: vec!["handle".into()],
                wants: Some(r#"{"group":"stock"}"#.into()),
                by: "ci".into(),
                created_at: Timestamp(1),
            }],
            activations: vec![("sha256:aa".into(), Timestamp(2), "ci".into())],
        };
        assert_eq!(
            serde_json::to_value(PluginView::from(row)).unwrap(),
            serde_json::json!({
                "name": "order-handler", "active": "sha256:aa",
                "versions": [{
                    "version": "sha256:aa", "size": 7, "created_at": "1970-01-01T00:00:00.000001Z", "by": "ci",
                    "imports": ["courier:plugin/log@0.1.0"], "exports": ["handle"], "wants": { "group": "stock" },
                }],
                "activations": [{ "version": "sha256:aa", "at": "1970-01-01T00:00:00.000002Z", "by": "ci" }],
                "comes_with_host": false,
            })
        );
    }

    #[test]
    fn a_plugin_that_comes_with_the_host_says_so_and_is_active() {
        let builtin = BuiltinPlugin { name: "http-push".into(), version: "http-push@0.1.0".into() };
        assert_eq!(
            serde_json::to_value(PluginView::from(builtin)).unwrap(),
            serde_json::json!({
                "name": "http-push", "active": "http-push@0.1.0", "versions": [], "activations": [],
                "comes_with_host": true,
            })
        );
    }

    #[test]
    fn names_are_held_to_what_every_place_can_carry() {
        assert!(check_name("order-handler-2").is_ok());
        for wrong in ["", "-a", ".", "a/b", "a@b", "a b", "é", &"a".repeat(101)] {
            assert_eq!(check_name(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
