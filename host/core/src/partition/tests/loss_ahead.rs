//! Open rows whose records only Kafka has, and is about to remove.

use super::*;

#[test]
fn a_partition_that_will_lose_parked_records_pauses_until_that_is_over() {
    let mut bench = Bench::empty();
    bench.step(Event::LossAhead(true)).says(&["pause"]);
    bench.step(Event::LossAhead(true)).says(&[]);
    bench.record(0, "a").says(&["run 0"]);
    bench.decide(0, AT_ONCE).says(&["write <1 0+handled"]);
    bench.written().step(Event::LossAhead(false)).says(&["resume"]);
}

#[test]
fn the_rows_are_counted_of_which_only_kafka_has_the_record() {
    let bare = OpenDelivery { bytes: 0, ..row(1, "b") };
    let bounds = Bounds { max_parked_bytes: 25, ..Bounds::default() };
    let mut bench = Bench::new(bounds, claim(2, &[], vec![row(0, "b"), bare]));
    assert_eq!(bench.machine.parked_bare(), 1);
    bench.step(Event::Due).says(&["rerun 0"]);
    bench.record(2, "b").says(&[]);
    bench.record(3, "b").says(&[]);
    // Another row keeps its record; then the bound is reached.
    bench.decide(0, again(90));
    assert_eq!((bench.machine.parked(), bench.machine.parked_bare()), (4, 2));
    bench.written().due(90).says(&["rerun 0"]);
    bench.step(Bench::decided(0, AT_ONCE, 2, "second"));
    assert_eq!(bench.machine.parked_bare(), 2, "it had its record");
    bench.written().step(Bench::decided(1, AT_ONCE, 2, "second"));
    assert_eq!((bench.machine.parked(), bench.machine.parked_bare()), (2, 1));
}
