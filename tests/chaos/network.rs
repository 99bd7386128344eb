//! Faults of the network, by the proxy in front of the daemon.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::proxy::{Cut, DOWN, Proxy, UP, Weather};
use crate::scene::{Scene, pass};
use crate::session::HEARTBEAT;

/// What happens to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Slow,
    Narrow,
    Stall,
    LongStall,
    Fin,
    Reset,
    SwallowUp,
    SwallowDown,
    HalfOpen,
}

pub const NETWORKS: [Network; 9] = [
    Network::Slow,
    Network::Narrow,
    Network::Stall,
    Network::LongStall,
    Network::Fin,
    Network::Reset,
    Network::SwallowUp,
    Network::SwallowDown,
    Network::HalfOpen,
];

impl Network {
    /// The name in the table of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "network: 20 to 100 ms for each piece",
            Self::Narrow => "network: 20 kB/s for each connection",
            Self::Stall => "network: a stall of less than 3 heartbeats",
            Self::LongStall => "network: a stall of more than 3 heartbeats",
            Self::Fin => "network: all connections end, 1 to 5 times",
            Self::Reset => "network: all connections are reset, 1 to 5 times",
            Self::SwallowUp => "network: nothing reaches the daemon",
            Self::SwallowDown => "network: nothing reaches the clients",
            Self::HalfOpen => "network: clients vanish, the daemon gets no error",
        }
    }

    /// Lets this happen to `scene`, and asserts that it did. Returns when it was over.
    pub fn strike(self, scene: &mut Scene, rng: &mut StdRng) -> Instant {
        match self {
            Self::Slow => {
                let delay = ms(rng, 20, 100);
                hold(scene, Weather { delay, ..Weather::default() }, ms(rng, 800, 2_000));
            }
            Self::Narrow => {
                let narrow = Weather { bytes_per_s: Some(20_000), ..Weather::default() };
                hold(scene, narrow, ms(rng, 800, 2_000));
            }
            Self::Stall => {
                let ways = [[true, false], [false, true], [true, true]];
                let is_stalled = ways[rng.random_range(0..ways.len())];
                hold(scene, Weather { is_stalled, ..Weather::default() }, ms(rng, 300, 2_000));
            }
            Self::LongStall => {
                let before = scene.welcomes();
                let stall = Weather { is_stalled: [true; 2], ..Weather::default() };
                hold(scene, stall, 3 * HEARTBEAT + ms(rng, 500, 1_500));
                let over = Instant::now();
                await_welcomes(scene, before, "the heartbeat ends connections");
                return over;
            }
            Self::Fin => return cut(scene, Cut::Fin, rng),
            Self::Reset => return cut(scene, Cut::Reset, rng),
            Self::SwallowUp => return swallow(scene, UP, ms(rng, 50, 500)),
            Self::SwallowDown => return swallow(scene, DOWN, ms(rng, 50, 500)),
            Self::HalfOpen => {
                let before = scene.welcomes();
                let abandoned: usize = scene.proxies.iter().map(Proxy::abandon).sum();
                assert!(abandoned >= scene.sources.len(), "{abandoned} connections");
                let over = Instant::now();
                await_welcomes(scene, before, "the sources come back");
                return over;
            }
        }
        Instant::now()
    }
}

fn ms(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..to))
}

/// Bad weather for `time`.
fn hold(scene: &mut Scene, weather: Weather, time: Duration) {
    let held = |scene: &Scene| scene.proxies.iter().map(Proxy::held).sum::<u64>();
    let before = held(scene);
    scene.proxies.iter().for_each(|proxy| proxy.set(weather));
    pass(time);
    scene.proxies.iter().for_each(|proxy| proxy.set(Weather::default()));
    assert!(held(scene) > before, "{weather:?} held nothing");
}

/// Cuts all connections several times, also in handshakes.
fn cut(scene: &mut Scene, how: Cut, rng: &mut StdRng) -> Instant {
    let before = scene.welcomes();
    let cut: usize = scene.proxies.iter().map(|proxy| proxy.cut(how)).sum();
    assert!(cut >= scene.sources.len(), "{cut} connections were cut");
    for _ in 0..rng.random_range(0..5) {
        pass(ms(rng, 0, 80));
        let _again: usize = scene.proxies.iter().map(|proxy| proxy.cut(how)).sum();
    }
    let over = Instant::now();
    await_welcomes(scene, before, "the sources come back");
    over
}

/// Swallows what goes `way` for `time`. The connections of that time are lost, and only the heartbeat can find out.
fn swallow(scene: &mut Scene, way: usize, time: Duration) -> Instant {
    let swallowed = |scene: &Scene| scene.proxies[0].swallowed_bytes();
    let (before, welcomes) = (swallowed(scene), scene.welcomes());
    let mut swallows = [false; 2];
    swallows[way] = true;
    scene.proxies.iter().for_each(|proxy| proxy.set(Weather { swallows, ..Weather::default() }));
    pass(time);
    scene.proxies.iter().for_each(|proxy| proxy.set(Weather::default()));
    let over = Instant::now();
    assert!(swallowed(scene) > before, "nothing was swallowed");
    await_welcomes(scene, welcomes, "the heartbeat ends connections");
    over
}

/// Waits until a source has connected again.
fn await_welcomes(scene: &mut Scene, before: u64, what: &str) {
    scene.wait(what, |scene| match scene.welcomes() {
        welcomes if welcomes > before => Ok(()),
        welcomes => Err(format!("{welcomes} connections so far")),
    });
}
