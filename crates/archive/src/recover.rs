//! Recovery: turns what a crash left into a log that can be written.
//!
//! Recovery derives everything from the segments. Every step can be interrupted: a crash in the middle leaves either
//! the old state or the finished result, so a second recovery ends the same way.
//!
//! Frames at or above the highest attested offset may exist only in the page cache: after a failed sync the kernel
//! marks such pages as clean. Recovery therefore writes these frames to a new segment and syncs it before it reports
//! any position. If a full disk has no room for a new segment, recovery writes the frames again in place.

mod lost;
mod mixed;
mod older;
mod repair;
mod tail_scan;
mod unreadable;

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::OpenError;
use crate::config::Config;
use crate::format::StreamPosition;
use crate::format::{BlockKind, HoleRecord};
use crate::log::positions::PositionTable;
use crate::log::segment::{BlockContent, Segment};
use crate::read::scan::{ScanStep, Scanner};
use crate::storage::dir::{Dir, refuse_beyond_offsets};
use crate::storage::{Access, Context, StorageError, read_full_at};
use frame::StreamKey;
use older::{apply_block, apply_segment, older_log_id, positions_below};
use tail_scan::TailScan;
use unreadable::UnreadableSegment;

pub use repair::{LostFrames, RepairError, RepairReport, repair};
pub(super) use tail_scan::proof_behind;

/// Most bytes in memory while a tail is synced in place.
const IN_PLACE_CHUNK_BYTES: usize = if cfg!(test) { 8 << 10 } else { 2 << 20 };

/// What recovery found, and what it did.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The durable position of every stream, ordered by stream.
    pub positions: Vec<(StreamKey, StreamPosition)>,
    /// Offset of the oldest frame that is kept.
    pub first_offset: u64,
    /// Offset of the next frame.
    pub next_offset: u64,
    /// The id of the log. An offset is meaningful only within its log.
    pub log_id: u64,
    /// Bytes of a torn tail that were cut off; a copy is in `lost/`.
    pub torn_bytes: u64,
    /// Frames rewritten because their commit was not attested.
    pub rewritten_frames: u64,
    /// Acknowledged frames that cannot be read, found by this recovery.
    pub holes: Vec<Hole>,
    /// Segments read to find the positions: 1, unless positions were damaged; 0 for a new log.
    pub segments_scanned: usize,
    /// Duration of the recovery.
    pub elapsed: Duration,
}

/// Acknowledged frames that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Offset of the first missing frame.
    pub from_offset: u64,
    /// Offset behind the last missing frame. If nothing of a segment can be read, the number of its frames is unknown.
    /// The offset is then behind every frame that the segment can have held, and the log continues there.
    pub to_offset: u64,
    /// File with the damage; in `lost/` if nothing in it can be read.
    pub segment: PathBuf,
    /// Where in the file the damage begins.
    pub position: u64,
    /// Damaged bytes. They stay in that file.
    pub bytes: u64,
}

/// The state from which the commit thread continues.
pub(super) struct Recovered {
    /// The segment in which writing continues.
    pub(super) current: Segment,
    /// The position of each stream at the end of the log.
    pub(super) table: PositionTable,
    /// Whether a block already attests that everything is durable.
    pub(super) attested: bool,
    /// What recovery found.
    pub(super) report: Recovery,
}

/// Brings the log in `dir` into a state in which it can be written.
pub(super) fn recover(dir: &Dir, config: &Config) -> Result<Recovered, OpenError> {
    let started = Instant::now();
    dir.remove(&dir.recovery())?;
    // A process that is killed between a rename and its sync leaves a name that is visible but not durable.
    dir.sync()?;
    refuse_beyond_offsets(&*dir.storage, &dir.path)?;
    let mut bases = dir.segments()?;
    mixed::refuse(dir, &bases)?;
    let mut recovered = loop {
        let unreadable = unreadable::latest(dir)?;
        let durable = unreadable.as_ref().map_or(0, |unreadable| unreadable.base);
        let Some(last) = bases.last().copied() else {
            break pass_over(dir, fresh(dir, unreadable.as_ref())?, unreadable)?;
        };
        let tail_scan = tail_scan::tail_scan(dir, last, durable)?;
        if !tail_scan.is_void() {
            break pass_over(dir, go_on(dir, &bases, tail_scan)?, unreadable)?;
        }
        unreadable::move_to_lost(dir, config, &tail_scan)?;
        bases.pop();
    };
    recovered.table.set_limit(config.max_streams);
    let report = &mut recovered.report;
    report.positions = recovered.table.to_vec();
    report.first_offset = dir.segments()?.first().copied().unwrap_or(0);
    report.elapsed = started.elapsed();
    log(dir, report);
    Ok(recovered)
}

fn log(dir: &Dir, report: &Recovery) {
    for hole in &report.holes {
        tracing::error!(
            from_offset = hole.from_offset,
            to_offset = hole.to_offset,
            segment = %hole.segment.display(),
            position = hole.position,
            bytes = hole.bytes,
            "acknowledged frames are damaged; their bytes are kept and the log continues behind them"
        );
    }
    if report.torn_bytes > 0 {
        tracing::warn!(
            torn_bytes = report.torn_bytes,
            kept_in = %dir.lost().display(),
            "cut off a torn tail that was never acknowledged"
        );
    }
    tracing::info!(
        dir = %dir.path.display(),
        next_offset = report.next_offset,
        streams = report.positions.len(),
        rewritten_frames = report.rewritten_frames,
        elapsed_ms = report.elapsed.as_millis() as u64,
        "archive recovered"
    );
}

/// Starts a log that has no segments, at the base of the segment set unreadable, or at 0.
fn fresh(dir: &Dir, unreadable: Option<&UnreadableSegment>) -> Result<Recovered, OpenError> {
    let base = unreadable.map_or(0, |unreadable| unreadable.base);
    let log_id = match unreadable {
        Some(unreadable) => unreadable.log_id(dir)?,
        None => None,
    };
    let log_id = log_id.unwrap_or_else(|| rand::random_range(1..u64::MAX));
    let table = PositionTable::unlimited();
    let mut current = new_segment(dir, log_id, base, &table)?;
    install(dir, &mut current)?;
    Ok(Recovered {
        current,
        table,
        attested: true,
        report: Recovery { next_offset: base, log_id, ..Recovery::default() },
    })
}

/// Continues the log behind all offsets that a segment set aside may have held, if it does not lie behind them yet: a
/// new segment begins at the bound, with the hole as its first record.
fn pass_over(
    dir: &Dir,
    mut recovered: Recovered,
    unreadable: Option<UnreadableSegment>,
) -> Result<Recovered, OpenError> {
    if let Some(unreadable) = unreadable
        && recovered.report.next_offset < unreadable.bound
    {
        let hole = unreadable.hole(dir, recovered.report.next_offset)?;
        recovered.current.trim()?;
        let mut next = new_segment(dir, recovered.report.log_id, unreadable.bound, &recovered.table)?;
        let body = hole.encode();
        full(dir, next.push(&BlockContent::plain(BlockKind::Hole, unreadable.bound, &body)))?;
        install(dir, &mut next)?;
        recovered.current = next;
        recovered.attested = true;
        recovered.report.next_offset = unreadable.bound;
        recovered.report.holes.push(Hole { segment: unreadable.path, ..hole_of(dir, &hole) });
    }
    Ok(recovered)
}

/// Continues behind the last segment. If the disk has no room to rewrite its tail, the tail is synced in place.
fn go_on(dir: &Dir, bases: &[u64], tail_scan: TailScan) -> Result<Recovered, OpenError> {
    let (base, in_place) = (tail_scan.base, tail_scan.can_be_synced_in_place());
    let tail = tail_scan.kept_end..tail_scan.end;
    let attested = tail_scan.attested;
    match go_on_from(dir, bases, tail_scan) {
        Err(OpenError::NoSpace { .. }) if in_place => {
            dir.remove(&dir.recovery())?;
            sync_in_place(dir, base, tail)?;
            let tail_scan = tail_scan::tail_scan(dir, base, attested)?;
            let (table, segments_scanned) = positions_below(dir, bases, &tail_scan)?;
            let mut report =
                report_on(dir, &tail_scan, tail_scan.log_id.unwrap_or_default(), segments_scanned);
            report.rewritten_frames = tail_scan.next_offset - tail_scan.attested;
            reopen(dir, tail_scan, table, report)
        }
        result => result,
    }
}

/// Continues in the last segment if it is clean, else in a new one with its tail.
fn go_on_from(dir: &Dir, bases: &[u64], tail_scan: TailScan) -> Result<Recovered, OpenError> {
    let (table, segments_scanned) = positions_below(dir, bases, &tail_scan)?;
    let log_id = match tail_scan.log_id {
        Some(log_id) => log_id,
        None => older_log_id(dir, bases)?,
    };
    let report = report_on(dir, &tail_scan, log_id, segments_scanned);
    if tail_scan.is_clean() {
        reopen(dir, tail_scan, table, report)
    } else {
        rewrite(dir, tail_scan, table, report)
    }
}

fn report_on(dir: &Dir, tail_scan: &TailScan, log_id: u64, segments_scanned: usize) -> Recovery {
    Recovery {
        next_offset: tail_scan.next_offset,
        log_id,
        torn_bytes: tail_scan.torn.end - tail_scan.torn.start,
        holes: tail_scan.holes.iter().map(|hole| hole_of(dir, hole)).collect(),
        segments_scanned,
        ..Recovery::default()
    }
}

/// Writes a whole unattested tail again in place and syncs it. This needs no free space on the disk.
///
/// The same bytes go to the same place, so a power failure at any moment leaves the same content.
fn sync_in_place(dir: &Dir, base: u64, tail: Range<u64>) -> Result<(), OpenError> {
    let path = dir.segment(base);
    let cached = dir.open(&path, Access::Read)?;
    let mut file = dir.open_log(&path, Access::ReadWrite, tail.start)?;
    let mut chunk = vec![0; IN_PLACE_CHUNK_BYTES];
    let mut position = tail.start;
    while position < tail.end {
        // A write fills its last page with zeros, so only the last write may end within a page.
        let limit = position + chunk.len() as u64;
        let end = tail.end.min(limit - limit % file.unit());
        let chunk = &mut chunk[..(end - position) as usize];
        read_full_at(&*cached, chunk, position).context("read", &path)?;
        file.append(chunk, position).context("write", &path)?;
        position = end;
    }
    file.file().sync_data().context("sync", &path)?;
    tracing::warn!(path = %path.display(), bytes = tail.end - tail.start, "no space to rewrite the tail in a new segment; it was synced in place");
    Ok(())
}

fn hole_of(dir: &Dir, hole: &HoleRecord) -> Hole {
    Hole {
        from_offset: hole.from_offset,
        to_offset: hole.to_offset,
        segment: dir.segment(hole.base_offset),
        position: hole.position,
        bytes: hole.bytes,
    }
}

/// Continues in the last segment, which is sound.
fn reopen(
    dir: &Dir,
    tail_scan: TailScan,
    mut table: PositionTable,
    report: Recovery,
) -> Result<Recovered, OpenError> {
    apply_segment(dir, tail_scan.base, u64::MAX, &mut table)?;
    let file = dir.open_log(&tail_scan.path, Access::ReadWrite, tail_scan.end)?;
    let current = Segment {
        file,
        base: tail_scan.base,
        segment_id: tail_scan.segment_id,
        position: tail_scan.end,
        // The file may be longer than its allocated space, so space behind the end is allocated again.
        allocated: tail_scan.end,
        index: None,
        path: tail_scan.path,
    };
    Ok(Recovered {
        current,
        table,
        // The last attestation may exist only in the page cache, so it is written again.
        attested: false,
        report,
    })
}

/// Writes the kept part of the unattested tail into a new segment and cuts it off the old segment.
fn rewrite(
    dir: &Dir,
    tail_scan: TailScan,
    mut table: PositionTable,
    mut report: Recovery,
) -> Result<Recovered, OpenError> {
    let mut scanner = dir.scan(tail_scan.base)?;
    // Free the unused space of the old segment first, because a new segment on a full disk may need it.
    let old = dir.open(&tail_scan.path, Access::ReadWrite)?;
    full(dir, old.set_len(tail_scan.torn.end).context("trim", &tail_scan.path))?;
    // Two walks are needed: the positions of the new segment are those below its first frame.
    apply_segment(dir, tail_scan.base, tail_scan.attested, &mut table)?;
    let mut current = new_segment(dir, report.log_id, tail_scan.attested, &table)?;
    let result = copy(&mut scanner, &tail_scan, &mut current, &mut table);
    report.rewritten_frames = full(dir, result)?;
    // Keep the torn bytes only after the copy. They were never acknowledged, and must not take space from
    // frames that may have been.
    if !tail_scan.torn.is_empty() {
        dir.keep_lost(tail_scan.base, &scanner, tail_scan.torn.clone())?;
    }
    install(dir, &mut current)?;
    if tail_scan.attested > tail_scan.base {
        old.set_len(tail_scan.kept_end).context("trim", &tail_scan.path)?;
    }
    Ok(Recovered { attested: tail_scan.attested == tail_scan.next_offset, current, table, report })
}

/// Copies the hole records and the blocks of the tail into the segment `to`, and applies the frames to `table`. Returns
/// the number of frames.
fn copy(
    scanner: &mut Scanner,
    tail_scan: &TailScan,
    to: &mut Segment,
    table: &mut PositionTable,
) -> Result<u64, StorageError> {
    // A new segment with the same base replaces the old one, so it needs the hole records of the old one.
    let replaced = if to.base == tail_scan.base { &tail_scan.hole_records[..] } else { &[] };
    for record in replaced {
        to.push(&BlockContent::plain(BlockKind::Hole, tail_scan.attested, record))?;
    }
    for hole in &tail_scan.holes {
        to.push(&BlockContent::plain(BlockKind::Hole, tail_scan.attested, &hole.encode()))?;
    }
    let mut next = tail_scan.attested;
    loop {
        match scanner.next()? {
            ScanStep::Block(header, body) if tail_scan.is_tail(&header) && header.first_offset == next => {
                to.push(&BlockContent::copied(&header, &body, tail_scan.attested))?;
                next = header.next_offset();
                apply_block(&header, body, table);
            }
            ScanStep::Block(..) | ScanStep::Damage(_) => {}
            ScanStep::End(_) => break,
        }
    }
    Ok(next - tail_scan.attested)
}

/// Begins a segment under a temporary name, in the space of the reserve if there is one.
fn new_segment(dir: &Dir, log_id: u64, base: u64, table: &PositionTable) -> Result<Segment, OpenError> {
    let reserve = dir.reserve();
    let (path, file) = match full(dir, crate::log::space::adopt_reserve(dir))? {
        Some(file) => (reserve, file),
        None => (dir.recovery(), full(dir, dir.open_log(&dir.recovery(), Access::Create, 0))?),
    };
    full(dir, Segment::begin(path, file, log_id, base, table))
}

fn install(dir: &Dir, segment: &mut Segment) -> Result<(), OpenError> {
    full(dir, segment.install(dir))
}

/// Turns the error of a full disk into [`OpenError::NoSpace`].
fn full<T>(dir: &Dir, result: Result<T, StorageError>) -> Result<T, OpenError> {
    result.map_err(|error| {
        if error.is_no_space() {
            OpenError::NoSpace { dir: dir.path.clone(), free_bytes: dir.free_bytes().unwrap_or(0) }
        } else {
            error.into()
        }
    })
}
