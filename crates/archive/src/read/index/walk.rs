//! Walks a sealed segment once to build its index.

use std::io::ErrorKind;

use super::NoIndex;
use super::build::{Builder, Content};
use crate::format::{BlockHeader, BlockKind, FrameRanges};
use crate::read::scan::ScanStep;
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// Walks the sealed segment `base` up to the base of the next one. Calls `is_stopped` before each block.
///
/// The outer error ends the walk: the segment cannot be read. The inner one says why there is no index:
/// [`NoIndex::Damaged`] if a block is damaged, missing or out of order, or if the header names another base.
pub(crate) fn walk(
    dir: &Dir,
    base: u64,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Result<Content, NoIndex>, StorageError> {
    let Some(next) = dir.next_segment(base)? else {
        return Ok(Err(NoIndex::NotSealed));
    };
    let mut scanner = match dir.scan(base) {
        // Retention has removed the segment.
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(Err(NoIndex::NotSealed)),
        result => result?,
    };
    let Some(segment) = scanner.sound_header() else {
        return Ok(Err(NoIndex::Damaged));
    };
    let covered = scanner.size()?;
    let mut builder = Builder::new(base, segment.segment_id);
    loop {
        if is_stopped() {
            return Ok(Err(NoIndex::Stopped));
        }
        let outcome = match scanner.next()? {
            ScanStep::Block(header, body) => add_block(&mut builder, next, &header, &body),
            ScanStep::Damage(_) => Err(NoIndex::Damaged),
            ScanStep::End(_) => break,
        };
        if let Err(why) = outcome {
            return Ok(Err(why));
        }
    }
    if segment.base_offset != base || builder.next_offset() != next {
        return Ok(Err(NoIndex::Damaged));
    }
    Ok(Ok(builder.finish(covered)))
}

/// Adds the next block. The segment ends at the offset `end`. Frames from there on are skipped: the next
/// segment has them, too.
fn add_block(builder: &mut Builder, end: u64, header: &BlockHeader, body: &[u8]) -> Result<(), NoIndex> {
    if header.kind == BlockKind::Frames && header.first_offset >= end {
        return Ok(());
    }
    if header.first_offset != builder.next_offset() || header.next_offset() > end {
        return Err(NoIndex::Damaged);
    }
    if header.kind != BlockKind::Frames {
        return Ok(());
    }
    let (origins, ranges) = FrameRanges::new(header, body).ok_or(NoIndex::Damaged)?;
    builder.block(header.position, body, &origins, ranges)
}
