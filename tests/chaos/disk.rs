//! Faults of the disk, by the library that the daemon preloads.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::kills::start_aside;
use crate::scene::{Scene, pass};
use crate::shim::Field;
use crate::support::{LIMIT, wait_until};

/// EIO and ENOSPC.
const IO_ERROR: i64 = 5;
const NO_SPACE: i64 = 28;

/// What happens to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    SyncsStall,
    WritesStall,
    SyncsAreSlow,
    SyncFails,
    WriteFails,
    NoSpace,
    KillInStall,
    RecoveryFails,
}

pub const DISKS: [Disk; 8] = [
    Disk::SyncsStall,
    Disk::WritesStall,
    Disk::SyncsAreSlow,
    Disk::SyncFails,
    Disk::WriteFails,
    Disk::NoSpace,
    Disk::KillInStall,
    Disk::RecoveryFails,
];

impl Disk {
    /// The name in the table of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SyncsStall => "disk: fdatasync stalls for up to 4 s",
            Self::WritesStall => "disk: writes stall for up to 4 s",
            Self::SyncsAreSlow => "disk: each fdatasync takes 50 to 250 ms",
            Self::SyncFails => "disk: fdatasync fails (EIO), the daemon ends, restart",
            Self::WriteFails => "disk: a write fails (EIO), the daemon ends, restart",
            Self::KillInStall => "disk: fdatasync stalls, kill -9, restart",
            Self::RecoveryFails => "disk: kill -9, fdatasync fails (EIO) in recovery, restart",
            Self::NoSpace => "disk: writes fail (ENOSPC) for a time",
        }
    }

    /// Lets this happen to `scene`, and asserts that it did. Returns when it was over, or when the restart began.
    pub fn strike(self, scene: &mut Scene, rng: &mut StdRng) -> Instant {
        let time = Duration::from_millis(rng.random_range(300..3_700));
        match self {
            Self::SyncsStall => stall(scene, Field::HoldSyncs, time),
            Self::WritesStall => stall(scene, Field::HoldWrites, time),
            Self::SyncsAreSlow => slow(scene, rng.random_range(50_000..250_000), time),
            Self::SyncFails => fail(scene, Field::SyncErrno, "cannot sync"),
            Self::WriteFails => fail(scene, Field::WriteErrno, "cannot write"),
            Self::NoSpace => fill(scene, time),
            Self::KillInStall => kill_in_stall(scene),
            Self::RecoveryFails => fail_in_recovery(scene),
        }
    }
}

/// The daemon is killed while a commit is written and not synced.
fn kill_in_stall(scene: &mut Scene) -> Instant {
    let before = scene.shim().get(Field::Held);
    scene.shim().set(Field::HoldSyncs, 1);
    scene.shim().wait_above(Field::Held, before);
    scene.assert_nothing_acked(Duration::ZERO);
    scene.kill();
    scene.shim().set(Field::HoldSyncs, 0);
    let restarted = Instant::now();
    scene.restart();
    restarted
}

/// A daemon that cannot sync does not start, and acknowledges nothing. The next one recovers.
fn fail_in_recovery(scene: &mut Scene) -> Instant {
    scene.kill();
    let before = scene.shim().get(Field::Failed);
    scene.shim().set(Field::SyncErrno, IO_ERROR);
    let ready = scene.archive_dir().join("../ready-of-recovery.json");
    let mut failing = start_aside(scene, &ready);
    let exit = wait_until("the end of the daemon", || {
        failing.try_wait().expect("waiting fails").ok_or_else(|| "it runs".to_owned())
    });
    assert_eq!(exit.code(), Some(1), "exit code of a start on a failing disk");
    assert!(scene.shim().get(Field::Failed) > before, "no sync has failed");
    scene.shim().set(Field::SyncErrno, 0);
    let restarted = Instant::now();
    scene.restart();
    restarted
}

/// Nothing is acknowledged while the disk stands still.
fn stall(scene: &mut Scene, field: Field, time: Duration) -> Instant {
    let before = scene.shim().get(Field::Held);
    scene.shim().set(field, 1);
    scene.shim().wait_above(Field::Held, before);
    scene.assert_nothing_acked(time);
    scene.shim().set(field, 0);
    Instant::now()
}

/// Acknowledgements go on, at the pace of the disk.
fn slow(scene: &mut Scene, delay_us: i64, time: Duration) -> Instant {
    let (held, acked) = (scene.shim().get(Field::Held), scene.acked());
    scene.shim().set(Field::SyncDelayUs, delay_us);
    scene.shim().wait_above(Field::Held, held + 2);
    pass(time);
    scene.shim().set(Field::SyncDelayUs, 0);
    assert!(scene.acked() > acked, "nothing is acknowledged on a slow disk");
    Instant::now()
}

/// The daemon ends with 1, and a new one goes on.
fn fail(scene: &mut Scene, field: Field, line: &str) -> Instant {
    let before = scene.shim().get(Field::Failed);
    scene.shim().set(field, IO_ERROR);
    scene.shim().wait_above(Field::Failed, before);
    let exit = scene.daemon_mut().wait_exit(LIMIT);
    assert_eq!(exit.code, Some(1), "exit code after a failure of the disk");
    scene.daemon().wait_line(line);
    scene.shim().set(field, 0);
    let restarted = Instant::now();
    scene.restart();
    restarted
}

/// The daemon goes on by itself once there is space.
fn fill(scene: &mut Scene, time: Duration) -> Instant {
    let before = scene.shim().get(Field::Failed);
    scene.shim().set(Field::WriteErrno, NO_SPACE);
    scene.shim().wait_above(Field::Failed, before);
    scene.assert_nothing_acked(time);
    scene.shim().set(Field::WriteErrno, 0);
    assert!(scene.daemon_mut().is_running(), "the daemon has ended: {:#?}", scene.daemon().lines());
    Instant::now()
}
