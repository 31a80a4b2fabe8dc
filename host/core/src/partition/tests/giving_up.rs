//! Open deliveries that a person gives up.

use super::*;

fn given_up(offset: i64, lane: &'static str) -> OpenDelivery {
    OpenDelivery { give_up: true, state: State::HandleFail, ..row(offset, lane) }
}

const GIVEN_UP: Outcome = Outcome::Failed { dead_letter: false };

#[test]
fn a_held_head_that_is_given_up_lets_its_lane_go_on() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a");
    bench.decide(0, Outcome::Held);
    bench.written();
    bench.step(Event::RerunRequested(OpenDelivery { held: true, ..given_up(0, "a") })).says(&["give up 0"]);
    bench.step(Bench::decided(0, GIVEN_UP, 1, "given up")).says(&["rerun 1", "write <2 0failed"]);
}

#[test]
fn a_head_that_waits_is_given_up_before_its_time_and_behind_a_closed_gate() {
    let mut bench = Bench::empty();
    bench.record(0, "a");
    bench.decide(0, again(50));
    bench.written();
    bench.step(Event::Gate(Gate::Closed)).says(&["pause"]);
    bench
        .step(Event::RerunRequested(OpenDelivery { due: Some(Timestamp(50)), ..given_up(0, "a") }))
        .says(&["give up 0"]);
    bench.step(Bench::decided(0, GIVEN_UP, 1, "given up")).says(&["write <1 0failed"]);
}

#[test]
fn a_follower_that_is_given_up_has_its_turn_first() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a").record(2, "a");
    bench.decide(0, again(50));
    bench.written();
    bench.step(Event::RerunRequested(OpenDelivery { give_up: true, ..row(1, "a") })).says(&[]);
    bench.due(50).says(&["rerun 0"]);
    bench.step(Bench::decided(0, AT_ONCE, 2, "second")).says(&["give up 1", "write <3 0handled"]);
    bench.written();
    bench.step(Bench::decided(1, GIVEN_UP, 0, "given up")).says(&["rerun 2", "write <3 1failed"]);
}

#[test]
fn a_mark_that_comes_while_it_runs_waits_for_the_outcome() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![row(3, "a")]));
    bench.due(1).says(&["rerun 3"]);
    bench.step(Event::RerunRequested(given_up(3, "a"))).says(&[]);
    bench.step(Bench::decided(3, again(90), 2, "second")).says(&["give up 3", "write <5 3handle_fail@90"]);
    bench.step(Bench::decided(3, GIVEN_UP, 2, "given up")).says(&[]);
    bench.written().says(&["write <5 3failed"]);
}

#[test]
fn the_next_owner_finds_the_mark() {
    let held = OpenDelivery { held: true, ..given_up(3, "a") };
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![held, row(4, "a")]));
    bench.due(1).says(&["give up 3"]);
    bench.step(Bench::decided(3, GIVEN_UP, 1, "given up")).says(&["rerun 4", "write <5 3failed"]);
}

#[test]
fn who_asks_for_what_was_given_up_has_it_run() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "a");
    bench.decide(0, again(50));
    bench.written();
    bench.step(Event::RerunRequested(OpenDelivery { give_up: true, ..row(1, "a") })).says(&[]);
    bench.step(Event::RerunRequested(row(1, "a"))).says(&[]);
    bench.due(50).says(&["rerun 0"]);
    bench.step(Bench::decided(0, AT_ONCE, 2, "second")).says(&["rerun 1", "write <2 0handled"]);
}
