//! A seeded simulation that looks for schedules in which a delivery is lost,
//! doubled or put out of its order.
//!
//! Several hosts own the machines of a few partitions by turns, with a virtual
//! clock, a model of the log and a model of the store. Hosts die, stand still
//! and come back late, Kafka moves partitions, the store goes away and loses
//! answers, people ask for deliveries, gates close. The machine is the one the
//! host runs. One seed is exactly one schedule, so a seed that found a fault is a
//! test from then on.
//!
//! Read `world` for the events, `owner` for the rules that are checked when an
//! attempt begins, and `store` for the rules of what is written.

use std::collections::BTreeMap;

mod bug;
pub(crate) mod chance;
mod faults;
mod kafka;
mod log;
mod owner;
mod profile;
mod store;
mod world;

use bug::Bug;
use profile::Profile;
use world::World;

/// A schedule that broke a rule.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) rule: String,
}

/// Lines of the trace that a failure prints.
const TRACE: usize = 80;

/// Runs the schedule of a seed; returns how many stale batches were refused.
fn run(seed: u64, bug: Option<Bug>) -> Result<u64, Failure> {
    let mut world = World::new(seed, bug, false);
    match world.run() {
        Ok(()) => Ok(world.shelves.iter().map(|shelf| shelf.stale).sum()),
        Err(rule) => Err(Failure { seed, step: world.steps, rule }),
    }
}

/// The schedule of a seed in a profile that is changed a little.
fn changed(seed: u64, bug: Option<Bug>, change: fn(&mut Profile), traced: bool) -> World {
    let mut world = World::new(seed, bug, traced);
    change(&mut world.profile);
    world
}

/// Runs the first schedules, each changed alike, and panics with one that fails.
fn run_changed(change: fn(&mut Profile)) {
    let (from, schedules) = (number("COURIER_SIM_SEED", 0), number("COURIER_SIM_SCHEDULES", 3_000));
    for seed in from..from + schedules {
        let mut world = changed(seed, None, change, false);
        if let Err(rule) = world.run() {
            let failure = Failure { seed, step: world.steps, rule };
            panic!("{}", trace_of(&failure, changed(seed, None, change, true)));
        }
    }
}

/// The end of a failed schedule, as it happened.
fn trace(failure: &Failure, bug: Option<Bug>) -> String {
    trace_of(failure, World::new(failure.seed, bug, true))
}

fn trace_of(failure: &Failure, mut world: World) -> String {
    let _ = world.run();
    let profile = format!("{:?}", world.profile);
    let lines = world.trace();
    let from = lines
        .len()
        .saturating_sub(std::env::var("COURIER_SIM_TRACE").ok().and_then(|lines| lines.parse().ok()).unwrap_or(TRACE));
    format!(
        "seed {} breaks a rule at step {}: {}\n{profile}\n{}",
        failure.seed,
        failure.step,
        failure.rule,
        lines[from..].join("\n")
    )
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// `COURIER_SIM_SCHEDULES` says how many, `COURIER_SIM_SEED` where to begin.
#[test]
#[allow(clippy::disallowed_methods, reason = "it says how many schedules a second there were")]
fn no_schedule_loses_doubles_or_reorders_a_delivery() {
    let (from, schedules) = (number("COURIER_SIM_SEED", 0), number("COURIER_SIM_SCHEDULES", 5_000));
    let begun = std::time::Instant::now();
    let mut stale = 0;
    // Broken rules without their numbers, each with how often it broke and one
    // failure.
    let mut broken: BTreeMap<String, (u64, Failure)> = BTreeMap::new();
    for seed in from..from + schedules {
        match run(seed, None) {
            Ok(refused) => stale += refused,
            Err(failure) => {
                let alike = failure
                    .rule
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .replace(|letter: char| letter.is_ascii_digit(), "");
                broken.entry(alike).or_insert((0, failure)).0 += 1;
            }
        }
    }
    println!("{schedules} schedules from seed {from} in {:?}; {stale} stale batches refused", begun.elapsed());
    for (times, failure) in broken.values() {
        println!("{times} times, as in seed {} at step {}: {}", failure.seed, failure.step, failure.rule);
    }
    if let Some((_, failure)) = broken.values().min_by_key(|(_, failure)| failure.step) {
        panic!("{}", trace(failure, None));
    }
}

/// Positions are moved back and forth under live owners: only skipped
/// deliveries are lost, and none is recorded twice.
#[test]
fn no_seek_loses_or_doubles_a_delivery() {
    run_changed(|profile| profile.seeks = true);
}

/// Partitions were added to a topic in which keys are open: no record of such a
/// key runs while its key is open, and each runs afterwards.
#[test]
fn no_key_of_an_older_partition_is_overtaken() {
    run_changed(|profile| profile.added = true);
}

/// Open deliveries are given up in every state: each ends in its lane's turn,
/// and its lane goes on.
#[test]
fn no_delivery_that_is_given_up_reorders_or_holds_up_its_lane() {
    run_changed(|profile| profile.give_ups = true);
}

/// Gates that closed are probed: one waiting delivery of a partition at a time, until
/// one succeeds, and no partition waits for a probe that nobody makes.
#[test]
fn no_probe_of_a_gate_lets_others_start_or_leaves_it_closed() {
    run_changed(|profile| {
        profile.probes = true;
        profile.give_ups = profile.keys % 2 == 0;
        (profile.weights[4], profile.unavailable) = (8, 8);
    });
}

/// A large batch is written in pieces, a refused one in halves, and hosts die
/// and are fenced between two of them.
#[test]
fn no_batch_that_is_written_in_pieces_loses_or_doubles_a_delivery() {
    let in_pieces: fn(&mut Profile) = |profile| profile.pieces = true;
    run_changed(in_pieces);
    let bug = Some(Bug::PositionWithFirstPiece);
    let found = (0..100).any(|seed| changed(seed, bug, in_pieces, false).run().is_err());
    assert!(found, "the harness sees a position that moves too early");
}

/// Each planted fault of the harness is found within 20,000 schedules, so the
/// checks are able to find faults.
#[test]
#[allow(clippy::disallowed_methods, reason = "it says how many schedules a second there were")]
fn each_planted_bug_is_found() {
    const MOST: u64 = 20_000;
    let bugs =
        [Bug::CommitBeforeSettle, Bug::NoEpochCheck, Bug::LaneDrainedTwice, Bug::ParkedHeadLost, Bug::PositionTooFar];
    for bug in bugs {
        let begun = std::time::Instant::now();
        let found = (0..MOST).find_map(|seed| run(seed, Some(bug)).err());
        let Some(Failure { seed, step, rule }) = found else { panic!("{bug:?} is not found in {MOST} schedules") };
        println!("{bug:?}: seed {seed}, step {step}, after {:?}: {rule}", begun.elapsed());
        assert!(run(seed, None).is_ok(), "seed {seed} must fail for {bug:?} only");
    }
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 0..20 {
        let traces = [(); 2].map(|()| {
            let mut world = World::new(seed, None, true);
            let _ = world.run();
            world.trace()
        });
        assert_eq!(traces[0], traces[1]);
    }
}

/// Seeds that found a fault of the machine, each with the fault.
/// `partition/tests.rs` has each of these faults as a few events.
#[test]
fn seeds_that_found_something_stay_quiet() {
    let found = [
        (3, "the tightest bounds never let go again"),
        (27, "a head's outcome moved past the rows of its followers"),
        (727, "a head was dispatched before its retry was due"),
        (533, "a request was dropped as overtaken, and its row waited for ever"),
        (30_006, "a follower got a row before a head that came back unrun"),
        (30_343, "a stale owner ran a record twice, once for who asked and once when it came"),
        (82_573, "a stale owner ran a row that a newer one had made"),
        (45_972, "a row that was asked for while it seemed gone was not looked for again"),
    ];
    for (seed, what) in found {
        if let Err(failure) = run(seed, None) {
            panic!("{what}: {}", trace(&failure, None));
        }
    }
}
