//! Reads the positions and the log's id from older segments if the newest segment does not have them.

use super::tail_scan::{PositionsCollector, TailScan, checked_scan};
use crate::OpenError;
use crate::format::StreamPosition;
use crate::format::{BlockHeader, BlockKind, FrameIter};
use crate::log::positions::PositionTable;
use crate::read::scan::ScanStep;
use crate::storage::dir::Dir;
use frame::StreamKey;

/// Returns the positions at the base of the last segment, and how many segments were read for them.
pub(super) fn positions_below(
    dir: &Dir,
    bases: &[u64],
    last: &TailScan,
) -> Result<(PositionTable, usize), OpenError> {
    let mut table = PositionTable::unlimited();
    let last_index = bases.len() - 1;
    let mut found = last.positions.clone();
    let mut start = last_index;
    while found.is_none() && start > 0 {
        start -= 1;
        found = leading_positions(dir, bases[start])?;
    }
    match found {
        Some(entries) => table.restore(entries),
        None => tracing::error!(
            "no segment has readable positions; the positions are derived from the frames alone"
        ),
    }
    for index in start..last_index {
        apply_segment(dir, bases[index], bases[index + 1], &mut table)?;
    }
    Ok((table, bases.len() - start))
}

/// The positions at the base of the segment `base`, from the blocks before its first frame.
fn leading_positions(dir: &Dir, base: u64) -> Result<Option<Vec<(StreamKey, StreamPosition)>>, OpenError> {
    let mut scanner = checked_scan(dir, base)?;
    let mut collector = PositionsCollector::default();
    loop {
        match scanner.next()? {
            ScanStep::Block(header, body) if header.kind == BlockKind::Positions => {
                collector.take(&body);
            }
            ScanStep::Damage(_) => {}
            _ => return Ok(collector.complete()),
        }
    }
}

/// Applies the frames of an older segment below `end`, the base of the next segment.
pub(super) fn apply_segment(
    dir: &Dir,
    base: u64,
    end: u64,
    table: &mut PositionTable,
) -> Result<(), OpenError> {
    let mut scanner = checked_scan(dir, base)?;
    loop {
        match scanner.next()? {
            ScanStep::Block(header, body) if header.first_offset < end => {
                apply_block(&header, body, table);
            }
            ScanStep::Block(..) | ScanStep::Damage(_) => {}
            ScanStep::End(_) => return Ok(()),
        }
    }
}

/// Applies the frames of one block.
pub(super) fn apply_block(header: &BlockHeader, body: bytes::Bytes, table: &mut PositionTable) {
    if header.kind == BlockKind::Frames {
        let frames = FrameIter::new(header, body).into_iter().flatten();
        for frame in frames.flatten() {
            table.apply_frame(&frame);
        }
    }
}

/// Returns the log's id from the newest segment with a sound header. Returns a new random id if there is none.
pub(super) fn older_log_id(dir: &Dir, bases: &[u64]) -> Result<u64, OpenError> {
    for base in bases.iter().rev() {
        if let Some(header) = checked_scan(dir, *base)?.sound_header() {
            return Ok(header.log_id);
        }
    }
    tracing::error!("no segment has a sound header; the log gets a new id");
    Ok(rand::random_range(1..u64::MAX))
}
