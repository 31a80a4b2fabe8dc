//! The states of a message on the store: every transition in the table happens,
//! and every other one is refused.

use std::time::Duration;

use courier::store::{Due, LeftOut, RelayResult, Relayed, SHARDS, SentMessage, SharedStore, StoreError, UnsentMessage};
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::Database;
use super::delayed::waiting;
use super::owner::{LEASE, join};
use super::sending::{identity, message};

/// A message as people see it: its state, whether the host sends it again, and
/// whether it is on Kafka.
type Seen = (State, bool, bool);

const ON_KAFKA: Seen = (State::Committed, false, true);
const WAITS: Seen = (State::Committed, false, false);
const RETRYING: Seen = (State::SendFail, true, false);
const GIVEN_UP: Seen = (State::SendFail, false, false);

struct Send {
    store: SharedStore,
    shards: Vec<(i32, i64)>,
}

impl Send {
    async fn seen(&self, id: &str) -> Seen {
        let row = self.store.message(id).await.unwrap().unwrap();
        (row.state, row.retrying, row.place.is_some())
    }

    /// The relay reports the result of a message that it has to send.
    async fn relayed(&self, id: &str, result: RelayResult) {
        let rows = self.store.outbound(&self.shards, 1_000, &LeftOut::default()).await.unwrap();
        let row = rows.iter().find(|row| row.message_id == id).unwrap_or_else(|| panic!("{id} is not owed"));
        let result = Relayed { id: row.id, shard: row.shard, result };
        self.store.relayed(&self.shards, std::slice::from_ref(&result)).await.unwrap();
        let after = self.seen(id).await;
        // A repeated report, as after a lost answer, changes nothing.
        self.store.relayed(&self.shards, &[result]).await.unwrap();
        assert_eq!(self.seen(id).await, after, "{id}");
    }

    /// Makes a transition, which must be in the table of the core.
    async fn arrow(&self, id: &str, from: Seen, to: Seen, verb: impl Future<Output = ()>) {
        assert_eq!(self.seen(id).await, from, "{id} before");
        verb.await;
        assert_eq!(self.seen(id).await, to, "{id} after");
        assert!(from.0 == to.0 || from.0.message_may_become(to.0), "{from:?} to {to:?}");
    }
}

fn unsent(id: &str, reason: &str) -> UnsentMessage {
    UnsentMessage { identity: identity(id), reason: reason.to_owned() }
}

fn later() -> RelayResult {
    RelayResult::Later { reason: "away".to_owned(), wait: Duration::ZERO, unknown_from: None }
}

fn taken() -> RelayResult {
    RelayResult::Taken { partition: 0, offset: Offset(1) }
}

fn refused() -> RelayResult {
    RelayResult::Undelivered { code: "too_large", reason: "too large".to_owned() }
}

async fn begin(database: &Database) -> Send {
    let store = database.open().await;
    let writer = join(&store, "host-1").await;
    let shards = store.lease_shards(writer, SHARDS, &[], LEASE).await.unwrap();
    Send { store, shards }
}

pub async fn every_arrow_of_a_message_is_gone_along(database: Database) {
    let send = begin(&database).await;
    let store = &send.store;
    let ids = ["direct", "later", "refused", "released"];
    store.accept(&ids.map(|id| message(id, None, None))).await.unwrap();
    // SEND_FAIL -> COMMITTED: the direct send, and the relay after a while.
    let sent = SentMessage { identity: identity("direct"), partition: 0, offset: Offset(0) };
    send.arrow("direct", RETRYING, ON_KAFKA, async { store.sent(&[sent]).await.unwrap() }).await;
    // SEND_FAIL -> SEND_FAIL: a failed try, given up, and sent again by a person.
    send.arrow("later", RETRYING, RETRYING, send.relayed("later", later())).await;
    send.arrow("later", RETRYING, ON_KAFKA, send.relayed("later", taken())).await;
    send.arrow("refused", RETRYING, GIVEN_UP, send.relayed("refused", refused())).await;
    send.arrow("refused", GIVEN_UP, RETRYING, async { store.resend(&identity("refused")).await.unwrap() }).await;
    send.arrow("refused", RETRYING, ON_KAFKA, send.relayed("refused", taken())).await;
    let release = [unsent("released", "away")];
    send.arrow("released", RETRYING, RETRYING, async { store.release_outbound(&release).await.unwrap() }).await;

    let delayed = ["cancelled", "due", "due-late", "due-refused"];
    store.accept(&delayed.map(|id| waiting(id, None, Due::At(Timestamp(0))))).await.unwrap();
    // COMMITTED -> SEND_FAIL: cancelled before it was due.
    send.arrow("cancelled", WAITS, GIVEN_UP, async { drop(store.cancel(&identity("cancelled")).await.unwrap()) }).await;
    store.move_due(&send.shards, None).await.unwrap();
    // COMMITTED -> COMMITTED with an offset: it was due, and Kafka took it.
    send.arrow("due", WAITS, ON_KAFKA, send.relayed("due", taken())).await;
    // COMMITTED -> SEND_FAIL: it was due, and Kafka did not take it.
    send.arrow("due-late", WAITS, RETRYING, send.relayed("due-late", later())).await;
    send.arrow("due-late", RETRYING, ON_KAFKA, send.relayed("due-late", taken())).await;
    send.arrow("due-refused", WAITS, GIVEN_UP, send.relayed("due-refused", refused())).await;
    send.arrow("due-refused", GIVEN_UP, RETRYING, async { store.resend(&identity("due-refused")).await.unwrap() })
        .await;
    // The same while Kafka is known to be away.
    store.accept(&[waiting("away", None, Due::At(Timestamp(0)))]).await.unwrap();
    send.arrow("away", WAITS, RETRYING, async {
        assert_eq!(store.move_due(&send.shards, Some("away")).await.unwrap().rows, 1)
    })
    .await;
}

/// A message on Kafka stays COMMITTED at its offset, whatever is reported or
/// requested later; only a person moves a message that was given up.
pub async fn every_other_arrow_of_a_message_is_refused(database: Database) {
    let send = begin(&database).await;
    let store = &send.store;
    store.accept(&[message("sent", None, None), waiting("went", None, Due::At(Timestamp(0)))]).await.unwrap();
    store.move_due(&send.shards, None).await.unwrap();
    for id in ["sent", "went"] {
        send.relayed(id, taken()).await;
        let before = store.message(id).await.unwrap();
        let late = [unsent(id, "late")];
        store.release_outbound(&late).await.unwrap();
        store.sent(&[SentMessage { identity: identity(id), partition: 5, offset: Offset(50) }]).await.unwrap();
        assert!(
            matches!(store.resend(&identity(id)).await, Err(StoreError::Conflict(_))),
            "COMMITTED to SEND_FAIL by resend"
        );
        assert!(
            matches!(store.cancel(&identity(id)).await, Err(StoreError::Conflict(_))),
            "COMMITTED to SEND_FAIL by cancel"
        );
        assert_eq!(store.message(id).await.unwrap(), before, "{id} stays where it is");
    }
    // A delayed message is neither sent again nor released.
    store.accept(&[waiting("waits", None, Due::After(Duration::from_secs(60)))]).await.unwrap();
    assert!(matches!(store.resend(&identity("waits")).await, Err(StoreError::Conflict(_))));
    store.release_outbound(&[unsent("waits", "x")]).await.unwrap();
    assert_eq!(send.seen("waits").await, WAITS);
    // A cancelled message is not sent before it is due.
    store.accept(&[waiting("cancelled", None, Due::After(Duration::from_secs(60)))]).await.unwrap();
    store.cancel(&identity("cancelled")).await.unwrap();
    assert!(matches!(store.resend(&identity("cancelled")).await, Err(StoreError::Conflict(_))));
    assert_eq!(send.seen("cancelled").await, GIVEN_UP);
    // A failed message is neither delayed nor cancelled.
    store.accept(&[message("failed", None, None)]).await.unwrap();
    send.relayed("failed", refused()).await;
    assert!(matches!(store.cancel(&identity("failed")).await, Err(StoreError::Conflict(_))));
    store.release_outbound(&[unsent("failed", "x")]).await.unwrap();
    assert_eq!(send.seen("failed").await, GIVEN_UP);
    // The states of deliveries are not states of a message.
    for odd in [State::PushFail, State::HandleFail, State::Handled] {
        for state in [State::SendFail, State::Committed] {
            assert!(!state.message_may_become(odd) && !odd.message_may_become(state));
        }
    }
    assert!(!State::Committed.message_may_become(State::Committed));
}
