//! Half messages, and which way a transaction may go.

use std::time::Duration;

use bytes::Bytes;
use courier::store::{
    Accepted, Due, HalfCheck, HalfRow, HalfState, NewHalf, NewMessage, Page, SHARDS, SharedStore, StoreError,
};
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::Database;
use super::delayed::waiting;
use super::owner::{LEASE, join};
use super::sending::{due, message};

const HOUR: Duration = Duration::from_secs(3_600);
const URL: &str = "https://shop.example.com/tx";

fn half(id: &str, messages: Vec<NewMessage>, timeout: Duration) -> NewHalf {
    NewHalf { id: id.to_owned(), messages, check_url: Some(URL.to_owned()), timeout }
}

/// A transaction about one message, `m-<id>`.
fn single(id: &str, timeout: Duration) -> NewHalf {
    half(id, vec![message(&format!("m-{id}"), Some(b"k"), None)], timeout)
}

async fn seen(store: &SharedStore, id: &str) -> HalfRow {
    store.half(id).await.unwrap().unwrap()
}

/// Claims what is to be asked now.
async fn claim(store: &SharedStore, lease: Duration) -> Vec<HalfCheck> {
    store.claim_checks(lease, 10).await.unwrap().0
}

pub async fn a_prepared_message_is_not_there_and_a_committed_one_is(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, LEASE).await.unwrap();
    let messages = vec![
        message("m-1", Some(b"k\xff"), None),
        waiting("m-2", None, Due::After(HOUR)),
        waiting("m-3", Some(b"k\xff"), Due::At(Timestamp(7))),
        message("m\0-4", Some(b"k\xff"), None),
    ];
    let prepared = store.prepare_half(&half("t-1", messages.clone(), HOUR)).await.unwrap();
    assert_eq!((prepared.state, prepared.checks, prepared.ended_at), (HalfState::Prepared, 0, None));
    assert_eq!(prepared.next_check_at, Some(prepared.deadline));
    assert_eq!((store.prepared_halves(10).await.unwrap(), store.prepared_halves(0).await.unwrap()), (1, 0));
    assert_eq!(prepared.deadline, prepared.created_at.after(HOUR));
    assert_eq!((prepared.check_url.as_deref(), prepared.timeout), (Some(URL), HOUR));
    let ids: Vec<&str> = prepared.messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["m-1", "m-2", "m-3", "m\u{fffd}-4"]);
    assert_eq!(prepared.messages[0].key, Some(Bytes::from_static(b"k\xff")));
    assert_eq!(seen(&store, "t-1").await, prepared);
    assert!(store.message("m-1").await.unwrap().is_none() && due(&store, &shards).await.is_empty());

    let before = store.ping().await.unwrap();
    let committed = store.commit_half("t-1", "why\0not").await.unwrap();
    assert_eq!((committed.state, committed.reason.as_deref()), (HalfState::Committed, Some("why\u{fffd}not")));
    assert!(committed.ended_at >= Some(before) && committed.next_check_at.is_none());
    assert_eq!(committed.messages, prepared.messages);
    assert_eq!(store.prepared_halves(10).await.unwrap(), 0);
    assert_eq!(due(&store, &shards).await, ["m-1", "m\u{fffd}-4"], "in their order");
    let first = store.message("m-1").await.unwrap().unwrap();
    assert_eq!(
        (first.state, first.retrying, first.record.clone()),
        (State::SendFail, true, messages[0].record.clone())
    );
    assert_eq!((first.source.as_str(), first.time), ("shop", Timestamp(5)));
    let second = store.message("m-2").await.unwrap().unwrap();
    assert_eq!((second.state, second.retrying), (State::Committed, false));
    assert!(second.deliver_at.unwrap() >= before.after(HOUR), "a delay counts from the commit on");
    assert_eq!(store.message("m-3").await.unwrap().unwrap().deliver_at, Some(Timestamp(7)));
    assert_eq!(store.move_due(&shards, None).await.unwrap().rows, 1);

    assert_eq!(store.commit_half("t-1", "again").await.unwrap(), committed, "again, it answers the same");
    assert_eq!(due(&store, &shards).await, ["m-1", "m\u{fffd}-4", "m-3"], "each is owed once");
    assert!(matches!(&store.accept(&messages[..1]).await.unwrap()[..], [Accepted::Same(_)]), "it is known by its id");
}

/// The whole table of a transaction's states, on the store itself.
pub async fn a_transaction_ends_once(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, LEASE).await.unwrap();
    for (id, state) in [("c", HalfState::Committed), ("r", HalfState::RolledBack), ("a", HalfState::Abandoned)] {
        store.prepare_half(&single(id, Duration::ZERO)).await.unwrap();
        let check = claim(&store, HOUR).await.pop().unwrap();
        match state {
            HalfState::Committed => drop(store.commit_half(id, "first").await.unwrap()),
            HalfState::RolledBack => drop(store.roll_back_half(id, "first").await.unwrap()),
            _ => store.leave_half(&check, "first", None).await.unwrap(),
        }
        let ended = seen(&store, id).await;
        assert_eq!((ended.state, ended.reason.as_deref()), (state, Some("first")));
        let again = [store.commit_half(id, "second").await, store.roll_back_half(id, "second").await];
        let wanted = [HalfState::Committed, HalfState::RolledBack];
        for (answer, wanted) in again.into_iter().zip(wanted) {
            match answer {
                Ok(row) => assert!(wanted == state && row == ended, "{id}: {row:?}"),
                Err(StoreError::Conflict(why)) => {
                    assert!(wanted != state && why.contains(state.as_str()), "{id}: {why}");
                }
                Err(error) => panic!("{id}: {error}"),
            }
        }
        // An asking that comes back late changes nothing.
        store.leave_half(&check, "late", None).await.unwrap();
        store.leave_half(&check, "late", Some(HOUR)).await.unwrap();
        assert_eq!(seen(&store, id).await, ended);
    }
    assert_eq!(due(&store, &shards).await, ["m-c"], "only what committed is sent");
    assert!(store.message("m-r").await.unwrap().is_none() && store.message("m-a").await.unwrap().is_none());
    assert_eq!(store.claim_checks(HOUR, 10).await.unwrap(), (Vec::new(), None), "nobody is asked any more");
    for answer in [store.commit_half("x", "").await, store.roll_back_half("x", "").await] {
        assert!(matches!(answer, Err(StoreError::NotFound(_))));
    }
    assert!(store.half("x").await.unwrap().is_none());
}

pub async fn an_asking_is_claimed_by_one_host_at_a_time(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    store.prepare_half(&single("t", Duration::ZERO)).await.unwrap();
    store.prepare_half(&single("later", HOUR)).await.unwrap();
    let (one, two) = tokio::join!(claim(&store, HOUR), claim(&other, HOUR));
    let claimed = [one, two].concat();
    let [check] = claimed.as_slice() else { panic!("{claimed:?}") };
    assert_eq!((check.id.as_str(), check.checks, check.check_url.as_deref()), ("t", 1, Some(URL)));
    let (none, next) = other.claim_checks(HOUR, 10).await.unwrap();
    assert!(none.is_empty() && next.is_some_and(|next| next > HOUR / 2), "{next:?}");

    store.leave_half(check, "it answered\0 UNKNOWN", Some(Duration::ZERO)).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!((row.checks, row.last_answer.as_deref()), (1, Some("it answered\u{fffd} UNKNOWN")));
    // A claim whose host died runs out, and the asking counts nevertheless.
    let lost = claim(&other, Duration::ZERO).await.pop().unwrap();
    let again = claim(&store, HOUR).await.pop().unwrap();
    assert_eq!((lost.checks, again.checks), (2, 3));
    store.leave_half(&lost, "too late", None).await.unwrap();
    assert_eq!(seen(&store, "t").await.state, HalfState::Prepared, "an older claim ends nothing");
    store.leave_half(&again, "in the end", None).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!((row.state, row.checks, row.reason.as_deref()), (HalfState::Abandoned, 3, Some("in the end")));
}

pub async fn a_transaction_that_nobody_can_be_asked_about_counts_no_asking(database: Database) {
    let store = database.open().await;
    store.prepare_half(&NewHalf { check_url: None, ..single("t", Duration::ZERO) }).await.unwrap();
    let check = claim(&store, HOUR).await.pop().unwrap();
    assert_eq!((check.check_url.clone(), check.checks), (None, 0));
    store.leave_half(&check, "nobody said", None).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!((row.state, row.checks), (HalfState::Abandoned, 0));
}

pub async fn a_transaction_does_not_take_an_id_of_something_else(database: Database) {
    let store = database.open().await;
    let taken = NewMessage { digest: [9; 32], ..message("m-t", None, None) };
    store.accept(std::slice::from_ref(&taken)).await.unwrap();
    assert!(matches!(store.prepare_half(&single("t", HOUR)).await, Err(StoreError::Conflict(_))));
    assert!(store.half("t").await.unwrap().is_none());
    // Taken between the two: all or nothing, and it stays as it is.
    let both = vec![message("m-other", None, None), message("m-u", None, None)];
    store.prepare_half(&half("u", both, HOUR)).await.unwrap();
    store.accept(&[NewMessage { id: "m-u".to_owned(), ..taken }]).await.unwrap();
    assert!(matches!(store.commit_half("u", "x").await, Err(StoreError::Conflict(why)) if why.contains("m-u")));
    assert_eq!(seen(&store, "u").await.state, HalfState::Prepared);
    assert!(store.message("m-other").await.unwrap().is_none());
    store.roll_back_half("u", "x").await.unwrap();
}

/// A sender that commits while its check URL is asked, and two hosts at once:
/// one end, and each message once.
pub async fn ends_that_meet_are_one(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, LEASE).await.unwrap();
    for round in 0..20 {
        let id = format!("{round:02}");
        store.prepare_half(&single(&id, HOUR)).await.unwrap();
        let (commit, roll_back) = tokio::join!(store.commit_half(&id, "a"), other.roll_back_half(&id, "b"));
        assert!(commit.is_ok() != roll_back.is_ok(), "one end holds: {commit:?} {roll_back:?}");
        let sent = due(&store, &shards).await.contains(&format!("m-{id}"));
        assert_eq!(sent, commit.is_ok());
    }
}

pub async fn transactions_are_listed_newest_first_and_forgotten(database: Database) {
    let store = database.open().await;
    for number in 0..7 {
        store.prepare_half(&single(&format!("t-{number}"), HOUR)).await.unwrap();
    }
    for number in [1, 4] {
        store.commit_half(&format!("t-{number}"), "x").await.unwrap();
    }
    let listed = async |state: Option<HalfState>| {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.halves(state, &Page { cursor, limit: 2 }).await.unwrap();
            for row in page.items {
                assert_eq!(row.messages.len(), 1);
                ids.push(row.id[2..].parse::<u32>().unwrap());
            }
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(listed(None).await, [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(listed(Some(HalfState::Committed)).await, [4, 1]);
    assert_eq!(listed(Some(HalfState::Prepared)).await, [6, 5, 3, 2, 0]);
    assert!(listed(Some(HalfState::Abandoned)).await.is_empty());
    let odd = store.halves(None, &Page { cursor: Some("x".to_owned()), limit: 1 }).await;
    assert!(matches!(odd, Err(StoreError::NotFound(_))));
    tokio::time::sleep(Duration::from_millis(5)).await;
    while store.prune(Duration::from_millis(1)).await.unwrap() {}
    assert_eq!(listed(None).await, [6, 5, 3, 2, 0], "what has not ended stays");
}
