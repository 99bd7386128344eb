//! The short forms: each fault a few times.

use std::sync::Arc;

use crate::campaign::{self, seeded};
use crate::clock::STEPS;
use crate::disk::DISKS;
use crate::drains::Drain;
use crate::fault::Fault;
use crate::figures::Figures;
use crate::kills::PHASES;
use crate::netns::Namespace;
use crate::network::NETWORKS;
use crate::partition::PARTITIONS;
use crate::power;
use crate::scene::Scene;
use crate::setup::{Setup, segments};
use crate::shim::{Field, Shim};
use crate::support::not_tested;

/// Lets each of `faults` happen once on one archive, in random order.
fn once_each(name: &str, setup: Setup, mut faults: Vec<Fault>) {
    let (mut rng, mut figures) = (seeded(name), Figures::of_this_run());
    campaign::shuffle(&mut faults, &mut rng);
    let mut scene = Scene::start(setup);
    for fault in faults {
        campaign::round(fault, "", &mut scene, &mut rng, &mut figures);
    }
    let faults = scene.finish();
    assert!(faults.is_none(), "{faults:#?}");
    println!("{}", figures.table());
}

/// A library to preload, or none where it cannot be built.
pub fn shim(what: &str) -> Option<Arc<Shim>> {
    match Shim::build() {
        Ok(shim) => Some(Arc::new(shim)),
        Err(error) => {
            not_tested(format_args!("{what}: no library to preload: {error}"));
            None
        }
    }
}

/// A network namespace, or none where there can be none.
pub fn namespace() -> Option<Arc<Namespace>> {
    match Namespace::new() {
        Ok(namespace) => Some(Arc::new(namespace)),
        Err(error) => {
            not_tested(format_args!("partitions between network namespaces: {error}"));
            None
        }
    }
}

#[test]
fn a_kill_in_each_phase_loses_nothing_that_was_acknowledged() {
    let setup =
        Setup { archive: campaign::RETENTION, shim: shim("kills while a disk is slow"), ..Setup::default() };
    once_each("kills", setup, PHASES.map(Fault::Kill).into());
}

#[test]
fn a_broken_network_loses_nothing_and_heals_by_itself() {
    let setup = Setup { is_proxied: true, ..Setup::default() };
    let mut faults: Vec<_> = NETWORKS.map(Fault::Network).into();
    faults.push(Fault::Drain(Drain::CutOff));
    once_each("network", setup, faults);
}

#[test]
fn a_daemon_that_stood_still_or_was_restarted_goes_on_without_loss() {
    once_each("stops", Setup::default(), vec![Fault::Stop, Fault::Stop, Fault::Drain(Drain::Loaded)]);
}

#[test]
fn a_disk_that_stalls_or_fails_loses_nothing_that_was_acknowledged() {
    let Some(shim) = shim("disks that stall or fail") else { return };
    let mut faults: Vec<_> = DISKS.map(Fault::Disk).into();
    faults.extend([Fault::Drain(Drain::Stalled), Fault::PowerCut, Fault::PowerCut, Fault::PowerCut]);
    let archive = power::a_way_to_write(&mut seeded("way to write"));
    once_each("disk", Setup { archive, shim: Some(shim), ..Setup::default() }, faults);
}

#[test]
fn steps_of_the_wall_clock_end_no_connection_and_lose_nothing() {
    let Some(shim) = shim("steps of the wall clock") else { return };
    let setup = Setup { archive: "retention_age = \"1h\"", shim: Some(shim), ..Setup::default() };
    once_each("clock", setup, STEPS.map(Fault::Clock).into());
}

#[test]
fn partitions_lose_nothing_and_heal_by_themselves() {
    let Some(namespace) = namespace() else { return };
    let setup = Setup { namespace: Some(namespace), ..Setup::default() };
    once_each("partitions", setup, PARTITIONS.map(Fault::Partition).into());
}

/// The checks of this test find a loss: here the end of the log is cut off by hand.
#[test]
fn a_log_that_has_lost_its_end_is_found_out() {
    let mut scene = Scene::start(Setup::default());
    assert!(scene.check_archive().is_none());
    scene.recovered(std::time::Instant::now());
    scene.kill();
    let dir = scene.archive_dir();
    let newest = dir.join(segments(&dir).pop().expect("a segment"));
    let file = std::fs::File::options().write(true).open(newest).expect("the segment");
    file.set_len(64 << 10).expect("a shorter segment");
    let faults = scene.check_archive();
    assert!(faults.lost > 0 && faults.doubled + faults.wrong == 0, "{faults:?}");
}

/// Like the test before, by a disk whose syncs do nothing.
#[test]
fn acknowledgements_before_a_sync_are_found_out() {
    let Some(shim) = shim("a disk that lies") else { return };
    let mut scene = Scene::start(Setup { shim: Some(shim), ..Setup::default() });
    scene.shim().set(Field::Lie, 1);
    power::cut(&mut scene, 1.0, &mut seeded("lies"));
    let faults = scene.check_archive();
    assert!(faults.lost > 0 && faults.doubled + faults.wrong == 0, "{faults:?}");
}
