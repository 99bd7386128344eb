//! The gaps that a reader has found and must report: each gap once, and only the requested part of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;

use super::item::{Damage, Item};

/// Why frames are missing.
pub(super) enum Cause {
    /// The frames cannot be read.
    Damage {
        /// The file.
        segment: PathBuf,
        /// Where in the file, in bytes.
        bytes: Range<u64>,
        /// Whether the log records the loss.
        recorded: bool,
    },
    /// Retention has removed the frames.
    Expired,
}

/// Gaps that were found and not yet reported, in log order. There are only a few: the reader reports them before it
/// reads on.
#[derive(Default)]
pub(super) struct Gaps(VecDeque<(Cause, Range<u64>)>);

impl Gaps {
    /// Adds a gap: `offsets` are missing, and those from `from` on were requested. If `offsets` is empty, bytes between
    /// two frames are damaged, and the damage counts as part of the frame behind it.
    pub(super) fn push(&mut self, cause: Cause, offsets: Range<u64>, from: u64) {
        let is_damage = matches!(cause, Cause::Damage { .. });
        let reported = offsets.start.max(from)..offsets.end;
        if !reported.is_empty() || (is_damage && offsets.is_empty() && offsets.start >= from) {
            self.0.push_back((cause, reported));
        }
    }

    /// Takes the next gap below `to`. Keeps the part of the gap from `to` on, because the caller may request it later.
    pub(super) fn take(&mut self, to: u64) -> Option<Item> {
        let (_, offsets) = self.0.front()?;
        if offsets.start >= to {
            return None;
        }
        let reported = offsets.start..offsets.end.min(to);
        Some(match self.cut(to)? {
            Cause::Expired => Item::Expired(reported),
            Cause::Damage { segment, bytes, recorded } => {
                Item::Damage(Damage { segment, bytes, offsets: reported, recorded })
            }
        })
    }

    /// Removes the part of the first gap below `end`.
    fn cut(&mut self, end: u64) -> Option<Cause> {
        let (cause, offsets) = self.0.front_mut()?;
        if offsets.end <= end {
            return self.0.pop_front().map(|(cause, _)| cause);
        }
        offsets.start = end;
        Some(match cause {
            Cause::Expired => Cause::Expired,
            Cause::Damage { segment, bytes, recorded } => {
                Cause::Damage { segment: segment.clone(), bytes: bytes.clone(), recorded: *recorded }
            }
        })
    }
}
