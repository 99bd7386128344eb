//! Computes when a frame of the recording is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

/// Longest possible wait. Longer waits are shortened to it.
const WAIT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// This many times as fast as recorded, above 0.
    Times(f64),
    /// As fast as the daemon gives credit.
    Max,
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(times) if times > 0.0 && times.is_finite() => Ok(Self::Times(times)),
            _ => Err("expected a number above 0, or max"),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// Converts the receive time of each frame into the time at which it is due.
///
/// Due times are absolute. So delays do not add up, and a late run catches up. A receive time below an earlier one
/// counts as the earlier one. The clock ignores pauses: the caller adds the time of the pauses.
#[derive(Debug)]
pub(super) struct Clock {
    speed: Speed,
    gap_max: Option<Duration>,
    start: Option<Instant>,
    /// The latest receive time so far.
    at_ns: i64,
    /// Played time of the recording at `at_ns`, with shortened gaps.
    played: Duration,
}

impl Clock {
    pub(super) fn new(speed: Speed, gap_max: Option<Duration>) -> Self {
        Self { speed, gap_max, start: None, at_ns: 0, played: Duration::ZERO }
    }

    /// The time at which the next frame, received at `received_ns`, is due. `None` means at once. The first frame is
    /// due `now`.
    pub(super) fn due(&mut self, received_ns: i64, now: Instant) -> Option<Instant> {
        let Speed::Times(times) = self.speed else {
            return None;
        };
        let Some(start) = self.start else {
            (self.start, self.at_ns) = (Some(now), received_ns);
            return Some(now);
        };
        let gap = u64::try_from(received_ns.saturating_sub(self.at_ns)).unwrap_or(0);
        self.at_ns = self.at_ns.max(received_ns);
        let gap = Duration::from_nanos(gap);
        self.played += self.gap_max.map_or(gap, |gap_max| gap.min(gap_max));
        let wait = Duration::try_from_secs_f64(self.played.as_secs_f64() / times).unwrap_or(WAIT_MAX);
        Some(start + wait.min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;

    /// Due times in milliseconds after the first.
    fn due_ms(speed: f64, gap_max: Option<Duration>, received_s: &[f64]) -> Vec<u128> {
        let mut clock = Clock::new(Speed::Times(speed), gap_max);
        let start = Instant::now();
        let at = |seconds: &f64| 1_785_585_600 * SECOND_NS + (seconds * 1e9) as i64;
        let due = received_s.iter().map(|seconds| clock.due(at(seconds), start).unwrap());
        due.map(|due| (due - start).as_micros().div_ceil(10).div_euclid(100)).collect()
    }

    #[test]
    fn time_differences_are_divided_by_the_speed() {
        assert_eq!(due_ms(1.0, None, &[5.0, 5.25, 7.0, 65.0]), [0, 250, 2_000, 60_000]);
        assert_eq!(due_ms(4.0, None, &[5.0, 5.25, 7.0, 65.0]), [0, 62, 500, 15_000]);
        assert_eq!(due_ms(0.5, None, &[5.0, 5.25, 7.0]), [0, 500, 4_000]);
        assert_eq!(Clock::new(Speed::Max, None).due(7, Instant::now()), None);
    }

    #[test]
    fn times_that_step_back_never_make_a_frame_earlier_than_the_one_before() {
        assert_eq!(
            due_ms(1.0, None, &[10.0, 12.0, 9.0, 11.5, 12.0, 13.0]),
            [0, 2_000, 2_000, 2_000, 2_000, 3_000]
        );
    }

    #[test]
    fn long_gaps_are_shortened_and_short_ones_are_not() {
        let gap_max = Some(Duration::from_secs(3));
        assert_eq!(due_ms(1.0, gap_max, &[0.0, 2.0, 5.0, 3605.0, 3606.0]), [0, 2_000, 5_000, 8_000, 9_000]);
        assert_eq!(due_ms(2.0, gap_max, &[0.0, 3600.0]), [0, 1_500], "a gap is one of the recording");
    }

    #[test]
    fn extreme_times_and_speeds_do_not_overflow() {
        let mut clock = Clock::new(Speed::Times(1e-300), None);
        let start = Instant::now();
        assert_eq!(clock.due(i64::MIN, start), Some(start));
        assert_eq!(clock.due(i64::MAX, start), Some(start + WAIT_MAX));
    }

    #[test]
    fn a_speed_is_a_number_above_0_or_max() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("1".parse(), Ok(Speed::Times(1.0)));
        assert_eq!("0.25".parse(), Ok(Speed::Times(0.25)));
        for text in ["0", "-1", "nan", "inf", "fast", ""] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
