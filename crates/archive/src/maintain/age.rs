//! Finds the age of a segment.

use super::trust::is_plausible;
use crate::format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, SEGMENT_HEADER_BYTES};
use crate::log::MaintenanceSignal;
use crate::read::scan::ScanStep;
use crate::storage::dir::Dir;
use crate::storage::{Access, Context, StorageError, read_full_at};

/// Returns the newest plausible receive time of the frames below `end_offset`, in unix nanoseconds. Returns `None` if
/// there is none.
pub(super) fn newest_ns(
    dir: &Dir,
    end_offset: u64,
    now_ns: i64,
    signal: &MaintenanceSignal,
) -> Result<Option<i64>, StorageError> {
    for base in dir.segments()?.into_iter().rev().filter(|base| *base < end_offset) {
        let newest = received_max_ns(dir, base, end_offset, now_ns, signal)?;
        if newest.is_some() {
            return Ok(newest);
        }
    }
    Ok(None)
}

/// Returns when the youngest frame of the segment `base` was received, in unix nanoseconds.
///
/// Considers only blocks below `end_offset` with a time that is plausible at `now_ns`. Returns `None` if there is no
/// such block. Reads only the block headers. If a header is damaged, scans the whole segment. When `signal` is
/// stopped, the function returns early and its result is meaningless.
pub(super) fn received_max_ns(
    dir: &Dir,
    base: u64,
    end_offset: u64,
    now_ns: i64,
    signal: &MaintenanceSignal,
) -> Result<Option<i64>, StorageError> {
    let of_block = |header: &BlockHeader| {
        let is_selected = header.kind == BlockKind::Frames && header.first_offset < end_offset;
        let received_ns = is_selected.then_some(header.received_max_ns);
        received_ns.filter(|received_ns| is_plausible(*received_ns, now_ns))
    };
    let scanner = dir.scan(base)?;
    let Some(head) = scanner.sound_header() else {
        return by_scan(dir, base, signal, of_block);
    };
    let path = dir.segment(base);
    let file = dir.open(&path, Access::Read)?;
    let end = file.size().context("measure", &path)?;
    let mut bytes = [0; BLOCK_HEADER_BYTES as usize];
    let (mut position, mut youngest) = (SEGMENT_HEADER_BYTES, None);
    while position < end && !signal.is_stopped() {
        let count = read_full_at(&*file, &mut bytes, position).context("read", &path)?;
        let Ok(header) = BlockHeader::decode(&bytes[..count], position, Some(head.segment_id)) else {
            return by_scan(dir, base, signal, of_block);
        };
        youngest = youngest.max(of_block(&header));
        position = header.end();
    }
    Ok(youngest)
}

/// As [`received_max_ns`], over damage.
fn by_scan(
    dir: &Dir,
    base: u64,
    signal: &MaintenanceSignal,
    of_block: impl Fn(&BlockHeader) -> Option<i64>,
) -> Result<Option<i64>, StorageError> {
    let mut scanner = dir.scan(base)?;
    let mut youngest = None;
    loop {
        if signal.is_stopped() {
            return Ok(youngest);
        }
        match scanner.next()? {
            ScanStep::Block(header, _) => youngest = youngest.max(of_block(&header)),
            ScanStep::Damage(_) => {}
            ScanStep::End(_) => return Ok(youngest),
        }
    }
}
