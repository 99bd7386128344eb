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
    },
    /// Retention has removed them.
    Expired,
}

/// Gaps come upon and not yet reported, in the order of the log. A few at most: reading goes on when they are told.
#[derive(Default)]
pub(super) struct Gaps(VecDeque<(Cause, Range<u64>)>);

impl Gaps {
    /// Notes that `offsets` are missing; with none, bytes between two frames, which belong to the one behind them.
    pub(super) fn push(&mut self, cause: Cause, offsets: Range<u64>) {
        if !offsets.is_empty() || matches!(cause, Cause::Damage { .. }) {
            self.0.push_back((cause, offsets));
        }
    }

    /// The next gap within `asked`. What lies behind it is kept, for it may be asked for later.
    pub(super) fn take(&mut self, asked: Range<u64>) -> Option<Item> {
        loop {
            let (_, offsets) = self.0.front()?;
            if offsets.start >= asked.end {
                return None;
            }
            let told = offsets.start.max(asked.start)..offsets.end.min(asked.end);
            let wanted = if offsets.is_empty() { asked.contains(&offsets.start) } else { !told.is_empty() };
            let cause = self.cut(asked.end)?;
            if wanted {
                return Some(match cause {
                    Cause::Expired => Item::Expired(told),
                    Cause::Damage { segment, bytes } => {
                        Item::Damage(Damage { segment, bytes, offsets: told })
                    }
                });
            }
        }
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
            Cause::Damage { segment, bytes } => {
                Cause::Damage { segment: segment.clone(), bytes: bytes.clone() }
            }
        })
    }
}
