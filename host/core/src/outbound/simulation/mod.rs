//! A seeded simulation that looks for schedules in which an outbound row is
//! lost, dropped silently, or overtakes another of its key.
//!
//! Two hosts drive the machine of one shard by turns. Topics are deleted, made
//! anew with other counts of partitions, grown and given other limits; brokers
//! forget producers; requests and answers are lost and reordered; hosts freeze
//! past their leases and die; the store fails to answer.

use crate::simulation::{Failure, number};

mod kafka;
mod world;

use world::World;

/// The identity of a message: equal ids of two sources are two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: usize,
    source: i64,
}

/// Faults that the harness makes on purpose, to show that its checks see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    BelievesSuccessWithoutOffset,
    DeletedAfterTries,
    SeveralInFlightBeforeTheFirst,
    ChoiceKeptOverARecreation,
    ResentBeforeARowAhead,
    RowSkippedOnNull,
    LeaseCheckedOnlyAtTheStart,
    IdentityByIdAlone,
    BatchRefusalBelieved,
    SentBehindAFailure,
    TakenBesideItsKey,
    SearchBegunAnew,
}

fn run(seed: u64, bug: Option<Bug>) -> Result<(), Failure> {
    World::new(seed, bug).run().map_err(|rule| Failure { seed, step: 0, rule })
}

/// `COURIER_SIM_SCHEDULES` says how many, `COURIER_SIM_SEED` where to begin.
#[test]
fn no_schedule_loses_drops_or_reorders_a_debt() {
    let (from, schedules) = (number("COURIER_SIM_SEED", 0), number("COURIER_SIM_SCHEDULES", 3_000));
    let failures: Vec<Failure> = (from..from + schedules).filter_map(|seed| run(seed, None).err()).collect();
    if let Some(failure) = failures.first() {
        panic!(
            "{} of {schedules} schedules broke a rule, seed {} first: {}",
            failures.len(),
            failure.seed,
            failure.rule
        );
    }
}

#[test]
fn planted_bugs_of_the_way_out_are_found() {
    for bug in [
        Bug::BelievesSuccessWithoutOffset,
        Bug::DeletedAfterTries,
        Bug::SeveralInFlightBeforeTheFirst,
        Bug::ChoiceKeptOverARecreation,
        Bug::ResentBeforeARowAhead,
        Bug::RowSkippedOnNull,
        Bug::LeaseCheckedOnlyAtTheStart,
        Bug::IdentityByIdAlone,
        Bug::BatchRefusalBelieved,
        Bug::SentBehindAFailure,
        Bug::TakenBesideItsKey,
        Bug::SearchBegunAnew,
    ] {
        // Only a schedule that is right without the bug shows the bug.
        let found = (0..20_000).find_map(|seed| run(seed, Some(bug)).err().filter(|_| run(seed, None).is_ok()));
        let Some(failure) = found else { panic!("{bug:?} was not found") };
        println!("{bug:?}: seed {}: {}", failure.seed, failure.rule);
    }
}
