//! The long forms: 1,000 kills, 300 power cuts, and an hour of mixed faults. They print figures for each round and keep the totals, so
//! that they can be interrupted and go on. `docs/reliability.md` has the commands.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::campaign::{self, seeded};
use crate::clock::STEPS;
use crate::disk::DISKS;
use crate::drains::Drain;
use crate::fault::Fault;
use crate::figures::Figures;
use crate::kills::{PHASES, Phase};
use crate::network::NETWORKS;
use crate::partition::PARTITIONS;
use crate::power;
use crate::scene::Scene;
use crate::setup::Setup;
use crate::short::{namespace, shim};

/// Rounds on one archive. Then everything is checked from its first offset on, and the next archive begins.
const ROUNDS: usize = 40;
/// Marks the rounds of the mixed form in the table of figures.
const MIXED: &str = "mixed; ";

/// What a variable of the environment asks for.
fn goal(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |goal| goal.parse().expect("a number"))
}

/// Lets `faults` happen to a new scene, in random order, until `is_over`.
fn campaign(
    setup: Setup,
    mut faults: Vec<Fault>,
    prefix: &str,
    rng: &mut StdRng,
    figures: &mut Figures,
    is_over: impl Fn(&Figures) -> bool,
) {
    campaign::shuffle(&mut faults, rng);
    let mut scene = Scene::start(setup);
    for fault in faults.into_iter().cycle().take(ROUNDS) {
        if is_over(figures) {
            break;
        }
        campaign::round(fault, prefix, &mut scene, rng, figures);
    }
    let faults = scene.finish();
    assert!(faults.is_none(), "{faults:#?}");
}

/// The phases of a kill. Only an archive with retention has all of them.
fn kills(has_retention: bool) -> Vec<Fault> {
    PHASES.into_iter().filter(|phase| has_retention || *phase != Phase::Retention).map(Fault::Kill).collect()
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn thousand_kills() {
    let goal = goal("CHAOS_KILLS", 1_000);
    let (mut rng, mut figures) = (seeded("kills"), Figures::of_all_sittings());
    let is_over = |figures: &Figures| figures.rounds("kill -9") >= goal;
    while !is_over(&figures) {
        let has_retention = rng.random_bool(0.5);
        let archive = if has_retention { campaign::RETENTION } else { "" };
        let shim = shim("kills while a disk is slow");
        let setup = Setup { archive, shim, ..Setup::default() };
        campaign(setup, kills(has_retention), "", &mut rng, &mut figures, is_over);
    }
    println!("{}", figures.table());
}

#[test]
#[ignore = "takes ten minutes"]
fn three_hundred_power_cuts() {
    let goal = goal("CHAOS_POWER_CUTS", 300);
    let (mut rng, mut figures) = (seeded("power cuts"), Figures::of_all_sittings());
    let is_over = |figures: &Figures| figures.rounds(power::NAME) >= goal;
    while !is_over(&figures) {
        let Some(shim) = shim("power cuts") else { return };
        let setup = Setup { archive: power::a_way_to_write(&mut rng), shim: Some(shim), ..Setup::default() };
        campaign(setup, vec![Fault::PowerCut], "", &mut rng, &mut figures, is_over);
    }
    println!("{}", figures.table());
}

#[test]
#[ignore = "takes an hour"]
fn an_hour_of_mixed_faults() {
    let goal = goal("CHAOS_SECONDS", 3_600) as f64;
    let (mut rng, mut figures) = (seeded("mixed"), Figures::of_all_sittings());
    let is_over = |figures: &Figures| figures.seconds(MIXED) >= goal;
    let started = Instant::now();
    while !is_over(&figures) {
        let (setup, faults) = mixed(&mut rng);
        campaign(setup, faults, MIXED, &mut rng, &mut figures, is_over);
        println!("{:.0} of {goal} s in all sittings", figures.seconds(MIXED));
    }
    println!("{}\nthis sitting took {:?}", figures.table(), Duration::from_secs(started.elapsed().as_secs()));
}

/// A scene for mixed faults, and the faults that it can have: partitions in one of four, else all others.
fn mixed(rng: &mut StdRng) -> (Setup, Vec<Fault>) {
    let mut faults = kills(false);
    faults.extend([Fault::Stop, Fault::Drain(Drain::Loaded)]);
    if rng.random_bool(0.25)
        && let Some(namespace) = namespace()
    {
        faults.extend(PARTITIONS.into_iter().cycle().take(9).map(Fault::Partition));
        return (Setup { namespace: Some(namespace), ..Setup::default() }, faults);
    }
    faults.extend(NETWORKS.map(Fault::Network));
    faults.push(Fault::Drain(Drain::CutOff));
    let shim = shim("disks that stall or fail, and clocks that step");
    if shim.is_some() {
        faults.extend(DISKS.map(Fault::Disk));
        faults.extend(STEPS.map(Fault::Clock));
        faults.extend([Fault::Drain(Drain::Stalled), Fault::PowerCut, Fault::PowerCut]);
    }
    (Setup { archive: power::a_way_to_write(rng), is_proxied: true, shim, ..Setup::default() }, faults)
}
