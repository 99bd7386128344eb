//! Walks a sealed segment once to build its index.

use super::build::{Builder, Content, Unfit};
use crate::format::{BlockHeader, BlockKind, FrameRanges};
use crate::scan::{Head, Scanner, Step};
use crate::storage::StorageError;

/// The result of a walk.
pub(super) enum Walked {
    Content(Content),
    Damaged,
    TooManyOrigins,
    Stopped,
}

impl From<Unfit> for Walked {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Damaged => Self::Damaged,
            Unfit::TooManyOrigins => Self::TooManyOrigins,
        }
    }
}

/// Walks the segment from `base` up to the base of the next one. Returns `Damaged` for anything that a reader would
/// report.
pub(super) fn walk(
    scanner: &mut Scanner,
    base: u64,
    next: u64,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Walked, StorageError> {
    let Head::Sound(segment) = scanner.head() else {
        return Ok(Walked::Damaged);
    };
    let covered = scanner.size()?;
    let mut builder = Builder::new(base, segment.segment_id);
    loop {
        if is_stopped() {
            return Ok(Walked::Stopped);
        }
        let outcome = match scanner.next()? {
            Step::Block(header, body) => block(&mut builder, next, &header, &body),
            Step::Damage(_) => Err(Unfit::Damaged),
            Step::End(_) => break,
        };
        if let Err(unfit) = outcome {
            return Ok(unfit.into());
        }
    }
    if segment.base_offset != base || builder.next_offset() != next {
        return Ok(Walked::Damaged);
    }
    Ok(Walked::Content(builder.finish(covered)))
}

/// Adds the next block. The segment ends at the offset `end`: the next segment supersedes the frames from there on.
fn block(builder: &mut Builder, end: u64, header: &BlockHeader, body: &[u8]) -> Result<(), Unfit> {
    if header.kind == BlockKind::Frames && header.first_offset >= end {
        return Ok(());
    }
    if header.first_offset != builder.next_offset() || header.next_offset() > end {
        return Err(Unfit::Damaged);
    }
    if header.kind != BlockKind::Frames {
        return Ok(());
    }
    let (origins, ranges) = FrameRanges::new(header, body).ok_or(Unfit::Damaged)?;
    builder.block(header.position, body, &origins, ranges)
}
