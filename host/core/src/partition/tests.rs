//! Unit tests of the machine, event by event. The simulation looks for schedules
//! that nobody thought of.

mod giving_up;
mod growth;
mod loss_ahead;
mod position;
mod probing;
mod requests;

use bytes::Bytes;

use super::*;

/// A machine and the actions of its last step.
struct Bench {
    machine: Machine<&'static str>,
    now: i64,
    said: Vec<Action<&'static str>>,
}

const AT_ONCE: Outcome = Outcome::Handled;

fn again(at: i64) -> Outcome {
    Outcome::Again { state: State::HandleFail, at: Timestamp(at) }
}

fn pushed_back(at: i64) -> Outcome {
    Outcome::Again { state: State::PushFail, at: Timestamp(at) }
}

fn key(name: &'static str) -> LaneKey {
    if name.is_empty() { LaneKey::WholePartition } else { LaneKey::Key(Bytes::from_static(name.as_bytes())) }
}

/// As many attempts, of which each counts.
fn tried(times: u32) -> Attempts {
    Attempts { invoked: times, used: times }
}

fn row(offset: i64, lane: &'static str) -> OpenDelivery {
    OpenDelivery {
        offset: Offset(offset),
        lane: key(lane),
        state: State::Committed,
        due: None,
        held: false,
        attempts: tried(1),
        bytes: 10,
        give_up: false,
    }
}

fn claim(position: i64, settled: &[i64], open: Vec<OpenDelivery>) -> Claim {
    let settled = settled.iter().map(|offset| Offset(*offset)).collect();
    Claim { epoch: Epoch(3), position: Offset(position), settled, open, blocked: HashSet::new() }
}

impl Bench {
    fn new(bounds: Bounds, claim: Claim) -> Self {
        Self { machine: Machine::new(bounds, claim), now: 0, said: Vec::new() }
    }

    fn empty() -> Self {
        Self::new(Bounds::default(), claim(0, &[], Vec::new()))
    }

    /// Hands over an event and flushes, as the host does.
    fn step(&mut self, event: Event<&'static str>) -> &mut Self {
        self.said.clear();
        self.machine.step(Timestamp(self.now), event, &mut self.said);
        self.machine.flush(&mut self.said);
        self
    }

    /// The same without a flush, as when more events came together.
    fn quietly(&mut self, event: Event<&'static str>) -> &mut Self {
        self.said.clear();
        self.machine.step(Timestamp(self.now), event, &mut self.said);
        self
    }

    fn record(&mut self, offset: i64, lane: &'static str) -> &mut Self {
        self.step(Event::Record { offset: Offset(offset), lane: key(lane), bytes: 10 })
    }

    fn decided(offset: i64, outcome: Outcome, times: u32, detail: &'static str) -> Event<&'static str> {
        Event::AttemptFinished { offset: Offset(offset), outcome, attempts: tried(times), detail }
    }

    fn decide(&mut self, offset: i64, outcome: Outcome) -> &mut Self {
        self.step(Self::decided(offset, outcome, 1, "first"))
    }

    fn written(&mut self) -> &mut Self {
        self.step(Event::Settled(Answer::Written))
    }

    fn due(&mut self, now: i64) -> &mut Self {
        self.now = now;
        self.step(Event::Due)
    }

    /// Checks the last actions, in short: `run 5`, `write <3 5handled 6+committed`,
    /// `pause`.
    fn says(&mut self, expected: &[&str]) -> &mut Self {
        let said: Vec<String> = self.said.iter().map(in_short).collect();
        assert_eq!(said, expected);
        self
    }

    fn batch(&self) -> Arc<Batch<&'static str>> {
        let batch = self.said.iter().find_map(|action| match action {
            Action::Settle(batch) => Some(Arc::clone(batch)),
            _ => None,
        });
        batch.expect("a batch was sent")
    }
}

fn in_short<D>(action: &Action<D>) -> String {
    match action {
        Action::Dispatch { offset, has_row: false, .. } => format!("run {offset}"),
        Action::Dispatch { offset, has_row: true, .. } => format!("rerun {offset}"),
        Action::GiveUp { offset, .. } => format!("give up {offset}"),
        Action::Settle(batch) => {
            let writes: Vec<String> = batch.writes.iter().map(write_in_short).collect();
            format!("write <{} {}", batch.position, writes.join(" "))
        }
        Action::Pause => "pause".to_owned(),
        Action::Resume => "resume".to_owned(),
        Action::Release(why) => format!("{why:?}"),
    }
}

/// An open row is `held`, has a time (`@7`), or waits in its lane; `+` is a
/// row that is new.
fn write_in_short<D>(write: &DeliveryWrite<D>) -> String {
    let to = match write.to {
        NewState::Handled => "handled".to_owned(),
        NewState::Failed => "failed".to_owned(),
        NewState::Open { held: true, .. } => "held".to_owned(),
        NewState::Open { state, due: Some(at), .. } => format!("{}@{}", state.as_str().to_lowercase(), at.0),
        NewState::Open { state, due: None, .. } => state.as_str().to_lowercase(),
    };
    let new = if write.had_row { "" } else { "+" };
    format!("{}{new}{to}", write.offset)
}

fn tiny() -> Bounds {
    Bounds { max_gap: 1, max_in_memory: 1, max_in_memory_bytes: 1, max_parked: 1, max_parked_bytes: 0, max_batch: 1 }
}

#[test]
fn the_next_of_a_lane_runs_when_the_one_before_is_decided() {
    let mut bench = Bench::empty();
    bench.record(0, "a").says(&["run 0"]);
    bench.record(1, "a").says(&[]);
    bench.record(2, "b").says(&["run 2"]);
    bench.decide(0, AT_ONCE).says(&["run 1", "write <1 0+handled"]);
    bench.decide(1, Outcome::Failed { dead_letter: true }).says(&[]);
    bench.decide(2, AT_ONCE).says(&[]);
    bench.written().says(&["write <3 1+failed 2+handled"]);
    bench.written().says(&[]);
}

#[test]
fn behind_a_waiting_head_a_lane_is_parked_and_others_flow() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a").record(2, "b");
    bench.decide(0, again(90)).says(&["write <2 0+handle_fail@90 1+committed"]);
    bench.written().record(3, "a").says(&["write <2 3+committed"]);
    assert_eq!((bench.machine.parked(), bench.machine.next_due()), (3, Some(Timestamp(90))));
    bench.written().decide(2, AT_ONCE).says(&["write <4 2+handled"]);
    bench.written().due(89).says(&[]);
    bench.due(90).says(&["rerun 0"]);
    bench.decide(0, AT_ONCE).says(&["rerun 1", "write <4 0handled"]);
}

#[test]
fn behind_a_head_that_could_not_run_followers_could_not_either() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a");
    bench.decide(0, pushed_back(90)).says(&["write <2 0+push_fail@90 1+push_fail"]);
}

#[test]
fn what_a_person_has_to_see_holds_its_lane() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a");
    bench.decide(0, Outcome::Held).says(&["write <2 0+held 1+committed"]);
    bench.written().due(1_000).says(&[]);
    assert_eq!(bench.machine.next_due(), None);
    bench.step(Event::RerunRequested(OpenDelivery { held: true, ..row(0, "a") })).says(&["rerun 0"]);
    bench.decide(0, AT_ONCE).says(&["rerun 1", "write <2 0handled"]);
}

/// A delivery's unsent outcomes merge into one row that has the details of all.
#[test]
fn an_unsent_row_is_taken_in_by_what_follows() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "b").record(2, "c");
    bench.decide(2, AT_ONCE).says(&["write <0 2+handled"]);
    bench.step(Bench::decided(0, again(5), 1, "failed")).decide(1, AT_ONCE);
    bench.due(5).step(Bench::decided(0, again(9), 2, "failed again"));
    bench.written().says(&["write <3 1+handled 0+handle_fail@9"]);
    let write = bench.batch().writes[1].clone();
    assert_eq!(write.details, ["failed", "failed again"]);
    assert!(matches!(write.to, NewState::Open { keep_record: true, .. }), "the row is new and within the bound");
    assert_eq!(write.attempts, tried(2));
}

#[test]
fn what_was_sent_has_a_row_for_what_follows() {
    let mut bench = Bench::empty();
    bench.record(0, "a").decide(0, again(5)).says(&["write <1 0+handle_fail@5"]);
    bench.due(5).says(&["rerun 0"]);
    bench.decide(0, AT_ONCE).written().says(&["write <1 0handled"]);
    assert_eq!(bench.machine.parked(), 0);
}

#[test]
fn a_batch_is_bounded_and_repeated_until_it_is_known() {
    let bounds = Bounds { max_batch: 2, ..Bounds::default() };
    let mut bench = Bench::new(bounds, claim(0, &[], Vec::new()));
    for (offset, lane) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
        bench.quietly(Event::Record { offset: Offset(offset), lane: key(lane), bytes: 10 });
        bench.quietly(Bench::decided(offset, AT_ONCE, 1, "")).says(&[]);
    }
    bench.step(Event::Due).says(&["write <2 0+handled 1+handled"]);
    let sent = bench.batch();
    bench.step(Event::Settled(Answer::Unknown));
    assert!(Arc::ptr_eq(&sent, &bench.batch()), "the same batch in the same place");
    bench.written().says(&["write <4 2+handled 3+handled"]);
}

#[test]
fn a_fenced_machine_drops_everything() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "b").decide(0, AT_ONCE).decide(1, AT_ONCE);
    bench.step(Event::Settled(Answer::Fenced)).says(&["Fenced"]);
    bench.record(2, "a").says(&[]);
    bench.step(Event::Revoke).says(&[]);
}

#[test]
fn a_revoked_machine_drains() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a").record(2, "b").record(3, "c");
    bench.step(Event::Revoke).says(&[]);
    bench.record(4, "d").says(&[]);
    bench.decide(0, AT_ONCE).says(&["write <1 0+handled"]);
    bench.step(Event::NotStarted { offset: Offset(3) }).decide(2, again(5)).says(&[]);
    bench.written().says(&["write <1 2+handle_fail@5"]);
    bench.due(5).says(&[]);
    bench.written().says(&["Drained"]);
}

#[test]
fn a_revoked_machine_waits_for_an_answer_that_is_not_known() {
    let mut bench = Bench::empty();
    bench.record(0, "a").decide(0, AT_ONCE);
    bench.step(Event::Revoke).says(&[]);
    bench.step(Event::Settled(Answer::Unknown)).says(&["write <1 0+handled"]);
    bench.written().says(&["Drained"]);
}

#[test]
fn without_time_or_partition_it_stops_at_once() {
    for (event, why) in [(Event::Deadline, "Late"), (Event::Lost, "Lost")] {
        let mut bench = Bench::empty();
        bench.record(0, "a").step(Event::Revoke).step(event).says(&[why]);
        bench.decide(0, AT_ONCE).says(&[]);
    }
}

#[test]
fn what_the_claim_tells_of_is_not_dispatched_again() {
    let waits = OpenDelivery { due: Some(Timestamp(50)), state: State::HandleFail, ..row(12, "a") };
    let mut bench = Bench::new(Bounds::default(), claim(10, &[11], vec![row(4, "b"), waits]));
    bench.due(0).says(&["rerun 4"]);
    for offset in [11, 12] {
        assert!(!bench.machine.wants(Offset(offset)));
    }
    bench.record(10, "c").says(&["run 10"]);
    bench.record(11, "c").record(12, "a").says(&[]);
    bench.record(13, "a").says(&["write <10 13+committed"]);
    bench.written().decide(10, AT_ONCE).says(&["write <14 10+handled"]);
}

#[test]
fn past_its_bytes_a_parked_set_keeps_coordinates_only() {
    let bounds = Bounds { max_parked_bytes: 25, ..Bounds::default() };
    let mut bench = Bench::new(bounds, claim(0, &[], Vec::new()));
    bench.record(0, "a").record(1, "a").record(2, "a").decide(0, again(5));
    let kept = bench
        .batch()
        .writes
        .iter()
        .map(|write| matches!(write.to, NewState::Open { keep_record: true, .. }))
        .collect::<Vec<_>>();
    assert_eq!(kept, [true, true, false]);
}

/// Each bound pauses when it is reached; half of it resumes, and of the parked
/// rows nine tenths, so that the client does not alternate.
#[test]
fn each_bound_pauses_and_half_of_it_resumes() {
    let wide = Bounds::default();
    let bounds = [
        Bounds { max_gap: 4, ..wide },
        Bounds { max_in_memory: 4, ..wide },
        Bounds { max_in_memory_bytes: 40, ..wide },
    ];
    for bounds in bounds {
        let mut bench = Bench::new(bounds, claim(0, &[], Vec::new()));
        bench.record(0, "a").record(1, "b").record(2, "c").says(&["run 2"]);
        bench.record(3, "d").says(&["run 3", "pause"]);
        bench.decide(0, AT_ONCE).written().says(&[]);
        bench.decide(1, AT_ONCE);
        assert!(bench.said.iter().any(|action| matches!(action, Action::Resume)), "{bounds:?}: {:?}", bench.said);
    }
    let mut bench =
        Bench::new(Bounds { max_parked: 10, ..wide }, claim(20, &[], (0..9).map(|at| row(at, "a")).collect()));
    bench.record(20, "a").says(&["pause", "write <21 20+committed"]);
    assert!(bench.machine.parked_full());
    bench.written().due(1).decide(0, AT_ONCE).says(&["rerun 1", "write <21 0handled"]);
    bench.decide(1, AT_ONCE).says(&["rerun 2", "resume"]);
}

#[test]
fn a_closed_gate_fetches_nothing_and_begins_nothing_new() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a").record(2, "b");
    bench.step(Event::Gate(Gate::Closed)).says(&["pause"]);
    assert_eq!(bench.machine.next_due(), None);
    bench.decide(0, AT_ONCE).says(&["write <2 0+handled 1+committed"]);
    bench.decide(2, pushed_back(500)).written().says(&["write <3 2+push_fail@500"]);
    bench.due(600).says(&[]);
    bench.step(Event::Gate(Gate::Open));
    // A delivery that could not run need not wait out its retry time.
    bench.says(&["rerun 1", "rerun 2", "resume"]);
}

#[test]
fn what_came_back_unrun_keeps_its_turn() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a");
    bench.step(Event::NotStarted { offset: Offset(0) }).says(&[]);
    bench.due(0).says(&["run 0"]);
    bench.decide(0, AT_ONCE).says(&["run 1", "write <1 0+handled"]);
}

#[test]
fn the_tightest_bounds_let_go_again() {
    let mut bench = Bench::new(tiny(), claim(0, &[], Vec::new()));
    bench.record(0, "a").says(&["run 0", "pause"]);
    bench.decide(0, AT_ONCE).says(&["write <1 0+handled", "resume"]);
}

/// A head's outcome that moved behind the rows of its followers let the next
/// owner begin with the followers.
#[test]
fn a_crash_between_batches_leaves_no_row_before_its_head() {
    let bounds = Bounds { max_batch: 2, ..Bounds::default() };
    let mut bench = Bench::new(bounds, claim(0, &[], Vec::new()));
    bench.record(0, "a").record(1, "a").record(2, "a").record(3, "b");
    bench.decide(3, AT_ONCE).says(&["write <0 3+handled"]);
    bench.decide(0, again(5)).due(5).says(&["rerun 0"]);
    bench.decide(0, AT_ONCE).says(&["rerun 1"]);
    bench.written().says(&["write <2 0+handle_fail@5 1+committed"]);
    bench.decide(1, AT_ONCE).says(&["rerun 2"]);
    bench.written().says(&["write <4 2+committed 0handled"]);
    bench.written().says(&["write <4 1handled"]);
}

#[test]
fn a_delivery_stands_in_a_batch_once() {
    let mut bench = Bench::empty();
    bench.record(0, "b").decide(0, AT_ONCE);
    bench.record(1, "a").record(2, "a");
    bench.decide(1, again(5)).due(5).decide(1, again(6)).due(6).decide(1, AT_ONCE);
    bench.written().says(&["write <3 1+handle_fail@5 2+committed"]);
    bench.written().says(&["write <3 1handled"]);
    assert_eq!(bench.batch().writes[0].details, ["first", "first"], "the second failure went with the success");
}

/// A rerun of an early delivery was requested in a lane whose head waits or is
/// held; afterwards the lane is as it was.
#[test]
fn a_lane_goes_back_to_waiting_after_what_was_asked() {
    let asked = OpenDelivery { due: Some(Timestamp(0)), ..row(3, "a") };
    let waits = OpenDelivery { due: Some(Timestamp(50)), state: State::HandleFail, ..row(5, "a") };
    let mut bench = Bench::new(Bounds::default(), claim(10, &[], vec![asked.clone(), waits]));
    bench.due(1).says(&["rerun 3"]);
    bench.decide(3, AT_ONCE).says(&["write <10 3handled"]);
    bench.written().due(49).says(&[]);
    bench.due(50).says(&["rerun 5"]);

    let held = OpenDelivery { held: true, ..row(5, "a") };
    let mut bench = Bench::new(Bounds::default(), claim(10, &[], vec![asked, held]));
    bench.due(1).says(&["rerun 3"]);
    bench.record(10, "a").says(&[]);
    bench.decide(3, AT_ONCE).says(&["write <11 3handled 10+committed"]);
}

/// The head was not started, and a delivery with a requested rerun is behind it:
/// a follower must not get a row before the head has one.
#[test]
fn a_head_in_memory_that_came_back_is_parked_before_its_followers() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], Vec::new()));
    bench.record(5, "a").says(&["run 5"]);
    bench.step(Event::RerunRequested(row(2, "a"))).says(&[]);
    bench.step(Event::NotStarted { offset: Offset(5) }).says(&[]);
    bench.record(6, "a").says(&["write <7 5+committed 6+committed"]);
    bench.due(0).says(&["rerun 5"]);
    bench.decide(5, AT_ONCE).says(&["rerun 2"]);
}

/// The rerun is requested while the outcome is written and its answer pending:
/// dropping the request would leave a row that nobody runs.
#[test]
fn a_request_that_meets_an_unanswered_outcome_waits_for_the_answer() {
    let mut bench = Bench::empty();
    bench.record(0, "a").decide(0, AT_ONCE).says(&["write <1 0+handled"]);
    bench.step(Event::RerunRequested(row(0, "a"))).says(&[]);
    bench.written().says(&["rerun 0"]);
    bench.step(Event::RowGone { offset: Offset(0) }).says(&[]);
    assert_eq!(bench.machine.parked(), 0, "the request was older than the outcome after all");
}

#[test]
fn a_request_changes_no_count_that_is_newer_than_its_row() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![row(2, "a")]));
    bench.due(0).says(&["rerun 2"]);
    bench.step(Bench::decided(2, again(90), 2, "second"));
    bench.step(Event::RerunRequested(row(2, "a")));
    let Action::Dispatch { attempts, .. } = bench.said[0] else { panic!("it runs now") };
    assert_eq!(attempts, tried(2));
}

#[test]
fn a_lane_of_one_record_is_found_by_who_asks() {
    let alone = |offset| LaneKey::Unkeyed(Offset(offset));
    let mut bench = Bench::empty();
    bench.step(Event::Record { offset: Offset(4), lane: alone(4), bytes: 10 }).says(&["run 4"]);
    bench.step(Event::RerunRequested(OpenDelivery { lane: alone(4), ..row(4, "") })).says(&[]);
    bench.decide(4, again(90));
    bench.step(Event::RerunRequested(OpenDelivery { lane: alone(4), ..row(4, "") })).says(&["rerun 4"]);
    assert_eq!(bench.machine.parked(), 1);
}

#[test]
fn a_request_for_what_never_came_is_a_newer_owners() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[8], Vec::new()));
    bench.step(Event::RerunRequested(row(7, "a"))).says(&[]);
    bench.step(Event::RerunRequested(row(8, "b"))).says(&["rerun 8"]);
}

/// The store found no row, and then a request made one.
#[test]
fn what_vanished_is_looked_for_again_when_it_was_asked_for_meanwhile() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], Vec::new()));
    bench.step(Event::RerunRequested(row(2, "a"))).says(&["rerun 2"]);
    bench.step(Event::RerunRequested(row(2, "a"))).says(&[]);
    bench.step(Event::RowGone { offset: Offset(2) }).says(&["rerun 2"]);
    bench.step(Event::RowGone { offset: Offset(2) }).says(&[]);
    assert_eq!(bench.machine.parked(), 0);
}

#[test]
fn a_row_that_stands_in_no_lane_is_unknown() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[6], vec![row(1, "a"), row(7, "b")]));
    bench.record(5, "c");
    let rows = [(1, "a"), (2, "a"), (3, "x"), (5, "c"), (7, "b"), (9, "z")];
    let unknown_rows = |bench: &mut Bench| {
        let rows: Vec<_> = rows.iter().map(|(offset, lane)| (Offset(*offset), key(lane))).collect();
        bench.machine.unknown_rows(&rows).iter().map(|offset| offset.0).collect::<Vec<_>>()
    };
    // 1 and 7 stand in lanes, 5 runs, and the record of 9 is still to come.
    assert_eq!(unknown_rows(&mut bench), [2, 3]);
    // A decided and unwritten delivery is known; a written one is not.
    bench.decide(5, AT_ONCE);
    assert_eq!(unknown_rows(&mut bench), [2, 3]);
    bench.written();
    assert_eq!(unknown_rows(&mut bench), [2, 3, 5]);
    bench.step(Event::Revoke);
    assert!(unknown_rows(&mut bench).is_empty(), "one that goes away judges nobody");
}
