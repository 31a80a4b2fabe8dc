//! Replays the corpus, and mutations of it, with the ordinary test build.
//!
//! Mutations follow a fixed seed, so that every run is the same and its findings can
//! be reproduced. `COURIER_FUZZ_SECONDS` makes a run go on for that long with a random
//! seed, which it prints.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{TARGETS, Target};

/// The folder with the corpus of each target.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus");
/// Mutations of a corpus in a usual run.
const MUTATIONS: u64 = 3_000;
/// The longest input that a mutation makes.
const MAX_BYTES: usize = 16 * 1024;
/// Most mutations of one input, applied one after another.
const MAX_STEPS: u64 = 6;
/// The environment variable with the length of a run, in seconds.
const SECONDS: &str = "COURIER_FUZZ_SECONDS";
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }
}

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(CORPUS).join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let inputs: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!inputs.is_empty(), "{} has no seeds", folder.display());
    inputs
}

/// Changes an input: flips a bit, sets or inserts a byte, removes or repeats a run of
/// bytes, inserts a piece of another input, or replaces a run by an extreme number.
fn mutate(input: &mut Vec<u8>, all: &[Vec<u8>], random: &mut Random) {
    const NUMBERS: [&[u8]; 6] =
        [b"0", b"-1", b"9223372036854775807", b"18446744073709551616", b"\xff\xff\xff\xff", b"1e999"];
    let at = random.below(input.len() + 1);
    let run = 1 + random.below(16);
    let end = (at + run).min(input.len());
    match random.below(7) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            for _ in 0..=random.below(8) {
                input.splice(at..at, piece.iter().copied());
            }
        }
        4 => {
            let other = &all[random.below(all.len())];
            let from = random.below(other.len() + 1);
            let to = (from + 1 + random.below(64)).min(other.len());
            input.splice(at..at, other[from..to].iter().copied());
        }
        5 => drop(input.splice(at..end, NUMBERS[random.below(NUMBERS.len())].iter().copied())),
        _ => input.insert(at, random.next() as u8),
    }
    input.truncate(MAX_BYTES);
}

/// Runs a target on its corpus and on mutations of it. Returns the number of mutations.
fn run(name: &str, target: Target) -> u64 {
    let inputs = corpus(name);
    for input in &inputs {
        target(input);
    }
    let lasting = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let seed = lasting.map_or(SEED, |_| SEED ^ uuid::Uuid::now_v7().as_u64_pair().1);
    let mut random = Random(seed);
    let begun = Instant::now();
    let mut count = 0;
    while lasting.map_or(count < MUTATIONS, |lasting| begun.elapsed() < lasting) {
        let mut input = inputs[random.below(inputs.len())].clone();
        for _ in 0..=random.next() % MAX_STEPS {
            mutate(&mut input, &inputs, &mut random);
        }
        let found = std::panic::catch_unwind(|| target(&input));
        assert!(found.is_ok(), "{name}: seed {seed:#x}, mutation {count}: {:?}", String::from_utf8_lossy(&input));
        count += 1;
    }
    if lasting.is_some() {
        println!("{name}: {count} mutations of {} seeds in {:?}, seed {seed:#x}", inputs.len(), begun.elapsed());
    }
    count
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                let (name, target) = TARGETS.into_iter().find(|(name, _)| *name == stringify!($target)).unwrap();
                assert!(run(name, target) > 0);
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

replayed!(upload configuration structured_event binary_event record cursor check_url);
