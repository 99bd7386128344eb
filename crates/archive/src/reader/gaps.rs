//! What a reader has to report before it goes on: each gap once, and only as far as it was asked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;

use super::{Damage, Item};

/// Why frames are missing.
pub(super) enum Cause {
    /// They cannot be read.
    Damage {
        /// The file.
        segment: PathBuf,
        /// Where in the file.
        bytes: Range<u64>,
        /// Whether the log says so.
        recorded: bool,
    },
    /// Retention has removed them.
    Expired,
}

/// Gaps come upon and not yet reported, in the order of the log. A few at most: reading goes on when they are told.
#[derive(Default)]
pub(super) struct Gaps(VecDeque<(Cause, Range<u64>)>);

impl Gaps {
    /// Notes that `offsets` are missing, of which those from `from` on were asked for. Without any, bytes are damaged
    /// between two frames; they belong to the one behind them.
    pub(super) fn push(&mut self, cause: Cause, offsets: Range<u64>, from: u64) {
        let is_damage = matches!(cause, Cause::Damage { .. });
        let told = offsets.start.max(from)..offsets.end;
        if !told.is_empty() || (is_damage && offsets.is_empty() && offsets.start >= from) {
            self.0.push_back((cause, told));
        }
    }

    /// The next gap below `to`. What lies behind it is kept, for it may be asked for later.
    pub(super) fn take(&mut self, to: u64) -> Option<Item> {
        let (_, offsets) = self.0.front()?;
        if offsets.start >= to {
            return None;
        }
        let told = offsets.start..offsets.end.min(to);
        Some(match self.cut(to)? {
            Cause::Expired => Item::Expired(told),
            Cause::Damage { segment, bytes, recorded } => {
                Item::Damage(Damage { segment, bytes, offsets: told, recorded })
            }
        })
    }

    /// Removes what the first gap has below `end`.
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
