//! Reruns that people request while an attempt runs.

use super::*;

/// A request that met the last attempt was answered with 202 and then lost: the
/// attempt ended by the old count.
#[test]
fn what_fails_while_it_is_requested_runs_again_with_a_new_count() {
    for outcome in [Outcome::Failed { dead_letter: true }, Outcome::Held, again(90)] {
        let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![row(3, "a")]));
        bench.due(1).says(&["rerun 3"]);
        bench.step(Event::RerunRequested(row(3, "a"))).says(&[]);
        bench.step(Bench::decided(3, outcome, 10, "the last")).says(&["write <5 3handle_fail@1"]);
        assert_eq!(bench.batch().writes[0].attempts, Attempts { invoked: 10, used: 0 });
        bench.due(1);
        let Action::Dispatch { attempts, .. } = bench.said[0] else { panic!("it runs: {:?}", bench.said) };
        assert_eq!(attempts, Attempts { invoked: 10, used: 0 });
        bench.step(Bench::decided(3, Outcome::Failed { dead_letter: true }, 11, "no")).says(&[]);
        bench.written().says(&["write <5 3failed"]);
    }
}

#[test]
fn what_succeeds_while_it_is_requested_is_handled() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![row(3, "a")]));
    bench.due(1).step(Event::RerunRequested(row(3, "a")));
    bench.decide(3, AT_ONCE).says(&["write <5 3handled"]);
}

#[test]
fn a_giving_up_after_the_request_counts() {
    let mut bench = Bench::new(Bounds::default(), claim(5, &[], vec![row(3, "a")]));
    bench.due(1).step(Event::RerunRequested(row(3, "a")));
    bench.step(Event::RerunRequested(OpenDelivery { give_up: true, ..row(3, "a") }));
    bench.decide(3, Outcome::Failed { dead_letter: false }).says(&["write <5 3failed"]);
}
