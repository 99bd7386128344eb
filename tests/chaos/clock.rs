//! Steps of the wall clock, by the library that the daemon preloads. The monotonic clocks go on.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::kills::fill_a_segment;
use crate::scene::{Scene, pass};
use crate::setup::segments;
use crate::shim::Field;
use crate::support::http::get_json;

const DAY_NS: i64 = 86_400_000_000_000;
/// Time in which a step would end connections if it did: more than 3 heartbeats.
const WATCH: Duration = Duration::from_millis(3_500);

/// How the clock steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Forward,
    Back,
    /// A step either way, and a restart with that clock.
    Restart,
}

pub const STEPS: [Step; 3] = [Step::Forward, Step::Back, Step::Restart];

impl Step {
    /// The name in the table of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "clock: a step forward, 1 s to 40 years",
            Self::Back => "clock: a step back, 1 s to 40 years",
            Self::Restart => "clock: kill -9, restart with a clock that is off by 1 s to 40 years",
        }
    }

    /// Lets this happen to `scene`, and asserts that it did. No connection may end. Returns when it was over.
    pub fn strike(self, scene: &mut Scene, rng: &mut StdRng) -> Instant {
        // Seconds, hours, days and decades are equally likely.
        let days = [1.0 / 86_400.0, 1.0 / 24.0, 1.0, 365.0 * 10.0][rng.random_range(0..4)];
        let size = (days * rng.random_range(1.0..4.0) * DAY_NS as f64) as i64;
        let is_forward = self == Self::Forward || self == Self::Restart && rng.random_bool(0.5);
        let offset = if is_forward { size } else { -size };
        // Retention by age could remove a full segment.
        fill_a_segment(scene);
        let segments_before = segments(&scene.archive_dir());
        let over = if self == Self::Restart { restart(scene, offset) } else { step(scene, offset) };
        let segments_after = segments(&scene.archive_dir());
        assert!(segments_after.starts_with(&segments_before), "segments have expired by the step");
        over
    }
}

/// No connection ends, and acknowledgements go on.
fn step(scene: &mut Scene, offset: i64) -> Instant {
    let (welcomes, acked) = (scene.welcomes(), scene.acked());
    scene.shim().set(Field::ClockOffsetNs, offset);
    assert_offset(scene, offset);
    pass(WATCH);
    assert!(scene.acked() > acked, "nothing is acknowledged after the step");
    assert_eq!(scene.welcomes(), welcomes, "the step ended connections");
    scene.shim().set(Field::ClockOffsetNs, 0);
    assert_offset(scene, 0);
    Instant::now()
}

/// The clock is off from the start of the daemon on, and is set right once all sources are back.
fn restart(scene: &mut Scene, offset: i64) -> Instant {
    scene.kill();
    scene.shim().set(Field::ClockOffsetNs, offset);
    let restarted = Instant::now();
    scene.restart();
    assert_offset(scene, offset);
    scene.recovered(restarted);
    scene.shim().set(Field::ClockOffsetNs, 0);
    assert_offset(scene, 0);
    restarted
}

/// Asserts that the daemon reads a clock that is off by `offset_ns`.
fn assert_offset(scene: &Scene, offset_ns: i64) {
    let stats = get_json(scene.daemon().http(), "/api/v1/stats");
    let own = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    let daemon_ms = stats["time_ms"].as_i64().expect("a time");
    let off_ms = daemon_ms - own.as_millis() as i64 - offset_ns / 1_000_000;
    assert!(off_ms.abs() < 5_000, "the daemon's clock is off by {off_ms} ms more than asked for");
}
