//! Transactional messages, and the states of a transaction.

use std::time::Duration;

use bytes::Bytes;
use courier::store::undelivered::UndeliveredFilter;
use courier::store::{
    Accepted, AfterAsking, Due, HalfCheck, HalfRow, HalfState, LeftOut, NewHalf, NewMessage, Page, RelayResult,
    Relayed, SHARDS, SentBy, SharedStore, StoreError,
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

/// A transaction with one message, `m-<id>`.
pub fn single(id: &str, timeout: Duration) -> NewHalf {
    half(id, vec![message(&format!("m-{id}"), Some(b"k"), None)], timeout)
}

async fn seen(store: &SharedStore, id: &str) -> HalfRow {
    store.half(id).await.unwrap().unwrap()
}

/// Claims the transactions whose senders are to be asked now.
async fn claim(store: &SharedStore, lease: Duration) -> Vec<HalfCheck> {
    store.claim_checks(lease, 10).await.unwrap().0
}

pub async fn a_prepared_message_is_not_there_and_a_committed_one_is(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let messages = vec![
        message("m-1", Some(b"k\xff"), None),
        waiting("m-2", None, Due::After(HOUR)),
        waiting("m-3", Some(b"k\xff"), Due::At(Timestamp(7))),
        message("m\0-4", Some(b"k\xff"), None),
    ];
    let prepared = store.prepare_half(&half("t-1", messages.clone(), HOUR)).await.unwrap();
    assert_eq!((prepared.state, prepared.checks, prepared.ended_at), (HalfState::Prepared, 0, None));
    assert_eq!(prepared.next_check_at, Some(prepared.deadline));
    assert_eq!((store.prepared_halves(None, 10).await.unwrap(), store.prepared_halves(None, 0).await.unwrap()), (1, 0));
    assert_eq!(prepared.deadline, prepared.created_at.after(HOUR));
    assert_eq!((prepared.check_url.as_deref(), prepared.timeout), (Some(URL), HOUR));
    let ids: Vec<&str> = prepared.messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["m-1", "m-2", "m-3", "m\u{fffd}-4"]);
    assert_eq!(prepared.messages[0].key, Some(Bytes::from_static(b"k\xff")));
    assert_eq!(seen(&store, "t-1").await, prepared);
    assert!(store.message("m-1").await.unwrap().is_none() && due(&store, &shards).await.is_empty());

    let before = store.ping().await.unwrap();
    let end = store.commit_half("t-1", "why\0not").await.unwrap();
    assert!(end.has_moved);
    let committed = end.row;
    assert_eq!((committed.state, committed.reason.as_deref()), (HalfState::Committed, Some("why\u{fffd}not")));
    assert!(committed.ended_at >= Some(before) && committed.next_check_at.is_none());
    assert_eq!(committed.messages, prepared.messages);
    assert_eq!(store.prepared_halves(None, 10).await.unwrap(), 0);
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

    let again = store.commit_half("t-1", "why\0not").await.unwrap();
    assert_eq!((again.row, again.has_moved), (committed, false), "again, it answers the same and ends nothing");
    assert_eq!(due(&store, &shards).await, ["m-1", "m\u{fffd}-4", "m-3"], "each is owed once");
    assert!(matches!(&store.accept(&messages[..1]).await.unwrap()[..], [Accepted::Same(_)]), "it is known by its id");
}

/// The whole table of a transaction's states, on the store itself.
pub async fn a_transaction_ends_once(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    for (id, state) in [("c", HalfState::Committed), ("r", HalfState::RolledBack), ("a", HalfState::Abandoned)] {
        store.prepare_half(&single(id, Duration::ZERO)).await.unwrap();
        let check = claim(&store, HOUR).await.pop().unwrap();
        match state {
            HalfState::Committed => drop(store.commit_half(id, "first").await.unwrap()),
            HalfState::RolledBack => drop(store.roll_back_half(id, "first").await.unwrap()),
            _ => store.leave_half(&check, "first", AfterAsking::Abandon).await.unwrap(),
        }
        let ended = seen(&store, id).await;
        assert_eq!((ended.state, ended.reason.as_deref()), (state, Some("first")));
        // A late answer changes nothing.
        store.leave_half(&check, "late", AfterAsking::Abandon).await.unwrap();
        store.leave_half(&check, "late", AfterAsking::Again(HOUR)).await.unwrap();
        assert_eq!(seen(&store, id).await, ended);
        if state == HalfState::Abandoned {
            continue;
        }
        let again = [store.commit_half(id, "second").await, store.roll_back_half(id, "second").await];
        let wanted = [HalfState::Committed, HalfState::RolledBack];
        for (answer, wanted) in again.into_iter().zip(wanted) {
            match answer {
                Ok(end) => assert!(wanted == state && end.row == ended && !end.has_moved, "{id}: {end:?}"),
                Err(StoreError::Conflict(why)) => {
                    assert!(wanted != state && why.contains(state.as_str()), "{id}: {why}");
                }
                Err(error) => panic!("{id}: {error}"),
            }
        }
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

    store.leave_half(check, "it answered\0 UNKNOWN", AfterAsking::Again(Duration::ZERO)).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!((row.checks, row.last_answer.as_deref()), (1, Some("it answered\u{fffd} UNKNOWN")));
    // The claim of a dead host expires, and its request counts nevertheless.
    let lost = claim(&other, Duration::ZERO).await.pop().unwrap();
    let again = claim(&store, HOUR).await.pop().unwrap();
    assert_eq!((lost.checks, again.checks), (2, 3));
    store.leave_half(&lost, "too late", AfterAsking::Abandon).await.unwrap();
    assert_eq!(seen(&store, "t").await.state, HalfState::Prepared, "an older claim ends nothing");
    store.leave_half(&again, "in the end", AfterAsking::Abandon).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!((row.state, row.checks, row.reason.as_deref()), (HalfState::Abandoned, 3, Some("in the end")));
}

pub async fn a_transaction_that_nobody_can_be_asked_about_counts_no_asking(database: Database) {
    let store = database.open().await;
    store.prepare_half(&NewHalf { check_url: None, ..single("t", Duration::ZERO) }).await.unwrap();
    let check = claim(&store, HOUR).await.pop().unwrap();
    assert_eq!((check.check_url.clone(), check.checks), (None, 0));
    store.leave_half(&check, "nobody said", AfterAsking::Abandon).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!((row.state, row.checks), (HalfState::Abandoned, 0));
}

pub async fn a_transaction_does_not_take_an_id_of_something_else(database: Database) {
    let store = database.open().await;
    let taken = NewMessage { digest: [9; 32], ..message("m-t", None, None) };
    store.accept(std::slice::from_ref(&taken)).await.unwrap();
    assert!(matches!(store.prepare_half(&single("t", HOUR)).await, Err(StoreError::Conflict(_))));
    assert!(store.half("t").await.unwrap().is_none());
    // The message that was sent already, repeated, makes no other one.
    store.accept(&[message("m-s", Some(b"k"), None)]).await.unwrap();
    store.prepare_half(&single("s", HOUR)).await.unwrap();
    assert!(matches!(&store.accept(&[message("m-s", Some(b"k"), None)]).await.unwrap()[..], [Accepted::Same(_)]));
    store.commit_half("s", "x").await.unwrap();
}

/// Issue 16: a message was prepared as h-1, then POST h-1 got 202, and the commit
/// got 409.
pub async fn a_prepared_transaction_holds_its_identities(database: Database) {
    let store = database.open().await;
    let both = vec![message("m-other", None, None), message("m-u", None, None)];
    store.prepare_half(&half("u", both.clone(), HOUR)).await.unwrap();
    // Neither a message, equal or not, nor an outbox's row, nor another transaction
    // can take one of the ids, and a refused one leaves no row.
    let other = NewMessage { digest: [9; 32], ..both[1].clone() };
    let refused = NewMessage { outbound: None, retrying: false, ..other.clone() };
    for taker in [&both[1], &other, &refused] {
        let answers = store.accept(std::slice::from_ref(taker)).await.unwrap();
        assert!(matches!(&answers[..], [Accepted::Reserved { transaction }] if transaction == "u"), "{answers:?}");
    }
    let again = store.prepare_half(&half("v", vec![other.clone()], HOUR)).await;
    assert!(matches!(&again, Err(StoreError::Conflict(why)) if why.contains("the transaction u")), "{again:?}");
    assert!(store.message("m-u").await.unwrap().is_none());
    // The same id on another topic, or from another source, is another message.
    let elsewhere = [
        NewMessage { topic: "stock".to_owned(), ..both[1].clone() },
        NewMessage { source: "other".to_owned(), ..both[1].clone() },
    ];
    let answers = store.accept(&elsewhere).await.unwrap();
    assert!(matches!(&answers[..], [Accepted::New, Accepted::New]), "{answers:?}");
    let committed = store.commit_half("u", "x").await.unwrap();
    assert_eq!(committed.row.state, HalfState::Committed, "a prepared one can commit");
    assert!(matches!(&store.accept(std::slice::from_ref(&other)).await.unwrap()[..], [Accepted::Other]));
    assert!(matches!(&store.accept(std::slice::from_ref(&both[1])).await.unwrap()[..], [Accepted::Same(_)]));
    // A rolled back transaction holds no id.
    store.prepare_half(&single("w", HOUR)).await.unwrap();
    store.roll_back_half("w", "x").await.unwrap();
    assert!(matches!(&store.accept(&[message("m-w", None, None)]).await.unwrap()[..], [Accepted::New]));
}

/// A message that was sent already was prepared a second time while a transaction held
/// its identity, and SQLite answered with the failure of its index, a fault of the host.
pub async fn a_sent_message_that_is_prepared_twice_is_a_conflict(database: Database) {
    let store = database.open().await;
    store.accept(&[message("m-u", None, None)]).await.unwrap();
    store.prepare_half(&half("u", vec![message("m-u", None, None)], HOUR)).await.unwrap();
    let again = store.prepare_half(&half("v", vec![message("m-u", None, None)], HOUR)).await;
    assert!(matches!(&again, Err(StoreError::Conflict(why)) if why.contains("the transaction u")), "{again:?}");
    let sent = store.accept(&[message("m-u", None, None)]).await.unwrap();
    assert!(matches!(&sent[..], [Accepted::Same(_)]), "{sent:?}");
    assert_eq!(store.commit_half("u", "x").await.unwrap().row.state, HalfState::Committed);
}

/// A message was undelivered, given up or cancelled. A transaction with the same message
/// became COMMITTED, and nothing was sent.
pub async fn a_transaction_commits_only_what_is_sent(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    let delayed = waiting("m-3", None, Due::After(HOUR));
    store.accept(&[message("m-1", None, None), message("m-2", None, None), delayed.clone()]).await.unwrap();
    // While they are on their way, or wait, a transaction may repeat them.
    for (id, message) in [("t-1", message("m-1", None, None)), ("t-3", delayed.clone())] {
        store.prepare_half(&half(id, vec![message], HOUR)).await.unwrap();
    }
    let rows = store.outbound(&shards, 10, &LeftOut::default()).await.unwrap();
    let result = RelayResult::Undelivered { code: "too_large", reason: "too large".to_owned() };
    let results = rows.iter().map(|row| Relayed { id: row.id, shard: row.shard, result: result.clone() });
    store.relayed(&shards, &results.collect::<Vec<_>>()).await.unwrap();
    let kept = store.undelivered(&UndeliveredFilter::default(), &Page { cursor: None, limit: 10 }).await.unwrap().items;
    let kept = |id: &str| kept.iter().find(|row| row.message_id == id).unwrap().id;
    store.give_up_undelivered(kept("m-2"), "given up by ops: obsolete").await.unwrap();
    store.cancel(&delayed.identity()).await.unwrap();

    let refused = async |id: &str, said: &str| {
        let committed = store.commit_half(id, "x").await;
        assert!(matches!(&committed, Err(StoreError::Conflict(why)) if why.contains(said)), "{committed:?}");
        assert_eq!(seen(&store, id).await.state, HalfState::Prepared);
    };
    refused("t-1", "too large").await;
    refused("t-3", "cancelled").await;
    store.roll_back_half("t-3", "x").await.unwrap();
    for (message, said) in [(message("m-2", None, None), "given up by ops"), (delayed, "cancelled")] {
        let prepared = store.prepare_half(&half("t-4", vec![message], HOUR)).await;
        assert!(matches!(&prepared, Err(StoreError::Conflict(why)) if why.contains(said)), "{prepared:?}");
    }
    // A person sends the message again, and the transaction commits.
    store.resend_undelivered(kept("m-1"), None).await.unwrap();
    assert_eq!(store.commit_half("t-1", "x").await.unwrap().row.state, HalfState::Committed);
    assert_eq!(due(&store, &shards).await, ["m-1"]);
}

/// A POST and a prepare of one identity at the same time, on two hosts: one of them
/// gets it, and a prepared message can commit.
pub async fn of_a_message_and_a_transaction_that_meet_one_has_the_identity(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    let mut both = [0, 0];
    for round in 0..40 {
        let id = format!("{round:02}");
        let taker = [NewMessage { digest: [9; 32], ..message(&format!("m-{id}"), None, None) }];
        let (half, accepting) = (single(&id, HOUR), store.accept(&taker));
        let (accepted, prepared) = tokio::join!(accepting, other.prepare_half(&half));
        match (&accepted.unwrap()[..], prepared) {
            ([Accepted::New], Err(StoreError::Conflict(_))) => both[0] += 1,
            ([Accepted::Reserved { transaction }], Ok(_)) => {
                assert_eq!(*transaction, id);
                assert_eq!(other.commit_half(&id, "x").await.unwrap().row.state, HalfState::Committed);
                both[1] += 1;
            }
            (accepted, prepared) => panic!("{accepted:?} {prepared:?}"),
        }
    }
    assert_eq!(both[0] + both[1], 40);
}

/// Issue 16: a commit of an abandoned transaction got 409 "final", although
/// the sender's transaction had committed.
pub async fn an_abandoned_transaction_can_still_commit(database: Database) {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    for id in ["c", "r", "taken"] {
        store.prepare_half(&single(id, Duration::ZERO)).await.unwrap();
        let check = claim(&store, HOUR).await.pop().unwrap();
        store.leave_half(&check, "nobody knew", AfterAsking::Abandon).await.unwrap();
    }
    let committed = store.commit_half("c", "its sender committed it").await.unwrap().row;
    assert_eq!((committed.state, committed.reason.as_deref()), (HalfState::Committed, Some("its sender committed it")));
    assert_eq!(due(&store, &shards).await, ["m-c"]);
    assert_eq!(store.roll_back_half("r", "x").await.unwrap().row.state, HalfState::RolledBack);
    assert!(matches!(store.commit_half("r", "x").await, Err(StoreError::Conflict(_))), "its records are gone");
    // It no longer holds its id, and another message may have come.
    store.accept(&[NewMessage { digest: [9; 32], ..message("m-taken", None, None) }]).await.unwrap();
    let taken = store.commit_half("taken", "x").await;
    assert!(matches!(&taken, Err(StoreError::Conflict(why)) if why.contains("m-taken")), "{taken:?}");
    assert_eq!(seen(&store, "taken").await.state, HalfState::Abandoned);
}

/// Issue 16: a message whose check_url refused connections for a while was
/// ABANDONED after 6 requests.
pub async fn what_cannot_be_asked_is_kept_until_retention(database: Database) {
    let store = database.open().await;
    store.prepare_half(&single("t", Duration::ZERO)).await.unwrap();
    store.prepare_half(&single("well", HOUR)).await.unwrap();
    let before = store.ping().await.unwrap();
    for asking in 1..=9 {
        let check = claim(&store, HOUR).await.pop().unwrap();
        assert_eq!((check.checks, check.answered, check.unreachable), (asking, 0, asking - 1));
        store.leave_half(&check, "refused", AfterAsking::Retry(Duration::ZERO)).await.unwrap();
    }
    let listed = store.unreachable_halves(None, 10).await.unwrap();
    let [row] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((row.id.as_str(), row.state, row.messages.len()), ("t", HalfState::Prepared, 1));
    assert!(row.unreachable_since >= Some(before) && row.last_answer.as_deref() == Some("refused"), "{row:?}");
    // An answer ends the requests.
    let check = claim(&store, HOUR).await.pop().unwrap();
    store.leave_half(&check, "it answered UNKNOWN", AfterAsking::Again(Duration::ZERO)).await.unwrap();
    assert!(store.unreachable_halves(None, 10).await.unwrap().is_empty());
    assert!(store.unreachable_halves(Some(&["elsewhere".to_owned()]), 10).await.unwrap().is_empty());
    let check = claim(&store, HOUR).await.pop().unwrap();
    assert_eq!((check.answered, check.unreachable), (1, 0));
    store.leave_half(&check, "refused", AfterAsking::Retry(HOUR)).await.unwrap();
    // Until the retention is over it stays; then it is abandoned, and can still
    // commit.
    while store.prune(HOUR).await.unwrap() {}
    assert_eq!(seen(&store, "t").await.state, HalfState::Prepared);
    tokio::time::sleep(Duration::from_millis(5)).await;
    store.prune(Duration::from_millis(1)).await.unwrap();
    let row = seen(&store, "t").await;
    assert_eq!(row.state, HalfState::Abandoned);
    assert!(row.reason.unwrap().contains("older than the retention"));
    assert_eq!(seen(&store, "well").await.state, HalfState::Prepared);
    assert_eq!(store.commit_half("t", "x").await.unwrap().row.state, HalfState::Committed);
}

/// A sender that commits while its check URL is asked, and two hosts at once: one
/// end, and each message once.
pub async fn ends_that_meet_are_one(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    for round in 0..20 {
        let id = format!("{round:02}");
        store.prepare_half(&single(&id, HOUR)).await.unwrap();
        let (commit, roll_back) = tokio::join!(store.commit_half(&id, "a"), other.roll_back_half(&id, "b"));
        assert!(commit.is_ok() != roll_back.is_ok(), "one end holds: {commit:?} {roll_back:?}");
        let sent = due(&store, &shards).await.contains(&format!("m-{id}"));
        assert_eq!(sent, commit.is_ok());
        assert!(commit.or(roll_back).unwrap().has_moved);
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
            let page = store.halves(state, None, &Page { cursor, limit: 2 }).await.unwrap();
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
    let odd = store.halves(None, None, &Page { cursor: Some("x".to_owned()), limit: 1 }).await;
    assert!(matches!(odd, Err(StoreError::NotFound(_))));
    tokio::time::sleep(Duration::from_millis(5)).await;
    while store.prune(Duration::from_millis(1)).await.unwrap() {}
    assert_eq!(listed(None).await, [6, 5, 3, 2, 0], "what has not ended stays");
}

/// Issue 17: the page of a scoped token was filtered after it was read, and its
/// cursor had the id of another tenant's transaction.
pub async fn transactions_are_listed_by_the_topics_that_they_are_about(database: Database) {
    let store = database.open().await;
    let mine = half("t-mine", vec![message("m-mine", Some(b"k"), None)], HOUR);
    let theirs = |id: &str| NewMessage { topic: "elsewhere".to_owned(), ..message(id, Some(b"k"), None) };
    store.prepare_half(&mine).await.unwrap();
    store.prepare_half(&half("t-theirs", vec![theirs("m-1")], HOUR)).await.unwrap();
    store.prepare_half(&half("t-both", vec![message("m-2", Some(b"k"), None), theirs("m-3")], HOUR)).await.unwrap();
    let topics = [mine.messages[0].topic.clone()];
    let page = store.halves(None, Some(&topics), &Page { cursor: None, limit: 1 }).await.unwrap();
    let ids: Vec<_> = page.items.iter().map(|row| row.id.as_str()).collect();
    assert_eq!((ids.as_slice(), page.next), (&["t-mine"][..], None), "who may not see one topic sees nothing of it");
    let page = store.halves(None, Some(&[]), &Page { cursor: None, limit: 1 }).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_none());
}

/// One token's prepared transactions blocked those of all others.
pub async fn what_a_token_has_prepared_is_counted(database: Database) {
    let store = database.open().await;
    let by = |sender: &str| Some(SentBy { sender: sender.to_owned(), source_proven: true });
    for (id, sender) in [("t-1", "shop"), ("t-2", "shop"), ("t-3", "other")] {
        let message = NewMessage { sent_by: by(sender), ..message(&format!("m-{id}"), None, None) };
        store.prepare_half(&half(id, vec![message], Duration::from_secs(60))).await.unwrap();
    }
    let counted = async |sender| store.prepared_halves(sender, 10).await.unwrap();
    assert_eq!((counted(Some("shop")).await, counted(Some("other")).await, counted(None).await), (2, 1, 3));
    // Only who prepared it ends it as its sender.
    let senders = [seen(&store, "t-1").await, seen(&store, "t-3").await].map(|half| half.sender);
    assert_eq!(senders, [Some("shop".to_owned()), Some("other".to_owned())]);
    store.commit_half("t-1", "its sender committed it").await.unwrap();
    assert_eq!(counted(Some("shop")).await, 1);
    assert_eq!(store.message("m-t-1").await.unwrap().unwrap().sent_by, by("shop"));
}
