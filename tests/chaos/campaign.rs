//! Rounds of faults on one archive, one after the other.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::fault::Fault;
use crate::figures::{Figures, Round};
use crate::scene::{Scene, pass};
use crate::track::Faults;

/// Retention keeps more than one round writes, so that each round can check what it wrote.
pub const RETENTION: &str = "retention_size = \"96 MiB\"";

/// Longest time of an undisturbed life before a fault.
const LIFE_MS_MAX: u64 = 800;

/// A generator whose seed is printed, and can be given as `CHAOS_SEED`.
pub fn seeded(name: &str) -> StdRng {
    let given = std::env::var("CHAOS_SEED").ok().map(|seed| seed.parse().expect("CHAOS_SEED is a number"));
    let seed = given.unwrap_or_else(rand::random);
    println!("{name}: CHAOS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub fn shuffle(faults: &mut [Fault], rng: &mut StdRng) {
    for last in (1..faults.len()).rev() {
        faults.swap(last, rng.random_range(0..=last));
    }
}

/// Lets `fault` happen to `scene`, waits for the recovery, and checks everything.
pub fn round(fault: Fault, prefix: &str, scene: &mut Scene, rng: &mut StdRng, figures: &mut Figures) {
    let began = Instant::now();
    pass(Duration::from_millis(rng.random_range(0..LIFE_MS_MAX)));
    let mut aftermath = fault.strike(scene, rng);
    let recovery = scene.recovered(aftermath.over);
    let found = scene.check_archive();
    aftermath.faults.add(&found);
    scene.check_books();
    let name = format!("{prefix}{}", fault.name());
    figures.add(&Round {
        fault: &name,
        acked: scene.newly_acked(),
        recovery: Some(recovery),
        elapsed: began.elapsed(),
        faults: &aftermath.faults,
    });
    // A round may have several kills, with no life between them.
    for _ in 1..aftermath.kills {
        figures.add(&Round {
            fault: &name,
            acked: 0,
            recovery: None,
            elapsed: Duration::ZERO,
            faults: &Faults::default(),
        });
    }
    assert!(aftermath.faults.is_none(), "{:#?}", aftermath.faults);
}
