//! Reading ahead of a scan that goes through a file in order.

/// Bytes asked for ahead of what was read.
const AHEAD_BYTES: u64 = 1 << 20;

/// What the system was asked to read ahead of a scan.
#[derive(Default)]
pub(super) struct ReadAhead {
    /// Everything below this position was asked for, or read.
    asked: u64,
}

impl ReadAhead {
    /// Where to read ahead and how much, when a scan in order has read up to `position`. Nothing as long as half of what
    /// was asked for is still to come: a few large requests are cheaper than many small ones.
    pub(super) fn next(&mut self, position: u64) -> Option<(u64, u64)> {
        let (from, to) = (self.asked.max(position), position + AHEAD_BYTES);
        if to.saturating_sub(from) < AHEAD_BYTES / 2 {
            return None;
        }
        self.asked = to;
        Some((from, to - from))
    }

    /// The scan went elsewhere.
    pub(super) fn forget(&mut self) {
        self.asked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_not_asked_for_again() {
        let mut ahead = ReadAhead::default();
        let asked: Vec<_> = (1..=8).filter_map(|window| ahead.next(window * (AHEAD_BYTES / 4))).collect();
        let half = AHEAD_BYTES / 2;
        assert_eq!(asked[0], (half / 2, AHEAD_BYTES));
        assert!(asked.is_sorted_by(|(from, len), (next, _)| from + len == *next), "{asked:?}");
        assert_eq!(asked[1..].iter().map(|(_, len)| *len).collect::<Vec<_>>(), [half; 3]);
        ahead.forget();
        assert_eq!(ahead.next(64), Some((64, AHEAD_BYTES)));
    }
}
