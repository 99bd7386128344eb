//! SIGTERM, and a new daemon on the same archive.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::kills::FULL_LOAD;
use crate::proxy::Weather;
use crate::scene::{RATE, Scene};
use crate::shim::Field;
use crate::support::{Books, LIMIT, Signal};

/// Longest duration of a drain: `shutdown.deadline`, and what a busy machine adds.
const DRAIN_MAX: Duration = Duration::from_secs(7);

/// In which state the daemon gets SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    Loaded,
    CutOff,
    Stalled,
}

impl Drain {
    /// The name in the table of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loaded => "SIGTERM under full load, restart",
            Self::CutOff => "SIGTERM while the network is stalled, restart",
            Self::Stalled => "SIGTERM while fdatasync is stalled (exit 3), restart",
        }
    }

    /// Lets this happen to `scene`, and asserts that it did. Returns when the restart began.
    pub fn strike(self, scene: &mut Scene) -> Instant {
        match self {
            Self::Loaded => under_load(scene),
            Self::CutOff => cut_off(scene),
            Self::Stalled => stalled(scene),
        }
        let restarted = Instant::now();
        scene.restart();
        restarted
    }
}

/// Sends SIGTERM, and returns the books.
fn stop(scene: &mut Scene, code: i32) -> Books {
    scene.daemon().signal(Signal::TERM);
    let exit = scene.daemon_mut().wait_exit(LIMIT);
    assert_eq!(exit.code, Some(code), "exit code after SIGTERM: {:#?}", scene.daemon().lines());
    assert!(exit.elapsed < DRAIN_MAX, "the drain took {:?}", exit.elapsed);
    let books = scene.daemon().final_books();
    books.assert_balanced();
    books
}

fn under_load(scene: &mut Scene) {
    scene.rate.store(FULL_LOAD, Relaxed);
    scene.wait_acked(1_000);
    let books = stop(scene, 0);
    scene.rate.store(RATE, Relaxed);
    assert_eq!(books.undelivered, 0, "{books:?}");
}

/// What the daemon has read is archived, although no acknowledgement reaches the sources.
fn cut_off(scene: &mut Scene) {
    let stall = Weather { is_stalled: [true; 2], ..Weather::default() };
    scene.proxies.iter().for_each(|proxy| proxy.set(stall));
    scene.assert_nothing_acked(Duration::from_millis(100));
    let books = stop(scene, 0);
    assert_eq!(books.undelivered, 0, "{books:?}");
    scene.proxies.iter().for_each(|proxy| proxy.set(Weather::default()));
}

/// The deadline passes. What was accepted is counted as undelivered, and its sources still have it.
fn stalled(scene: &mut Scene) {
    let before = scene.shim().get(Field::Held);
    scene.shim().set(Field::HoldSyncs, 1);
    scene.shim().wait_above(Field::Held, before);
    scene.assert_nothing_acked(Duration::from_millis(100));
    let books = stop(scene, 3);
    scene.shim().set(Field::HoldSyncs, 0);
    assert!(books.undelivered > 0, "{books:?}");
}
