//! kill -9 in each phase of the daemon's life.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::scene::{RATE, Scene, pass};
use crate::setup::{names, segments};
use crate::shim::Field;
use crate::source::Source;
use crate::support::command::aggregator;
use crate::support::wait::poll;
use crate::support::{LIMIT, Signal};

/// New routine frames per second and source under full load. The sources and the daemon share few cores, so this is all
/// they can do. It is a limit: retention must not take what a round writes before the round has checked it.
pub const FULL_LOAD: u32 = 3_000;
/// New routine frames per second and source that fill a segment within a second.
const FLOOD: u32 = 400;
/// Longest time of a life under full load before its kill, in microseconds.
const LIFE_US_MAX: u64 = 150_000;
/// Longest time from an event to the kill that should fall close behind it, in microseconds.
const CLOSE_US_MAX: u64 = 4_000;
/// Time between two looks for an event that a kill should follow closely.
const CLOSE_LOOK: Duration = Duration::from_micros(200);
/// Segments that are written between two checks. Retention keeps more.
const UNCHECKED_MAX: usize = 4;
/// Attempts to hit a short phase.
const ATTEMPTS: usize = 20;

/// When the daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Load,
    Recovery,
    Handshake,
    Rotation,
    Indexing,
    Retention,
    Drain,
    Reload,
    Delivery,
}

pub const PHASES: [Phase; 9] = [
    Phase::Load,
    Phase::Recovery,
    Phase::Handshake,
    Phase::Rotation,
    Phase::Indexing,
    Phase::Retention,
    Phase::Drain,
    Phase::Reload,
    Phase::Delivery,
];

impl Phase {
    /// The name in the table of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "kill -9 under full load",
            Self::Recovery => "kill -9 in recovery, up to four times in a row",
            Self::Handshake => "kill -9 in handshakes",
            Self::Rotation => "kill -9 as a segment begins",
            Self::Indexing => "kill -9 as an index is built",
            Self::Retention => "kill -9 as retention removes a segment",
            Self::Drain => "kill -9 in a drain",
            Self::Reload => "kill -9 in a reload",
            Self::Delivery => "kill -9 as an output delivers",
        }
    }

    /// Kills the daemon of `scene` in this phase. Returns the number of kills, without those that missed the phase. The
    /// daemon does not run then.
    pub fn kill(self, scene: &mut Scene, rng: &mut StdRng) -> usize {
        match self {
            Self::Load => under_load(scene, rng),
            Self::Recovery => in_recovery(scene, rng),
            Self::Handshake => in_handshakes(scene),
            Self::Rotation => in_rotation(scene, rng),
            Self::Indexing => in_indexing(scene),
            Self::Retention => in_retention(scene, rng),
            Self::Drain => in_drain(scene, rng),
            Self::Reload => in_reload(scene, rng),
            Self::Delivery => in_delivery(scene, rng),
        }
    }
}

fn pause(rng: &mut StdRng, us_max: u64) {
    pass(Duration::from_micros(rng.random_range(0..us_max)));
}

/// Fills segments until there is one that is full.
pub fn fill_a_segment(scene: &mut Scene) {
    let dir = scene.archive_dir();
    flood_until(scene, FLOOD, "a full segment", |_| segments(&dir).len() > 1);
    scene.rate.store(RATE, Relaxed);
}

/// Waits until `is_met`. The sources send at `rate` meanwhile.
fn flood_until(scene: &mut Scene, rate: u32, what: &str, mut is_met: impl FnMut(&mut Scene) -> bool) {
    scene.rate.store(rate, Relaxed);
    poll(CLOSE_LOOK, 3 * LIMIT, what, || {
        scene.assert_running();
        if is_met(scene) {
            Ok(())
        } else {
            Err(format!("the reader of the output: {}", scene.reader.state()))
        }
    });
}

/// Like [`flood_until`]. Checks segments before retention can take them, however slow the check is.
fn flood_checked(scene: &mut Scene, rate: u32, what: &str, is_met: impl Fn() -> bool) {
    let dir = scene.archive_dir();
    let (mut newest, mut unchecked) = (segments(&dir).pop(), 0);
    flood_until(scene, rate, what, |scene| {
        let now = segments(&dir).pop();
        if now != newest {
            newest = now;
            unchecked += 1;
        }
        if !is_met() && unchecked == UNCHECKED_MAX {
            unchecked = 0;
            let faults = scene.check_archive();
            assert!(faults.is_none(), "{faults:?}");
        }
        is_met()
    });
}

/// Kills the daemon. The sources slow down.
fn kill(scene: &mut Scene) {
    scene.kill();
    scene.rate.store(RATE, Relaxed);
}

fn under_load(scene: &mut Scene, rng: &mut StdRng) -> usize {
    let before = scene.acked();
    flood_until(scene, FULL_LOAD, "an acknowledgement", |scene| scene.acked() > before + 1_000);
    pause(rng, LIFE_US_MAX);
    kill(scene);
    assert!(scene.unacked() > 0, "nothing was on its way");
    1
}

fn in_recovery(scene: &mut Scene, rng: &mut StdRng) -> usize {
    under_load(scene, rng);
    // A slow disk makes recovery longer.
    let slow_us = if rng.random_bool(0.5) { 0 } else { rng.random_range(1_000..15_000) };
    set_sync_delay(scene, slow_us);
    let (mut delay_us_max, mut hits, goal) = (40_000, 0, rng.random_range(1..=4));
    for _ in 0..ATTEMPTS {
        let ready = scene.archive_dir().join("../ready-of-recovery.json");
        let mut child = start_aside(scene, &ready);
        pause(rng, delay_us_max);
        assert!(child.try_wait().expect("waiting fails").is_none(), "it ended before it was killed");
        child.kill().expect("it cannot be killed");
        child.wait().expect("waiting fails");
        match std::fs::remove_file(&ready) {
            // It listened: recovery was over.
            Ok(()) => delay_us_max = delay_us_max * 2 / 3,
            Err(_) => hits += 1,
        }
        if hits == goal {
            set_sync_delay(scene, 0);
            return 1 + hits;
        }
    }
    panic!("no kill falls into recovery");
}

fn set_sync_delay(scene: &Scene, us: i64) {
    if let Some(shim) = scene.try_shim() {
        shim.set(Field::SyncDelayUs, us);
    }
}

/// Starts another process with the configuration of the ended daemon, without waiting for anything.
pub fn start_aside(scene: &Scene, ready: &Path) -> Child {
    let config = scene.daemon().config_path();
    let mut command = aggregator(["run", "--config"]);
    command.arg(&config).arg("--ready-file").arg(ready);
    command.current_dir(config.parent().expect("a directory")).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(shim) = scene.try_shim() {
        shim.preload(&mut command);
    }
    command.spawn().expect("the daemon cannot be started")
}

fn broken_handshakes(scene: &Scene) -> u64 {
    scene.sources.iter().map(|source| source.shared.broken_handshakes.load(Relaxed)).sum()
}

/// Sources connect one after the other: when the first has its WELCOME, others wait for theirs.
fn in_handshakes(scene: &mut Scene) -> usize {
    kill(scene);
    for _ in 0..ATTEMPTS {
        let (before, welcomes) = (broken_handshakes(scene), scene.welcomes());
        scene.restart();
        flood_until(scene, RATE, "a WELCOME", |scene| scene.welcomes() > welcomes);
        kill(scene);
        scene.wait("the end of all handshakes", |scene| {
            let is_greeting = |source: &&Source| source.shared.is_greeting.load(Relaxed);
            match scene.sources.iter().find(is_greeting) {
                None => Ok(()),
                Some(source) => Err(format!("source {} is in a handshake", source.id)),
            }
        });
        if broken_handshakes(scene) > before {
            return 2;
        }
    }
    panic!("no kill falls into a handshake");
}

fn in_rotation(scene: &mut Scene, rng: &mut StdRng) -> usize {
    let dir = scene.archive_dir();
    let before = segments(&dir);
    flood_until(scene, FLOOD, "a new segment", |_| segments(&dir).last() != before.last());
    pause(rng, CLOSE_US_MAX);
    kill(scene);
    1
}

fn in_indexing(scene: &mut Scene) -> usize {
    let dir = scene.archive_dir();
    flood_checked(scene, FLOOD, "an unfinished index", || !names(&dir, ".idx.tmp").is_empty());
    kill(scene);
    1
}

fn in_retention(scene: &mut Scene, rng: &mut StdRng) -> usize {
    let dir = scene.archive_dir();
    let oldest = segments(&dir).swap_remove(0);
    flood_checked(scene, 3 * FLOOD, "the end of the oldest segment", || !dir.join(&oldest).exists());
    pause(rng, CLOSE_US_MAX);
    kill(scene);
    1
}

fn in_drain(scene: &mut Scene, rng: &mut StdRng) -> usize {
    for _ in 0..ATTEMPTS {
        let before = scene.acked();
        flood_until(scene, FLOOD, "an acknowledgement", |scene| scene.acked() > before);
        scene.daemon().signal(Signal::TERM);
        scene.daemon().wait_line(" draining ");
        pause(rng, 15 * CLOSE_US_MAX);
        scene.daemon().signal(Signal::KILL);
        let exit = scene.daemon_mut().wait_exit(LIMIT);
        scene.rate.store(RATE, Relaxed);
        match exit.code {
            None => return 1,
            // On a busy machine the drain can be over.
            Some(0) => scene.restart(),
            code => panic!("exit code of a drain: {code:?}"),
        }
    }
    panic!("no kill falls into a drain");
}

fn in_reload(scene: &mut Scene, rng: &mut StdRng) -> usize {
    let before = scene.acked();
    flood_until(scene, FLOOD, "an acknowledgement", |scene| scene.acked() > before);
    let path = scene.daemon().config_path();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let text = text.replacen("[archive]", "[archive]\ncommit_delay = \"3ms\"", 1);
    std::fs::write(&path, text).expect("the configuration cannot be written");
    scene.daemon().signal(Signal::HUP);
    scene.daemon().wait_line("SIGHUP: reading the configuration again");
    pause(rng, CLOSE_US_MAX);
    kill(scene);
    1
}

fn in_delivery(scene: &mut Scene, rng: &mut StdRng) -> usize {
    let before = scene.reader.frames();
    flood_until(scene, FLOOD, "a frame at the reader", |scene| scene.reader.frames() > before + 100);
    pause(rng, CLOSE_US_MAX);
    kill(scene);
    1
}
