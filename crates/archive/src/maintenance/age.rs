//! Finds the age of a segment.

use super::MaintenanceControl;
use super::trust::is_plausible;
use crate::dir::Dir;
use crate::format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, SEGMENT_HEADER_BYTES};
use crate::scan::{Head, Step};
use crate::storage::{Access, Context, StorageError, read_full_at};

/// Returns the newest plausible receive time of the frames below `end_offset`, in unix nanoseconds. Returns `None` if
/// there is none.
pub(super) fn newest_ns(
    dir: &Dir,
    end_offset: u64,
    now_ns: i64,
    control: &MaintenanceControl,
) -> Result<Option<i64>, StorageError> {
    for base in dir.segments()?.into_iter().rev().filter(|base| *base < end_offset) {
        let newest = received_max_ns(dir, base, end_offset, now_ns, control)?;
        if newest.is_some() {
            return Ok(newest);
        }
    }
    Ok(None)
}

/// Returns when the youngest frame of the segment `base` was received, in unix nanoseconds.
///
/// Considers only blocks below `end_offset` with a time that is plausible at `now_ns`. Returns `None` if there is no
/// such block. Reads only the block headers. If a header is damaged, scans the whole segment. When `control` is
/// stopped, the function returns early and its result is meaningless.
pub(super) fn received_max_ns(
    dir: &Dir,
    base: u64,
    end_offset: u64,
    now_ns: i64,
    control: &MaintenanceControl,
) -> Result<Option<i64>, StorageError> {
    let of_block = |header: &BlockHeader| {
        let is_asked = header.kind == BlockKind::Frames && header.first_offset < end_offset;
        let received_ns = is_asked.then_some(header.received_max_ns);
        received_ns.filter(|received_ns| is_plausible(*received_ns, now_ns))
    };
    let scanner = dir.scan(base)?;
    let Head::Sound(head) = scanner.head() else {
        return by_scan(dir, base, control, of_block);
    };
    let path = dir.segment(base);
    let file = dir.open(&path, Access::Read)?;
    let end = file.size().context("measure", &path)?;
    let mut bytes = [0; BLOCK_HEADER_BYTES as usize];
    let (mut position, mut youngest) = (SEGMENT_HEADER_BYTES, None);
    while position < end && !control.is_stopped() {
        let count = read_full_at(&*file, &mut bytes, position).context("read", &path)?;
        let Ok(header) = BlockHeader::decode(&bytes[..count], position, Some(head.segment_id)) else {
            return by_scan(dir, base, control, of_block);
        };
        youngest = youngest.max(of_block(&header));
        position = header.end();
    }
    Ok(youngest)
}

fn by_scan(
    dir: &Dir,
    base: u64,
    control: &MaintenanceControl,
    of_block: impl Fn(&BlockHeader) -> Option<i64>,
) -> Result<Option<i64>, StorageError> {
    let mut scanner = dir.scan(base)?;
    let mut youngest = None;
    loop {
        if control.is_stopped() {
            return Ok(youngest);
        }
        match scanner.next()? {
            Step::Block(header, _) => youngest = youngest.max(of_block(&header)),
            Step::Damage(_) => {}
            Step::End(_) => return Ok(youngest),
        }
    }
}
