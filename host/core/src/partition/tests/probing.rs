//! A gate that is probed.

use super::*;

const PROBE: Event<&str> = Event::Gate(Gate::Probe);
const CLOSED: Event<&str> = Event::Gate(Gate::Closed);

fn parked(offset: i64, lane: &'static str, state: State, due: i64) -> OpenDelivery {
    OpenDelivery { state, due: Some(Timestamp(due)), ..row(offset, lane) }
}

/// Rows that could not run and wait for a time that has not come, behind a closed gate.
fn outage() -> Bench {
    let rows = [(0, "a", 500), (1, "b", 400), (2, "c", 600)];
    let rows = rows.map(|(offset, lane, due)| parked(offset, lane, State::PushFail, due));
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], rows.to_vec()));
    bench.step(CLOSED).says(&["pause"]);
    bench
}

/// Each probe of an outage of an hour dispatched every parked delivery and fetched more.
#[test]
fn one_waiting_head_probes_and_nothing_is_fetched() {
    let mut bench = outage();
    bench.step(PROBE).says(&["rerun 1"]);
    bench.due(700).says(&[]);
    bench.step(CLOSED).says(&[]);
    bench.decide(1, pushed_back(900)).says(&["write <5 1push_fail@900"]);
    bench.written().step(PROBE).says(&["rerun 0"]);
    bench.step(PROBE).says(&[]);
    bench.step(Event::Gate(Gate::Open)).says(&["rerun 1", "rerun 2", "resume"]);
}

#[test]
fn a_probe_that_says_nothing_is_followed_by_another() {
    let mut bench = outage();
    bench.step(PROBE).says(&["rerun 1"]);
    bench.decide(1, pushed_back(900)).says(&["rerun 0", "write <5 1push_fail@900"]);
    bench.step(Event::RowGone { offset: Offset(0) }).says(&["rerun 2"]);
    bench.written();
    bench.step(Event::RerunRequested(OpenDelivery { give_up: true, ..row(2, "c") })).says(&[]);
    bench.step(Event::NotStarted { offset: Offset(2) }).says(&["give up 2", "rerun 1"]);
}

#[test]
fn a_partition_without_a_waiting_head_probes_with_a_new_record() {
    let waits = parked(0, "a", State::HandleFail, 500);
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![waits]));
    bench.step(CLOSED).says(&["pause"]);
    bench.step(PROBE).says(&["resume"]);
    assert_eq!(bench.machine.next_due(), Some(Timestamp(500)));
    bench.record(5, "b").says(&["run 5", "pause"]);
    bench.due(500).says(&[]);
    bench.decide(5, pushed_back(900)).says(&["rerun 0", "write <6 5+push_fail@900"]);
}

/// One message that always said so kept its binding closed for ever: it was the only one
/// that waited, and nothing else was fetched.
#[test]
fn what_probes_again_alone_probes_beside_a_new_record() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![parked(0, "a", State::PushFail, 500)]));
    bench.step(CLOSED).says(&["pause"]);
    bench.step(PROBE).says(&["rerun 0"]);
    bench.step(CLOSED).decide(0, pushed_back(900)).written();
    bench.step(PROBE).says(&["rerun 0", "resume"]);
    bench.record(5, "b").says(&["run 5", "pause"]);
    bench.step(CLOSED).decide(0, pushed_back(1_300)).written();
    bench.decide(5, pushed_back(1_000)).written();
    bench.step(PROBE).says(&["rerun 5"]);
}

#[test]
fn a_probe_that_does_not_come_back_is_not_waited_for() {
    let mut bench = outage();
    bench.step(PROBE).says(&["rerun 1"]);
    let next = bench.machine.next_due().expect("it is looked after");
    bench.due(next.0 - 1).says(&[]);
    bench.due(next.0).says(&["rerun 0"]);
    bench.due(next.0 * 2).says(&["rerun 2"]);
    bench.due(next.0 * 3).says(&["resume"]);
}

#[test]
fn a_lane_that_goes_on_while_its_gate_is_probed_waits() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a").record(2, "b");
    bench.step(CLOSED).step(PROBE).says(&["resume"]);
    bench.decide(0, AT_ONCE).says(&["rerun 1", "pause", "write <2 0+handled 1+committed"]);
    bench.written();
    bench.step(Event::Unblocked(key("x"))).says(&[]);
}
