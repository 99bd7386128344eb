//! The file systems that may hold an archive, each a real one. After kill -9 in a flood, every acknowledged frame is
//! there.
//!
//! The daemon writes blocks past the page cache where the file system allows it. Each test mounts its own file
//! system. A test that cannot mount one reports that.

use std::path::Path;

use rustix::process::Signal;
use sim::Plan;

use crate::alone;
use crate::support::fleet::{Fleet, FleetLog};
use crate::support::mount::{LoopMount, Tmpfs, home_of};
use crate::support::{Daemon, LIMIT, Port, not_tested};

/// More bytes than a flood writes during the test on a busy machine. Blocks that are not written take no space.
const DISK_BYTES: u64 = 4 << 30;
const ROUNDS: u64 = 4;
/// Frames that are acknowledged between two kills.
const LIFE_FRAMES: u64 = 40_000;
/// The text in the daemon's log if the daemon uses the page cache.
const CACHED: &str = "blocks are written through the page cache";

#[test]
fn ext4_keeps_what_was_acknowledged() {
    on_loop_mount("ext4", &["mkfs.ext4", "-q", "-F"], 512);
}

#[test]
fn xfs_with_sectors_of_512_bytes_keeps_what_was_acknowledged() {
    on_loop_mount("XFS with sectors of 512 bytes", &["mkfs.xfs", "-q", "-f"], 512);
}

#[test]
fn xfs_with_sectors_of_4096_bytes_keeps_what_was_acknowledged() {
    on_loop_mount("XFS with sectors of 4,096 bytes", &["mkfs.xfs", "-q", "-f"], 4_096);
}

#[test]
fn btrfs_keeps_what_was_acknowledged() {
    on_loop_mount("btrfs", &["mkfs.btrfs", "-q", "-f"], 512);
}

#[test]
fn tmpfs_keeps_what_was_acknowledged() {
    match Tmpfs::mount(DISK_BYTES) {
        Some(tmpfs) => _ = lives_through_kills(tmpfs.path()),
        None => not_tested(format_args!("an archive on tmpfs, for none can be mounted")),
    }
}

fn on_loop_mount(name: &str, mkfs: &[&str], sector_bytes: u32) {
    match LoopMount::new(mkfs, sector_bytes, DISK_BYTES) {
        Ok(mount) => {
            // The version of btrfs decides whether it accepts direct writes.
            let is_direct = lives_through_kills(&mount.path());
            assert!(is_direct || name == "btrfs", "{name} was written through the page cache");
        }
        Err(error) => not_tested(format_args!("an archive on {name}: {error}")),
    }
}

/// Kills a daemon with its archive below `disk` several times in a flood. Checks after each kill that every
/// acknowledged frame is there. Returns whether the last daemon wrote past the page cache.
fn lives_through_kills(disk: &Path) -> bool {
    let _alone = alone();
    let port = Port::hold();
    let plan = Plan {
        connect: port.address().to_string(),
        satellites: 8,
        replays: 0,
        rate: 0.0,
        payload_bytes: 700,
        emergency_ratio: 0.01,
        seed: 7,
        linger: LIMIT,
        ..Plan::default()
    };
    let listen = format!("[ingest]\nlisten = \"{}\"\n", port.address());
    let mut daemon = Daemon::start_at(home_of(disk), &listen);
    let fleet = Fleet::start(plan.clone());
    for round in 0..ROUNDS {
        fleet.wait_acked(LIFE_FRAMES);
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait_exit(LIMIT).code, None, "it ended before it was killed");
        let acked = fleet.counts().acked;
        let found = FleetLog::read(&plan, &daemon.archive_dir(), |_| {});
        assert!(found >= acked, "round {round}: {acked} frames were acknowledged, {found} are there");
        // One daemon writes through the page cache, so that each way of writing continues a log of the other.
        let off = if round == 1 { "[archive]\ndirect_io = \"off\"\n" } else { "" };
        daemon = daemon.restart_with(&format!("{listen}{off}"));
        assert!(!says(&daemon, "acknowledged frames are damaged"), "round {round}");
    }
    let report = fleet.stop_connected();
    assert!(report.is_complete(), "{report}");
    daemon.stop();
    assert_eq!(FleetLog::read(&plan, &daemon.archive_dir(), |_| {}), report.sent);
    !says(&daemon, CACHED)
}

fn says(daemon: &Daemon, text: &str) -> bool {
    daemon.lines().iter().any(|line| line.contains(text))
}
