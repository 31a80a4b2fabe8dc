//! The audit log: its chain, and that an entry commits with its change.

use std::time::Duration;

use bytes::Bytes;
use courier::store::audits::{GENESIS, in_name_of};
use courier::store::redrive::{NewRedrive, RedriveWish};
use courier::store::seek::SeekMove;
use courier::store::{
    AuditEntry, AuditFilter, AuditLinks, DeliveryFilter, Due, NewVersion, Page, SharedStore, StoreError,
};
use courier_core::message::Offset;
use sqlx::{AssertSqlSafe, Connection as _};

use super::Database;
use super::delayed::waiting;
use super::half::single;
use super::owner::{GROUP, Owner, failed};
use super::sending::{identity, message};

/// A change in the name of ops.
fn deed(action: &str, subject: &str) -> AuditEntry {
    AuditEntry { by: "ops\0".into(), action: action.into(), subject: subject.into(), detail: "why\0 ü".into() }
}

fn page(limit: u32) -> Page {
    Page { cursor: None, limit }
}

async fn pause(store: &SharedStore, group: &str) -> Result<(), StoreError> {
    in_name_of(deed("pause", group), store.set_paused(group, Some("night"))).await
}

/// Verifies the chain.
async fn whole(store: &SharedStore) -> bool {
    let AuditLinks { anchor, head, entries } = store.audit_links(i64::MIN).await.unwrap();
    let mut hash = anchor.hash;
    for entry in &entries {
        if entry.previous.as_ref() != Some(&hash) || entry.hash.as_deref() != Some(&entry.seal(&hash)[..]) {
            return false;
        }
        hash = entry.hash.clone().unwrap();
    }
    hash == head.hash
}

/// The entries, oldest first.
async fn actions(store: &SharedStore) -> Vec<String> {
    let entries = store.audit_links(i64::MIN).await.unwrap().entries;
    entries.into_iter().map(|entry| entry.action).collect()
}

pub async fn entries_of_the_audit_log_are_sealed_in_their_order(database: Database) {
    let store = database.open().await;
    assert!(whole(&store).await, "an empty chain is whole");
    let other = database.open().await;
    let paused = (0..40).map(|at| {
        let store = if at % 2 == 0 { &store } else { &other };
        async move { pause(store, &format!("group-{at}")).await }
    });
    for result in futures::future::join_all(paused).await {
        result.unwrap();
    }
    let links = store.audit_links(i64::MIN).await.unwrap();
    assert_eq!((links.entries.len(), &links.anchor.hash[..]), (40, &GENESIS[..]));
    assert!(links.entries.is_sorted_by_key(|entry| (entry.id, entry.at)));
    assert!(whole(&store).await);
    let rest = store.audit_links(links.entries[36].id).await.unwrap();
    assert_eq!(rest.entries, links.entries[37..]);
    let first = store.audit_entries(&AuditFilter::default(), &page(25)).await.unwrap();
    let next = store.audit_entries(&AuditFilter::default(), &Page { cursor: first.next, limit: 25 }).await.unwrap();
    let listed: Vec<_> = first.items.iter().chain(&next.items).rev().cloned().collect();
    assert_eq!((listed, next.next), (links.entries, None));
    let filter = AuditFilter { subject: Some("group-7".into()), ..AuditFilter::default() };
    assert_eq!(store.audit_entries(&filter, &page(10)).await.unwrap().items.len(), 1);
}

pub async fn retention_leaves_the_audit_log_an_anchor(database: Database) {
    let store = database.open().await;
    for at in 0..5 {
        pause(&store, &at.to_string()).await.unwrap();
    }
    let before = store.audit_links(i64::MIN).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    while store.prune(Duration::from_millis(10)).await.unwrap() {}
    let after = store.audit_links(i64::MIN).await.unwrap();
    assert!(after.entries.is_empty());
    assert_eq!((&after.anchor, &after.head), (&before.head, &before.head));
    pause(&store, "5").await.unwrap();
    let links = store.audit_links(i64::MIN).await.unwrap();
    assert_eq!(links.entries[0].previous.as_ref(), Some(&before.head.hash), "the chain goes on where it was");
    assert!(whole(&store).await);
}

/// Every change that a person can make, in the name of `ops` when `named`.
async fn everything(store: &SharedStore, named: bool) {
    macro_rules! done {
        ($action:literal, $verb:expr) => {
            if named { in_name_of(deed($action, "it"), $verb).await } else { $verb.await }.expect($action)
        };
    }
    let mut owner = Owner::new(store).await;
    owner.settle(4, (0..4).map(failed).collect()).await;
    done!("retry", store.ask(&owner.key(0)));
    let filter = DeliveryFilter { group: Some(GROUP.to_owned()), ..DeliveryFilter::default() };
    let plan = NewRedrive { filter, ranges: None, asked_for: "{}".to_owned(), rate: 500, by: "ann".to_owned() };
    let planned = done!("plan redrive", store.plan_redrive(&plan));
    done!("run redrive", store.wish_redrive(planned.id, RedriveWish::Run));
    done!("cancel redrive", store.wish_redrive(planned.id, RedriveWish::Cancel));
    let to_the_start = [SeekMove { position: owner.claimed.position, to: Offset(0) }];
    done!("seek", store.seek(&to_the_start, "asked"));
    done!("pause", store.set_paused(GROUP, Some("night")));
    done!("resume", store.set_paused(GROUP, None));
    store.accept(&[waiting("m-1", None, Due::After(Duration::from_secs(3_600)))]).await.unwrap();
    done!("cancel", store.cancel(&identity("m-1")));
    done!("cancel", store.cancel(&identity("m-1")));
    store.accept(&[message("m-2", None, None)]).await.unwrap();
    done!("resend", store.resend(&identity("m-2")));
    for id in ["t-1", "t-2"] {
        store.prepare_half(&single(id, Duration::from_secs(3_600))).await.unwrap();
    }
    done!("commit", store.commit_half("t-1", "committed by the operator ops"));
    done!("commit", store.commit_half("t-1", "committed by the operator ops"));
    done!("rollback", store.roll_back_half("t-2", "rolled back by the operator ops"));
    let version = NewVersion {
        plugin: "handler".into(),
        digest: "sha256:aa".into(),
        wasm: Bytes::from_static(b"\0asm"),
        imports: Vec::new(),
        exports: Vec::new(),
        wants: None,
        by: "ann".into(),
    };
    done!("upload", store.put_version(&version));
    done!("activate", store.activate("handler", "sha256:aa", "ann"));
    done!("sign in", store.open_session(&[1; 32], "ops", &[2; 32], Duration::from_secs(60)));
    assert!(done!("sign out", store.close_session(&[1; 32])));
    assert!(!done!("sign out", store.close_session(&[1; 32])));
}

pub async fn what_is_done_in_somebodys_name_leaves_one_entry(database: Database) {
    let store = database.open().await;
    everything(&store, true).await;
    let expected = [
        "retry",
        "plan redrive",
        "run redrive",
        "cancel redrive",
        "seek",
        "pause",
        "resume",
        // Once: the second cancel found nothing, as the second sign-out did.
        "cancel",
        "resend",
        // Once, too.
        "commit",
        "rollback",
        "upload",
        "activate",
        "sign in",
        "sign out",
    ];
    assert_eq!(actions(&store).await, expected);
    let entries = store.audit_links(i64::MIN).await.unwrap().entries;
    let told = |action: &str| entries.iter().find(|entry| entry.action == action).unwrap();
    assert_eq!((told("pause").by.as_str(), told("pause").detail.as_str()), ("ops\u{fffd}", "why\u{fffd} ü"));
    assert_eq!(told("upload").detail, "sha256:aa");
    assert!(told("plan redrive").detail.ends_with(" items, 500 a second: {}"), "{:?}", told("plan redrive"));
    assert!(whole(&store).await);
}

pub async fn what_the_host_does_itself_leaves_no_entry(database: Database) {
    let store = database.open().await;
    everything(&store, false).await;
    assert!(actions(&store).await.is_empty());
}

/// Item 17: a refused sign-in and a reload change nothing in the store, and have
/// entries in the log all the same.
pub async fn what_changes_nothing_can_be_an_entry_too(database: Database) {
    let store = database.open().await;
    pause(&store, GROUP).await.unwrap();
    store.record_deed(&deed("sign in refused", "10.0.0.1")).await.unwrap();
    pause(&store, "other").await.unwrap();
    assert_eq!(actions(&store).await, ["pause", "sign in refused", "pause"]);
    assert!(whole(&store).await);
}

pub async fn what_is_refused_leaves_no_entry(database: Database) {
    let store = database.open().await;
    let owner = Owner::new(&store).await;
    for refused in [
        in_name_of(deed("retry", "it"), store.ask(&owner.key(7))).await,
        in_name_of(deed("resend", "it"), store.resend(&identity("m-none"))).await,
        in_name_of(deed("activate", "it"), store.activate("handler", "sha256:aa", "ann")).await,
        in_name_of(deed("cancel", "it"), store.cancel(&identity("m-none"))).await.map(|_| ()),
    ] {
        refused.unwrap_err();
    }
    assert!(actions(&store).await.is_empty());
}

/// A crash between a change and its entry would leave the same state.
pub async fn a_change_whose_entry_cannot_be_written_is_not_made(database: Database) {
    let store = database.open().await;
    store.accept(&[waiting("m-1", None, Due::After(Duration::from_secs(3_600)))]).await.unwrap();
    database.run("ALTER TABLE audit RENAME TO audit_away").await;
    pause(&store, GROUP).await.unwrap_err();
    in_name_of(deed("cancel", "m-1"), store.cancel(&identity("m-1"))).await.unwrap_err();
    let opened = store.open_session(&[1; 32], "ops", &[2; 32], Duration::from_secs(60));
    in_name_of(deed("sign in", "ops"), opened).await.unwrap_err();
    database.run("ALTER TABLE audit_away RENAME TO audit").await;
    assert!(store.paused().await.unwrap().is_empty());
    assert_eq!(store.session(&[1; 32]).await.unwrap(), None);
    assert_eq!(store.message("m-1").await.unwrap().unwrap().reason, None, "it still waits");
    pause(&store, GROUP).await.unwrap();
    assert_eq!(actions(&store).await, ["pause"]);
    assert!(whole(&store).await);
}

impl Database {
    /// Runs a statement on the database, past the store.
    pub async fn run(&self, statement: &'static str) {
        let statement = AssertSqlSafe(statement);
        if self.url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        }
    }
}
