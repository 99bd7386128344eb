//! All faults under one name.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::clock::Step;
use crate::disk::Disk;
use crate::drains::Drain;
use crate::kills::Phase;
use crate::network::Network;
use crate::partition::Partition;
use crate::power;
use crate::proxy::Weather;
use crate::scene::Scene;
use crate::stops;
use crate::track::Faults;

/// What happens to a scene in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill(Phase),
    Network(Network),
    Stop,
    Drain(Drain),
    Disk(Disk),
    PowerCut,
    Clock(Step),
    Partition(Partition),
}

/// What a fault left.
pub struct Aftermath {
    /// When the fault was over, or when the restart began.
    pub over: Instant,
    /// How often the daemon was killed.
    pub kills: usize,
    /// What was wrong in the archive before a restart.
    pub faults: Faults,
}

impl Fault {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill(phase) => phase.name(),
            Self::Network(network) => network.name(),
            Self::Stop => stops::NAME,
            Self::Drain(drain) => drain.name(),
            Self::Disk(disk) => disk.name(),
            Self::PowerCut => power::NAME,
            Self::Clock(step) => step.name(),
            Self::Partition(partition) => partition.name(),
        }
    }

    /// Lets this happen to `scene`, and asserts that it did. The daemon runs then.
    pub fn strike(self, scene: &mut Scene, rng: &mut StdRng) -> Aftermath {
        let over = match self {
            Self::Kill(phase) => return kill(phase, scene, rng),
            Self::Network(network) => network.strike(scene, rng),
            Self::Stop => stops::strike(scene, rng),
            Self::Drain(drain) => drain.strike(scene),
            Self::Disk(disk) => disk.strike(scene, rng),
            Self::PowerCut => power::strike(scene, rng),
            Self::Clock(step) => step.strike(scene, rng),
            Self::Partition(partition) => partition.strike(scene, rng),
        };
        Aftermath { over, kills: 0, faults: Faults::default() }
    }
}

/// The archive is read while no daemon runs: the next one must not have to mend it first.
fn kill(phase: Phase, scene: &mut Scene, rng: &mut StdRng) -> Aftermath {
    // Where there is a proxy, every second kill comes on a slow network.
    let delay = Duration::from_millis(if rng.random_bool(0.5) { rng.random_range(5..30) } else { 0 });
    scene.proxies.iter().for_each(|proxy| proxy.set(Weather { delay, ..Weather::default() }));
    let kills = phase.kill(scene, rng);
    let faults = scene.check_archive();
    let over = Instant::now();
    scene.restart();
    scene.proxies.iter().for_each(|proxy| proxy.set(Weather::default()));
    Aftermath { over, kills, faults }
}
