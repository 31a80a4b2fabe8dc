//! How far the position may move, and when it is written.

use super::*;

#[test]
fn the_position_passes_nothing_undecided() {
    let mut bench = Bench::empty();
    bench.record(0, "a").record(1, "b").record(7, "c");
    bench.decide(1, AT_ONCE).says(&["write <0 1+handled"]);
    bench.decide(7, AT_ONCE).decide(0, again(90));
    bench.written().says(&["write <8 7+handled 0+handle_fail@90"]);
    bench.step(Event::Skipped { offset: Offset(8) }).step(Event::End { next: Offset(12) });
    bench.written();
    bench.said.clear();
    bench.machine.flush_position(&mut bench.said);
    bench.says(&["write <12 "]);
    bench.written();
    assert!(!bench.machine.is_position_unwritten());
}

/// The next owner read again what this one had skipped, and retention took it for lost.
#[test]
fn a_revoked_machine_writes_its_position() {
    let mut bench = Bench::empty();
    bench.step(Event::Skipped { offset: Offset(0) }).step(Event::End { next: Offset(9) }).says(&[]);
    bench.step(Event::Revoke).says(&["write <9 "]);
    bench.written().says(&["Drained"]);
}
