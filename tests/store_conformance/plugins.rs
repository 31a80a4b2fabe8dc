//! Plugins, versions and the active version.

use bytes::Bytes;
use courier::store::{NewVersion, StoreError};

use super::Database;
use super::owner::join;

fn version(plugin: &str, digest: &str) -> NewVersion {
    NewVersion {
        plugin: plugin.to_owned(),
        digest: digest.to_owned(),
        wasm: Bytes::from(format!("\0asm {digest}")),
        imports: vec!["courier:handler/log".to_owned()],
        exports: vec!["handle".to_owned(), "about".to_owned()],
        wants: Some(r#"{"topics":["order"]}"#.to_owned()),
        by: "shop".to_owned(),
    }
}

pub async fn a_version_is_stored_once(database: Database) {
    let store = database.open().await;
    let first = store.put_version(&version("order-handler", "sha256:1")).await.unwrap();
    assert_eq!((first.digest.as_str(), first.size, first.by.as_str()), ("sha256:1", 13, "shop"));
    assert_eq!(first.exports, ["handle", "about"]);
    let again =
        store.put_version(&NewVersion { by: "other".into(), ..version("order-handler", "sha256:1") }).await.unwrap();
    assert_eq!((again.created_at, again.by.as_str()), (first.created_at, "shop"));
    store.put_version(&version("order-handler", "sha256:2")).await.unwrap();
    store.put_version(&version("audit", "sha256:1")).await.expect("two plugins may be the same component");
    assert_eq!(store.version_wasm("sha256:2").await.unwrap(), Bytes::from_static(b"\0asm sha256:2"));
    assert!(matches!(store.version_wasm("sha256:3").await, Err(StoreError::NotFound(_))));

    let plugins = store.plugins().await.unwrap();
    let listed: Vec<_> = plugins.iter().map(|p| (p.name.as_str(), p.versions.len(), p.active.clone())).collect();
    assert_eq!(listed, [("audit", 1, None), ("order-handler", 2, None)]);
    assert_eq!(plugins[1].versions[0].digest, "sha256:2", "newest first");
    assert_eq!(plugins[1].versions[0].wants.as_deref(), Some(r#"{"topics":["order"]}"#));
}

/// Bytes that were changed in the database are not those of their digest.
pub async fn an_upload_puts_an_altered_component_right(database: Database) {
    let store = database.open().await;
    let altered = NewVersion { wasm: Bytes::from_static(b"altered"), ..version("order-handler", "sha256:1") };
    store.put_version(&altered).await.unwrap();
    store.put_version(&version("order-handler", "sha256:1")).await.unwrap();
    assert_eq!(store.version_wasm("sha256:1").await.unwrap(), Bytes::from_static(b"\0asm sha256:1"));
}

pub async fn the_active_version_is_one_that_exists(database: Database) {
    let store = database.open().await;
    for digest in ["sha256:1", "sha256:2"] {
        store.put_version(&version("order-handler", digest)).await.unwrap();
    }
    store.put_version(&version("audit", "sha256:3")).await.unwrap();
    assert!(store.active().await.unwrap().is_empty());
    for (plugin, digest) in [("order-handler", "sha256:3"), ("none", "sha256:1"), ("order-handler", "sha256:4")] {
        let result = store.activate(plugin, digest, "ann").await;
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{plugin} {digest}: {result:?}");
    }
    for (digest, by) in [("sha256:1", "ann"), ("sha256:2", "bob"), ("sha256:1", "ann")] {
        store.activate("order-handler", digest, by).await.unwrap();
    }
    assert_eq!(store.active().await.unwrap(), [("order-handler".to_owned(), "sha256:1".to_owned())]);
    let plugins = store.plugins().await.unwrap();
    let history: Vec<_> = plugins[1].activations.iter().map(|(digest, _, by)| (digest.as_str(), by.as_str())).collect();
    assert_eq!(history, [("sha256:1", "ann"), ("sha256:2", "bob"), ("sha256:1", "ann")]);
    assert_eq!(plugins[1].active.as_deref(), Some("sha256:1"));
}

pub async fn a_live_node_that_did_not_prepare_is_named(database: Database) {
    let store = database.open().await;
    let (a, b, c) = (join(&store, "a").await, join(&store, "b").await, join(&store, "c").await);
    store.put_version(&version("order-handler", "sha256:1")).await.unwrap();
    store.prepared(b, "sha256:1").await.unwrap();
    store.prepared(b, "sha256:1").await.expect("saying so twice is nothing new");
    store.leave(c).await.unwrap();
    assert_eq!(store.unprepared("sha256:1").await.unwrap(), ["a"]);
    store.prepared(a, "sha256:1").await.unwrap();
    assert!(store.unprepared("sha256:1").await.unwrap().is_empty());
    store.leave(b).await.unwrap();
    join(&store, "b").await;
    assert_eq!(store.unprepared("sha256:1").await.unwrap(), ["b"], "a new process has compiled nothing");
}
