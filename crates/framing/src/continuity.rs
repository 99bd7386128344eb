//! Counts the frames that a spacecraft has sent and that were not received.

use crate::Count;

/// Longest forward jump that is a loss unless the configuration says otherwise.
const GAP_MAX: u64 = 65_536;

/// The continuity of one counter, that is, of one channel of a source at a station.
///
/// A jump forward is a loss. A jump backward, a jump forward by more than the limit, and a change of the modulo are
/// restarts of the counter. `missing` is a lower bound: a counter that wraps during an outage hides a whole round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Continuity {
    /// Units with a count.
    pub received: u64,
    /// Units that were not received.
    pub missing: u64,
    /// Restarts of the counter.
    pub restarts: u64,
    /// The count that the next unit should have.
    pub next: Option<Count>,
    /// The most missing units that are a loss and no restart; without it `GAP_MAX`, or half the modulo if that is less.
    max_gap: Option<u64>,
}

/// How a count follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is missing.
    Next,
    /// This number of units is missing.
    Gap(u64),
    /// The counter has restarted.
    Restart,
}

impl Continuity {
    /// A counter that has seen nothing. A jump forward that leaves out more than `max_gap` units is a restart. The
    /// default is half the modulo, at most 65,536.
    #[must_use]
    pub const fn new(max_gap: Option<u64>) -> Self {
        Self { received: 0, missing: 0, restarts: 0, next: None, max_gap }
    }

    /// Counts a unit. The first one follows nothing, so nothing is missing.
    pub fn take(&mut self, count: Count) -> Step {
        let step = self.step(count);
        self.received += 1;
        match step {
            Step::Next => {}
            Step::Gap(missing) => self.missing += missing,
            Step::Restart => self.restarts += 1,
        }
        self.next = Some(count.next());
        step
    }

    /// Units that the spacecraft has sent, as far as the counts tell.
    #[must_use]
    pub const fn expected(&self) -> u64 {
        self.received + self.missing
    }

    /// The modulo of the counter; `None` before the first unit.
    #[must_use]
    pub fn modulo(&self) -> Option<u64> {
        self.next.map(|next| next.modulo)
    }

    fn step(&self, count: Count) -> Step {
        let Some(next) = self.next else {
            return Step::Next;
        };
        if next.modulo != count.modulo {
            return Step::Restart;
        }
        let max_gap = self.max_gap.unwrap_or_else(|| GAP_MAX.min(count.modulo / 2));
        match (count.modulo + count.value - next.value) % count.modulo {
            0 => Step::Next,
            missing if missing <= max_gap => Step::Gap(missing),
            _ => Step::Restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(max_gap: Option<u64>, modulo: u64, values: &[u64]) -> (Vec<Step>, Continuity) {
        let mut continuity = Continuity::new(max_gap);
        let steps = values.iter().map(|value| continuity.take(Count { value: *value, modulo })).collect();
        (steps, continuity)
    }

    #[test]
    fn losses_wraps_and_restarts_are_distinguished() {
        let (found, continuity) = steps(None, 256, &[250, 251, 254, 2, 130, 129, 2, 2]);
        // From 2 to 130 the jump leaves out 127 units, and from 129 to 2 it leaves out 128.
        let expected = [
            Step::Next,
            Step::Next,
            Step::Gap(2),
            Step::Gap(3),
            Step::Gap(127),
            Step::Restart,
            Step::Gap(128),
            Step::Restart,
        ];
        assert_eq!(found, expected);
        assert_eq!((continuity.received, continuity.missing, continuity.restarts), (8, 260, 2));
        assert_eq!((continuity.expected(), continuity.modulo()), (268, Some(256)));
    }

    #[test]
    fn the_limit_is_65_536_for_a_long_counter_and_can_be_set() {
        assert_eq!(steps(None, 1 << 24, &[0, 65_537]).0[1], Step::Gap(65_536));
        assert_eq!(steps(None, 1 << 24, &[0, 65_538]).0[1], Step::Restart);
        assert_eq!(steps(Some(3), 1 << 56, &[(1 << 56) - 1, 3]).0[1], Step::Gap(3));
        assert_eq!(steps(Some(3), 1 << 56, &[(1 << 56) - 1, 4]).0[1], Step::Restart);
    }

    #[test]
    fn another_modulo_is_a_restart() {
        let mut continuity = Continuity::new(None);
        continuity.take(Count { value: 1, modulo: 1 << 24 });
        assert_eq!(continuity.take(Count { value: 2, modulo: 1 << 28 }), Step::Restart);
        assert_eq!(continuity.take(Count { value: 3, modulo: 1 << 28 }), Step::Next);
    }

    proptest! {
        #[test]
        fn the_frames_left_out_are_the_frames_missing(
            start in any::<u8>(), kept in prop::collection::vec(any::<bool>(), 1..600),
        ) {
            let is_kept = |at: &usize| kept[*at] || at.is_multiple_of(100) || at + 1 == kept.len();
            let values: Vec<u64> =
                (0..kept.len()).filter(is_kept).map(|at| (u64::from(start) + at as u64) % 256).collect();
            let (_, continuity) = steps(None, 256, &values);
            prop_assert_eq!(continuity.expected(), kept.len() as u64);
            prop_assert_eq!((continuity.missing, continuity.restarts), ((kept.len() - values.len()) as u64, 0));
        }
    }
}
