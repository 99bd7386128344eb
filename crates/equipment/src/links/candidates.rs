//! Units of sources that nothing vouches for: neither a checksum, nor a list of spacecraft, nor an earlier unit.
//!
//! Noise that looks like a header must not become a source. So the first unit of such a source waits for a second one
//! with the next count. Both then become frames.

use std::collections::VecDeque;

use super::sorter::Kept;
use config::CANDIDATES_MAX;
use framing::{Header, Unit};

/// A unit that may become a frame.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The unit, with a copy of its bytes.
    pub(super) unit: Unit,
    /// The source and the lane that it would have.
    pub(super) kept: Kept,
    /// Its header, whose count the next unit must follow.
    pub(super) header: Header,
}

/// The units that wait, at most [`CANDIDATES_MAX`], the oldest one first. There is at most one for each source and
/// channel. If there are too many, the oldest one gives way to a new one.
#[derive(Debug, Default)]
pub(super) struct Candidates(VecDeque<Candidate>);

/// What becomes of a new candidate.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The second candidate, the new one, has the count that follows that of the first. So both are units of a
    /// spacecraft and become frames.
    Follows(Candidate, Candidate),
    /// The new candidate waits.
    Waits {
        /// The candidate that has waited in vain: the one before of the same source and channel, or the oldest one,
        /// which gives way. The caller treats it as bad.
        in_vain: Option<Candidate>,
    },
}

impl Candidates {
    /// Compares `new` with the candidate of the same source and channel.
    pub(super) fn add(&mut self, new: Candidate) -> Verdict {
        let is_same = |old: &Candidate| old.kept.source == new.kept.source && is_channel(old, &new);
        let before = self.0.iter().position(is_same).and_then(|index| self.0.remove(index));
        match before {
            Some(before) if is_next(&before.header, &new.header) => Verdict::Follows(before, new),
            before => {
                let in_vain = before.or_else(|| self.pop_if_full());
                self.0.push_back(new);
                Verdict::Waits { in_vain }
            }
        }
    }

    /// Takes the oldest unit that waits.
    pub(super) fn pop(&mut self) -> Option<Candidate> {
        self.0.pop_front()
    }

    fn pop_if_full(&mut self) -> Option<Candidate> {
        if self.0.len() < CANDIDATES_MAX { None } else { self.pop() }
    }
}

/// Whether both are of the same channel. In USLP, frames with the bypass flag have a count of their own.
fn is_channel(a: &Candidate, b: &Candidate) -> bool {
    (a.header.channel, a.header.is_bypass) == (b.header.channel, b.header.is_bypass)
}

/// Whether the count of `after` follows that of `before`. Without counts there is nothing to compare.
fn is_next(before: &Header, after: &Header) -> bool {
    match (before.count, after.count) {
        (Some(before), Some(after)) => before.next() == after,
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use frame::FramePriority;
    use framing::Count;

    fn candidate(source: u32, channel: u32, count: u64) -> Candidate {
        let count = Some(Count { value: count, modulo: 256 });
        let header = Header { spacecraft: Some(source), channel, is_bypass: false, count, is_idle: false };
        let kept = Kept { source, priority: FramePriority::Routine, is_bad: false, is_idle: false };
        Candidate { unit: Unit { data: Bytes::new(), ..Unit::default() }, kept, header }
    }

    fn in_vain(verdict: Verdict) -> Option<u32> {
        match verdict {
            Verdict::Waits { in_vain } => in_vain.map(|old| old.kept.source),
            Verdict::Follows(..) => panic!("nothing follows"),
        }
    }

    #[test]
    fn the_next_count_of_the_channel_confirms_the_source() {
        let mut candidates = Candidates::default();
        assert_eq!(in_vain(candidates.add(candidate(1, 0, 255))), None);
        assert_eq!(in_vain(candidates.add(candidate(1, 1, 0))), None, "another channel");
        assert_eq!(in_vain(candidates.add(candidate(2, 0, 0))), None, "another source");
        let verdict = candidates.add(candidate(1, 0, 0));
        assert!(matches!(verdict, Verdict::Follows(old, new) if old.header.count != new.header.count));
        assert_eq!(in_vain(candidates.add(candidate(2, 0, 2))), Some(2), "one is missing");
        assert!(matches!(candidates.add(candidate(2, 0, 3)), Verdict::Follows(..)));
    }

    #[test]
    fn noise_takes_no_more_than_the_limit() {
        let mut candidates = Candidates::default();
        for source in 0..CANDIDATES_MAX as u32 {
            assert_eq!(in_vain(candidates.add(candidate(source, 0, 0))), None);
        }
        assert_eq!(in_vain(candidates.add(candidate(99, 0, 0))), Some(0));
        let left = std::iter::from_fn(|| candidates.pop()).count();
        assert_eq!(left, CANDIDATES_MAX);
    }
}
