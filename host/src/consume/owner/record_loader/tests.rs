//! What waits in a loader, and what does not.

use bytes::Bytes;
use courier_core::message::{Kind, Timestamp};
use courier_core::status::State;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::*;
use crate::store::OpenRow;

/// Rows in a list, of which Kafka returns no record while `is_away`.
#[derive(Clone, Default)]
struct Shelf {
    rows: Arc<Mutex<HashMap<i64, OpenRecord>>>,
    is_away: Arc<Mutex<bool>>,
}

#[async_trait]
impl OpenRecords for Shelf {
    async fn rows(&self, _position: PositionId, offsets: &[Offset]) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        let rows = self.rows.lock();
        Ok(offsets.iter().map(|offset| rows.get(&offset.0).cloned()).collect())
    }

    async fn record(&self, _place: &TopicPartition, _offset: Offset) -> Result<Option<Record>, LogError> {
        if *self.is_away.lock() { Err(LogError::Unavailable("no route".into())) } else { Ok(Some(record())) }
    }

    async fn run(&self, _place: &TopicPartition, _run: &[Offset]) -> Result<Vec<(Offset, Record)>, LogError> {
        Ok(Vec::new())
    }
}

fn record() -> Record {
    Record { timestamp: Timestamp(7), key: None, value: None, headers: Vec::new(), left_out: None }
}

struct Bench {
    shelf: Shelf,
    address: Arc<OwnerRef>,
    inbox: mpsc::UnboundedReceiver<OwnerMessage>,
    room: Room,
    recalled: watch::Sender<()>,
    causes: Causes,
}

impl Bench {
    /// Deliveries 1 to 4 in the store, with a room of one record.
    fn new() -> Self {
        let shelf = Shelf::default();
        for offset in 1..=4 {
            shelf.put(offset, Some(record().encode()), None);
        }
        let (mail, inbox) = mpsc::unbounded_channel();
        let address = OwnerRef {
            place: TopicPartition { topic: "order".into(), partition: 3, kind: Kind::Event },
            position: PositionId(1),
            mail,
            no_more: CancellationToken::new(),
            dropped: CancellationToken::new(),
            refused: watch::channel(false).1,
        };
        let (recalled, causes) = (watch::Sender::new(()), Causes::default());
        Self { shelf, address: Arc::new(address), inbox, room: Room::of(1), recalled, causes }
    }

    fn load(&self, offsets: &[i64]) -> Vec<CancellationToken> {
        let recalls: Vec<_> = offsets.iter().map(|_| CancellationToken::new()).collect();
        let wanted = offsets.iter().zip(&recalls).map(|(offset, recall)| WantedRecord {
            offset: Offset(*offset),
            attempts: Attempts::default(),
            recall: Some(recall.clone()),
        });
        let loader = RecordLoader {
            records: self.shelf.clone(),
            address: Arc::clone(&self.address),
            room: self.room.clone(),
            recalled: self.recalled.subscribe(),
            causes: self.causes.clone(),
            subject: self.subject(),
        };
        tokio::spawn(loader.load(wanted.collect()));
        recalls
    }

    fn subject(&self) -> Subject {
        Subject::Partition { group: "stock".into(), topic: "order".into(), partition: 3 }
    }

    fn recall(&self, recall: &CancellationToken) {
        recall.cancel();
        self.recalled.send_replace(());
    }

    /// The next message, in short, and the record that it holds.
    async fn told(&mut self) -> (String, Option<Arc<BufferedRecord>>) {
        match self.inbox.recv().await.expect("the loader has an owner") {
            OwnerMessage::NotStarted(offset) => (format!("{offset} back"), None),
            OwnerMessage::Loaded(LoadedRecord { offset, give_up: Some(give_up), buffered, .. }) => {
                (format!("{offset} given up, letter {}", give_up.dead_letter), buffered)
            }
            OwnerMessage::Loaded(LoadedRecord { offset, buffered, .. }) => (format!("{offset} loaded"), buffered),
            other => panic!("{other:?}"),
        }
    }
}

impl Shelf {
    fn put(&self, offset: i64, record: Option<Bytes>, give_up: Option<GiveUp>) {
        let row = OpenRow {
            position: PositionId(1),
            offset: Offset(offset),
            key: None,
            message_id: format!("m-{offset}"),
            state: State::HandleFail,
            next_attempt_at: None,
            held: false,
            attempts: Attempts::default(),
            received_at: Timestamp(0),
            record_bytes: 0,
            asked_at: None,
            give_up,
        };
        self.rows.lock().insert(offset, OpenRecord { row, record });
    }

    fn give_up(&self, offset: i64, record: Option<Bytes>, dead_letter: bool) {
        self.put(offset, record, Some(GiveUp { reason: "wrong".into(), dead_letter }));
    }
}

/// The deliveries that waited for a paused binding had all the room, and giving one up
/// waited for the end of the pause.
#[tokio::test]
async fn what_is_given_up_needs_no_room_of_what_runs() {
    let mut bench = Bench::new();
    bench.load(&[1, 2]);
    let (told, _held) = bench.told().await;
    assert_eq!(told, "1 loaded");
    bench.shelf.give_up(3, Some(record().encode()), true);
    bench.load(&[3]);
    assert_eq!(bench.told().await.0, "3 given up, letter true");
}

#[tokio::test]
async fn what_is_recalled_is_returned_from_behind_what_waits() {
    let mut bench = Bench::new();
    let recalls = bench.load(&[1, 2, 3, 4]);
    let (told, held) = bench.told().await;
    assert_eq!(told, "1 loaded");
    bench.recall(&recalls[2]);
    assert_eq!(bench.told().await.0, "3 back", "2 waits for room");
    bench.recall(&recalls[1]);
    assert_eq!(bench.told().await.0, "2 back");
    drop(held);
    assert_eq!(bench.told().await.0, "4 loaded");
}

#[tokio::test]
async fn what_is_not_read_when_nothing_may_begin_is_returned() {
    let mut bench = Bench::new();
    bench.load(&[1, 2, 3]);
    let (_, _held) = bench.told().await;
    bench.address.no_more.cancel();
    assert_eq!([bench.told().await.0, bench.told().await.0], ["2 back", "3 back"]);
}

/// A lane stood still for ever, and only the debug log said so.
#[tokio::test]
async fn a_record_that_cannot_be_read_is_reported_until_it_is() {
    let mut bench = Bench::new();
    *bench.shelf.is_away.lock() = true;
    bench.shelf.put(1, None, None);
    let recalls = bench.load(&[1, 2]);
    let reported = |bench: &Bench| bench.causes.reported(&bench.subject());
    while reported(&bench).is_none() {
        tokio::task::yield_now().await;
    }
    let (code, why) = reported(&bench).unwrap();
    assert!(code == RECORD_UNREADABLE && why.contains("offset 1 ") && why.contains("no route"), "{code}: {why}");
    bench.recall(&recalls[0]);
    assert_eq!(bench.told().await.0, "1 back");
    assert_eq!(bench.told().await.0, "2 loaded");
    assert!(reported(&bench).is_none());
}

#[tokio::test]
async fn a_giving_up_waits_for_its_record_only_for_a_dead_letter() {
    let mut bench = Bench::new();
    *bench.shelf.is_away.lock() = true;
    bench.shelf.give_up(1, None, false);
    bench.load(&[1]);
    let (told, buffered) = bench.told().await;
    assert_eq!(told, "1 given up, letter false");
    assert!(buffered.is_some_and(|buffered| buffered.record.left_out.is_some()), "nothing of it is stored");
    bench.shelf.give_up(2, None, true);
    bench.load(&[2]);
    while bench.causes.reported(&bench.subject()).is_none() {
        tokio::task::yield_now().await;
    }
    *bench.shelf.is_away.lock() = false;
    assert_eq!(bench.told().await.0, "2 given up, letter true");
}
