//! A power cut: what was written to the log and not synced is lost, in whole or in part.
//!
//! The preloaded library keeps a journal of the writes. After a kill this module takes back a random part of the writes
//! that no sync has covered, sector by sector.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::kills::{FULL_LOAD, start_aside};
use crate::scene::{RATE, Scene, pass};
use crate::shim::Field;

/// The name in the table of figures.
pub const NAME: &str = "power cut: unsynced writes are lost sector by sector, restart";

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;
/// The kind of a record, as in `shim.c`.
const WRITTEN: i64 = 1;
/// Bytes of a record before the replaced bytes.
const RECORD_BYTES: usize = 40;
/// Longest time under full load before the cut.
const LIFE_MS_MAX: u64 = 400;

/// A write to a file that no sync has covered.
struct Write {
    at: u64,
    replaced: Vec<u8>,
}

/// Configures how blocks are written: direct where that is possible, or through the page cache.
pub fn a_way_to_write(rng: &mut StdRng) -> &'static str {
    ["", "direct_io = \"off\""][rng.random_range(0..2)]
}

/// Cuts the power. Returns when the restart began.
pub fn strike(scene: &mut Scene, rng: &mut StdRng) -> Instant {
    // A disk can lose everything that it has not synced, or nearly nothing.
    let share = [1.0, 0.5, 0.05][rng.random_range(0..3)];
    cut(scene, share, rng);
    let restarted = Instant::now();
    scene.restart();
    restarted
}

/// Cuts the power under load, often while a sync is under way. Each unsynced sector is lost with the probability `share`.
/// The daemon does not run when this returns.
pub fn cut(scene: &mut Scene, share: f64, rng: &mut StdRng) {
    scene.shim().journal.as_file().set_len(0).expect("the journal can be cut");
    scene.shim().set(Field::Journal, 1);
    scene.rate.store(FULL_LOAD, Relaxed);
    scene.wait_acked(1_000);
    pass(Duration::from_millis(rng.random_range(0..LIFE_MS_MAX)));
    let is_in_sync = rng.random_bool(0.7);
    if is_in_sync {
        let held = scene.shim().get(Field::Held);
        scene.shim().set(Field::HoldSyncs, 1);
        scene.shim().wait_above(Field::Held, held);
    }
    scene.kill();
    scene.rate.store(RATE, Relaxed);
    scene.shim().set(Field::HoldSyncs, 0);
    // A recovery syncs what it keeps.
    let is_recovered = rng.random_bool(0.3);
    if is_recovered {
        begin_recovery(scene, rng);
    }
    scene.shim().set(Field::Journal, 0);
    let unsynced = lose(scene, share, rng);
    assert!(
        unsynced > 0 || !is_in_sync || is_recovered,
        "nothing is unsynced, although a sync was under way"
    );
}

/// Starts a daemon that recovers from what the page cache has, and kills it before or after its end.
fn begin_recovery(scene: &Scene, rng: &mut StdRng) {
    let ready = scene.archive_dir().join("../ready-of-recovery.json");
    let mut child = start_aside(scene, &ready);
    pass(Duration::from_millis(rng.random_range(0..40)));
    child.kill().expect("it cannot be killed");
    child.wait().expect("waiting fails");
    drop(std::fs::remove_file(&ready));
}

/// Takes back a random part of the unsynced writes. Returns the number of unsynced writes.
fn lose(scene: &Scene, share: f64, rng: &mut StdRng) -> usize {
    let journal = std::fs::read(scene.shim().journal.path()).expect("the journal");
    let mut unsynced = unsynced(&journal);
    let files = std::fs::read_dir(scene.archive_dir()).expect("the archive").filter_map(Result::ok);
    let mut count = 0;
    for entry in files {
        let Ok(metadata) = entry.metadata() else { continue };
        let born = metadata.created().map(|born| born.duration_since(UNIX_EPOCH));
        let born = born.expect("a time of birth").expect("a time after 1970");
        if let Some(writes) = unsynced.remove(&(metadata.ino(), born.as_nanos() as u64)) {
            count += writes.len();
            take_back(&entry.path(), &writes, share, rng);
        }
    }
    count
}

/// The writes behind the last sync of each file, by inode and time of birth.
fn unsynced(mut journal: &[u8]) -> HashMap<(u64, u64), Vec<Write>> {
    let mut unsynced: HashMap<_, Vec<Write>> = HashMap::new();
    while journal.len() >= RECORD_BYTES {
        let field = |at: usize| i64::from_ne_bytes(journal[8 * at..8 * at + 8].try_into().unwrap());
        let (kind, file) = (field(0), (field(1) as u64, field(2) as u64));
        let (at, length) = (field(3) as u64, field(4) as usize);
        // A kill can cut the last record. Its write has not begun.
        let Some(replaced) = journal.get(RECORD_BYTES..RECORD_BYTES + length) else { break };
        if kind == WRITTEN {
            unsynced.entry(file).or_default().push(Write { at, replaced: replaced.to_vec() });
        } else {
            unsynced.remove(&file);
        }
        journal = &journal[RECORD_BYTES + length..];
    }
    unsynced
}

/// Each sector of a write is lost with the probability `share`. With it, all later writes to that sector are.
fn take_back(path: &Path, writes: &[Write], share: f64, rng: &mut StdRng) {
    let file = File::options().read(true).write(true).open(path).expect("a file of the archive");
    let mut lost_from: HashMap<u64, usize> = HashMap::new();
    for (number, write) in writes.iter().enumerate() {
        for sector in sectors(write) {
            if rng.random_bool(share) {
                lost_from.entry(sector).or_insert(number);
            }
        }
    }
    for (number, write) in writes.iter().enumerate().rev() {
        for sector in sectors(write) {
            if lost_from.get(&sector).is_some_and(|from| *from <= number) {
                put_back(&file, write, sector);
            }
        }
    }
}

/// The sectors that a write touches.
fn sectors(write: &Write) -> impl Iterator<Item = u64> {
    let end = write.at + write.replaced.len() as u64;
    write.at / SECTOR_BYTES as u64..end.div_ceil(SECTOR_BYTES as u64)
}

fn put_back(file: &File, write: &Write, sector: u64) {
    let begin = (sector * SECTOR_BYTES as u64).max(write.at);
    let end = ((sector + 1) * SECTOR_BYTES as u64).min(write.at + write.replaced.len() as u64);
    let bytes = &write.replaced[(begin - write.at) as usize..(end - write.at) as usize];
    file.write_all_at(bytes, begin).expect("the archive can be written");
}
