//! Partitions that were added while keys are open in older ones.

use super::*;

/// The machine of a partition that was added while `lane` is open in an older
/// one.
fn behind(lane: &'static str, position: i64, open: Vec<OpenDelivery>) -> Bench {
    Bench::new(Bounds::default(), Claim { blocked: HashSet::from([key(lane)]), ..claim(position, &[], open) })
}

#[test]
fn a_key_that_is_open_in_an_older_partition_waits_and_the_others_go_on() {
    let mut bench = behind("a", 0, Vec::new());
    bench.record(0, "a").says(&["write <1 0+committed"]);
    bench.written().says(&[]);
    bench.record(1, "b").says(&["run 1"]);
    bench.record(2, "a").says(&["write <1 2+committed"]);
    bench.written().decide(1, AT_ONCE).says(&["write <3 1+handled"]);
    bench.written().due(1_000_000).says(&[]);
    // A requested rerun does not overtake either.
    bench.step(Event::RerunRequested(row(0, "a"))).says(&[]);
    bench.step(Event::Unblocked(key("a"))).says(&["rerun 0"]);
    bench.decide(0, AT_ONCE).says(&["rerun 2", "write <3 0handled"]);
}

#[test]
fn what_waits_for_an_older_partition_waits_on_under_the_next_owner() {
    let mut bench = behind("a", 2, vec![row(0, "a"), row(1, "b")]);
    bench.step(Event::Due).says(&["rerun 1"]);
    bench.record(2, "a").says(&["write <3 2+committed"]);
    bench.step(Event::Unblocked(key("b"))).says(&[]);
    bench.step(Event::Unblocked(key("a"))).says(&["rerun 0"]);
    // The key is no longer open, so a later record is like any other.
    bench.written().step(Bench::decided(0, AT_ONCE, 2, "second"));
    bench.written().step(Bench::decided(2, AT_ONCE, 2, "second"));
    bench.written().record(3, "a").says(&["run 3"]);
}
